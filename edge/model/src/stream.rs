//! A model's archive as a stream of blocks, hashed as it goes by.

use std::io::Read;
use std::path::Path;

use cocoon_verity::{Archive, BLOCK_BYTES, Block, Kind, Root, Salt, Shape, TreeBuilder};

use crate::Progress;
use crate::fault::ModelFault;
use crate::folder::Model;

/// Bytes read at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Where the bytes go besides the hash.
pub(crate) trait Sink {
    /// Takes the next bytes of the archive.
    fn data(&mut self, bytes: &[u8]) -> Result<(), ModelFault>;

    /// Takes a hash block, and where it stands in the tree's file.
    fn hashes(&mut self, at: u64, block: &Block) -> Result<(), ModelFault>;
}

/// Hashing alone.
pub(crate) struct Nowhere;

impl Sink for Nowhere {
    fn data(&mut self, _: &[u8]) -> Result<(), ModelFault> {
        Ok(())
    }

    fn hashes(&mut self, _: u64, _: &Block) -> Result<(), ModelFault> {
        Ok(())
    }
}

/// Cuts bytes into blocks and hashes them.
pub(crate) struct Hashing<'a, S> {
    builder: TreeBuilder,
    block: Box<Block>,
    filled: usize,
    done: u64,
    total: u64,
    told: u64,
    sink: &'a mut S,
    progress: Progress<'a>,
    path: &'a Path,
}

impl<'a, S: Sink> Hashing<'a, S> {
    /// `total` bytes will come, a multiple of a block; `path` names them in faults.
    pub(crate) fn new(
        (total, salt): (u64, &Salt),
        sink: &'a mut S,
        progress: Progress<'a>,
        path: &'a Path,
    ) -> Result<Self, ModelFault> {
        let shape = Shape::new(total / BLOCK_BYTES as u64).map_err(ModelFault::tree(path))?;
        let builder = TreeBuilder::new(shape, salt);
        let block = Box::new([0; BLOCK_BYTES]);
        Ok(Self { builder, block, filled: 0, done: 0, total, told: 0, sink, progress, path })
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), ModelFault> {
        self.sink.data(bytes)?;
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.filled == 0
                && let Some((block, later)) = rest.split_first_chunk()
            {
                rest = later;
                self.hash(block)?;
                continue;
            }
            let end = BLOCK_BYTES.min(self.filled + rest.len());
            let (now, later) = rest.split_at(end - self.filled);
            if let Some(place) = self.block.get_mut(self.filled..end) {
                place.copy_from_slice(now);
            }
            (self.filled, rest) = (end % BLOCK_BYTES, later);
            if end == BLOCK_BYTES {
                let block = self.block.clone();
                self.hash(&block)?;
            }
        }
        self.done += bytes.len() as u64;
        if self.done - self.told >= CHUNK_BYTES as u64 || self.done == self.total {
            self.told = self.done;
            if !(self.progress)(self.done, self.total) {
                return Err(ModelFault::GivenUp);
            }
        }
        Ok(())
    }

    fn hash(&mut self, block: &Block) -> Result<(), ModelFault> {
        let (sink, mut written) = (&mut *self.sink, Ok(()));
        let mut write = |at: u64, block: &Block| {
            if written.is_ok() {
                written = sink.hashes(at, block);
            }
        };
        let pushed = self.builder.push(block, &mut write);
        pushed.map_err(ModelFault::tree(self.path))?;
        written
    }

    pub(crate) fn finish(self) -> Result<Root, ModelFault> {
        let (sink, mut written) = (self.sink, Ok(()));
        let mut write = |at: u64, block: &Block| {
            if written.is_ok() {
                written = sink.hashes(at, block);
            }
        };
        let root = self.builder.finish(&mut write).map_err(ModelFault::tree(self.path))?;
        written?;
        Ok(root)
    }
}

impl Model {
    /// Reads everything and gives the root.
    ///
    /// # Errors
    /// [`ModelFault`]: it cannot be read, was changed meanwhile, or the caller gave up.
    pub fn root(&self, progress: Progress<'_>) -> Result<Root, ModelFault> {
        self.stream(&mut Nowhere, progress)
    }

    pub(crate) fn stream(
        &self,
        sink: &mut impl Sink,
        progress: Progress<'_>,
    ) -> Result<Root, ModelFault> {
        let archive = self.archive();
        let sizes = (archive.total_bytes(), &Salt::of_models());
        let mut hashing = Hashing::new(sizes, sink, progress, self.top())?;
        let mut chunk = vec![0; CHUNK_BYTES];
        for member in archive.members() {
            hashing.push(&Archive::header(member))?;
            let Kind::File { size } = member.kind else { continue };
            let (path, mut file) = self.open_member(member)?;
            let mut left = size;
            while left > 0 {
                let want = usize::try_from(left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
                let place = chunk.get_mut(..want).unwrap_or_default();
                let count = match file.read(place) {
                    Ok(0) => return Err(ModelFault::Changed { path }),
                    Ok(count) => count,
                    Err(fault) if fault.kind() == std::io::ErrorKind::Interrupted => continue,
                    Err(fault) => return Err(ModelFault::io(&path)(fault)),
                };
                hashing.push(chunk.get(..count).unwrap_or_default())?;
                left -= count as u64;
            }
            self.still(&path, &file)?;
            zeros(&mut hashing, Archive::padding(size))?;
        }
        zeros(&mut hashing, archive.ending())?;
        let root = hashing.finish()?;
        // Nothing may have come or gone while the rest was read.
        if Self::open(self.top())?.fingerprint() != self.fingerprint() {
            return Err(ModelFault::Changed { path: self.top().to_owned() });
        }
        Ok(root)
    }
}

fn zeros<S: Sink>(hashing: &mut Hashing<'_, S>, count: u64) -> Result<(), ModelFault> {
    let zero = [0; BLOCK_BYTES];
    let mut left = count;
    while left > 0 {
        let now = left.min(BLOCK_BYTES as u64);
        hashing.push(zero.get(..now as usize).unwrap_or_default())?;
        left -= now;
    }
    Ok(())
}
