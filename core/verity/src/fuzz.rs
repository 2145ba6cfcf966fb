//! Entry points for fuzzers: every reader here on arbitrary bytes.
//!
//! Each function returns normally for every input or panics on a broken law.

use std::collections::BTreeMap;
use std::sync::LazyLock;

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

/// Any changes to a tree that was built: each four bytes name a block of its file, or the one of data that
/// is checked, a byte in it and a change. The first two bytes choose the block of data.
///
/// # Panics
/// When a changed block checks, or an unchanged one does not.
pub fn tree(data: &[u8]) {
    static GOOD: LazyLock<Built> = LazyLock::new(Built::new);
    let Some((chosen, changes)) = data.split_first_chunk::<2>() else { return };
    let number = u64::from(u16::from_le_bytes(*chosen)) % Built::BLOCKS;
    let good = &*GOOD;
    let changed = |which: usize, block: &Block| {
        let mut block = *block;
        for change in changes.chunks_exact(4).filter(|it| usize::from(it[0]) % 5 == which) {
            let at = usize::from(u16::from_le_bytes([change[1], change[2]])) % BLOCK_BYTES;
            block[at] ^= change[3];
        }
        block
    };
    let plain = filled(number);
    let shown = changed(4, &plain);
    let mut is_same = shown == plain;
    let mut fetch = |level: usize, block: u64| {
        let at = good.shape.offset(level, block);
        let kept = good.file.get(&at).ok_or(TreeFault::Blocks { blocks: block })?;
        let fetched = changed(usize::try_from(at).unwrap_or(0) / BLOCK_BYTES, kept);
        is_same &= fetched == *kept;
        Ok(fetched)
    };
    let checked: Result<_, TreeFault> =
        check_block(&good.shape, &good.salt, &good.root, (number, &shown), &mut fetch);
    assert_eq!(checked.is_ok(), is_same);
}

/// A tree with two levels: three blocks of hashes below one.
struct Built {
    shape: Shape,
    salt: Salt,
    root: Root,
    /// Its file, by place.
    file: BTreeMap<u64, Block>,
}

impl Built {
    const BLOCKS: u64 = 300;

    fn new() -> Self {
        let salt = Salt::of_models();
        let Ok(shape) = Shape::new(Self::BLOCKS) else { unreachable!("a shape that fits") };
        let mut file = BTreeMap::new();
        let mut keep = |at: u64, block: &Block| {
            file.insert(at, *block);
        };
        let mut builder = TreeBuilder::new(shape.clone(), &salt);
        for number in 0..Self::BLOCKS {
            assert_eq!(builder.push(&filled(number), &mut keep), Ok(()));
        }
        let root = builder.finish(&mut keep).unwrap_or(Root([0; 32]));
        assert_eq!(file.len(), 4, "what a change can name");
        Self { shape, salt, root, file }
    }
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

/// A block of its own.
fn filled(number: u64) -> Block {
    let mut block = [0x5a; BLOCK_BYTES];
    block[..8].copy_from_slice(&number.to_le_bytes());
    block
}
