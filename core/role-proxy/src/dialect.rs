//! What a client is told about a request, in the dialect it speaks (protocol notes 3.6, 3.7).

use cocoon_units::{AdjustedUsage, ProtoVersion, RequestId};
use cocoon_wire::client::{
    Debug, QueryAnswer, QueryAnswerError, QueryAnswerErrorEx, QueryAnswerEx, QueryAnswerPart,
    QueryAnswerPartError, QueryAnswerPartEx, QueryFinalInfo, Times, TokensUsed,
};
use cocoon_wire::tl::{Blob, Extensions, Text};

use crate::outbox::{Act, ConnId, Outbox};

/// Whom to tell, about which request, in which dialect.
#[derive(Clone, Copy)]
pub(crate) struct Listener {
    pub(crate) conn: ConnId,
    pub(crate) id: RequestId,
    pub(crate) version: ProtoVersion,
}

/// The end of a request as the client learns it.
pub(crate) struct Closing<'tl> {
    pub(crate) usage: AdjustedUsage,
    /// Debug texts, when the client asked for them.
    pub(crate) debug: Option<Debug<'tl>>,
    pub(crate) times: Times,
}

impl<'tl> Closing<'tl> {
    /// Nothing used, no debug texts.
    pub(crate) fn empty(times: Times) -> Self {
        Self { usage: AdjustedUsage::ZERO, debug: None, times }
    }

    fn info(self, version: ProtoVersion) -> QueryFinalInfo<'tl> {
        QueryFinalInfo {
            extensions: Extensions::NONE,
            tokens_used: TokensUsed::from_usage(&self.usage),
            debug: self.debug,
            times: version.has_times().then_some(self.times),
        }
    }
}

impl Listener {
    /// Status and headers. The last message of an answer waits for the journal.
    pub(crate) fn head(&self, out: &mut Outbox, answer: &[u8], end: Option<Closing<'_>>) {
        let last = end.is_some();
        let data = if self.version.has_final_info() {
            out.encode(&QueryAnswerEx {
                request_id: self.id,
                answer: Blob(answer),
                extensions: Extensions::NONE,
                final_info: end.map(|end| end.info(self.version)),
            })
        } else {
            out.encode(&QueryAnswer {
                answer: Blob(answer),
                is_completed: last,
                request_id: self.id,
                request_tokens_used: tokens(end),
            })
        };
        self.send(out, data, last);
    }

    /// Bytes of the body. The last message of an answer waits for the journal.
    pub(crate) fn part(&self, out: &mut Outbox, answer: Blob<'_>, end: Option<Closing<'_>>) {
        let last = end.is_some();
        let data = if self.version.has_final_info() {
            out.encode(&QueryAnswerPartEx {
                request_id: self.id,
                answer,
                extensions: Extensions::NONE,
                final_info: end.map(|end| end.info(self.version)),
            })
        } else {
            out.encode(&QueryAnswerPart {
                answer,
                is_completed: last,
                request_id: self.id,
                request_tokens_used: tokens(end),
            })
        };
        self.send(out, data, last);
    }

    /// The request failed. It waits for the journal when something was booked. `begun` tells
    /// whether a head was sent, which only the oldest dialect wants to know.
    pub(crate) fn error(
        &self,
        out: &mut Outbox,
        begun: bool,
        code: i32,
        text: &str,
        end: Closing<'_>,
    ) {
        let (error, id) = (Text::from(text), self.id);
        let booked = end.usage.total > cocoon_units::Tokens::ZERO;
        let data = if self.version.has_final_info() {
            out.encode(&QueryAnswerErrorEx {
                request_id: id,
                error_code: code,
                error,
                extensions: Extensions::NONE,
                final_info: Some(end.info(self.version)),
            })
        } else if begun {
            out.encode(&QueryAnswerPartError {
                error_code: code,
                error,
                request_id: id,
                request_tokens_used: tokens(Some(end)),
            })
        } else {
            out.encode(&QueryAnswerError {
                error_code: code,
                error,
                request_id: id,
                request_tokens_used: tokens(Some(end)),
            })
        };
        self.send(out, data, booked);
    }

    fn send(&self, out: &mut Outbox, data: bytes::Bytes, last: bool) {
        let act = Act::Send { conn: self.conn, data };
        if last {
            out.act_when_durable(act);
        } else {
            out.act(act);
        }
    }
}

fn tokens(end: Option<Closing<'_>>) -> TokensUsed {
    end.map(|end| TokensUsed::from_usage(&end.usage)).unwrap_or_default()
}
