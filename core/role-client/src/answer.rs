//! What a proxy tells about a request, in one form for every protocol version.

use bytes::Bytes;
use cocoon_units::{AdjustedUsage, RequestId, Tokens};
use cocoon_wire::client::{FromProxy, QueryFinalInfo, Times, TokensUsed};
use cocoon_wire::{http, tl};

use crate::fault::{Fault, Refused};
use cocoon_channel::ChannelFault;

/// What happened to a request.
#[derive(Clone, PartialEq)]
pub enum AnswerEvent {
    /// Status and headers; parts follow unless `end` says that this is all.
    Head {
        /// Status of the model server.
        status: u16,
        /// Headers of the model server and of the nodes on the way.
        headers: Vec<(String, Bytes)>,
        /// First bytes of the body, usually none.
        payload: Bytes,
        /// Present when nothing follows.
        end: Option<Box<Charge>>,
    },
    /// More of the body.
    Part {
        /// The bytes; may be empty in the last part.
        bytes: Bytes,
        /// Present when nothing follows.
        end: Option<Box<Charge>>,
    },
    /// The request failed; nothing follows.
    Failed {
        /// Why.
        refused: Refused,
        /// What was charged all the same.
        charge: Box<Charge>,
    },
}

impl AnswerEvent {
    /// What was charged; only the last event of a request says it.
    #[must_use]
    pub fn charge(&self) -> Option<&Charge> {
        match self {
            Self::Head { end, .. } | Self::Part { end, .. } => end.as_deref(),
            Self::Failed { charge, .. } => Some(charge),
        }
    }
}

impl std::fmt::Debug for AnswerEvent {
    /// Shows lengths, never content.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Head { status, payload, .. } => {
                write!(f, "Head({status}, {} bytes)", payload.len())
            }
            Self::Part { bytes, end } => {
                write!(f, "Part({} bytes, end: {})", bytes.len(), end.is_some())
            }
            Self::Failed { refused, .. } => write!(f, "Failed({})", refused.code),
        }
    }
}

/// What a request cost, and when.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Charge {
    /// Adjusted tokens, total last.
    pub used: AdjustedUsage,
    /// When proxy and worker began and ended; absent below version 2.
    pub times: Option<Times>,
    /// Debug record of the worker, JSON by its own word.
    pub worker_debug: Option<String>,
    /// Debug record of the proxy, JSON by its own word.
    pub proxy_debug: Option<String>,
}

/// A model and the workers that serve it (`getWorkerTypesV2`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelWorkers {
    /// Base name of the model.
    pub name: String,
    /// Enabled connections, cheapest first; empty when nobody serves it now.
    pub workers: Vec<WorkerLoad>,
}

/// One worker behind a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerLoad {
    /// Price factor in thousandths.
    pub coefficient: i32,
    /// Queries running through this proxy.
    pub running: i32,
    /// Most queries through this proxy.
    pub running_max: i32,
}

impl Charge {
    fn of(info: Option<&QueryFinalInfo<'_>>) -> Self {
        let Some(info) = info else { return Self::default() };
        let text = |text: &tl::Text<'_>| text.sanitized().into_owned();
        Self {
            used: adjusted(&info.tokens_used),
            times: info.times,
            worker_debug: info.debug.as_ref().map(|debug| text(&debug.worker)),
            proxy_debug: info.debug.as_ref().map(|debug| text(&debug.proxy)),
        }
    }

    fn old(used: &TokensUsed) -> Self {
        Self { used: adjusted(used), ..Self::default() }
    }
}

/// Turns an answer message into an event. `None` for messages that are about no request. Both
/// dialects are taken from any peer: the older line's proxies answer new clients in the old one
/// (protocol notes, wire 8.2).
pub(crate) fn read(
    data: &Bytes,
    message: &FromProxy<'_>,
) -> Result<Option<(RequestId, AnswerEvent)>, Fault> {
    let slice = |part: &[u8]| {
        if part.is_empty() { Bytes::new() } else { data.slice_ref(part) }
    };
    let end = |done: bool, used: &TokensUsed| done.then(|| Box::new(Charge::old(used)));
    let event = match message {
        FromProxy::QueryAnswerEx(answer) => {
            let end = answer.final_info.as_ref().map(|info| Box::new(Charge::of(Some(info))));
            (answer.request_id, head(data, answer.answer.0, end)?)
        }
        FromProxy::QueryAnswerPartEx(part) => {
            let end = part.final_info.as_ref().map(|info| Box::new(Charge::of(Some(info))));
            (part.request_id, AnswerEvent::Part { bytes: slice(part.answer.0), end })
        }
        FromProxy::QueryAnswerErrorEx(error) => {
            let charge = Charge::of(error.final_info.as_ref());
            (error.request_id, failed(error.error_code, &error.error, charge))
        }
        FromProxy::QueryAnswer(answer) => {
            let end = end(answer.is_completed, &answer.request_tokens_used);
            (answer.request_id, head(data, answer.answer.0, end)?)
        }
        FromProxy::QueryAnswerPart(part) => {
            let end = end(part.is_completed, &part.request_tokens_used);
            (part.request_id, AnswerEvent::Part { bytes: slice(part.answer.0), end })
        }
        FromProxy::QueryAnswerError(error) => {
            let charge = Charge::old(&error.request_tokens_used);
            (error.request_id, failed(error.error_code, &error.error, charge))
        }
        FromProxy::QueryAnswerPartError(error) => {
            let charge = Charge::old(&error.request_tokens_used);
            (error.request_id, failed(error.error_code, &error.error, charge))
        }
        FromProxy::ClientRequestPayment(_)
        | FromProxy::SignedPayment(_)
        | FromProxy::Leaving(_)
        | FromProxy::Receipt(_)
        | FromProxy::Unknown(_) => return Ok(None),
    };
    Ok(Some(event))
}

fn head(data: &Bytes, answer: &[u8], end: Option<Box<Charge>>) -> Result<AnswerEvent, Fault> {
    let response: http::Response<'_> = tl::decode(answer)
        .map_err(|fault| ChannelFault::Malformed { what: "http.response", fault })?;
    let slice = |part: &[u8]| {
        if part.is_empty() { Bytes::new() } else { data.slice_ref(part) }
    };
    Ok(AnswerEvent::Head {
        status: u16::try_from(response.status_code).unwrap_or(502),
        headers: response
            .headers
            .iter()
            .map(|header| (header.name.sanitized().into_owned(), slice(header.value.0)))
            .collect(),
        payload: slice(response.payload.0),
        end,
    })
}

fn failed(code: i32, text: &tl::Text<'_>, charge: Charge) -> AnswerEvent {
    let message = text.sanitized().chars().take(500).collect();
    AnswerEvent::Failed { refused: Refused { code, message }, charge: Box::new(charge) }
}

fn adjusted(used: &TokensUsed) -> AdjustedUsage {
    let tokens = |value: i64| Tokens::from_wire(value).unwrap_or(Tokens::ZERO);
    AdjustedUsage {
        prompt: tokens(used.prompt_tokens_used),
        cached: tokens(used.cached_tokens_used),
        completion: tokens(used.completion_tokens_used),
        reasoning: tokens(used.reasoning_tokens_used),
        total: tokens(used.total_tokens_used),
    }
}
