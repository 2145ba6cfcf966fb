//! Bytes for the peer: frames are encoded in place behind their header.

use bytes::{Buf as _, BytesMut};
use cocoon_wire::frame::{FrameWriter, HEADER_BYTES, PAYLOAD_BYTES_MAX};

use crate::fault::Refusal;

/// Capacity that is kept when the output runs empty; more is given back.
const IDLE_CAPACITY: usize = 64 * 1024;

/// Frames that wait for the peer.
#[derive(Debug)]
pub(crate) struct Output {
    bytes: BytesMut,
    writer: FrameWriter,
    bytes_max: usize,
}

impl Output {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes: BytesMut::new(), writer: FrameWriter::new(), bytes_max }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Drops the first `count` bytes, which the peer has taken.
    pub(crate) fn consume(&mut self, count: usize) {
        self.bytes.advance(count.min(self.bytes.len()));
        if self.bytes.is_empty() && self.bytes.capacity() > IDLE_CAPACITY {
            self.bytes = BytesMut::new();
        }
    }

    /// Appends a frame whose packet of `len` bytes `write` appends. A refused frame takes no
    /// sequence number.
    pub(crate) fn frame(
        &mut self,
        len: usize,
        write: impl FnOnce(&mut BytesMut),
    ) -> Result<(), Refusal> {
        let queued = self.bytes.len();
        if len <= PAYLOAD_BYTES_MAX && queued + HEADER_BYTES + len > self.bytes_max {
            return Err(Refusal::OutputFull { queued, limit: self.bytes_max });
        }
        self.writer
            .write_with(&mut self.bytes, len, write)
            .map_err(|_| Refusal::TooLong { len, limit: PAYLOAD_BYTES_MAX })
    }
}
