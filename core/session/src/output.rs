//! Bytes for the peer: frames are encoded in place behind their header.

use bytes::{Buf as _, BufMut as _, BytesMut};

use crate::fault::Refusal;
use crate::limits::FRAME_PAYLOAD_MAX;

/// Length and sequence number (protocol notes 1.1).
pub(crate) const HEADER_LEN: usize = 8;

/// Capacity that is kept when the output runs empty; more is given back.
const IDLE_CAPACITY: usize = 256 * 1024;

/// Frames that wait for the peer.
#[derive(Debug)]
pub(crate) struct Output {
    bytes: BytesMut,
    next_sequence: i32,
    bytes_max: usize,
}

impl Output {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes: BytesMut::new(), next_sequence: 0, bytes_max }
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
        if len > FRAME_PAYLOAD_MAX {
            return Err(Refusal::TooLong { len, limit: FRAME_PAYLOAD_MAX });
        }
        let queued = self.bytes.len();
        if queued + HEADER_LEN + len > self.bytes_max {
            return Err(Refusal::OutputFull { queued, limit: self.bytes_max });
        }
        self.bytes.reserve(HEADER_LEN + len);
        // The limit above keeps the length far below 32 bits.
        self.bytes.put_u32_le(u32::try_from(len).unwrap_or(u32::MAX));
        self.bytes.put_i32_le(self.next_sequence);
        write(&mut self.bytes);
        debug_assert_eq!(self.bytes.len(), queued + HEADER_LEN + len, "announced packet length");
        // The reference's counter is 32 bits wide; both ends wrap.
        self.next_sequence = self.next_sequence.wrapping_add(1);
        Ok(())
    }
}
