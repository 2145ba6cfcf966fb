//! Bodies of answers: nothing, all at once, or as it comes.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use cocoon_http::WorkGuard;
use http_body::{Frame, SizeHint};

use crate::batches::FileContent;
use crate::relay::Relay;

/// What an answer's body is made of.
#[derive(Debug)]
pub(crate) enum Content {
    /// Nothing.
    Empty,
    /// All of it.
    Full(Bytes),
    /// As it comes from the network.
    Relay(Box<Relay>),
    /// As it is read from the disk.
    File(Box<FileContent>),
}

/// The body of an answer; keeps its connection busy until it is written.
#[derive(Debug)]
pub(crate) struct AnswerBody {
    content: Content,
    _work: WorkGuard,
}

impl AnswerBody {
    pub(crate) fn new(content: Content, work: WorkGuard) -> AnswerBody {
        AnswerBody { content, _work: work }
    }
}

/// The network, or the disk, broke an answer that is no stream of events: the connection is cut, so
/// that the user's HTTP client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer broke off")]
pub(crate) struct BrokenOff;

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match &mut self.content {
            Content::Empty => Poll::Ready(None),
            Content::Full(_) => {
                let Content::Full(bytes) = std::mem::replace(&mut self.content, Content::Empty)
                else {
                    return Poll::Ready(None);
                };
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Content::Relay(relay) => {
                relay.poll_bytes(cx).map(|step| step.map(|result| result.map(Frame::data)))
            }
            Content::File(file) => {
                file.poll_bytes(cx).map(|step| step.map(|result| result.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Empty => true,
            Content::File(file) => file.left() == 0,
            Content::Full(_) | Content::Relay(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Empty => SizeHint::with_exact(0),
            Content::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::File(file) => SizeHint::with_exact(file.left()),
            Content::Relay(_) => SizeHint::default(),
        }
    }
}
