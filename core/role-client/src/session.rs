//! One connection to a proxy (protocol notes, wire 3.2, 3.4, 3.5, 3.9).

use bytes::Bytes;
use cocoon_channel::{ChannelFault, ChannelRecord, Channels, Command, Side, read, tokens};
use cocoon_contract::address::ProxyIdentity;
use cocoon_units::{
    Address, AddressForm, Coefficient, ModelName, PublicKey, RequestId, SecretBytes, Tokens,
    reserve_tokens_worst_case,
};
use cocoon_wire::client::{self, FromProxy, ProxyConnectionAuth};
use cocoon_wire::proxy::SignedPayment;
use cocoon_wire::tl::{self, Blob, Boxed, Extensions};
use cocoon_wire::{cocoon, http};
use std::collections::HashMap;
use subtle::ConstantTimeEq as _;

use crate::answer::{self, AnswerEvent, ModelWorkers, WorkerLoad};
use crate::fault::Fault;
use crate::identity::{Identity, VERSION_MAX, VERSION_MIN};

/// Time for the first step of the handshake.
const CONNECT_TIMEOUT_MS: u64 = 30_000;
/// Time for the authorisation, which may wait for the chain.
const AUTHORIZE_TIMEOUT_MS: u64 = 300_000;
/// Time for an answer about payments, and how often to ask (wire 3.4: every 10 to 20 s).
const PAYMENT_TIMEOUT_MS: u64 = 60_000;
const PAYMENT_EVERY_MS: u64 = 15_000;
/// Time for the list of models.
const MODELS_TIMEOUT_MS: u64 = 10_000;
/// Time for a worker's report, by way of the proxy.
const REPORT_TIMEOUT_MS: u64 = 40_000;
/// What a client reads behind evidence.
const READ: Extensions = cocoon::ENDORSEMENTS.with(cocoon::VTPM_QUOTES);
/// Part of the user's time that the proxy gets (wire 3.5).
const PROXY_SHARE: f64 = 0.95;
/// Most models taken from a list, and workers of one model; more are cut off.
const MODELS_MAX: usize = 4096;

/// What an input asks the node to do.
#[derive(Debug)]
pub enum Incoming {
    /// The handshake is complete; requests may go.
    Ready,
    /// The proxy does not know this client's secret: register this nonce on chain from the
    /// client's wallet (`owner_client_register`). The authorisation waits for it.
    Register {
        /// What to register.
        nonce: u64,
        /// The client contract.
        contract: Address,
        /// The proxy behind it.
        proxy: ProxyIdentity,
    },
    /// The list of models.
    Models(Vec<ModelWorkers>),
    /// Something happened to a request.
    Answer(RequestId, AnswerEvent),
    /// The end of a request that is not open, never was, or has ended before. Nothing is counted.
    Unasked(RequestId),
    /// The proxy booked a request; its word on the tokens.
    Booked(RequestId, Tokens),
    /// The proxy is about to end: send it nothing new, and close the connection when nothing runs
    /// on it any more.
    Leaving,
    /// A worker's receipt for a request, before its last message.
    Receipt(RequestId, WorkerReceipt),
}

/// A receipt as the proxy passed it on; nothing in it was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerReceipt {
    /// The proxy's name of the worker's connection.
    pub worker: i64,
    /// The receipt.
    pub receipt: Bytes,
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

/// What can be asked about the workers behind a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportQuestion {
    /// Which workers give reports; answered by `cocoon.workers`.
    Workers,
    /// One worker's report; answered by `cocoon.report`.
    Report {
        /// The proxy's name of the worker's connection.
        worker: i64,
        /// Drawn for this question.
        nonce: [u8; 32],
    },
}

/// A request to send.
#[derive(Debug)]
pub struct Ask<'a> {
    /// 32 random bytes.
    pub request: RequestId,
    /// Base name of the model.
    pub model: &'a str,
    /// Path of the endpoint.
    pub path: &'a str,
    /// Headers for the model server.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// Body for the model server.
    pub body: &'a SecretBytes,
    /// Highest acceptable price factor.
    pub max_coefficient: Coefficient,
    /// Tokens to reserve for the answer.
    pub max_tokens: Tokens,
    /// The user's time for the whole answer, milliseconds.
    pub timeout_ms: u64,
    /// Ask for debug records.
    pub debug: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting { query: i64 },
    Authorizing { query: i64 },
    Ready { asked: Option<i64>, ask_at_ms: u64, models: Option<i64> },
}

/// The machine of one connection.
#[derive(Debug)]
pub struct ProxySession {
    phase: Phase,
    next_query: i64,
    version: i32,
    extensions: Extensions,
    proxy: Option<Address>,
    /// Requests whose last message has not come, and the most that each can cost.
    open: HashMap<RequestId, Tokens>,
}

impl ProxySession {
    /// Starts the handshake on a connection that is ready. `first_query` is any number that is
    /// not used on this connection.
    #[must_use]
    pub fn open(identity: &Identity, first_query: i64) -> (Self, Turn) {
        let mut session = Self {
            phase: Phase::Connecting { query: first_query },
            next_query: first_query,
            version: 0,
            extensions: Extensions::NONE,
            proxy: None,
            open: HashMap::new(),
        };
        let owner = identity.text(identity.wallet, AddressForm::BOUNCEABLE);
        let hello = client::ConnectToProxy {
            params: client::Params {
                extensions: cocoon::ANNOUNCED,
                client_owner_address: owner.as_str().into(),
                is_test: Some(identity.is_test),
                versions: Some(client::VersionRange { min: VERSION_MIN, max: VERSION_MAX }),
            },
            min_config_version: identity.root_version,
        };
        let mut turn = Turn::default();
        let query = session.query(&hello, CONNECT_TIMEOUT_MS, &mut turn);
        session.phase = Phase::Connecting { query };
        (session, turn)
    }

    /// Whether the proxy carries receipts.
    #[must_use]
    pub const fn carries_receipts(&self) -> bool {
        self.is_ready() && self.extensions.contains(cocoon::RECEIPTS)
    }

    /// Whether the proxy carries workers' reports.
    #[must_use]
    pub const fn carries_reports(&self) -> bool {
        self.is_ready() && self.extensions.contains(cocoon::REPORTS)
    }

    /// Asks the proxy which workers give reports, or a worker for one. The caller takes the
    /// answer to the query of the number returned before it reaches the session.
    #[must_use]
    pub fn ask_reports(&mut self, question: ReportQuestion) -> Option<(i64, Turn)> {
        if !self.carries_reports() {
            return None;
        }
        let mut turn = Turn::default();
        let query = match question {
            ReportQuestion::Workers => {
                self.query(&cocoon::ListWorkers {}, MODELS_TIMEOUT_MS, &mut turn)
            }
            ReportQuestion::Report { worker, nonce } => {
                if self.extensions.contains(cocoon::VTPM_QUOTES) {
                    let reads = READ.0.cast_signed();
                    let get = cocoon::GetFullReport { worker, nonce, reads };
                    self.query(&get, REPORT_TIMEOUT_MS, &mut turn)
                } else if self.extensions.contains(cocoon::ENDORSEMENTS) {
                    let get = cocoon::GetEndorsedReport { worker, nonce };
                    self.query(&get, REPORT_TIMEOUT_MS, &mut turn)
                } else {
                    let get = cocoon::GetReport { worker, nonce };
                    self.query(&get, REPORT_TIMEOUT_MS, &mut turn)
                }
            }
        };
        Some((query, turn))
    }

    /// Whether requests may go.
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
            Phase::Authorizing { query } if query == id => {
                self.authorized(channels, data, now_ms, &mut turn)?;
            }
            Phase::Ready { asked: Some(query), ask_at_ms, models } if query == id => {
                self.phase = Phase::Ready { asked: None, ask_at_ms, models };
                let status: client::PaymentStatus<'_> = read(data)?;
                let payment = &status.signed_payment;
                // Lower numbers here may be a late answer: they are ignored (wire 3.9).
                if let Ok(record) =
                    self.stated(channels, payment, status.db_tokens, status.max_tokens)
                {
                    turn.records.extend(record);
                }
            }
            Phase::Ready { models: Some(query), asked, ask_at_ms } if query == id => {
                self.phase = Phase::Ready { asked, ask_at_ms, models: None };
                turn.incoming = Some(Incoming::Models(models_of(&read(data)?)));
            }
            _ => return Err(Fault::UnexpectedAnswer(id)),
        }
        Ok(turn)
    }

    /// A query of ours failed, by the proxy's word or by its deadline.
    ///
    /// # Errors
    /// [`Fault::Refused`] for a step of the handshake: close the connection.
    pub fn failed(&mut self, id: i64, code: i32, message: &str) -> Result<(), Fault> {
        let step = match &mut self.phase {
            Phase::Ready { asked, models, .. } => {
                for open in [asked, models] {
                    *open = open.filter(|query| *query != id);
                }
                return Ok(());
            }
            Phase::Connecting { .. } => "connectToProxy",
            Phase::Authorizing { .. } => "authorizeWithProxy",
        };
        Err(Fault::Refused { step, code, message: message.chars().take(200).collect() })
    }

    /// Takes a one-way message.
    ///
    /// # Errors
    /// [`Fault`]: close the connection.
    pub fn message(&mut self, channels: &mut Channels, data: &Bytes) -> Result<Turn, Fault> {
        let mut turn = Turn::default();
        if !self.is_ready() {
            return Ok(turn);
        }
        let message = FromProxy::decode(data)
            .map_err(|fault| ChannelFault::Malformed { what: "message", fault })?;
        if let FromProxy::Leaving(_) = &message {
            turn.incoming = Some(Incoming::Leaving);
            return Ok(turn);
        }
        if let FromProxy::ClientRequestPayment(booked) = &message {
            let payment = &booked.signed_payment;
            // A wrong payment is reported by the difference it leaves, it does not end the
            // connection: requests of other users run on it (wire 3.9).
            if let Ok(record) = self.stated(channels, payment, booked.db_tokens, booked.max_tokens)
            {
                turn.records.extend(record);
            }
            let tokens = Tokens::from_wire(booked.request_tokens).unwrap_or(Tokens::ZERO);
            turn.incoming = Some(Incoming::Booked(booked.request_id, tokens));
            return Ok(turn);
        }
        if let FromProxy::Receipt(receipt) = &message {
            if self.extensions.contains(cocoon::RECEIPTS)
                && receipt.receipt.0.len() <= cocoon::RECEIPT_LEN_MAX
            {
                let bytes = data.slice_ref(receipt.receipt.0);
                let passed = WorkerReceipt { worker: receipt.worker, receipt: bytes };
                turn.incoming = Some(Incoming::Receipt(receipt.request_id, passed));
            }
            return Ok(turn);
        }
        if let Some((request, event)) = answer::read(data, &message)? {
            if let (Some(charge), Some(proxy)) = (event.charge(), self.proxy) {
                // What was never asked, or ended before, or costs more than it can, is not of our
                // own count: the difference to the proxy's total stays to be seen.
                let Some(most) = self.open.remove(&request) else {
                    turn.incoming = Some(Incoming::Unasked(request));
                    return Ok(turn);
                };
                turn.records.extend(channels.finished(proxy, charge.used.total.min(most)));
            }
            turn.incoming = Some(Incoming::Answer(request, event));
        }
        Ok(turn)
    }

    /// Time went by: asks for the payment's state when it is due.
    #[must_use]
    pub fn tick(&mut self, now_ms: u64) -> Turn {
        let mut turn = Turn::default();
        if let Phase::Ready { asked: None, ask_at_ms, models } = self.phase
            && is_due(now_ms, ask_at_ms)
        {
            let query = self.query(&client::UpdatePaymentStatus {}, PAYMENT_TIMEOUT_MS, &mut turn);
            self.phase = Phase::Ready {
                asked: Some(query),
                ask_at_ms: now_ms.saturating_add(PAYMENT_EVERY_MS),
                models,
            };
        }
        turn
    }

    /// Asks for the list of models, unless the question is open already.
    #[must_use]
    pub fn ask_models(&mut self) -> Turn {
        let mut turn = Turn::default();
        if let Phase::Ready { asked, ask_at_ms, models: None } = self.phase {
            let query = self.query(&client::GetWorkerTypesV2 {}, MODELS_TIMEOUT_MS, &mut turn);
            self.phase = Phase::Ready { asked, ask_at_ms, models: Some(query) };
        }
        turn
    }

    /// Writes a request. The session must be ready. The request is open until its last message, or
    /// until [`forget`](Self::forget).
    pub fn ask(&mut self, identity: &Identity, ask: &Ask<'_>) -> Vec<u8> {
        let length = ask.body.len().to_string();
        let headers = ask
            .headers
            .iter()
            .copied()
            .chain([("content-length", length.as_bytes())])
            .map(|(name, value)| http::Header { name: name.into(), value: Blob(value) })
            .collect();
        let query = tl::encode(&http::Request {
            method: "POST".into(),
            url: ask.path.into(),
            http_version: "HTTP/1.1".into(),
            headers,
            payload: Blob(ask.body.expose()),
        });
        let max_tokens = i32::try_from(ask.max_tokens.0).unwrap_or(i32::MAX);
        let most = reserve_tokens_worst_case(
            max_tokens.unsigned_abs().into(),
            query.len() as u64,
            ask.max_coefficient,
            &identity.network.params.price_table(),
        );
        self.open.insert(ask.request, most);
        tl::encode(&client::RunQueryEx {
            model_name: ask.model.into(),
            query: Blob(&query),
            max_coefficient: ask.max_coefficient.to_wire(),
            max_tokens,
            timeout: share_s(ask.timeout_ms),
            request_id: ask.request,
            min_config_version: identity.root_version,
            extensions: Extensions::NONE,
            enable_debug: Some(ask.debug),
            // Never below version 3: the older line drops such a request (wire 10.2, 7).
            public_key: (self.version >= 3).then_some(PublicKey([0; 32])),
        })
    }

    /// Waits no longer for the last message of a request.
    pub fn forget(&mut self, request: RequestId) {
        self.open.remove(&request);
    }

    /// Whether the proxy can be told which workers a request may go to.
    #[must_use]
    pub const fn can_name_workers(&self) -> bool {
        self.is_ready() && self.extensions.contains(cocoon::ONLY_WORKERS)
    }

    /// Names the only workers for the request of this id: send it directly before the request.
    /// Nothing when the proxy does not understand it or the number of workers is not 1 to
    /// [`cocoon::ONLY_WORKERS_MAX`]; do not send the request then.
    #[must_use]
    pub fn name_workers(&self, request: RequestId, workers: &[i64]) -> Option<Vec<u8>> {
        let fits = (1..=cocoon::ONLY_WORKERS_MAX).contains(&workers.len());
        let named = || cocoon::OnlyWorkers { request_id: request, workers: workers.to_vec() };
        (fits && self.can_name_workers()).then(|| tl::encode(&named()))
    }

    /// Ends a request early; nothing when the proxy does not understand it.
    #[must_use]
    pub fn cancel(&self, request: RequestId) -> Option<Vec<u8>> {
        self.extensions
            .contains(cocoon::CANCEL_QUERY)
            .then(|| tl::encode(&cocoon::CancelQuery { request_id: request }))
    }

    fn connected(
        &mut self,
        identity: &Identity,
        channels: &mut Channels,
        data: &[u8],
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        let hello: client::ConnectedToProxy<'_> = read(data)?;
        let stated = &hello.params;
        if stated.is_test.unwrap_or(false) != identity.is_test {
            return Err(Fault::TestMode { own: identity.is_test });
        }
        self.version = stated.proto_version.unwrap_or(0);
        if !(VERSION_MIN..=VERSION_MAX).contains(&self.version) {
            return Err(Fault::Version(self.version));
        }
        self.extensions = cocoon::ANNOUNCED.common(stated.extensions);
        let met = cocoon_channel::meet(
            channels,
            Side::Client(identity.wallet),
            (identity.root, &identity.network),
            stated,
            &hello.client_sc_address.sanitized(),
        )?;
        turn.records.extend(met.record);
        self.proxy = Some(met.contract);

        let query = match hello.auth {
            ProxyConnectionAuth::Short(auth)
                if bool::from(auth.secret_hash.ct_eq(&identity.secret_hash())) =>
            {
                let secret = identity.secret.expose();
                let function = client::AuthorizeWithProxyShort { data: Blob(secret) };
                self.query(&function, AUTHORIZE_TIMEOUT_MS, turn)
            }
            ProxyConnectionAuth::Short(client::ProxyConnectionAuthShort { nonce, .. })
            | ProxyConnectionAuth::Long(client::ProxyConnectionAuthLong { nonce }) => {
                let nonce = u64::from_le_bytes(nonce.to_le_bytes());
                turn.incoming = Some(Incoming::Register {
                    nonce,
                    contract: met.own_contract,
                    proxy: met.proxy,
                });
                self.query(&client::AuthorizeWithProxyLong {}, AUTHORIZE_TIMEOUT_MS, turn)
            }
        };
        self.phase = Phase::Authorizing { query };
        Ok(())
    }

    fn authorized(
        &mut self,
        channels: &mut Channels,
        data: &[u8],
        now_ms: u64,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        let result = tl::decode::<client::AuthorizationWithProxy<'_>>(data)
            .map_err(|fault| ChannelFault::Malformed { what: "authorization", fault })?;
        let success = match result {
            client::AuthorizationWithProxy::Success(success) => success,
            client::AuthorizationWithProxy::Failed(failed) => {
                return Err(Fault::Refused {
                    step: "authorizeWithProxy",
                    code: failed.error_code,
                    message: failed.error.sanitized().chars().take(200).collect(),
                });
            }
        };
        let (durable, max) = (success.tokens_committed_to_db, success.max_tokens);
        turn.records.extend(self.stated(channels, &success.signed_payment, durable, max)?);
        self.phase = Phase::Ready {
            asked: None,
            ask_at_ms: now_ms.saturating_add(PAYMENT_EVERY_MS),
            models: None,
        };
        turn.incoming = Some(Incoming::Ready);
        Ok(())
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

fn models_of(types: &client::WorkerTypesV2<'_>) -> Vec<ModelWorkers> {
    types
        .types
        .iter()
        // No worker could have announced a longer name; who keeps names keeps them for good.
        .filter(|model| model.name.as_bytes().len() <= ModelName::MAX_BYTES)
        .take(MODELS_MAX)
        .map(|model| ModelWorkers {
            name: model.name.sanitized().into_owned(),
            workers: model
                .workers
                .iter()
                .take(MODELS_MAX)
                .map(|worker| WorkerLoad {
                    coefficient: worker.coefficient,
                    running: worker.active_requests,
                    running_max: worker.max_active_requests,
                })
                .collect(),
        })
        .collect()
}

/// Seconds that the proxy gets of the user's time.
#[allow(clippy::cast_precision_loss, reason = "timeouts are far below 2^53 milliseconds")]
fn share_s(timeout_ms: u64) -> f64 {
    timeout_ms as f64 / 1000.0 * PROXY_SHARE
}
