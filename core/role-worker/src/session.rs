//! One connection to a proxy: handshake, queries, payments (protocol notes, wire 3.3, 3.9).

use bytes::Bytes;
use cocoon_channel::{ChannelFault, ChannelRecord, Channels, Command, Side, read, tokens};
use cocoon_units::{Address, Coefficient, RequestId};
use cocoon_wire::proxy::{SignedPayment, ToWorker, WorkerQuery};
use cocoon_wire::tl::{self, Boxed, Extensions};
use cocoon_wire::{client, cocoon, worker};

use crate::fault::{Fault, Reject};
use crate::identity::{Identity, VERSION_MAX, VERSION_MIN};
use crate::run::Run;

/// Time for each step of the handshake (protocol notes, wire 3.3).
const STEP_TIMEOUT_MS: u64 = 30_000;
/// Time for an answer about payments, and how often to ask (wire 3.4: every 10 to 20 s).
const PAYMENT_TIMEOUT_MS: u64 = 60_000;
const PAYMENT_EVERY_MS: u64 = 15_000;

/// What a message of the proxy asks the node to do.
#[derive(Debug)]
pub enum Incoming {
    /// The handshake is complete.
    Ready,
    /// Run a query.
    Run(Box<Run>),
    /// Refuse a query that cannot be run; the bytes of the answer.
    Refuse(Vec<u8>),
    /// The proxy no longer wants a query's answer.
    Cancel(RequestId),
    /// A client asks what this worker's TEE says; answer the query with `cocoon.report`.
    Report {
        /// The proxy's id of the query.
        query: i64,
        /// The client's nonce.
        nonce: [u8; 32],
        /// What the client reads behind evidence: an owner's endorsement, registers of a vTPM. Other
        /// bits say nothing yet.
        reads: Extensions,
    },
    /// Serve another model; answer the query when it is done.
    ChangeModel {
        /// The proxy's id of the query.
        query: i64,
        /// Full name.
        model: String,
    },
}

/// What came of an input.
#[derive(Debug, Default)]
pub struct Turn {
    /// To send, in order.
    pub send: Vec<Command>,
    /// To journal.
    pub records: Vec<ChannelRecord>,
    /// To do.
    pub incoming: Option<Incoming>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting { query: i64 },
    Comparing { query: i64 },
    Extended { query: i64, stated_max: i64 },
    Completing { query: i64, stated_max: Option<i64> },
    Ready { asked: Option<i64>, ask_at_ms: u64 },
}

/// The machine of one connection.
#[derive(Debug)]
pub struct ProxySession {
    phase: Phase,
    next_query: i64,
    version: i32,
    extensions: Extensions,
    proxy: Option<Address>,
    disabled: bool,
}

impl ProxySession {
    /// Starts the handshake on a connection that is ready. `first_query` is any number that is not
    /// used on this connection; `disabled` tells the proxy not to send queries yet.
    #[must_use]
    pub fn open(identity: &Identity, first_query: i64, disabled: bool) -> (Self, Turn) {
        let mut session = Self {
            phase: Phase::Connecting { query: first_query },
            next_query: first_query,
            version: 0,
            extensions: Extensions::NONE,
            proxy: None,
            disabled,
        };
        let owner = identity.text(identity.owner);
        let hello = worker::ConnectToProxy {
            params: worker::Params {
                extensions: cocoon::ANNOUNCED,
                worker_owner_address: owner.as_str().into(),
                model: identity.model.as_str().into(),
                coefficient: identity.coefficient.to_wire(),
                load: Some(worker::Load {
                    is_test: identity.is_test,
                    proxy_cnt: wire_count(identity.proxy_count),
                    max_active_requests: wire_count(identity.max_active_requests),
                }),
                versions: Some(client::VersionRange { min: VERSION_MIN, max: VERSION_MAX }),
                machine_description_json: None,
            },
        };
        let mut turn = Turn::default();
        let query = session.query(&hello, STEP_TIMEOUT_MS, &mut turn);
        session.phase = Phase::Connecting { query };
        (session, turn)
    }

    /// Whether queries may come.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready { .. })
    }

    /// The proxy contract, once it is known.
    #[must_use]
    pub const fn proxy(&self) -> Option<Address> {
        self.proxy
    }

    /// Protocol version of the connection.
    #[must_use]
    pub const fn version(&self) -> i32 {
        self.version
    }

    /// Additions to the protocol that both sides have.
    #[must_use]
    pub const fn extensions(&self) -> Extensions {
        self.extensions
    }

    /// Takes the answer to a query of ours.
    ///
    /// # Errors
    /// [`Fault`]: close the connection.
    pub fn answered(
        &mut self,
        identity: &Identity,
        channels: &mut Channels,
        now_ms: u64,
        id: i64,
        data: &[u8],
    ) -> Result<Turn, Fault> {
        let mut turn = Turn::default();
        match self.phase {
            Phase::Connecting { query } if query == id => {
                self.connected(identity, channels, data, &mut turn)?;
            }
            Phase::Comparing { query } if query == id => {
                self.compared(channels, data, &mut turn)?
            }
            Phase::Extended { query, stated_max } if query == id => {
                read::<worker::ExtendedCompareBalanceWithProxyResult>(data)?;
                self.complete(Some(stated_max), &mut turn);
            }
            Phase::Completing { query, stated_max } if query == id => {
                read::<worker::ProxyHandshakeCompleted>(data)?;
                if let (Some(total), Some(proxy)) = (stated_max, self.proxy) {
                    turn.records.extend(channels.write_off(proxy, tokens(total)?));
                }
                self.phase = Phase::Ready {
                    asked: None,
                    ask_at_ms: now_ms.saturating_add(PAYMENT_EVERY_MS),
                };
                turn.incoming = Some(Incoming::Ready);
            }
            Phase::Ready { asked: Some(query), ask_at_ms } if query == id => {
                self.phase = Phase::Ready { asked: None, ask_at_ms };
                let status: worker::PaymentStatus<'_> = read(data)?;
                // Lower numbers here may be a late answer: they are ignored (wire 3.9).
                if let Ok(record) = self.stated(
                    channels,
                    &status.signed_payment,
                    status.db_tokens,
                    status.max_tokens,
                ) {
                    turn.records.extend(record);
                }
            }
            _ => return Err(Fault::UnexpectedAnswer(id)),
        }
        Ok(turn)
    }

    /// A query of ours failed, by the proxy's word or by its deadline.
    ///
    /// # Errors
    /// [`Fault::Refused`] for a step of the handshake: close the connection.
    pub fn failed(
        &mut self,
        channels: &mut Channels,
        id: i64,
        code: i32,
        message: &str,
    ) -> Result<(), Fault> {
        let step = match self.phase {
            Phase::Ready { asked, ask_at_ms } => {
                if asked == Some(id) {
                    self.phase = Phase::Ready { asked: None, ask_at_ms };
                }
                return Ok(());
            }
            Phase::Connecting { .. } => "connectToProxy",
            Phase::Comparing { .. } => "compareBalanceWithProxy",
            Phase::Extended { .. } => "extendedCompareBalanceWithProxy",
            Phase::Completing { .. } => "proxyHandshakeComplete",
        };
        self.remember_dead_end(channels);
        Err(Fault::Refused { step, code, message: message.chars().take(200).collect() })
    }

    /// The connection ended. A proxy of the reference whose books are behind ours cannot finish
    /// the handshake (protocol notes, wire 10.1): remember it, so that the next handshake
    /// accepts its number and the loss is known instead of repeated for ever.
    pub fn closed(&self, channels: &mut Channels) {
        self.remember_dead_end(channels);
    }

    /// Takes a one-way message.
    ///
    /// # Errors
    /// [`Fault`]: close the connection.
    pub fn message(
        &mut self,
        identity: &Identity,
        channels: &mut Channels,
        now_ms: u64,
        data: &Bytes,
    ) -> Result<Turn, Fault> {
        let mut turn = Turn::default();
        // One-way messages before the handshake is complete are ignored (wire 3.4).
        if !self.is_ready() {
            return Ok(turn);
        }
        let message = ToWorker::decode(data)
            .map_err(|fault| ChannelFault::Malformed { what: "message", fault })?;
        match message {
            ToWorker::RunQueryEx(query) => {
                turn.incoming = Some(start(
                    Run::read_ex(data, &query, self.version, identity, now_ms),
                    query.request_id,
                    self.version,
                    now_ms,
                ));
            }
            ToWorker::RunQuery(query) => {
                turn.incoming = Some(start(
                    Run::read_old(data, &query, identity, now_ms),
                    query.request_id,
                    0,
                    now_ms,
                ));
            }
            ToWorker::CancelQuery(cancel) => {
                turn.incoming = Some(Incoming::Cancel(cancel.request_id));
            }
            ToWorker::WorkerRequestPayment(payment) => {
                let record = self.stated(
                    channels,
                    &payment.signed_payment,
                    payment.db_tokens,
                    payment.max_tokens,
                )?;
                turn.records.extend(record);
            }
            // A payment alone carries no counters; the next one with them is taken.
            ToWorker::SignedPayment(_) | ToWorker::Unknown(_) => {}
        }
        Ok(turn)
    }

    /// Takes a query of the proxy.
    #[must_use]
    pub fn queried(&self, id: i64, data: &[u8]) -> Turn {
        let mut turn = Turn::default();
        match WorkerQuery::decode(data) {
            Ok(WorkerQuery::ChangeModel(change)) if self.is_ready() && self.version >= 4 => {
                let model = change.new_model.sanitized().into_owned();
                turn.incoming = Some(Incoming::ChangeModel { query: id, model });
            }
            Ok(WorkerQuery::GetReport(get))
                if self.is_ready() && self.extensions.contains(cocoon::REPORTS) =>
            {
                let nonce = get.nonce;
                let reads = Extensions::NONE;
                turn.incoming = Some(Incoming::Report { query: id, nonce, reads });
            }
            Ok(WorkerQuery::GetEndorsedReport(get))
                if self.is_ready() && self.extensions.contains(cocoon::ENDORSEMENTS) =>
            {
                let nonce = get.nonce;
                let reads = cocoon::ENDORSEMENTS;
                turn.incoming = Some(Incoming::Report { query: id, nonce, reads });
            }
            Ok(WorkerQuery::GetFullReport(get))
                if self.is_ready() && self.extensions.contains(cocoon::VTPM_QUOTES) =>
            {
                let (nonce, reads) = (get.nonce, Extensions(get.reads.cast_unsigned()));
                turn.incoming = Some(Incoming::Report { query: id, nonce, reads });
            }
            _ => turn.send.push(Command::AnswerError {
                id,
                code: 601,
                message: "unknown query magic".into(),
            }),
        }
        turn
    }

    /// Time went by: asks for the payment's state when it is due.
    #[must_use]
    pub fn tick(&mut self, now_ms: u64) -> Turn {
        let mut turn = Turn::default();
        if let Phase::Ready { asked: None, ask_at_ms } = self.phase
            && is_due(now_ms, ask_at_ms)
        {
            let query = self.query(&worker::UpdatePaymentStatus {}, PAYMENT_TIMEOUT_MS, &mut turn);
            self.phase = Phase::Ready {
                asked: Some(query),
                ask_at_ms: now_ms.saturating_add(PAYMENT_EVERY_MS),
            };
        }
        turn
    }

    /// Tells the proxy whether queries are wanted; nothing when it knows already.
    #[must_use]
    pub fn set_disabled(&mut self, disabled: bool) -> Option<Command> {
        if self.disabled == disabled {
            return None;
        }
        self.disabled = disabled;
        // Before the handshake is complete its last step tells.
        matches!(self.phase, Phase::Ready { .. } | Phase::Completing { .. }).then(|| {
            let message = worker::EnabledDisabled { disabled: i32::from(disabled) };
            Command::Message(tl::encode(&message))
        })
    }

    /// Tells the proxy a new price factor for later queries.
    #[must_use]
    pub fn new_coefficient(&self, coefficient: Coefficient) -> Option<Command> {
        self.is_ready().then(|| {
            let message = worker::NewCoefficient { new_coefficient: coefficient.to_wire() };
            Command::Message(tl::encode(&message))
        })
    }

    fn connected(
        &mut self,
        identity: &Identity,
        channels: &mut Channels,
        data: &[u8],
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        let hello: worker::ConnectedToProxy<'_> = read(data)?;
        let stated = &hello.params;
        if stated.is_test.unwrap_or(false) != identity.is_test {
            return Err(Fault::TestMode { own: identity.is_test });
        }
        self.version = stated.proto_version.unwrap_or(0);
        if !(0..=VERSION_MAX).contains(&self.version) {
            return Err(Fault::Version(self.version));
        }
        self.extensions = cocoon::ANNOUNCED.common(stated.extensions);
        let met = cocoon_channel::meet(
            channels,
            Side::Worker(identity.owner),
            (identity.root, &identity.network),
            stated,
            &hello.worker_sc_address.sanitized(),
        )?;
        let contract = met.contract;
        turn.records.extend(met.record);
        self.proxy = Some(contract);

        turn.records.extend(channels.take_write_off(contract));
        let claim = channels.channel(contract).map_or((0, 0, 0), |channel| {
            let books = &channel.books;
            (books.signed().to_wire(), books.durable().to_wire(), books.max().to_wire())
        });
        let compare = worker::CompareBalanceWithProxy {
            tokens_committed_to_blockchain: claim.0,
            tokens_committed_to_db: claim.1,
            max_tokens: claim.2,
        };
        let query = self.query(&compare, STEP_TIMEOUT_MS, turn);
        self.phase = Phase::Comparing { query };
        Ok(())
    }

    fn compared(
        &mut self,
        channels: &mut Channels,
        data: &[u8],
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        let result: worker::CompareBalanceWithProxyResult<'_> = read(data)?;
        if result.error_code == 0 {
            let record = self.stated(
                channels,
                &result.signed_payment,
                result.tokens_committed_to_db,
                result.max_tokens,
            )?;
            turn.records.extend(record);
            self.complete(None, turn);
            return Ok(());
        }
        let extended = worker::ExtendedCompareBalanceWithProxy {
            tokens_committed_to_db: result.tokens_committed_to_db,
            other: tl::Blob(&[]),
        };
        let query = self.query(&extended, STEP_TIMEOUT_MS, turn);
        self.phase = Phase::Extended { query, stated_max: result.max_tokens };
        Ok(())
    }

    fn complete(&mut self, stated_max: Option<i64>, turn: &mut Turn) {
        let done = worker::ProxyHandshakeComplete { is_disabled: self.disabled };
        let query = self.query(&done, STEP_TIMEOUT_MS, turn);
        self.phase = Phase::Completing { query, stated_max };
    }

    fn stated(
        &self,
        channels: &mut Channels,
        payment: &SignedPayment<'_>,
        durable: i64,
        max: i64,
    ) -> Result<Option<ChannelRecord>, Fault> {
        let Some(proxy) = self.proxy else { return Ok(None) };
        let payment = match payment {
            SignedPayment::Empty => None,
            SignedPayment::Signed(bytes) => Some(bytes.0),
        };
        let (durable, max) = (tokens(durable)?, tokens(max)?);
        Ok(channels.state(proxy, payment, durable, max)?)
    }

    fn remember_dead_end(&self, channels: &mut Channels) {
        let stated_max = match self.phase {
            Phase::Extended { stated_max, .. }
            | Phase::Completing { stated_max: Some(stated_max), .. } => stated_max,
            _ => return,
        };
        if let (Some(proxy), Ok(stated_max)) = (self.proxy, tokens(stated_max)) {
            channels.dead_end(proxy, stated_max);
        }
    }

    fn query<'tl, T: Boxed<'tl>>(&mut self, function: &T, timeout_ms: u64, turn: &mut Turn) -> i64 {
        let id = self.next_query;
        self.next_query = self.next_query.wrapping_add(1);
        turn.send.push(Command::Query { id, data: tl::encode(function), timeout_ms });
        id
    }
}

/// Whether a question is due. The clock is the wall's: after a step back of it the time would lie
/// far in the future, so a longer wait than is ever set counts as due.
const fn is_due(now_ms: u64, ask_at_ms: u64) -> bool {
    now_ms >= ask_at_ms || ask_at_ms - now_ms > PAYMENT_EVERY_MS
}

fn start(run: Result<Run, Reject>, request: RequestId, version: i32, now_ms: u64) -> Incoming {
    match run {
        Ok(run) => Incoming::Run(Box::new(run)),
        Err(reject) => {
            let mut out = Vec::new();
            crate::answer::write_reject(&mut out, request, version, &reject, now_ms);
            Incoming::Refuse(out)
        }
    }
}

fn wire_count(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
