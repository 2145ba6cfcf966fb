//! The content of a file as it is read: no more than some frames are in memory.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::book::FileRecord;
use crate::body::BrokenOff;
use crate::vault::{Frames, VaultFault};

/// What is read at a time, bytes.
const PIECE_BYTES: usize = 256 * 1024;

/// A file on its way to a user.
pub(crate) struct FileContent {
    /// Bytes that are still to come.
    left: u64,
    state: State,
}

enum State {
    /// The first piece was read.
    First(Frames, Vec<u8>),
    /// The next one is being read.
    Reading(JoinHandle<Read>),
    Ended,
}

type Read = (Frames, Result<Option<Vec<u8>>, VaultFault>);

impl std::fmt::Debug for FileContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileContent").field("left", &self.left).finish_non_exhaustive()
    }
}

impl FileContent {
    /// Reads the first piece of a file of so many bytes, so that damage there is told with a status.
    /// Waits for the disk.
    pub(super) fn open(mut frames: Frames, file: &FileRecord) -> Result<FileContent, VaultFault> {
        let (first, bytes) = (frames.next_bytes(PIECE_BYTES)?.unwrap_or_default(), file.bytes);
        if first.is_empty() && bytes > 0 {
            let reason = format!("it is empty instead of {bytes} bytes long");
            return Err(VaultFault::Damaged { name: file.id.clone(), reason });
        }
        Ok(FileContent { left: bytes, state: State::First(frames, first) })
    }

    /// Bytes that are still to come.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// The next piece; the connection is to be cut when the file is damaged.
    pub(crate) fn poll_bytes(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        if self.left == 0 {
            self.state = State::Ended;
        }
        let (frames, piece) = match std::mem::replace(&mut self.state, State::Ended) {
            State::Ended => return Poll::Ready(None),
            State::First(frames, piece) => (frames, Ok(Some(piece))),
            State::Reading(mut task) => match Pin::new(&mut task).poll(cx) {
                Poll::Pending => {
                    self.state = State::Reading(task);
                    return Poll::Pending;
                }
                Poll::Ready(Ok(read)) => read,
                Poll::Ready(Err(_panicked)) => return Poll::Ready(Some(Err(BrokenOff))),
            },
        };
        let piece = match piece {
            Ok(Some(piece)) => piece,
            Ok(None) => {
                tracing::error!(left = self.left, "a file of a batch ends early");
                return Poll::Ready(Some(Err(BrokenOff)));
            }
            Err(fault) => {
                tracing::error!(%fault, "a file of a batch cannot be read");
                return Poll::Ready(Some(Err(BrokenOff)));
            }
        };
        let mut piece = Bytes::from(piece);
        // Nothing is added to a file that is shown; if it were, the answer's length is told already.
        piece.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= piece.len() as u64;
        if self.left > 0 {
            // The next piece is read while this one travels.
            self.state = State::Reading(read_on(frames));
        }
        if piece.is_empty() {
            return self.poll_bytes(cx);
        }
        Poll::Ready(Some(Ok(piece)))
    }
}

fn read_on(mut frames: Frames) -> JoinHandle<Read> {
    tokio::task::spawn_blocking(move || {
        let piece = frames.next_bytes(PIECE_BYTES);
        (frames, piece)
    })
}
