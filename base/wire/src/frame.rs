//! Frames on the byte stream of a connection (protocol notes 1.1).
//!
//! A frame is a little-endian length, a little-endian sequence number that starts at 0 in
//! each direction, and the payload. Neither machine touches a socket: bytes are put into
//! the reader's buffer and taken out of the writer's.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use crate::tl::{self, Blob, Boxed, Constructor as _, Tl as _, encode};
use crate::{FrameFault, client, http, tcp};

/// Bytes before the payload.
pub const HEADER_BYTES: usize = 8;
/// Shortest payload: a constructor id.
pub const PAYLOAD_BYTES_MIN: usize = 4;
/// Longest payload.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 24;

/// Cuts received bytes into payloads.
///
/// A fault is final: the connection must be closed, and every later call returns it again.
#[derive(Debug, Default)]
pub struct FrameReader {
    next_seqno: u32,
    fault: Option<FrameFault>,
}

impl FrameReader {
    /// Starts at the first frame of a direction.
    #[must_use]
    pub const fn new() -> Self {
        Self { next_seqno: 0, fault: None }
    }

    /// Takes the next payload out of `buffer` without copying it, or `None` when the frame is
    /// not complete; then more bytes must be appended. `buffer` grows to at most one frame if
    /// the caller asks before it appends more than [`FrameReader::wanted`] bytes.
    ///
    /// # Errors
    /// [`FrameFault`]: the peer broke the protocol, close the connection.
    pub fn next_payload(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, FrameFault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let Some(length) = self.checked_length(buffer)? else { return Ok(None) };
        if buffer.len() < HEADER_BYTES + length {
            return Ok(None);
        }
        self.next_seqno = self.next_seqno.wrapping_add(1);
        buffer.advance(HEADER_BYTES);
        Ok(Some(buffer.split_to(length).freeze()))
    }

    /// How many more bytes complete the frame at the start of `buffer`; 0 when it is complete.
    /// The caller can reserve them at once.
    ///
    /// # Errors
    /// [`FrameFault`]: the peer broke the protocol, close the connection.
    pub fn wanted(&mut self, buffer: &BytesMut) -> Result<usize, FrameFault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let length = self.checked_length(buffer)?.unwrap_or(0);
        Ok((HEADER_BYTES + length).saturating_sub(buffer.len()))
    }

    /// Sequence number that the next frame must have.
    #[must_use]
    pub const fn next_seqno(&self) -> u32 {
        self.next_seqno
    }

    /// Reads and checks the header; `None` when it is not complete.
    fn checked_length(&mut self, buffer: &BytesMut) -> Result<Option<usize>, FrameFault> {
        let Some((length, rest)) = buffer.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length);
        // Checked before the sequence number is there, so a hostile length is refused early.
        if !(PAYLOAD_BYTES_MIN..=PAYLOAD_BYTES_MAX).contains(&(length as usize)) {
            return Err(self.fail(FrameFault::Length { length }));
        }
        let Some(seqno) = rest.first_chunk::<4>() else { return Ok(None) };
        let found = u32::from_le_bytes(*seqno);
        if found != self.next_seqno {
            return Err(self.fail(FrameFault::Seqno { found, expected: self.next_seqno }));
        }
        Ok(Some(length as usize))
    }

    /// Remembers the fault.
    fn fail(&mut self, fault: FrameFault) -> FrameFault {
        self.fault = Some(fault);
        fault
    }
}

/// Puts payloads behind their headers.
#[derive(Debug, Default)]
pub struct FrameWriter {
    next_seqno: u32,
}

impl FrameWriter {
    /// Starts at the first frame of a direction.
    #[must_use]
    pub const fn new() -> Self {
        Self { next_seqno: 0 }
    }

    /// Appends a frame of exactly `length` payload bytes; `fill` appends the payload in place.
    ///
    /// # Errors
    /// [`FrameFault::TooLarge`] when `length` is out of range and [`FrameFault::Misfilled`]
    /// when `fill` appended another number of bytes. In both cases `out` is as before and no
    /// sequence number was used, so the connection stays usable.
    pub fn write_with(
        &mut self,
        out: &mut BytesMut,
        length: usize,
        fill: impl FnOnce(&mut BytesMut),
    ) -> Result<(), FrameFault> {
        let header = u32::try_from(length)
            .ok()
            .filter(|_| (PAYLOAD_BYTES_MIN..=PAYLOAD_BYTES_MAX).contains(&length))
            .ok_or(FrameFault::TooLarge { length })?;
        let start = out.len();
        out.reserve(HEADER_BYTES + length);
        out.put_u32_le(header);
        out.put_u32_le(self.next_seqno);
        fill(out);
        let written = out.len().saturating_sub(start + HEADER_BYTES);
        if written != length {
            out.truncate(start);
            return Err(FrameFault::Misfilled { length, written });
        }
        self.next_seqno = self.next_seqno.wrapping_add(1);
        Ok(())
    }

    /// Appends a frame around a payload that is already encoded.
    ///
    /// # Errors
    /// As [`FrameWriter::write_with`].
    pub fn write_payload(&mut self, out: &mut BytesMut, payload: &[u8]) -> Result<(), FrameFault> {
        self.write_with(out, payload.len(), |out| out.put_slice(payload))
    }

    /// Appends a frame around a packet, encoded in place.
    ///
    /// # Errors
    /// As [`FrameWriter::write_with`].
    pub fn write<'tl, T: Boxed<'tl>>(
        &mut self,
        out: &mut BytesMut,
        packet: &T,
    ) -> Result<(), FrameFault> {
        self.write_with(out, packet.boxed_size(), |out| packet.write_boxed(out))
    }

    /// Appends a frame with a one-way message, encoded in place.
    ///
    /// # Errors
    /// As [`FrameWriter::write_with`].
    pub fn write_message<'tl, T: Boxed<'tl>>(
        &mut self,
        out: &mut BytesMut,
        object: &T,
    ) -> Result<(), FrameFault> {
        let length = tcp::message_size(object);
        self.write_with(out, length, |out| tcp::write_message(out, object))
    }

    /// Appends a frame with a query, encoded in place.
    ///
    /// # Errors
    /// As [`FrameWriter::write_with`].
    pub fn write_query<'tl, T: Boxed<'tl>>(
        &mut self,
        out: &mut BytesMut,
        id: i64,
        function: &T,
    ) -> Result<(), FrameFault> {
        let length = tcp::query_size(function);
        self.write_with(out, length, |out| tcp::write_query(out, id, function))
    }

    /// Appends a frame with the result of a query, encoded in place.
    ///
    /// # Errors
    /// As [`FrameWriter::write_with`].
    pub fn write_answer<'tl, T: Boxed<'tl>>(
        &mut self,
        out: &mut BytesMut,
        id: i64,
        result: &T,
    ) -> Result<(), FrameFault> {
        let length = tcp::query_size(result);
        self.write_with(out, length, |out| tcp::write_answer(out, id, result))
    }

    /// Appends a frame with the message `query` around `request`, which takes the place of
    /// `query.query`. The body of the request is copied once, into `out`.
    ///
    /// # Errors
    /// As [`FrameWriter::write_with`].
    pub fn write_run_query(
        &mut self,
        out: &mut BytesMut,
        query: &client::RunQueryEx<'_>,
        request: &http::Request<'_>,
    ) -> Result<(), FrameFault> {
        let shell = encode(&client::RunQueryEx { query: Blob(&[]), ..query.clone() });
        // Behind the id and the model name stands the empty field, four bytes.
        let place = 4 + query.model_name.size();
        let (Some(head), Some(tail)) = (shell.get(..place), shell.get(place + 4..)) else {
            return Err(FrameFault::Misfilled { length: place, written: shell.len() });
        };
        let inner = head.len() + tl::bytes_size(request.boxed_size()) + tail.len();
        self.write_with(out, 4 + tl::bytes_size(inner), |out| {
            out.put_u32_le(tcp::Message::ID);
            tl::write_nested_with(out, inner, |out| {
                out.put_slice(head);
                tl::write_nested(out, request);
                out.put_slice(tail);
            });
        })
    }

    /// Sequence number of the next frame.
    #[must_use]
    pub const fn next_seqno(&self) -> u32 {
        self.next_seqno
    }
}
