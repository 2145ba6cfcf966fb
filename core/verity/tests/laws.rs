//! Laws of archives and trees.

#![allow(clippy::unwrap_used, reason = "a failure fails the test")]

use std::collections::BTreeMap;

use cocoon_verity::{
    Archive, ArchiveFault, BLOCK_BYTES, Block, Kind, MODEL_SALT, Member, Root, Salt, Shape,
    Superblock, TreeBuilder, TreeFault, check_block, file_mode, fuzz,
};
use proptest::prelude::*;

fn file(path: &[&str], size: u64) -> Member {
    let path = path.iter().map(|part| part.as_bytes().to_vec()).collect();
    Member { path, kind: Kind::File { size }, mode: 0o644 }
}

fn folder(path: &[&str]) -> Member {
    Member { kind: Kind::Folder, mode: 0o755, ..file(path, 0) }
}

#[test]
fn members_are_ordered_by_their_parts_and_paths_stay_inside() {
    let archive = Archive::new(vec![
        file(&["sub.txt"], 1),
        file(&["sub", "a"], 1),
        folder(&[]),
        file(&["Zed"], 1),
        folder(&["sub"]),
        file(&["sub-x"], 1),
    ])
    .unwrap();
    let shown: Vec<String> = archive
        .members()
        .iter()
        .map(|m| m.path.iter().map(|p| String::from_utf8_lossy(p)).collect::<Vec<_>>().join("/"))
        .collect();
    assert_eq!(shown, ["", "Zed", "sub", "sub/a", "sub-x", "sub.txt"]);
    for bad in [&[".."][..], &["a", ".."], &[""], &["a/b"], &["a\0"], &["."]] {
        let fault = Archive::new(vec![folder(&[]), file(bad, 1)]).unwrap_err();
        assert!(matches!(fault, ArchiveFault::Path { .. }), "{fault}");
    }
    let twice = Archive::new(vec![folder(&[]), file(&["a"], 1), file(&["a"], 2)]).unwrap_err();
    assert!(matches!(twice, ArchiveFault::Order { .. }), "{twice}");
    let huge =
        Archive::new(vec![folder(&[]), file(&["a"], u64::MAX), file(&["b"], 1)]).unwrap_err();
    assert_eq!(huge, ArchiveFault::TooLarge);
}

#[test]
fn rights_do_not_depend_on_a_umask() {
    for (given, written) in [(0o600, 0o644), (0o664, 0o644), (0o700, 0o755), (0o777, 0o755)] {
        assert_eq!(file_mode(given), written);
    }
}

#[test]
fn a_superblock_is_read_as_it_is_written_and_nothing_else_is() {
    let superblock = Superblock::of_model(12);
    let bytes = superblock.encode();
    assert_eq!(Superblock::decode(&bytes).unwrap(), superblock);
    assert_eq!(superblock.salt.as_bytes(), MODEL_SALT);
    for at in [0, 8, 12, 32, 38, 64, 68, 81] {
        let mut other = bytes;
        other[at] ^= 0x10;
        Superblock::decode(&other).unwrap_err();
    }
    Superblock::decode(&bytes[..511]).unwrap_err();
}

#[test]
fn a_tree_says_when_blocks_lack_or_are_too_many() {
    let shape = Shape::new(2).unwrap();
    let block = [7; BLOCK_BYTES];
    let none = &mut |_: u64, _: &[u8; BLOCK_BYTES]| {};
    let mut builder = TreeBuilder::new(shape.clone(), &Salt::of_models());
    builder.push(&block, none).unwrap();
    let short = builder.finish(none).unwrap_err();
    assert_eq!(short, TreeFault::Length { expected: 2, found: 1 });
    let mut builder = TreeBuilder::new(shape, &Salt::of_models());
    builder.push(&block, none).unwrap();
    builder.push(&block, none).unwrap();
    builder.push(&block, none).unwrap_err();
    Shape::new(0).unwrap_err();
    Shape::new(u64::MAX).unwrap_err();
}

#[test]
fn a_root_is_sixty_four_hex_digits() {
    let root = Root([0xab; 32]);
    assert_eq!(root.to_string().parse(), Ok(root));
    "00".parse::<Root>().unwrap_err();
}

/// Any tree over any blocks: what is built checks, and what was changed does not.
fn builds_and_checks(chosen: u8, change: u8, data: &[u8]) {
    let blocks: Vec<Block> = data.chunks(16).take(300).map(filled).collect();
    let shape = Shape::new(blocks.len() as u64).unwrap();
    let salt = Salt::of_models();
    let mut file = BTreeMap::new();
    let mut keep = |at: u64, block: &Block| {
        file.insert(at, *block);
    };
    let mut builder = TreeBuilder::new(shape.clone(), &salt);
    for block in &blocks {
        assert_eq!(builder.push(block, &mut keep), Ok(()));
    }
    let root = builder.finish(&mut keep).unwrap();
    let number = usize::from(chosen) % blocks.len();
    let mut block = blocks[number];
    let mut fetch = |level: usize, block: u64| {
        file.get(&shape.offset(level, block)).copied().ok_or(TreeFault::Blocks { blocks: block })
    };
    let at = number as u64;
    assert_eq!(check_block(&shape, &salt, &root, (at, &block), &mut fetch), Ok(()));
    block[usize::from(change) * 16] ^= 1;
    assert!(check_block(&shape, &salt, &root, (at, &block), &mut fetch).is_err());
}

/// A block that repeats a few bytes.
fn filled(seed: &[u8]) -> Block {
    let mut block = [0; BLOCK_BYTES];
    let mut bytes = seed.iter().cycle();
    block.iter_mut().for_each(|byte| *byte = bytes.next().copied().unwrap_or_default());
    block
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn built_trees_check_and_changed_blocks_do_not(
        bytes in prop::collection::vec(any::<u8>(), 16..4800),
        chosen in any::<u8>(),
        change in any::<u8>(),
    ) {
        builds_and_checks(chosen, change, &bytes);
    }

    #[test]
    fn a_changed_tree_does_not_check(bytes in prop::collection::vec(any::<u8>(), 2..40)) {
        fuzz::tree(&bytes);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..1200)) {
        fuzz::superblock(&bytes);
        fuzz::archive(&bytes);
        let mut near = Superblock::of_model(9).encode().to_vec();
        for (at, byte) in bytes.iter().take(8).enumerate() {
            near[usize::from(*byte) * 2 % 512] ^= at as u8;
        }
        fuzz::superblock(&near);
    }
}
