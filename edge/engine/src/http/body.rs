//! Bodies of answers: one piece, or a stream of server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::generate::job::JobEvent;
use crate::openai::chat_answer::ChatAnswer;
use crate::openai::completion_answer::CompletionAnswer;
use crate::openai::error::ApiError;

/// The body of every answer.
pub(crate) type AnswerBody = UnsyncBoxBody<Bytes, Infallible>;

/// An answer of one piece.
pub(crate) fn full(status: u16, content_type: &str, body: Vec<u8>) -> Response<AnswerBody> {
    let body = Full::new(Bytes::from(body)).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Ok(value) = content_type.parse() {
        response.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    response
}

/// An answer of JSON.
pub(crate) fn json(status: u16, value: &Value) -> Response<AnswerBody> {
    full(status, "application/json", value.to_string().into_bytes())
}

/// An error as an answer.
pub(crate) fn refusal(error: &ApiError) -> Response<AnswerBody> {
    let mut response = json(error.status, &error.body());
    if let Some(seconds) = error.retry_after_s {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// The two kinds of answer that can be streamed.
pub(crate) enum Answer {
    Chat(ChatAnswer),
    Completion(CompletionAnswer),
}

impl Answer {
    fn take(&mut self, index: u32, event: JobEvent) -> Result<Vec<Value>, ApiError> {
        match self {
            Self::Chat(answer) => answer.take(index, event),
            Self::Completion(answer) => answer.take(index, event),
        }
    }

    fn is_complete(&self) -> bool {
        match self {
            Self::Chat(answer) => answer.is_complete(),
            Self::Completion(answer) => answer.is_complete(),
        }
    }

    fn usage_chunk(&self) -> Option<Value> {
        match self {
            Self::Chat(answer) => answer.usage_chunk(),
            Self::Completion(answer) => answer.usage_chunk(),
        }
    }

    fn whole(&mut self) -> Value {
        match self {
            Self::Chat(answer) => answer.whole(),
            Self::Completion(answer) => answer.whole(),
        }
    }
}

/// Where the events of an answer's choices arrive.
pub(crate) type Events = mpsc::UnboundedReceiver<(u32, JobEvent)>;

fn lost() -> ApiError {
    ApiError::internal("The engine stopped before the answer was complete.")
}

/// Waits for the whole answer.
pub(crate) async fn collect(
    mut answer: Answer,
    mut events: Events,
) -> Result<Response<AnswerBody>, ApiError> {
    while !answer.is_complete() {
        let (index, event) = events.recv().await.ok_or_else(lost)?;
        answer.take(index, event)?;
    }
    Ok(json(200, &answer.whole()))
}

/// Answers at once and sends the answer as it comes into being.
pub(crate) fn stream(answer: Answer, events: Events) -> Response<AnswerBody> {
    let body = EventStream { answer, events, ready: VecDeque::new(), ended: false };
    let mut response = Response::new(body.boxed_unsync());
    let headers = response.headers_mut();
    let fixed = [
        (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache"),
        // Tells nginx and its like not to collect the events.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    for (name, value) in fixed {
        headers.insert(name, header::HeaderValue::from_static(value));
    }
    response
}

/// Server-sent events (WHATWG HTML, 9.2). Each is a frame of its own, so hyper writes it to
/// the socket before it waits for the next. When the client goes away hyper drops the body,
/// which closes `events`, which stops the decoding.
struct EventStream {
    answer: Answer,
    events: Events,
    ready: VecDeque<Bytes>,
    ended: bool,
}

impl EventStream {
    fn take(&mut self, index: u32, event: JobEvent) {
        match self.answer.take(index, event) {
            Ok(chunks) => {
                self.ready.extend(chunks.iter().map(event_bytes));
                if self.answer.is_complete() {
                    self.ready.extend(self.answer.usage_chunk().as_ref().map(event_bytes));
                    self.ready.push_back(Bytes::from_static(b"data: [DONE]\n\n"));
                    self.ended = true;
                }
            }
            Err(error) => self.fail(&error),
        }
    }

    fn fail(&mut self, error: &ApiError) {
        self.ready.push_back(event_bytes(&error.body()));
        self.ended = true;
        self.events.close();
    }
}

fn event_bytes(value: &Value) -> Bytes {
    Bytes::from(format!("data: {value}\n\n"))
}

impl Body for EventStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        loop {
            if let Some(bytes) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            match this.events.poll_recv(context) {
                Poll::Ready(Some((index, event))) => this.take(index, event),
                Poll::Ready(None) => this.fail(&lost()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
