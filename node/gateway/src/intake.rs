//! Reading a request's body within limits.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use cocoon_http::{PeerWait, Work};
use cocoon_openai::ApiError;
use cocoon_openai::fault::INVALID_REQUEST;

use crate::config::Limits;
use crate::failure::Refusal;

/// A user whose body grows by less than this in the time that makes a connection slow gives way to
/// somebody new when the gateway is full.
const PROGRESS_BYTES: usize = 64 * 1024;

/// A body, piece by piece. `Expect: 100-continue` is answered by the first read.
pub(crate) struct Pieces {
    body: Incoming,
    pause: Duration,
    waits: PeerWait,
    /// What came since the connection was last seen to get on.
    unseen_bytes: usize,
}

impl Pieces {
    pub(crate) fn of(body: Incoming, limits: &Limits, work: &Work) -> Pieces {
        let pause = Duration::from_millis(limits.body_pause_ms);
        Pieces { body, pause, waits: work.wait_for_peer(), unseen_bytes: 0 }
    }

    /// The next piece; nothing at the end.
    ///
    /// # Errors
    ///
    /// The user has gone, or nothing came for too long.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Box<Refusal>> {
        loop {
            let frame = match tokio::time::timeout(self.pause, self.body.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(None) => return Ok(None),
                Ok(Some(Err(_))) | Err(_) => return Err(Box::new(Refusal::body_too_slow())),
            };
            // Trailers mean nothing here.
            let Ok(data) = frame.into_data() else { continue };
            self.unseen_bytes = self.unseen_bytes.saturating_add(data.len());
            if self.unseen_bytes >= PROGRESS_BYTES {
                self.waits.renew();
                self.unseen_bytes = 0;
            }
            return Ok(Some(data));
        }
    }
}

/// Reads the whole body.
pub(crate) async fn read_body(
    headers: &HeaderMap,
    body: Incoming,
    limits: &Limits,
    work: &Work,
) -> Result<Bytes, Box<Refusal>> {
    check_coding(headers)?;
    let announced = body.size_hint().lower();
    if announced > limits.body_bytes as u64 {
        return Err(Box::new(Refusal::body_too_large(limits.body_bytes)));
    }
    let mut pieces = Pieces::of(body, limits, work);
    let mut first = Bytes::new();
    let mut rest: Option<BytesMut> = None;
    while let Some(data) = pieces.next().await? {
        let so_far = rest.as_ref().map_or(first.len(), BytesMut::len);
        if so_far.saturating_add(data.len()) > limits.body_bytes {
            return Err(Box::new(Refusal::body_too_large(limits.body_bytes)));
        }
        // Most bodies come in one piece, which is then not copied.
        if first.is_empty() && rest.is_none() {
            first = data;
            continue;
        }
        let joined = rest.get_or_insert_with(|| {
            // What was announced is within the limit, so it may be believed.
            let mut joined = BytesMut::with_capacity(announced as usize);
            joined.extend_from_slice(&first);
            joined
        });
        joined.extend_from_slice(&data);
    }
    Ok(rest.map_or(first, BytesMut::freeze))
}

/// Refuses a body that was compressed.
pub(crate) fn check_coding(headers: &HeaderMap) -> Result<(), Box<Refusal>> {
    if headers.get(header::CONTENT_ENCODING).is_none_or(|coding| coding == "identity") {
        return Ok(());
    }
    let message = "Compressed bodies are not accepted: send the body as it is.";
    let error = ApiError::new(415, INVALID_REQUEST, message).with_code("content_encoding");
    Err(Box::new(Refusal { close: true, ..error.into() }))
}

/// Most that is read of a body that nobody wants, to keep its connection usable.
const DISCARD_BYTES: usize = 256 * 1024;

/// How long that may take.
const DISCARD_WAIT: Duration = Duration::from_millis(500);

/// Reads a body that nobody wants; false when the connection should rather be closed.
pub(crate) async fn discard(mut body: Incoming) -> bool {
    if body.is_end_stream() {
        return true;
    }
    if body.size_hint().lower() > DISCARD_BYTES as u64 {
        return false;
    }
    let read = async {
        let mut bytes = 0usize;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return false };
            bytes = bytes.saturating_add(frame.data_ref().map_or(0, Bytes::len));
            if bytes > DISCARD_BYTES {
                return false;
            }
        }
        true
    };
    tokio::time::timeout(DISCARD_WAIT, read).await.unwrap_or(false)
}
