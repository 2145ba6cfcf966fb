//! From a worker's answer to the client's (protocol notes 3.7).

use cocoon_ledger::ClientStatus;
use cocoon_schedule::{Outcome, Ticket};
use cocoon_units::{AdjustedUsage, Coefficient, Multiplier, PriceTable, Tokens};
use cocoon_wire::client::{Debug, Times};
use cocoon_wire::http::{Header, Response};
use cocoon_wire::proxy::{ClientRequestPayment, WorkerRequestPayment};
use cocoon_wire::tl::{self, Blob, Text};

use crate::answer::{Answer, Body, Claim, End};
use crate::client::signed;
use crate::dialect::Closing;
use crate::fault::code;
use crate::outbox::{ConnId, Note, Now, Outbox};
use crate::proxy::{Desk, Mark, Proxy};
use crate::request::{Assigned, Request};
use crate::worker::WorkerConn;

/// Tokens that an answer may have beyond one per byte: ends of sequences and the like.
const SILENT_TOKENS_MAX: u64 = 4_096;

impl Proxy {
    /// One message of an answer. It counts only when it comes over the connection the request
    /// was given to: ids alone prove nothing (protocol notes 8.2).
    pub(crate) fn worker_answered(
        &mut self,
        conn: ConnId,
        answer: Answer<'_>,
        now: Now,
        out: &mut Outbox,
    ) {
        let ticket = Desk::ticket(&answer.id);
        let mine = |request: &&mut Request| {
            request.id == answer.id && request.worker.is_some_and(|worker| worker.conn == conn)
        };
        let Some(request) = self.desk.requests.get_mut(&ticket).filter(mine) else {
            self.counts.stray_answers += 1;
            return;
        };
        match (answer.body, request.begun.is_some()) {
            (Body::Part(part), true) => match answer.end {
                None => {
                    request.bytes_out += part.0.len() as u64;
                    self.counts.bytes_out += part.0.len() as u64;
                    if let Some(listener) = request.listener {
                        listener.part(out, part, None);
                    }
                }
                Some(end) => self.complete(ticket, Last::Part(part), &end, now, out),
            },
            (Body::Head(head), false) => self.begin_answer(ticket, head, answer.end, now, out),
            // Cancelled before its head: what was made until then is charged all the same.
            (Body::Error { code: code::CANCELLED, text }, _) if request.cancelled => {
                let end = answer.end.unwrap_or_default();
                self.complete(ticket, Last::Cancelled(&text.sanitized()), &end, now, out);
            }
            (Body::Error { code, text }, false) if is_full(&text.sanitized()) => {
                self.worker_full(ticket, code, &text.sanitized(), now, out);
            }
            (Body::Error { code, text }, _) => {
                let outcome = blame(code, &text.sanitized());
                self.fail_with(ticket, code, &text.sanitized(), outcome, answer.end, now, out);
            }
            _ => {
                let text = "out of order answer parts";
                let violation = code::PROTOCOL_VIOLATION;
                self.fail_with(ticket, violation, text, Outcome::Failed, None, now, out);
            }
        }
    }

    /// A worker has no room after all: its announced limit counts each of its connections for
    /// itself. The request goes to another worker, or waits in line for any of them, until its own
    /// deadline; only then it fails, with the worker's words.
    fn worker_full(&mut self, ticket: Ticket, code: i32, text: &str, now: Now, out: &mut Outbox) {
        self.pool.finish(ticket, Outcome::Full, now.ms);
        if let Some(request) = self.desk.requests.get_mut(&ticket) {
            // The worker did nothing: this was no attempt. The pause of a full worker bounds how
            // often one is asked.
            request.attempts = request.attempts.saturating_sub(1);
        }
        if self.move_on(ticket, now, out) {
            self.follow_pool(now, out);
        } else {
            self.fail_with(ticket, code, text, Outcome::Neutral, None, now, out);
        }
    }

    /// Status and headers: adds ours and passes them on. From here on no other worker can take
    /// over.
    fn begin_answer(
        &mut self,
        ticket: Ticket,
        head: Blob<'_>,
        end: Option<End<'_>>,
        now: Now,
        out: &mut Outbox,
    ) {
        let Some(request) = self.desk.requests.get_mut(&ticket) else { return };
        let mut response = match tl::decode::<Response<'_>>(head.0) {
            Ok(response) => response,
            Err(fault) => {
                let text = format!("proxy: worker sent no http response: {fault}");
                self.fail_with(ticket, code::NONE, &text, Outcome::Failed, None, now, out);
                return;
            }
        };
        let (start, stop) = (stamp(request.started.unix_us), stamp(now.unix_us));
        // Who answers, by what its evidence proved: the client shows it to its user.
        let worker = request
            .worker
            .as_ref()
            .and_then(|assigned| self.workers.get(&assigned.conn))
            .and_then(|worker| worker.image)
            .map(|image| image.to_string());
        let worker = worker.as_ref().map(|image| ("X-Cocoon-Worker", image));
        let times = [("X-Cocoon-Proxy-Start", &start), ("X-Cocoon-Proxy-End", &stop)];
        for (name, value) in times.into_iter().chain(worker) {
            let value = Blob(value.as_bytes());
            response.headers.push(Header { name: Text::from(name), value });
        }
        request.begun = Some(now);
        request.http_status = response.status_code;
        request.query = None;
        request.key = None;
        request.bytes_out += response.payload.0.len() as u64;
        let listener = request.listener;
        let head = out.encode(&response);
        match end {
            Some(end) => self.complete(ticket, Last::Head(&head), &end, now, out),
            None => {
                if let Some(listener) = listener {
                    listener.head(out, &head, None);
                }
            }
        }
    }

    /// The last message of an answer: books the tokens, then lets message and payments out when
    /// that is durable.
    fn complete(
        &mut self,
        ticket: Ticket,
        last: Last<'_>,
        end: &End<'_>,
        now: Now,
        out: &mut Outbox,
    ) {
        let Some(request) = self.desk.requests.get(&ticket) else { return };
        let Some(assigned) = request.worker else { return };
        let (id, claim) = (request.id, Claim::of(&end.used));
        let usage = cap(claim.usage(), request.reserved);
        self.enter_worker(assigned.account, out);
        match self.books.finish(id, assigned.account, usage.total) {
            Ok(record) => self.hand_out(record, out),
            Err(fault) => {
                let text = "proxy: books refused the request";
                out.note(Note::BooksRefused { text: fault.to_string() });
                self.fail_with(ticket, code::FAILURE, text, Outcome::Neutral, None, now, out);
                return;
            }
        }
        let Some(request) = self.retire(ticket) else { return };
        let shown = request.bytes_out.saturating_add(last.len());
        let lied = matches!(claim, Claim::Impossible(_))
            || visible_tokens(&claim.usage(), assigned.coefficient, &self.instance.prices)
                > shown.saturating_add(SILENT_TOKENS_MAX);
        if lied || usage.total < claim.usage().total {
            self.counts.claims_capped += 1;
            let (worker, claimed) = (assigned.account, end.used.total_tokens_used);
            out.note(Note::ClaimCapped { worker, claimed, booked: usage.total });
        }
        self.counts.succeeded(&usage, &request, assigned, now);
        self.note_finished(&request, assigned, usage.total, now);
        if let Some(listener) = request.listener {
            let closing = closing(&request, usage, end, now);
            match last {
                Last::Part(part) => {
                    self.counts.bytes_out += part.0.len() as u64;
                    listener.part(out, part, Some(closing));
                }
                Last::Head(head) => listener.head(out, head, Some(closing)),
                Last::Cancelled(text) => {
                    let begun = request.begun.is_some();
                    listener.error(out, begun, code::CANCELLED, text, closing);
                }
            }
        }
        self.push_payments(&request, Some(assigned), usage.total, out);
        let outcome =
            if lied { Outcome::Lied } else { self.outcome(&request, assigned, &usage, now) };
        self.pool.finish(ticket, outcome, now.ms);
        self.follow_pool(now, out);
    }

    /// What a complete answer says about its worker. A broken model server answers quickest of
    /// all, so an answer of its own failure, or of nothing, must not look like speed.
    fn outcome(
        &self,
        request: &Request,
        assigned: Assigned,
        usage: &AdjustedUsage,
        now: Now,
    ) -> Outcome {
        if request.http_status >= 500 {
            return Outcome::Failed;
        }
        if usage.total == Tokens::ZERO || request.cancelled {
            return Outcome::Neutral;
        }
        let service_ms = now.ms.saturating_sub(assigned.at.ms);
        let tokens = answer_tokens(usage, assigned.coefficient, &self.instance.prices);
        Outcome::Served { service_ms, tokens }
    }

    /// Ends a request with an error that is nobody's in particular.
    pub(crate) fn fail(
        &mut self,
        ticket: Ticket,
        code: i32,
        text: &str,
        now: Now,
        out: &mut Outbox,
    ) {
        self.fail_with(ticket, code, text, Outcome::Neutral, None, now, out);
    }

    /// Ends a request with an error, and tells those who wait what came of it.
    #[allow(clippy::too_many_arguments, reason = "one end, told in full")]
    pub(crate) fn fail_with(
        &mut self,
        ticket: Ticket,
        code: i32,
        text: &str,
        outcome: Outcome,
        end: Option<End<'_>>,
        now: Now,
        out: &mut Outbox,
    ) {
        self.fail_alone(ticket, code, text, outcome, end, now, out);
        self.follow_pool(now, out);
    }

    /// Ends a request with an error: nothing is charged, the reservation ends. What the pool
    /// decides then waits for [`Self::follow_pool`], which calls this itself: following from here
    /// would nest a call for each request that expires at once.
    #[allow(clippy::too_many_arguments, reason = "one end, told in full")]
    pub(crate) fn fail_alone(
        &mut self,
        ticket: Ticket,
        code: i32,
        text: &str,
        outcome: Outcome,
        end: Option<End<'_>>,
        now: Now,
        out: &mut Outbox,
    ) {
        let Some(request) = self.retire(ticket) else { return };
        self.counts.failed += 1;
        if let Err(fault) = self.books.release(request.id) {
            out.note(Note::BooksRefused { text: fault.to_string() });
        }
        if let Some(listener) = request.listener {
            let end = end.unwrap_or_default();
            let closing = closing(&request, AdjustedUsage::ZERO, &end, now);
            listener.error(out, request.begun.is_some(), code, text, closing);
        }
        self.push_payments(&request, request.worker, Tokens::ZERO, out);
        // A client that wants its money back may have waited for this end alone.
        if self.books.client(request.client).is_some_and(|c| c.status() == ClientStatus::Closing) {
            self.settle_client(request.client, out);
        }
        self.pool.finish(ticket, outcome, now.ms);
    }

    /// The request's time is over (protocol notes 3.7).
    pub(crate) fn timed_out(&mut self, ticket: Ticket, now: Now, out: &mut Outbox) {
        self.counts.timeouts += 1;
        self.pool.cancel(ticket);
        self.pass_cancel(ticket, out);
        let begun = self.desk.requests.get(&ticket).is_some_and(|request| request.begun.is_some());
        // A long answer is not the worker's failure, silence is.
        let outcome = if begun { Outcome::Neutral } else { Outcome::Failed };
        self.fail_with(ticket, code::TIMEOUT, "timeout in proxy", outcome, None, now, out);
    }

    /// A worker's connection is gone: what had not begun moves on unnoticed, the rest fails at
    /// once.
    pub(crate) fn worker_left(
        &mut self,
        conn: ConnId,
        worker: WorkerConn,
        now: Now,
        out: &mut Outbox,
    ) {
        self.command_failed(worker.command, "the worker's connection is gone", out);
        let (mut retried, mut failed) = (0, 0);
        for ticket in self.pool.leave(crate::worker::worker_id(conn), now.ms) {
            if self.move_on(ticket, now, out) {
                retried += 1;
                continue;
            }
            failed += 1;
            let Some(request) = self.desk.requests.get(&ticket) else { continue };
            if request.begun.is_some() {
                let text = "connection to the worker was lost in the middle of the answer";
                self.fail(ticket, code::FAILURE, text, now, out);
            } else {
                let text = format!("no workers for model {}", request.model);
                self.fail(ticket, code::NOT_READY, &text, now, out);
            }
        }
        if retried + failed > 0 {
            out.note(Note::WorkerLost { conn, retried, failed });
        }
        self.follow_pool(now, out);
        if let Some(trade) = worker.trade() {
            self.forget_worker(trade.account);
        }
    }

    /// Takes a request off the desk and out of the hands of its two parties.
    fn retire(&mut self, ticket: Ticket) -> Option<Request> {
        let request = self.desk.remove(ticket)?;
        if let Some(listener) = request.listener
            && let Some(client) = self.clients.get_mut(&listener.conn)
        {
            client.running.remove(&(listener.id, ticket));
        }
        if let Some(party) = self.parties.clients.get_mut(&request.client) {
            party.running = party.running.saturating_sub(1);
        }
        if let Some(assigned) = request.worker
            && let Some(party) = self.parties.workers.get_mut(&assigned.account)
        {
            party.running = party.running.saturating_sub(1);
        }
        Some(request)
    }

    /// Remembers what to raise when the record is durable, and how much no commit covers yet.
    fn note_finished(&mut self, request: &Request, assigned: Assigned, tokens: Tokens, now: Now) {
        let client = self.books.client(request.client).map(|c| c.counters().max());
        let worker = self.books.worker(assigned.account).map(|w| w.counters().max());
        self.mark(Mark::Finished {
            client: (request.client, client.unwrap_or_default()),
            worker: (assigned.account, worker.unwrap_or_default()),
        });
        self.put_at_risk(tokens, now);
    }

    /// Both sides learn what was booked, after every request that had a worker (protocol notes
    /// 3.9).
    fn push_payments(
        &mut self,
        request: &Request,
        worker: Option<Assigned>,
        tokens: Tokens,
        out: &mut Outbox,
    ) {
        if request.attempts == 0 {
            return;
        }
        let request_tokens = tokens.to_wire();
        let still_here = |assigned: &Assigned| self.workers.contains_key(&assigned.conn);
        if let Some(assigned) = worker.filter(still_here) {
            let (payment, total) = self.worker_statement(assigned.account);
            let owner = self.parties.clients.get(&request.client);
            let owner = owner.map_or("", |party| party.owner_text.as_str());
            out.send_when_durable(
                assigned.conn,
                &WorkerRequestPayment {
                    request_id: request.id,
                    signed_payment: signed(payment.as_ref()),
                    db_tokens: total,
                    max_tokens: total,
                    request_tokens,
                    request_client_owner: Text::from(owner),
                },
            );
        }
        if let Some(listener) = request.listener {
            let (payment, total) = self.client_statement(request.client);
            out.send_when_durable(
                listener.conn,
                &ClientRequestPayment {
                    request_id: listener.id,
                    signed_payment: signed(payment.as_ref()),
                    db_tokens: total,
                    max_tokens: total,
                    request_tokens,
                },
            );
        }
    }
}

/// The last message of an answer.
enum Last<'a> {
    Head(&'a [u8]),
    Part(Blob<'a>),
    /// The worker ended it early, on request, with these words.
    Cancelled(&'a str),
}

impl Last<'_> {
    /// Bytes of the answer's body that it shows.
    fn len(&self) -> u64 {
        match self {
            Self::Part(part) => part.0.len() as u64,
            Self::Head(_) | Self::Cancelled(_) => 0,
        }
    }
}

/// The end of a request as the client learns it. Without a word of the worker its times are 0
/// (10.2 no. 5).
fn closing<'a>(request: &Request, usage: AdjustedUsage, end: &End<'a>, now: Now) -> Closing<'a> {
    let worker = end.times.unwrap_or_default();
    let times = Times {
        proxy_start: request.started.unix_seconds(),
        proxy_end: now.unix_seconds(),
        worker_start: worker.worker_start,
        worker_end: worker.worker_end,
    };
    let debug = request.debug.then(|| Debug {
        worker: end.debug.clone().unwrap_or_default(),
        proxy: Text::from(proxy_debug(request, now)),
    });
    Closing { usage, debug, times }
}

/// The proxy's own statistics (protocol notes 3.7).
fn proxy_debug(request: &Request, now: Now) -> String {
    let start = stamp(request.started.unix_us);
    let first = request.begun.map_or_else(|| "0.0".to_owned(), |at| stamp(at.unix_us));
    let last = stamp(now.unix_us);
    format!(
        "{{\"type\":\"proxy_stats\",\"start_time\":{start},\
         \"answer_receive_start_at\":{first},\"answer_receive_end_at\":{last}}}"
    )
}

/// Unix seconds with six decimals.
fn stamp(unix_us: u64) -> String {
    format!("{}.{:06}", unix_us / 1_000_000, unix_us % 1_000_000)
}

/// Cuts a usage to what was reserved, dearest classes first, so that the parts still sum up.
fn cap(usage: AdjustedUsage, limit: Tokens) -> AdjustedUsage {
    let limit = limit.min(usage.total);
    let mut left = limit;
    let mut take = |wanted: Tokens| {
        let taken = wanted.min(left);
        left = left.saturating_sub(taken);
        taken
    };
    let (prompt, cached) = (take(usage.prompt), take(usage.cached));
    let (completion, reasoning) = (take(usage.completion), take(usage.reasoning));
    AdjustedUsage::of_classes(prompt, cached, completion, reasoning)
}

/// Tokens of the answer with price factors taken out, to measure speed by.
fn answer_tokens(usage: &AdjustedUsage, coefficient: Coefficient, prices: &PriceTable) -> u64 {
    let reasoning = raw_tokens(usage.reasoning, coefficient, prices.reasoning);
    visible_tokens(usage, coefficient, prices).saturating_add(reasoning)
}

/// Those of them that must have been shown: each is at least a byte, so a claim far above the
/// bytes is a lie. Neither the limit of the request nor its number of choices enters, since an
/// honest worker cannot know what the client told the proxy.
fn visible_tokens(usage: &AdjustedUsage, coefficient: Coefficient, prices: &PriceTable) -> u64 {
    raw_tokens(usage.completion, coefficient, prices.completion)
}

fn raw_tokens(tokens: Tokens, coefficient: Coefficient, multiplier: Multiplier) -> u64 {
    let factor = u128::from(coefficient.milli()) * u128::from(multiplier.0);
    let tokens = u128::from(tokens.0) * 10_000_000;
    tokens.checked_div(factor).map_or(0, |raw| u64::try_from(raw).unwrap_or(u64::MAX))
}

/// Whether a worker says that it has no room (protocol notes, wire 3.8).
fn is_full(text: &str) -> bool {
    text.contains("too many active queries")
}

/// Whether a worker's error speaks against the worker. Bad requests and full queues do not.
fn blame(code: i32, text: &str) -> Outcome {
    let users = text.starts_with("worker: invalid http request");
    let cancelled = code == code::CANCELLED;
    if users || is_full(text) || cancelled { Outcome::Neutral } else { Outcome::Failed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_usage_still_sums_up() {
        let usage = AdjustedUsage::of_classes(Tokens(10), Tokens(5), Tokens(20), Tokens(7));
        for limit in 0..60 {
            let cut = cap(usage, Tokens(limit));
            assert_eq!(cut.total, Tokens(limit.min(42)));
            assert!(cut.is_consistent());
        }
    }

    #[test]
    fn price_factors_are_taken_out() {
        let prices = PriceTable { completion: Multiplier(80_000), ..PriceTable::default() };
        let usage = cocoon_units::Usage { completion: 500, ..Default::default() };
        let coefficient = Coefficient::clamped(1_500);
        let adjusted = usage.adjusted(coefficient, &prices);
        assert_eq!(answer_tokens(&adjusted, coefficient, &prices), 500);
        assert_eq!(answer_tokens(&adjusted, Coefficient::clamped(0), &prices), 0);
    }

    #[test]
    fn stamps_have_six_decimals() {
        assert_eq!(stamp(1_795_293_409_709_441), "1795293409.709441");
        assert_eq!(stamp(1_000_001), "1.000001");
    }
}
