//! The answer to one query, in the dialect of its connection (protocol notes, wire 3.7, 3.8).

use bytes::BufMut;
use cocoon_units::{AdjustedUsage, Coefficient, PriceTable, RequestId, Tokens, Usage};
use cocoon_wire::client::TokensUsed;
use cocoon_wire::proxy::{
    QueryAnswer, QueryAnswerError, QueryAnswerErrorEx, QueryAnswerEx, QueryAnswerPart,
    QueryAnswerPartError, QueryAnswerPartEx, QueryFinalInfo, Times,
};
use cocoon_wire::tl::{self, Blob, Boxed, Extensions};
use cocoon_wire::{cocoon, http};

use crate::fault::Reject;

/// Headers of the model server that do not travel: they belong to its connection.
const DROPPED_HEADERS: [&str; 7] =
    ["connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];

/// Writes the messages of one answer into the caller's buffer: head, parts, end.
#[derive(Clone, Debug)]
pub struct AnswerWriter {
    request: RequestId,
    version: i32,
    debug: bool,
    coefficient: Coefficient,
    prices: PriceTable,
    started_ms: u64,
    head_ms: u64,
}

impl AnswerWriter {
    pub(crate) const fn new(
        request: RequestId,
        version: i32,
        debug: bool,
        coefficient: Coefficient,
        prices: PriceTable,
        started_ms: u64,
    ) -> Self {
        Self { request, version, debug, coefficient, prices, started_ms, head_ms: 0 }
    }

    /// The proxy's id of the query.
    #[must_use]
    pub const fn request(&self) -> RequestId {
        self.request
    }

    /// The price factor the proxy stated for this query, and the network's prices.
    #[must_use]
    pub const fn terms(&self) -> (Coefficient, PriceTable) {
        (self.coefficient, self.prices)
    }

    /// When the query came and when the head was written, unix milliseconds; 0 for no head.
    #[must_use]
    pub const fn began_ms(&self) -> (u64, u64) {
        (self.started_ms, self.head_ms)
    }

    /// The receipt, which goes before the last message. Only where both sides announced it.
    pub fn receipt(&self, out: &mut Vec<u8>, receipt: &[u8]) {
        let (request_id, receipt) = (self.request, Blob(receipt));
        write(out, &cocoon::Receipt { request_id, worker: 0, receipt });
    }

    /// What a usage costs at the price factor the proxy stated for this query.
    #[must_use]
    pub fn adjusted(&self, usage: &Usage) -> AdjustedUsage {
        usage.adjusted(self.coefficient, &self.prices)
    }

    /// First message: status and headers, no payload.
    pub fn head<'h>(
        &mut self,
        out: &mut Vec<u8>,
        status: u16,
        headers: impl Iterator<Item = (&'h str, &'h [u8])>,
        now_ms: u64,
    ) {
        self.head_ms = now_ms;
        let started = seconds_text(self.started_ms);
        let ended = seconds_text(now_ms);
        let mut kept: Vec<http::Header<'_>> = headers
            .filter(|(name, _)| !DROPPED_HEADERS.iter().any(|drop| name.eq_ignore_ascii_case(drop)))
            .map(|(name, value)| header(name, value))
            .collect();
        kept.push(header("X-Cocoon-Worker-Start", started.as_bytes()));
        kept.push(header("X-Cocoon-Worker-End", ended.as_bytes()));
        kept.push(header("Transfer-Encoding", b"chunked"));
        let response = http::Response {
            http_version: "HTTP/1.1".into(),
            status_code: i32::from(status),
            reason: "".into(),
            headers: kept,
            payload: Blob(&[]),
        };
        let answer = tl::encode(&response);
        if self.version == 0 {
            write(
                out,
                &QueryAnswer {
                    answer: Blob(&answer),
                    is_completed: false,
                    request_id: self.request,
                    tokens_used: TokensUsed::default(),
                },
            );
        } else {
            write(
                out,
                &QueryAnswerEx {
                    request_id: self.request,
                    answer: Blob(&answer),
                    extensions: Extensions::NONE,
                    final_info: None,
                },
            );
        }
    }

    /// A part of the body; empty parts are not sent.
    pub fn part<B: BufMut>(&self, out: &mut B, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if self.version == 0 {
            write(
                out,
                &QueryAnswerPart {
                    answer: Blob(bytes),
                    is_completed: false,
                    request_id: self.request,
                    tokens_used: TokensUsed::default(),
                },
            );
        } else {
            write(
                out,
                &QueryAnswerPartEx {
                    request_id: self.request,
                    answer: Blob(bytes),
                    extensions: Extensions::NONE,
                    final_info: None,
                },
            );
        }
    }

    /// The last part, with what was used. Returns the tokens it claims.
    pub fn finish(&self, out: &mut Vec<u8>, usage: &Usage, now_ms: u64) -> Tokens {
        let used = self.adjusted(usage);
        let tokens_used = tokens_used(&used);
        if self.version == 0 {
            write(
                out,
                &QueryAnswerPart {
                    answer: Blob(&[]),
                    is_completed: true,
                    request_id: self.request,
                    tokens_used,
                },
            );
        } else {
            let debug = self.debug_text(now_ms);
            write(
                out,
                &QueryAnswerPartEx {
                    request_id: self.request,
                    answer: Blob(&[]),
                    extensions: Extensions::NONE,
                    final_info: Some(self.final_info(tokens_used, debug.as_deref(), now_ms)),
                },
            );
        }
        used.total
    }

    /// An error, before or after the head; nothing follows. What was used until then is claimed
    /// with it. Returns the tokens claimed.
    pub fn fail(&self, out: &mut Vec<u8>, reject: &Reject, usage: &Usage, now_ms: u64) -> Tokens {
        let used = self.adjusted(usage);
        let tokens_used = tokens_used(&used);
        let (code, text) = (reject.code, reject.message.as_str());
        if self.version == 0 && self.head_ms == 0 {
            write(
                out,
                &QueryAnswerError {
                    error_code: code,
                    error: text.into(),
                    request_id: self.request,
                    tokens_used,
                },
            );
        } else if self.version == 0 {
            write(
                out,
                &QueryAnswerPartError {
                    error_code: code,
                    error: text.into(),
                    request_id: self.request,
                    tokens_used,
                },
            );
        } else {
            let debug = self.debug_text(now_ms);
            write(
                out,
                &QueryAnswerErrorEx {
                    request_id: self.request,
                    error_code: code,
                    error: text.into(),
                    extensions: Extensions::NONE,
                    final_info: Some(self.final_info(tokens_used, debug.as_deref(), now_ms)),
                },
            );
        }
        used.total
    }

    fn final_info<'t>(
        &self,
        tokens_used: TokensUsed,
        debug: Option<&'t str>,
        now_ms: u64,
    ) -> QueryFinalInfo<'t> {
        QueryFinalInfo {
            extensions: Extensions::NONE,
            tokens_used,
            worker_debug: debug.map(Into::into),
            times: (self.version >= 2).then(|| Times {
                worker_start: seconds(self.started_ms),
                worker_end: seconds(now_ms),
            }),
        }
    }

    fn debug_text(&self, now_ms: u64) -> Option<String> {
        self.debug.then(|| {
            format!(
                "{{\"type\":\"worker_stats\",\"start_time\":{:.3},\
                 \"answer_receive_start_at\":{:.3},\"answer_receive_end_at\":{:.3}}}",
                seconds(self.started_ms),
                seconds(self.head_ms),
                seconds(now_ms)
            )
        })
    }
}

/// Answers a query that could not even be read.
pub(crate) fn write_reject(
    out: &mut Vec<u8>,
    request: RequestId,
    version: i32,
    reject: &Reject,
    now_ms: u64,
) {
    let prices = PriceTable::default();
    AnswerWriter::new(request, version, false, Coefficient::ONE, prices, now_ms).fail(
        out,
        reject,
        &Usage::default(),
        now_ms,
    );
}

fn tokens_used(used: &AdjustedUsage) -> TokensUsed {
    TokensUsed {
        prompt_tokens_used: used.prompt.to_wire(),
        cached_tokens_used: used.cached.to_wire(),
        completion_tokens_used: used.completion.to_wire(),
        reasoning_tokens_used: used.reasoning.to_wire(),
        total_tokens_used: used.total.to_wire(),
    }
}

fn header<'h>(name: &'h str, value: &'h [u8]) -> http::Header<'h> {
    http::Header { name: name.into(), value: Blob(value) }
}

fn write<'tl, B: BufMut, T: Boxed<'tl>>(out: &mut B, object: &T) {
    object.write_boxed(out);
}

#[allow(clippy::cast_precision_loss, reason = "milliseconds since 1970 are below 2^53")]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

/// Unix seconds with six decimals, as the reference's headers have them.
fn seconds_text(ms: u64) -> String {
    format!("{}.{:03}000", ms / 1000, ms % 1000)
}
