//! Whether a request is taken, and what happens to it before it has a worker (protocol notes 3.6).

use std::collections::BTreeSet;

use cocoon_ledger::ClientStatus;
use cocoon_schedule::{
    ClientId, Event, Job, Outcome, Placement, Refusal as PoolRefusal, Ticket, WorkerId,
};
use cocoon_units::{Coefficient, RequestId, Tokens, reserve_tokens_worst_case};
use cocoon_wire::client::Times;
use cocoon_wire::cocoon::{self, CancelQuery};
use cocoon_wire::proxy::{RunQuery, RunQueryEx};
use cocoon_wire::tl::{Blob, Extensions, SecretKey};

use crate::client::{ClientConn, Peer, signed};
use crate::dialect::{Closing, Listener};
use crate::fault::code;
use crate::outbox::{Act, ConnId, Now, Outbox};
use crate::proxy::{Desk, Proxy};
use crate::request::{Assigned, Request, Wanted};
use crate::worker::WorkerConn;

/// Why a request is refused: code and text of the table.
type Denial = (i32, String);

impl Proxy {
    /// Takes a request or refuses it.
    pub(crate) fn admit(
        &mut self,
        conn: ConnId,
        peer: Peer,
        wanted: Wanted<'_>,
        now: Now,
        out: &mut Outbox,
    ) {
        self.counts.queries += 1;
        self.counts.bytes_in += wanted.query.len() as u64;
        let listener = Listener { conn, id: wanted.id, version: peer.version };
        let debug = wanted.debug;
        if let Err((code, text)) = self.place(listener, peer, wanted, now, out) {
            self.counts.rejected += 1;
            self.reject(listener, debug, code, &text, now, out);
        }
    }

    /// Rows 1 to 12 of the table, in order.
    fn place(
        &mut self,
        listener: Listener,
        peer: Peer,
        wanted: Wanted<'_>,
        now: Now,
        out: &mut Outbox,
    ) -> Result<(), Denial> {
        let needed = self.check_balance(peer, &wanted)?;
        let key = self.find_key(&wanted)?;
        self.check_standing(listener.conn)?;
        let available = self.books.available(peer.account);
        if needed > available {
            return Err((code::NOT_READY, "balance is too low".into()));
        }
        let id = self.draw.request_id();
        let ticket = Desk::ticket(&id);
        self.books.reserve(id, peer.account, needed).map_err(|refusal| {
            (code::ERROR, format!("client balance is too low: to_reserve={needed} ({refusal})"))
        })?;
        let timeout_s = sane_timeout(wanted.timeout_s, self.settings.request_timeout_max_ms);
        let request = Request {
            id,
            listener: Some(listener),
            client: peer.account,
            model: wanted.model.into_owned(),
            coefficient_max: wanted.coefficient_max,
            query: Some(wanted.query),
            key,
            debug: wanted.debug,
            only: wanted.only,
            reserved: needed,
            started: now,
            deadline_ms: now.ms.saturating_add((timeout_s * 1_000.0) as u64),
            timeout_s,
            worker: None,
            begun: None,
            http_status: 0,
            bytes_out: 0,
            attempts: 0,
            cancelled: false,
            receipted: false,
        };
        match self.pool.submit(self.job(ticket, &request, false, now), now.ms) {
            Placement::Refused(refusal) => {
                let _ = self.books.release(id);
                Err(denial(refusal, &request.model))
            }
            placement => {
                self.enter(ticket, request);
                if let Placement::Assigned { worker, coefficient } = placement {
                    self.dispatch(ticket, worker, coefficient, now, out);
                }
                Ok(())
            }
        }
    }

    /// Rows 1 to 3: balance, root version, state of the contract. Returns the reservation.
    fn check_balance(&self, peer: Peer, wanted: &Wanted<'_>) -> Result<Tokens, Denial> {
        let account = self.books.client(peer.account);
        let available = self.books.available(peer.account);
        let max_tokens = u64::try_from(wanted.max_tokens).unwrap_or(0);
        if available.0 < max_tokens {
            let price = self.books.price();
            let text = match account {
                None => format!("client balance is too low: max_tokens={max_tokens}, no contract"),
                Some(account) => format!(
                    "client balance is too low: max_tokens={max_tokens} tokens_payed={} \
                     tokens_used={} tokens_reserved={} tokens_stake={}",
                    account.payed(price),
                    account.counters().max(),
                    account.reserved(),
                    account.stake().buys(price),
                ),
            };
            return Err((code::ERROR, text));
        }
        if i64::from(wanted.config_version_min) > i64::from(self.instance.root.version) {
            return Err((code::ERROR, "active config version is too low".into()));
        }
        if account.is_none_or(|account| account.status() != ClientStatus::Normal) {
            return Err((code::NOT_READY, "client is closing".into()));
        }
        if self.parties.clients.get(&peer.account).is_some_and(|party| party.behind_chain) {
            let text = "books of this proxy are older than the client's contract";
            return Err((code::NOT_READY, text.into()));
        }
        // Unlike the reference's, the reservation covers the multipliers, so no charge exceeds it.
        let query_len = wanted.query.len() as u64;
        let prices = &self.instance.prices;
        Ok(reserve_tokens_worst_case(max_tokens, query_len, wanted.coefficient_max, prices))
    }

    /// Row 4: the private key of an encrypted request.
    fn find_key(&self, wanted: &Wanted<'_>) -> Result<Option<SecretKey>, Denial> {
        if wanted.public_key.is_zero() {
            return Ok(None);
        }
        let unknown = || {
            let shown = wanted.public_key.to_string().to_uppercase();
            (code::ERROR, format!("unknown public key {shown}"))
        };
        self.keys.get(&wanted.public_key).cloned().map(Some).ok_or_else(unknown)
    }

    /// Row 5, and our own limits.
    fn check_standing(&self, conn: ConnId) -> Result<(), Denial> {
        if let Some(text) = self.standing.refuses() {
            return Err((code::NOT_READY, text.into()));
        }
        let running = self.clients.get(&conn).map_or(0, |client| client.running.len());
        if running >= self.settings.requests_per_connection_max {
            let text = format!("too many requests: {running} run on this connection");
            return Err((code::NOT_READY, text));
        }
        let all = self.desk.requests.len();
        if all >= self.settings.requests_max {
            return Err((code::NOT_READY, format!("proxy is busy: {all} requests run")));
        }
        Ok(())
    }

    fn job<'a>(&self, ticket: Ticket, request: &'a Request, first: bool, now: Now) -> Job<'a> {
        let wait_ms = now.ms.saturating_add(self.settings.queue_wait_max_ms);
        let [a, b, c, d, e, f, g, h, ..] = request.client.0;
        Job {
            ticket,
            client: ClientId(u64::from_le_bytes([a, b, c, d, e, f, g, h])),
            model: &request.model,
            coefficient_max: request.coefficient_max.milli(),
            keys: request.key.is_some(),
            among: &request.only,
            deadline_ms: request.deadline_ms.min(wait_ms),
            first,
        }
    }

    fn enter(&mut self, ticket: Ticket, request: Request) {
        if let Some(listener) = request.listener
            && let Some(client) = self.clients.get_mut(&listener.conn)
        {
            client.running.insert((listener.id, ticket));
        }
        if let Some(party) = self.parties.clients.get_mut(&request.client) {
            party.running += 1;
        }
        self.desk.insert(ticket, request);
    }

    /// Refuses a request that never ran. All four time stamps are the present (10.2 no. 5).
    fn reject(
        &mut self,
        listener: Listener,
        debug: bool,
        code: i32,
        text: &str,
        now: Now,
        out: &mut Outbox,
    ) {
        let at = now.unix_seconds();
        let times = Times { proxy_start: at, proxy_end: at, worker_start: at, worker_end: at };
        let debug = debug.then(cocoon_wire::client::Debug::default);
        let end = Closing { debug, ..Closing::empty(times) };
        listener.error(out, false, code, text, end);
    }

    /// Hands a request to the worker that the pool chose (protocol notes 3.7).
    pub(crate) fn dispatch(
        &mut self,
        ticket: Ticket,
        worker: WorkerId,
        coefficient: u32,
        now: Now,
        out: &mut Outbox,
    ) {
        let conn = ConnId(worker.0);
        let Some(trade) = self.workers.get(&conn).and_then(WorkerConn::trade) else { return };
        let (account, version) = (trade.account, trade.version);
        let payment = self.worker_payment(account);
        let Some(request) = self.desk.requests.get_mut(&ticket) else { return };
        let Some(query) = request.query.clone() else { return };
        let coefficient = Coefficient::clamped(i64::from(coefficient));
        request.worker = Some(Assigned { conn, account, coefficient, at: now });
        request.receipted = false;
        request.attempts += 1;
        if let Some(party) = self.parties.workers.get_mut(&account) {
            party.running += 1;
        }
        let timeout = request.worker_timeout_s(now);
        let wire_coefficient = i64::from(coefficient.milli());
        let data = if version.has_final_info() {
            let key = || request.key.clone().unwrap_or_else(|| SecretKey::new([0; 32]));
            out.encode(&RunQueryEx {
                query: Blob(&query),
                signed_payment: signed(payment.as_ref()),
                coefficient: wire_coefficient,
                timeout,
                request_id: request.id,
                extensions: Extensions::NONE,
                enable_debug: Some(request.debug),
                private_key: version.has_keys().then(key),
            })
        } else {
            out.encode(&RunQuery {
                query: Blob(&query),
                signed_payment: signed(payment.as_ref()),
                coefficient: wire_coefficient,
                timeout,
                request_id: request.id,
            })
        };
        out.act(Act::Send { conn, data });
    }

    /// Tells waiting requests what the pool decided.
    pub(crate) fn follow_pool(&mut self, now: Now, out: &mut Outbox) {
        while let Some(event) = self.pool.next_event() {
            match event {
                Event::Assigned { ticket, worker, coefficient } => {
                    self.dispatch(ticket, worker, coefficient, now, out);
                }
                Event::Expired { ticket } => {
                    let text = match self.desk.requests.get(&ticket) {
                        Some(request) => busy(&request.model),
                        None => continue,
                    };
                    let outcome = Outcome::Neutral;
                    self.fail_alone(ticket, code::NOT_READY, &text, outcome, None, now, out);
                }
            }
        }
    }

    /// Gives a request that lost its worker to another one; says whether it lives on.
    pub(crate) fn move_on(&mut self, ticket: Ticket, now: Now, out: &mut Outbox) -> bool {
        let Some(request) = self.desk.requests.get_mut(&ticket) else { return true };
        if let Some(assigned) = request.worker.take()
            && let Some(party) = self.parties.workers.get_mut(&assigned.account)
        {
            party.running = party.running.saturating_sub(1);
        }
        if self.standing.stopped().is_some() {
            return false;
        }
        let Some(request) = self.desk.requests.get(&ticket) else { return true };
        if !request.can_move(self.settings.retries_max, now) {
            return false;
        }
        let placement = self.pool.submit(self.job(ticket, request, true, now), now.ms);
        match placement {
            Placement::Assigned { worker, coefficient } => {
                self.counts.retried += 1;
                self.dispatch(ticket, worker, coefficient, now, out);
                true
            }
            Placement::Queued { .. } => {
                self.counts.retried += 1;
                true
            }
            Placement::Refused(_) => false,
        }
    }

    /// The client asked to end a request early (our own addition to the protocol).
    pub(crate) fn cancelled_by_client(
        &mut self,
        conn: ConnId,
        id: RequestId,
        now: Now,
        out: &mut Outbox,
    ) {
        let empty = BTreeSet::new();
        let running = self.clients.get(&conn).map_or(&empty, |client: &ClientConn| &client.running);
        let named = (id, Ticket(0))..=(id, Ticket(u64::MAX));
        let tickets: Vec<Ticket> = running.range(named).map(|(_, ticket)| *ticket).collect();
        for ticket in tickets {
            if self.pool.cancel(ticket) {
                self.fail(ticket, code::CANCELLED, "cancelled", now, out);
            } else {
                self.pass_cancel(ticket, out);
            }
        }
    }

    /// Nobody listens to a request any more.
    pub(crate) fn listener_left(&mut self, ticket: Ticket, now: Now, out: &mut Outbox) {
        if let Some(request) = self.desk.requests.get_mut(&ticket) {
            request.listener = None;
        }
        if self.pool.cancel(ticket) {
            self.fail(ticket, code::CANCELLED, "cancelled", now, out);
        } else {
            self.pass_cancel(ticket, out);
        }
    }

    /// Tells the worker to stop, when it understands. Its final message, with what was made until
    /// then, ends the request as always.
    pub(crate) fn pass_cancel(&mut self, ticket: Ticket, out: &mut Outbox) {
        let Some(request) = self.desk.requests.get_mut(&ticket) else { return };
        let Some(assigned) = request.worker else { return };
        let worker = self.workers.get(&assigned.conn).and_then(WorkerConn::trade);
        let understands =
            worker.is_some_and(|trade| trade.extensions.contains(cocoon::CANCEL_QUERY));
        if understands && !request.cancelled {
            request.cancelled = true;
            let request_id = request.id;
            out.send(assigned.conn, &CancelQuery { request_id });
        }
    }
}

/// Rows 7 to 10, and our own reasons.
fn denial(refusal: PoolRefusal, model: &str) -> Denial {
    match refusal {
        PoolRefusal::UnknownModel => (code::PROTOCOL_VIOLATION, format!("unknown model {model}")),
        PoolRefusal::NoConnections => (code::NOT_READY, format!("no workers for model {model}")),
        // The missing blank is the reference's.
        PoolRefusal::NoneReady => (code::NOT_READY, format!("no ready workers for model{model}")),
        PoolRefusal::TooExpensive { cheapest } => {
            (code::NOT_READY, format!("can run this query with coefficient={cheapest}"))
        }
        PoolRefusal::Busy { .. } | PoolRefusal::ClientBusy { .. } => (code::NOT_READY, busy(model)),
    }
}

/// The text for a request that found no free worker in time; ours, the reference never waits.
fn busy(model: &str) -> String {
    format!("all workers for model {model} are busy, try again later")
}

/// A time limit in seconds, made harmless: not a number and negative ones are 0.
fn sane_timeout(timeout_s: f64, max_ms: u64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "a limit of days")]
    let max_s = max_ms as f64 / 1_000.0;
    if timeout_s.is_nan() { 0.0 } else { timeout_s.clamp(0.0, max_s) }
}
