//! A worker's connection: handshake and state (protocol notes 3.3, 3.4).

use bytes::Bytes;
use cocoon_contract::payment::PaymentKind;
use cocoon_ledger::{AccountId, Record};
use cocoon_schedule::{Offer, WorkerId};
use cocoon_units::{Address, Coefficient, ImageHash, ModelName, ProtoVersion, Tokens};
use cocoon_wire::cocoon;
use cocoon_wire::tl::{Extensions, Text};
use cocoon_wire::worker::{
    CompareBalanceWithProxy, CompareBalanceWithProxyResult, ConnectToProxy, ConnectedToProxy,
    ExtendedCompareBalanceWithProxyResult, Message, Params, PaymentStatus, ProxyHandshakeCompleted,
    Query,
};

use crate::answer::Said;
use crate::client::{Side, VERSIONS, lost_promise, signed, unknown_query};
use crate::fault::{Refusal, code};
use crate::instance::Party;
use crate::outbox::{Act, ConnId, Note, Now, Outbox};
use crate::proxy::Proxy;
use crate::settings::Identity;

/// One worker connection.
pub(crate) struct WorkerConn {
    pub(crate) stage: Stage,
    pub(crate) image: Option<ImageHash>,
    pub(crate) handshake_ms: Option<u64>,
    /// Whether it takes requests, by its own word.
    takes: bool,
    /// An operator's command that waits for `worker.changedModel`.
    pub(crate) command: Option<(i64, u64)>,
    opened: Now,
}

/// Where the handshake stands.
#[derive(Clone)]
pub(crate) enum Stage {
    /// Nothing was said.
    Fresh,
    /// Introduced; the balances must be compared.
    Met(Trade),
    /// Compared; the worker says when it is ready.
    Compared(Trade),
    /// Requests may go there.
    Ready(Trade),
}

/// What the worker is and brings.
#[derive(Clone)]
pub(crate) struct Trade {
    pub(crate) account: AccountId,
    pub(crate) version: ProtoVersion,
    pub(crate) extensions: Extensions,
    pub(crate) model: ModelName,
}

impl WorkerConn {
    pub(crate) fn new(image: Option<ImageHash>, now: Now) -> Self {
        let (stage, handshake_ms, takes, command) = (Stage::Fresh, None, false, None);
        Self { stage, image, handshake_ms, takes, command, opened: now }
    }

    pub(crate) fn trade(&self) -> Option<&Trade> {
        match &self.stage {
            Stage::Fresh => None,
            Stage::Met(trade) | Stage::Compared(trade) | Stage::Ready(trade) => Some(trade),
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Ready(_))
    }
}

/// The scheduler's name of a worker connection.
pub(crate) fn worker_id(conn: ConnId) -> WorkerId {
    WorkerId(conn.0)
}

impl Proxy {
    pub(crate) fn worker_query(
        &mut self,
        conn: ConnId,
        query: i64,
        data: &[u8],
        now: Now,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let asked = Query::decode(data).map_err(|fault| Refusal::malformed(&fault))?;
        let Some(worker) = self.workers.get(&conn) else { return Ok(()) };
        let violation = |text: &str| Err(Refusal::closing(code::PROTOCOL_VIOLATION, text));
        match (&worker.stage, asked) {
            (_, Query::Unknown(id)) => Err(unknown_query(id, Side::Worker)),
            (Stage::Fresh, Query::ConnectToProxy(hello)) => {
                self.introduce_to_worker(conn, query, &hello.params, now, out)
            }
            (_, Query::ConnectToProxy(ConnectToProxy { .. })) => violation("already connected"),
            (Stage::Fresh, _) => {
                Err(Refusal::open(code::PROTOCOL_VIOLATION, "expected worker connection"))
            }
            (Stage::Met(_) | Stage::Compared(_), Query::CompareBalanceWithProxy(claim)) => {
                self.compare_balance(conn, query, &claim, out)
            }
            (Stage::Compared(_), Query::ExtendedCompareBalanceWithProxy(_)) => {
                // The reference stays in this state for ever (protocol notes 8.2); here the
                // worker goes on, since the proxy's books are what counts.
                out.answer(conn, query, &ExtendedCompareBalanceWithProxyResult { error_code: 0 });
                Ok(())
            }
            (Stage::Compared(trade), Query::ProxyHandshakeComplete(done)) => {
                let trade = trade.clone();
                self.worker_ready(conn, query, trade, done.is_disabled, now, out);
                Ok(())
            }
            (_, Query::UpdatePaymentStatus(_)) => self.tell_worker_status(conn, query, out),
            (Stage::Met(_), _) => violation("expected balance comparison"),
            (Stage::Ready(_), _) => Err(lost_promise()),
        }
    }

    /// Checks and answers `worker.connectToProxy`, in the reference's order.
    fn introduce_to_worker(
        &mut self,
        conn: ConnId,
        query: i64,
        params: &Params<'_>,
        now: Now,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        self.check_image(conn)?;
        let (trade, offer) = self.check_worker(params)?;
        let offer = Offer { model: trade.model.base(), ..offer };
        self.pool
            .join(worker_id(conn), offer, now.ms)
            .map_err(|fault| Refusal::closing(code::NOT_READY, fault.to_string()))?;
        self.meet_worker(trade.account)?;
        let contract = self.parties.workers.get(&trade.account).map(|p| p.contract_text.as_str());
        let (is_test, version) = (self.identity.is_test, trade.version.0);
        let data = out.encode(&ConnectedToProxy {
            params: self.instance.introduction(is_test, version, trade.extensions),
            worker_sc_address: Text::from(contract.unwrap_or_default()),
        });
        out.act_when_durable(Act::Answer { conn, query, data });
        if let Some(worker) = self.workers.get_mut(&conn) {
            worker.stage = Stage::Met(trade);
        }
        Ok(())
    }

    /// Checks the worker's image against the root's list, where images are looked at.
    pub(crate) fn check_image(&self, conn: ConnId) -> Result<(), Refusal> {
        if !self.settings.check_hashes {
            return Ok(());
        }
        let image = self.workers.get(&conn).and_then(|worker| worker.image);
        if image.is_some_and(|image| self.instance.lists_image(image)) {
            return Ok(());
        }
        let shown = image.unwrap_or_default().to_string().to_uppercase();
        let text = format!("invalid worker image hash {shown}");
        Err(Refusal::closing(code::PROTOCOL_VIOLATION, text))
    }

    fn check_worker(&self, params: &Params<'_>) -> Result<(Trade, Offer<'static>), Refusal> {
        let error = |text: &str| Refusal::closing(code::ERROR, text);
        let violation = |text: &str| Refusal::closing(code::PROTOCOL_VIOLATION, text);
        let load = params.load.ok_or_else(|| error("too old worker"))?;
        if load.is_test != self.identity.is_test {
            return Err(error("test mode mismatch"));
        }
        let model = ModelName::new(params.model.sanitized().into_owned())
            .map_err(|_| violation("invalid worker hash or worker type"))?;
        if model.base().is_empty() {
            return Err(violation("invalid worker hash or worker type"));
        }
        let coefficient = Coefficient::new(i64::from(params.coefficient))
            .map_err(|_| violation("invalid coefficient value"))?;
        if load.max_active_requests < 1 {
            return Err(violation("invalid max_active_requests value"));
        }
        if load.proxy_cnt < 1 {
            return Err(violation("invalid proxy_cnt value"));
        }
        if self.settings.check_hashes && !self.instance.lists_model(&model) {
            return Err(violation(&format!("invalid worker model '{model}'")));
        }
        let range = params.versions.unwrap_or_default();
        let theirs = (ProtoVersion(range.min), ProtoVersion(range.max));
        let version = ProtoVersion::choose(VERSIONS, theirs)
            .ok_or_else(|| violation("cannot choose common protocol version"))?;
        let owner = Address::parse(&params.worker_owner_address.sanitized())
            .ok()
            .filter(|owner| owner.workchain == 0)
            .ok_or_else(|| error("cannot parse worker owner address"))?;
        if self.standing.is_disabled() {
            let text = "proxy is not participating in this iteration";
            return Err(Refusal::closing(code::NOT_READY, text));
        }
        if let Some(refusal) = self.not_ready() {
            return Err(refusal);
        }
        let running_max = load.max_active_requests.unsigned_abs();
        let offer = Offer {
            model: "",
            coefficient: coefficient.milli(),
            running_max: running_max.div_ceil(load.proxy_cnt.unsigned_abs()),
            keys: version.has_keys(),
            account: account_number(AccountId(owner.hash)),
        };
        let extensions = cocoon::ANNOUNCED.common(params.extensions);
        Ok((Trade { account: AccountId(owner.hash), version, extensions, model }, offer))
    }

    /// Makes sure that the worker is known beside the books, which learn of it with its first
    /// finished request ([`Self::enter_worker`]).
    fn meet_worker(&mut self, account: AccountId) -> Result<(), Refusal> {
        let known = self.books.worker(account).is_some();
        let is_new = !self.parties.workers.contains_key(&account);
        if is_new && !known && self.parties.workers.len() >= self.settings.accounts_max {
            let text = "proxy serves as many workers as it can";
            return Err(Refusal::closing(code::NOT_READY, text));
        }
        if is_new {
            let owner = Identity::address_of(account);
            let contract = self.instance.worker_contract(owner).map_err(|fault| {
                Refusal::closing(code::FAILURE, format!("worker contract: {fault}"))
            })?;
            self.parties.workers.insert(account, Party::new(&self.identity, account, contract));
        }
        self.refresh_signable_worker(account, is_new);
        Ok(())
    }

    /// Makes sure that the books know a worker that has something to earn.
    pub(crate) fn enter_worker(&mut self, account: AccountId, out: &mut Outbox) {
        if self.books.worker(account).is_none() {
            // Should they refuse it, they refuse the request's end as well, which is told.
            let _ = self.book(Record::WorkerSeen { worker: account, paid_out: 0 }, out);
        }
    }

    /// A connection of this worker is gone. An owner that never finished a request leaves nothing
    /// behind, or one machine could fill the room for accounts with addresses that nobody owns.
    pub(crate) fn forget_worker(&mut self, account: AccountId) {
        let is_idle = |party: &Party| party.running == 0 && !party.in_flight;
        let is_here = |worker: &WorkerConn| worker.trade().is_some_and(|t| t.account == account);
        if self.books.worker(account).is_none()
            && self.parties.workers.get(&account).is_some_and(is_idle)
            && !self.workers.values().any(is_here)
        {
            self.parties.workers.remove(&account);
        }
    }

    /// Answers `worker.compareBalanceWithProxy`. A worker that claims more than was ever made
    /// durable here is refused; the reference aborts (protocol notes 3.3, 8.2).
    fn compare_balance(
        &mut self,
        conn: ConnId,
        query: i64,
        claim: &CompareBalanceWithProxy,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let Some(trade) = self.workers.get(&conn).and_then(WorkerConn::trade).cloned() else {
            return Ok(());
        };
        let claimed = |value: i64| {
            let text = format!("negative balance {value}");
            Tokens::from_wire(value).ok_or(Refusal::closing(code::PROTOCOL_VIOLATION, text))
        };
        let chain = claimed(claim.tokens_committed_to_blockchain)?;
        let durable = claimed(claim.tokens_committed_to_db)?;
        let max = claimed(claim.max_tokens)?;
        let counters = self.books.worker(trade.account).map(|w| *w.counters()).unwrap_or_default();
        if chain > counters.committed() || durable > counters.max() {
            let text = format!(
                "worker knows more than this proxy: chain {chain} against {}, books {durable} \
                 against {}; the proxy may have lost its journal",
                counters.committed(),
                counters.max()
            );
            return Err(Refusal::closing(code::ERROR, text));
        }
        self.check_statements(conn)?;
        let (payment, total) = self.worker_statement(trade.account);
        let data = out.encode(&CompareBalanceWithProxyResult {
            signed_payment: signed(payment.as_ref()),
            tokens_committed_to_db: total,
            max_tokens: total,
            error_code: i32::from(max > counters.max()),
        });
        out.act_when_durable(Act::Answer { conn, query, data });
        if let Some(worker) = self.workers.get_mut(&conn) {
            worker.stage = Stage::Compared(trade);
        }
        Ok(())
    }

    fn worker_ready(
        &mut self,
        conn: ConnId,
        query: i64,
        trade: Trade,
        disabled: bool,
        now: Now,
        out: &mut Outbox,
    ) {
        let Some(worker) = self.workers.get_mut(&conn) else { return };
        let took_ms = now.ms.saturating_sub(worker.opened.ms);
        let (account, version) = (trade.account, trade.version.0);
        let model = trade.model.to_string();
        worker.stage = Stage::Ready(trade);
        worker.takes = !disabled;
        self.counts.worker_handshakes += 1;
        self.counts.handshake_ms_sum += took_ms;
        self.set_handshake_deadline(conn, None);
        out.answer(conn, query, &ProxyHandshakeCompleted {});
        out.note(Note::WorkerReady { conn, worker: account, model, version });
        self.settle_worker(account, out);
        self.follow_wish(conn, now);
        self.follow_pool(now, out);
    }

    fn tell_worker_status(
        &mut self,
        conn: ConnId,
        query: i64,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let account = self.workers.get(&conn).and_then(WorkerConn::trade).map(|t| t.account);
        let Some(account) = account else { return Ok(()) };
        self.check_statements(conn)?;
        let (payment, total) = self.worker_statement(account);
        let data = out.encode(&PaymentStatus {
            signed_payment: signed(payment.as_ref()),
            db_tokens: total,
            max_tokens: total,
        });
        out.act_when_durable(Act::Answer { conn, query, data });
        Ok(())
    }

    pub(crate) fn worker_message(
        &mut self,
        conn: ConnId,
        data: &Bytes,
        now: Now,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let message = Message::decode(data).map_err(|fault| Refusal::malformed(&fault))?;
        // One-way messages before the handshake is over are ignored (protocol notes 3.4).
        if !self.workers.get(&conn).is_some_and(WorkerConn::is_ready) {
            return Ok(());
        }
        match Said::of(message) {
            Said::Answer(answer) => self.worker_answered(conn, answer, now, out),
            Said::Takes(enabled) => {
                if let Some(worker) = self.workers.get_mut(&conn) {
                    worker.takes = enabled;
                }
                self.follow_wish(conn, now);
                self.follow_pool(now, out);
            }
            Said::Price(milli) => {
                let coefficient = Coefficient::new(i64::from(milli)).map_err(|_| {
                    Refusal::closing(code::PROTOCOL_VIOLATION, "bad coefficient value")
                })?;
                self.pool.set_coefficient(worker_id(conn), coefficient.milli(), now.ms);
                self.follow_pool(now, out);
            }
            Said::Receipt(receipt) => self.pass_receipt(conn, &receipt, out),
            Said::Nothing => {}
        }
        Ok(())
    }

    /// Gives requests to a worker that is ready and wants them, as long as it is listed.
    pub(crate) fn follow_wish(&mut self, conn: ConnId, now: Now) {
        let Some(worker) = self.workers.get(&conn) else { return };
        let takes = worker.takes && worker.is_ready() && self.is_still_listed(conn);
        self.pool.enable(worker_id(conn), takes, now.ms);
    }

    /// Whether the root still lists this worker's image and model.
    pub(crate) fn is_still_listed(&self, conn: ConnId) -> bool {
        let Some(worker) = self.workers.get(&conn) else { return false };
        let Some(trade) = worker.trade() else { return true };
        let listed = |image| self.instance.lists_image(image);
        !self.settings.check_hashes
            || worker.image.is_some_and(listed) && self.instance.lists_model(&trade.model)
    }

    /// The signed payment for a worker: always signed, for 0 tokens too (protocol notes, chain
    /// 3.8).
    pub(crate) fn worker_payment(&mut self, account: AccountId) -> Option<Bytes> {
        let party = self.parties.workers.get_mut(&account)?;
        let (contract, total) = (party.contract, party.signable);
        let draw = &mut self.draw;
        let kind = PaymentKind::WorkerPayout;
        party.payment.for_total(&self.identity, kind, contract, total, || draw.number())
    }

    /// What a worker is told: the signed payment, and its total, which is durable by the time the
    /// message leaves.
    pub(crate) fn worker_statement(&mut self, account: AccountId) -> (Option<Bytes>, i64) {
        let total = self.books.worker(account).map(|worker| worker.counters().max());
        (self.worker_payment(account), total.unwrap_or_default().to_wire())
    }
}

/// A short name of an account for the scheduler's memory of speed and honesty.
fn account_number(account: AccountId) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = account.0;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}
