//! Bytes from the peer: cut into frames without a copy.

use bytes::{Bytes, BytesMut};

use crate::fault::Fault;
use crate::output::HEADER_LEN;

/// Received bytes that are no whole frame yet.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) bytes: BytesMut,
    next_sequence: i32,
}

impl Input {
    pub(crate) fn new() -> Self {
        Self { bytes: BytesMut::new(), next_sequence: 0 }
    }

    /// Takes the next whole frame's payload, which may have up to `payload_bytes_max` bytes.
    ///
    /// A length is judged as soon as it is there, so a peer that lies about it makes us hold
    /// no more than it really sends.
    pub(crate) fn frame(&mut self, payload_bytes_max: usize) -> Result<Option<Bytes>, Fault> {
        let Some((length, rest)) = self.bytes.split_first_chunk() else { return Ok(None) };
        let announced = u32::from_le_bytes(*length);
        let len = announced as usize;
        if !(4..=payload_bytes_max).contains(&len) {
            return Err(Fault::PayloadLength { announced, limit: payload_bytes_max });
        }
        let Some((sequence, payload)) = rest.split_first_chunk() else { return Ok(None) };
        let received = i32::from_le_bytes(*sequence);
        if received != self.next_sequence {
            return Err(Fault::Sequence { received, expected: self.next_sequence });
        }
        if payload.len() < len {
            return Ok(None);
        }
        self.next_sequence = self.next_sequence.wrapping_add(1);
        let mut frame = self.bytes.split_to(HEADER_LEN + len).freeze();
        Ok(Some(frame.split_off(HEADER_LEN)))
    }
}
