//! Packed models: an image, and the hash tree that the kernel checks it by.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Read, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use cocoon_verity::{BLOCK_BYTES, Block, Root, SUPERBLOCK_BYTES, Salt, Shape, Superblock};

use crate::Progress;
use crate::fault::ModelFault;
use crate::folder::Model;
use crate::stream::{Hashing, Sink};

/// What packing made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// Names every byte of it.
    pub root: Root,
    /// Bytes of the image.
    pub image_bytes: u64,
    /// Bytes of the hash tree.
    pub tree_bytes: u64,
}

impl Model {
    /// Writes the image to `image` and its hash tree to `tree`, both beside their place first:
    /// whoever finds a file under its name finds it whole.
    ///
    /// # Errors
    /// [`ModelFault`]: nothing is left under the two names that was not there before.
    pub fn pack(
        &self,
        image: &Path,
        tree: &Path,
        progress: Progress<'_>,
    ) -> Result<Packed, ModelFault> {
        let (fresh_image, fresh_tree) = (beside(image), beside(tree));
        let packed = self.pack_into(&fresh_image, &fresh_tree, progress).and_then(|packed| {
            std::fs::rename(&fresh_tree, tree).map_err(ModelFault::io(tree))?;
            std::fs::rename(&fresh_image, image).map_err(ModelFault::io(image))?;
            Ok(packed)
        });
        if packed.is_err() {
            // What cannot be removed is only space.
            let _ = std::fs::remove_file(&fresh_image);
            let _ = std::fs::remove_file(&fresh_tree);
        }
        packed
    }

    fn pack_into(
        &self,
        image: &Path,
        tree: &Path,
        progress: Progress<'_>,
    ) -> Result<Packed, ModelFault> {
        let image_bytes = self.archive().total_bytes();
        let blocks = image_bytes / BLOCK_BYTES as u64;
        let shape = Shape::new(blocks).map_err(ModelFault::tree(image))?;
        let make = |path: &Path| {
            let mut options = OpenOptions::new();
            options.create(true).truncate(true).write(true);
            options.open(path).map_err(ModelFault::io(path))
        };
        let mut sink = Files {
            image: (BufWriter::with_capacity(1 << 20, make(image)?), image.to_owned()),
            tree: (make(tree)?, tree.to_owned()),
        };
        sink.hashes(0, &Superblock::of_model(blocks).encode())?;
        let root = self.stream(&mut sink, progress)?;
        let Files { image: (written, _), tree: (hashes, _) } = sink;
        let written = written.into_inner().map_err(|fault| ModelFault::io(image)(fault.into()))?;
        written.sync_all().map_err(ModelFault::io(image))?;
        hashes.sync_all().map_err(ModelFault::io(tree))?;
        Ok(Packed { root, image_bytes, tree_bytes: shape.file_bytes() })
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

struct Files {
    image: (BufWriter<File>, PathBuf),
    tree: (File, PathBuf),
}

impl Sink for Files {
    fn data(&mut self, bytes: &[u8]) -> Result<(), ModelFault> {
        self.image.0.write_all(bytes).map_err(ModelFault::io(&self.image.1))
    }

    fn hashes(&mut self, at: u64, block: &Block) -> Result<(), ModelFault> {
        self.tree.0.write_all_at(block, at).map_err(ModelFault::io(&self.tree.1))
    }
}

/// Compares a tree's file with the hashes as they are made.
struct Compare<'a> {
    tree: Option<(&'a File, &'a Path)>,
}

impl Sink for Compare<'_> {
    fn data(&mut self, _: &[u8]) -> Result<(), ModelFault> {
        Ok(())
    }

    fn hashes(&mut self, at: u64, block: &Block) -> Result<(), ModelFault> {
        let Some((file, path)) = self.tree else { return Ok(()) };
        let mut found = [0; BLOCK_BYTES];
        file.read_exact_at(&mut found, at).map_err(ModelFault::io(path))?;
        if found == *block {
            return Ok(());
        }
        let block = at / BLOCK_BYTES as u64;
        let source = cocoon_verity::TreeFault::Mismatch { level: 0, block };
        Err(ModelFault::Tree { path: path.to_owned(), source })
    }
}

/// Reads a packed image to its end and gives its root. A tree beside it must be the image's.
///
/// # Errors
/// [`ModelFault`]: the image cannot be read, is no multiple of a block, or the tree is another's.
pub fn check_image(
    image: &Path,
    tree: Option<&Path>,
    progress: Progress<'_>,
) -> Result<Root, ModelFault> {
    let mut file = File::open(image).map_err(ModelFault::io(image))?;
    let total = file.metadata().map_err(ModelFault::io(image))?.len();
    if !total.is_multiple_of(BLOCK_BYTES as u64) {
        let source = std::io::Error::other(format!("{total} bytes are no whole blocks of 4096"));
        return Err(ModelFault::io(image)(source));
    }
    let opened = match tree {
        None => None,
        Some(path) => Some((File::open(path).map_err(ModelFault::io(path))?, path)),
    };
    let mut salt = Salt::of_models();
    if let Some((file, path)) = &opened {
        let mut bytes = [0; SUPERBLOCK_BYTES];
        file.read_exact_at(&mut bytes, 0).map_err(ModelFault::io(path))?;
        let superblock = Superblock::decode(&bytes).map_err(ModelFault::tree(path))?;
        let (expected, found) = (superblock.data_blocks, total / BLOCK_BYTES as u64);
        if expected != found {
            let source = cocoon_verity::TreeFault::Length { expected, found };
            return Err(ModelFault::Tree { path: (*path).to_owned(), source });
        }
        salt = superblock.salt;
    }
    let mut sink = Compare { tree: opened.as_ref().map(|(file, path)| (file, *path)) };
    let mut hashing = Hashing::new((total, &salt), &mut sink, progress, image)?;
    let mut chunk = vec![0; 1 << 20];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => hashing.push(chunk.get(..count).unwrap_or_default())?,
            Err(fault) if fault.kind() == std::io::ErrorKind::Interrupted => {}
            Err(fault) => return Err(ModelFault::io(image)(fault)),
        }
    }
    hashing.finish()
}
