//! Small answers made here.

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};

use crate::body::Content;
use crate::gateway::Reply;

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(Content::Empty);
    *reply.status_mut() = status;
    reply
}

/// An answer in JSON.
pub(crate) fn json(status: StatusCode, body: Bytes) -> Reply {
    let mut reply = Response::new(Content::Full(body));
    *reply.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    reply.headers_mut().insert(header::CONTENT_TYPE, kind);
    reply
}

/// An answer in some text form.
pub(crate) fn text(kind: &'static str, body: Bytes) -> Reply {
    let mut reply = Response::new(Content::Full(body));
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
}
