//! Entry points for fuzzers: every reader here on arbitrary bytes.
//!
//! Each function returns normally for every input or panics on a broken law.

use crate::{
    Archive, BLOCK_BYTES, Block, Kind, Member, Root, Salt, Shape, Superblock, TreeBuilder,
    TreeFault, check_block,
};

/// Any superblock.
///
/// # Panics
/// When a superblock that was read does not read back from what it is written as.
pub fn superblock(data: &[u8]) {
    if let Ok(read) = Superblock::decode(data) {
        assert_eq!(Superblock::decode(&read.encode()).as_ref(), Ok(&read));
        if let Ok(shape) = Shape::new(read.data_blocks) {
            assert!(shape.offset(0, 0) < shape.file_bytes() || shape.levels() == 0);
        }
    }
}

/// Any tree over any blocks: what is built checks, and what was changed does not. The first two
/// bytes choose a block and a change.
///
/// # Panics
/// When a law is broken.
pub fn tree(data: &[u8]) {
    let Some(([chosen, change], data)) = data.split_first_chunk::<2>() else { return };
    let blocks: Vec<Block> = data.chunks(16).take(300).map(filled).collect();
    let Ok(shape) = Shape::new(blocks.len() as u64) else { return };
    let salt = Salt::of_models();
    let mut file = std::collections::BTreeMap::new();
    let mut keep = |at: u64, block: &Block| {
        file.insert(at, *block);
    };
    let mut builder = TreeBuilder::new(shape.clone(), &salt);
    for block in &blocks {
        assert_eq!(builder.push(block, &mut keep), Ok(()));
    }
    let root = builder.finish(&mut keep).unwrap_or(Root([0; 32]));
    let number = usize::from(*chosen) % blocks.len();
    let mut block = blocks[number];
    let mut fetch = |level: usize, block: u64| {
        file.get(&shape.offset(level, block)).copied().ok_or(TreeFault::Blocks { blocks: block })
    };
    let at = number as u64;
    assert_eq!(check_block(&shape, &salt, &root, (at, &block), &mut fetch), Ok(()));
    block[usize::from(*change) * 16] ^= 1;
    assert!(check_block(&shape, &salt, &root, (at, &block), &mut fetch).is_err());
}

/// Any names and sizes as members of an archive.
///
/// # Panics
/// When an archive's plan contradicts itself.
pub fn archive(data: &[u8]) {
    let root = Member { path: Vec::new(), kind: Kind::Folder, mode: 0o755 };
    let members = data.split(|byte| *byte == b'\n').map(|line| {
        let size = line.first().map_or(0, |first| u64::from(*first) << (*first % 40));
        let path = line.split(|byte| *byte == b'/').map(Vec::from).collect();
        let kind = if line.len().is_multiple_of(3) { Kind::Folder } else { Kind::File { size } };
        Member { path, kind, mode: size as u32 }
    });
    if let Ok(archive) = Archive::new([root].into_iter().chain(members).collect()) {
        let bytes: u64 = archive
            .members()
            .iter()
            .map(|member| {
                let header = Archive::header(member);
                assert!(header.len().is_multiple_of(512) && header.len() >= 512);
                match member.kind {
                    Kind::Folder => header.len() as u64,
                    Kind::File { size } => header.len() as u64 + size + Archive::padding(size),
                }
            })
            .sum();
        assert_eq!(bytes + archive.ending(), archive.total_bytes());
        assert!(archive.total_bytes().is_multiple_of(BLOCK_BYTES as u64));
    }
}

/// A block that repeats a few bytes.
fn filled(seed: &[u8]) -> Block {
    let mut block = [0; BLOCK_BYTES];
    let mut bytes = seed.iter().cycle();
    block.iter_mut().for_each(|byte| *byte = bytes.next().copied().unwrap_or_default());
    block
}
