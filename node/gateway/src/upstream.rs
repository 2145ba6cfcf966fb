//! The network as the gateway sees it: one trait, its requests, offers and errors.

use std::future::Future;
use std::time::Duration;

use cocoon_openai::Endpoint;
use cocoon_units::{Coefficient, Nanoton, SecretBytes, Tokens};
use http::HeaderMap;

use crate::answer::InferenceStream;
use crate::operator::{MoneyOrder, MoneyRefusal};

/// The network as the gateway sees it.
///
/// Implementations must be cheap to share: the gateway calls them from every connection at once.
pub trait Upstream: Send + Sync + 'static {
    /// Runs one request and returns as soon as the head of the answer is known.
    ///
    /// Until the head, the implementation may try another worker; afterwards it may not. Dropping
    /// the future before it is ready, or the stream afterwards, cancels the request.
    fn run(
        &self,
        request: InferenceRequest,
    ) -> impl Future<Output = Result<InferenceStream, UpstreamError>> + Send;

    /// Lists what can be asked for now, in a stable order. Must not wait longer than a few
    /// hundred milliseconds: a cached list is right.
    fn models(&self) -> impl Future<Output = Result<Vec<ModelOffer>, UpstreamError>> + Send;

    /// Shows the evidence of all machines behind the network side, the workers' over `nonce`, as
    /// one file (`docs/receipts.md`).
    fn attestation(
        &self,
        nonce: [u8; 32],
    ) -> impl Future<Output = Result<Vec<u8>, UpstreamError>> + Send {
        let _ = nonce;
        async {
            let message = "This network side shows no evidence.".to_owned();
            Err(UpstreamError::BadRequest { message, param: None, code: None })
        }
    }

    /// Returns the receipt of this id as a file; nothing when there is none (any more).
    fn receipt(
        &self,
        id: &str,
    ) -> impl Future<Output = Result<Option<Vec<u8>>, UpstreamError>> + Send {
        let _ = id;
        async { Ok(None) }
    }

    /// Moves money at a proxy by the operator's word. The answer is a JSON object that says what is
    /// done, what it costs and what comes back; its progress stands in `/jsonstats`.
    fn operate(
        &self,
        order: MoneyOrder,
    ) -> impl Future<Output = Result<serde_json::Value, MoneyRefusal>> + Send {
        let _ = order;
        async { Err(MoneyRefusal::Refused("This network side holds no money.".to_owned())) }
    }

    /// Says what the status pages (`/jsonstats`, `/stats`) show of the network side.
    fn status(&self) -> impl Future<Output = NetworkStatus> + Send {
        async { NetworkStatus::default() }
    }
}

/// One request, checked and ready to travel.
#[derive(Debug)]
pub struct InferenceRequest {
    /// The id shown to the user in `x-request-id`; at most 128 visible ASCII characters. It is
    /// *not* the 32 random bytes of the wire.
    pub request_id: String,
    /// The OpenAI endpoint asked for.
    pub endpoint: Endpoint,
    /// Name of the model, without `@…`.
    pub model: String,
    /// HTTP method for the model server; `POST` for every endpoint there is today.
    pub method: http::Method,
    /// Path for the model server, without query, as in `/v1/chat/completions`.
    pub path: &'static str,
    /// Headers for the model server: `content-type` and `accept` only. The user's
    /// `Authorization`, `Cookie`, `User-Agent` and addresses never leave the gateway.
    pub headers: HeaderMap,
    /// The body, final: the network's own members are already out of it. Secret; never log it.
    pub body: SecretBytes,
    /// True when the user asked for a stream of events.
    pub stream: bool,
    /// Highest acceptable price factor of a worker (`max_coefficient`, protocol notes 3.5).
    pub max_coefficient: Coefficient,
    /// Tokens to reserve for the answer, all choices together (`max_tokens` of the query).
    pub max_tokens: Tokens,
    /// Time the user grants for the whole answer, from now.
    pub timeout: Duration,
    /// Ask every node for its debug record (`enable_debug`).
    pub debug: bool,
    /// The user's own name of the request for the debug log (`request_guid`).
    pub request_guid: Option<String>,
    /// Key the user encrypted the body to (`public_key` of the query, protocol notes 4.8).
    pub encryption_key: Option<[u8; 32]>,
    /// What the user wants of the worker beyond the model.
    pub wishes: Wishes,
}

/// What the user wants of the worker beyond the model; empty lists accept everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Kinds of trusted environment that are acceptable: `tdx`, `sev-snp`, `fake`.
    pub tee_kinds: Vec<String>,
    /// Verdicts of the attestation that are required, by name.
    pub verdicts: Vec<String>,
    /// Region wanted; kept for later use.
    pub region: Option<String>,
    /// Energy wanted; kept for later use.
    pub energy: Option<String>,
    /// Whether a receipt is wanted.
    pub receipt: bool,
    /// Whether nodes must keep nothing of the request beyond its accounting.
    pub no_retention: bool,
    /// Lower class of service: batch work that may wait.
    pub background: bool,
}

/// One model that can be asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ModelOffer {
    /// Base name, as in a request's `model`.
    pub id: String,
    /// Unix seconds when the model was first seen; 0 when unknown.
    pub created: u64,
    /// Longest context in tokens, when a worker says.
    pub context_tokens: Option<u64>,
    /// What the model can do, by OpenAI's words: `chat`, `completions`, `embeddings`, `tools`,
    /// `vision`, `audio`, `transcription`, `image`, `speech`, `json_schema`. Empty: unknown.
    pub capabilities: Vec<String>,
    /// Price of a million prompt tokens at the cheapest worker.
    pub price_in_per_million: Option<Nanoton>,
    /// Price of a million completion tokens at the cheapest worker.
    pub price_out_per_million: Option<Nanoton>,
    /// The workers behind it, cheapest first.
    pub workers: Vec<WorkerOffer>,
}

/// One worker that serves a model, as the proxy tells (`getWorkerTypesV2`).
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerOffer {
    /// Price factor.
    pub coefficient: Coefficient,
    /// Requests running now.
    pub running: u32,
    /// Most requests it takes at once.
    pub max_running: u32,
    /// Kind of trusted environment, when known.
    pub tee_kind: Option<String>,
}

/// What the status pages show of the network side. Members are JSON texts, so that the gateway
/// need not know their shape; an empty string means "nothing to tell".
#[derive(Debug, Clone, Default)]
pub struct NetworkStatus {
    /// Members of the `/jsonstats` object (protocol notes 4.3) besides `stats`: name and JSON value.
    pub sections: Vec<(String, String)>,
    /// Proxies with a finished handshake.
    pub ready_proxies: u32,
    /// True when evidence is fake; every answer then says so.
    pub fake_evidence: bool,
}

/// Why the network did not answer. Each maps to one HTTP status and one sentence for the user.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum UpstreamError {
    /// No proxy is connected. 503: try again after `retry_after`.
    #[error("no proxy is connected")]
    NoProxy {
        /// When a new attempt makes sense.
        retry_after: Duration,
    },
    /// The chain is away for so long that nothing new is sent. 503: try again later.
    #[error("the chain is away for {away:?}")]
    ChainAway {
        /// For how long it has been away.
        away: Duration,
        /// When a new attempt makes sense.
        retry_after: Duration,
    },
    /// No worker has ever offered the model. 404.
    #[error("the model {model:?} is not offered")]
    UnknownModel {
        /// The name asked for.
        model: String,
        /// Names that are offered, at most 32.
        offered: Vec<String>,
    },
    /// The model exists, but no worker for it is connected or fits the wishes. 503.
    #[error("no worker for {model:?} fits")]
    NoWorker {
        /// The name asked for.
        model: String,
        /// When a new attempt makes sense.
        retry_after: Duration,
    },
    /// All workers that fit cost more than the cap. 402.
    #[error("the cheapest worker asks {cheapest:?}, the cap is {cap:?}")]
    TooExpensive {
        /// Factor of the cheapest worker.
        cheapest: Coefficient,
        /// The user's cap.
        cap: Coefficient,
    },
    /// The payment channel does not cover the worst case. 402.
    #[error("the request needs {needed:?}, available is {available:?}")]
    NoMoney {
        /// Worst-case cost of the request.
        needed: Nanoton,
        /// What is left for new requests.
        available: Nanoton,
    },
    /// Everyone is busy and the queue is full or its deadline passed. 429.
    #[error("all workers are busy")]
    Busy {
        /// When a new attempt makes sense.
        retry_after: Duration,
    },
    /// The request's deadline passed. 504.
    #[error("no answer within {after:?}")]
    Timeout {
        /// The deadline that passed, counted from the request.
        after: Duration,
    },
    /// The connection to the proxy broke while the request ran. 502.
    #[error("the proxy was lost")]
    ProxyLost,
    /// The worker or its model server broke while the request ran. 502.
    #[error("the worker was lost: {reason}")]
    WorkerLost {
        /// The node's own words; no content of the request.
        reason: String,
    },
    /// A node refused the request as malformed or beyond its limits. 400.
    #[error("{message}")]
    BadRequest {
        /// What is wrong, whose limit it is, and what to do.
        message: String,
        /// The member of the body at fault.
        param: Option<String>,
        /// A stable code for programs.
        code: Option<String>,
    },
    /// A fault of ours. 500.
    #[error("internal fault: {message}")]
    Internal {
        /// What happened, without content of the request.
        message: String,
    },
}
