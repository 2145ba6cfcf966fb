//! What a worker says about a request, in one form for all dialects (protocol notes 3.7).

use cocoon_units::{AdjustedUsage, RequestId};
use cocoon_wire::client::TokensUsed;
use cocoon_wire::cocoon::Receipt;
use cocoon_wire::proxy::{QueryFinalInfo, Times};
use cocoon_wire::tl::{Blob, Text};
use cocoon_wire::worker::Message;

/// One message of an answer, borrowed from the bytes that came.
pub(crate) struct Answer<'tl> {
    pub(crate) id: RequestId,
    pub(crate) body: Body<'tl>,
    /// Present in the last message.
    pub(crate) end: Option<End<'tl>>,
}

/// What the message carries.
pub(crate) enum Body<'tl> {
    /// Status and headers: a boxed `http.response`.
    Head(Blob<'tl>),
    /// Bytes of the answer's body.
    Part(Blob<'tl>),
    /// The worker failed.
    Error { code: i32, text: Text<'tl> },
}

/// What the worker reports at the end.
#[derive(Default)]
pub(crate) struct End<'tl> {
    pub(crate) used: TokensUsed,
    pub(crate) debug: Option<Text<'tl>>,
    pub(crate) times: Option<Times>,
}

impl<'tl> From<QueryFinalInfo<'tl>> for End<'tl> {
    fn from(info: QueryFinalInfo<'tl>) -> Self {
        Self { used: info.tokens_used, debug: info.worker_debug, times: info.times }
    }
}

/// What a worker's message is about.
pub(crate) enum Said<'tl> {
    /// A request.
    Answer(Answer<'tl>),
    /// Whether it takes requests.
    Takes(bool),
    /// Its new price factor, in thousandths.
    Price(i32),
    /// What it signed about an answer.
    Receipt(Receipt<'tl>),
    /// Nothing that has a meaning here.
    Nothing,
}

impl<'tl> Said<'tl> {
    /// Sorts a worker's message.
    ///
    /// An error ends the request even when it lacks the final information, which aborts the
    /// reference (protocol notes 3.7).
    pub(crate) fn of(message: Message<'tl>) -> Self {
        let answer = |id, body, end| Self::Answer(Answer { id, body, end });
        let old = |done: bool, used| done.then_some(End { used, debug: None, times: None });
        match message {
            Message::QueryAnswerEx(m) => {
                answer(m.request_id, Body::Head(m.answer), m.final_info.map(End::from))
            }
            Message::QueryAnswerPartEx(m) => {
                answer(m.request_id, Body::Part(m.answer), m.final_info.map(End::from))
            }
            Message::QueryAnswerErrorEx(m) => {
                let body = Body::Error { code: m.error_code, text: m.error };
                answer(m.request_id, body, Some(m.final_info.map(End::from).unwrap_or_default()))
            }
            Message::QueryAnswer(m) => {
                answer(m.request_id, Body::Head(m.answer), old(m.is_completed, m.tokens_used))
            }
            Message::QueryAnswerPart(m) => {
                answer(m.request_id, Body::Part(m.answer), old(m.is_completed, m.tokens_used))
            }
            Message::QueryAnswerError(m) => {
                let body = Body::Error { code: m.error_code, text: m.error };
                answer(m.request_id, body, old(true, m.tokens_used))
            }
            Message::QueryAnswerPartError(m) => {
                let body = Body::Error { code: m.error_code, text: m.error };
                answer(m.request_id, body, old(true, m.tokens_used))
            }
            Message::EnabledDisabled(m) => Self::Takes(m.disabled == 0),
            Message::NewCoefficient(m) => Self::Price(m.new_coefficient),
            Message::Receipt(m) => Self::Receipt(m),
            Message::Unknown(_) => Self::Nothing,
        }
    }
}

/// How far a claim can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// The five numbers fit together.
    Plausible(AdjustedUsage),
    /// They do not, or are negative: what is booked is the least reading of them.
    Impossible(AdjustedUsage),
}

impl Claim {
    pub(crate) fn of(used: &TokensUsed) -> Self {
        match used.to_usage() {
            Some(usage) if usage.is_consistent() => Self::Plausible(usage),
            Some(usage) => {
                let sum = AdjustedUsage::of_classes(
                    usage.prompt,
                    usage.cached,
                    usage.completion,
                    usage.reasoning,
                );
                Self::Impossible(AdjustedUsage { total: usage.total.min(sum.total), ..usage })
            }
            None => Self::Impossible(AdjustedUsage::ZERO),
        }
    }

    pub(crate) fn usage(self) -> AdjustedUsage {
        match self {
            Self::Plausible(usage) | Self::Impossible(usage) => usage,
        }
    }
}
