//! Bytes from the peer: cut into frames without a copy.

use bytes::{Bytes, BytesMut};
use cocoon_wire::frame::FrameReader;

use crate::fault::Fault;

/// Received bytes that are no whole frame yet.
#[derive(Debug, Default)]
pub(crate) struct Input {
    pub(crate) bytes: BytesMut,
    reader: FrameReader,
}

impl Input {
    /// Takes the next whole frame's payload, which may have up to `payload_bytes_max` bytes.
    ///
    /// A length is judged as soon as it is there, so a peer that lies about it makes us hold
    /// no more than it really sends.
    pub(crate) fn frame(&mut self, payload_bytes_max: usize) -> Result<Option<Bytes>, Fault> {
        if let Some(length) = self.bytes.first_chunk() {
            let announced = u32::from_le_bytes(*length);
            if announced as usize > payload_bytes_max {
                return Err(Fault::PayloadLength { announced, limit: payload_bytes_max });
            }
        }
        let payload = self.reader.next_payload(&mut self.bytes)?;
        if payload.is_some() && self.bytes.is_empty() {
            // An idle connection holds no buffer, and none as large as its largest frame.
            self.bytes = BytesMut::new();
        }
        Ok(payload)
    }
}
