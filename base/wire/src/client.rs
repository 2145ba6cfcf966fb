//! Messages between client and proxy, namespace `client` (protocol notes 3.2, 3.4, 3.5).

use cocoon_units::{AdjustedUsage, PublicKey, RequestId, Tokens};

use crate::cocoon::{CancelQuery, Leaving, OnlyWorkers};
use crate::proxy::ClientRequestPayment;
use crate::tl::{Blob, Extensions, Text};

tl_struct! {
    /// The five numbers of a usage in adjusted tokens (`tokensUsed`).
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    TokensUsed = "tokensUsed" 0x70c5_b15c {
        /// Prompt tokens that were not cached.
        prompt_tokens_used: i64,
        /// Cached prompt tokens.
        cached_tokens_used: i64,
        /// Generated tokens that were not reasoning.
        completion_tokens_used: i64,
        /// Reasoning tokens.
        reasoning_tokens_used: i64,
        /// Sum of the four; this is charged.
        total_tokens_used: i64,
    }

    /// Who a client is and what it speaks.
    #[derive(Clone, Debug, PartialEq, Default)]
    Params<'tl> = "client.params" 0x40fd_ca64 {
        /// Bits without a meaning in the schema.
        [flags] extensions: Extensions,
        /// Address text of the client's node wallet.
        client_owner_address: Text<'tl>,
        /// Whether the node runs in test mode.
        [0] is_test: bool,
        /// Range of protocol versions; absent counts as 0.
        [1] versions: VersionRange,
    }

    /// The client shows the secret of this hash, or registers the nonce.
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    ProxyConnectionAuthShort = "client.proxyConnectionAuthShort" 0xd6ff_c5af {
        /// SHA-256 of the client's secret.
        secret_hash: [u8; 32],
        /// Random number of this connection, to be registered on chain.
        nonce: i64,
    }

    /// The client registers the nonce on chain.
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    ProxyConnectionAuthLong = "client.proxyConnectionAuthLong" 0x417b_f016 {
        /// Random number of this connection, to be registered on chain.
        nonce: i64,
    }

    /// The client may send requests.
    #[derive(Clone, Debug, PartialEq, Default)]
    AuthorizationWithProxySuccess<'tl> = "client.authorizationWithProxySuccess" 0x75d5_ac34 {
        /// Signed state that may be posted to the chain.
        signed_payment: crate::proxy::SignedPayment<'tl>,
        /// Adjusted tokens in the proxy's books.
        tokens_committed_to_db: i64,
        /// Adjusted tokens counted at most so far.
        max_tokens: i64,
    }

    /// The client is refused.
    #[derive(Clone, Debug, PartialEq, Default)]
    AuthorizationWithProxyFailed<'tl> = "client.authorizationWithProxyFailed" 0x6055_1c96 {
        /// Error code, see protocol notes 1.7.
        error_code: i32,
        /// What went wrong.
        error: Text<'tl>,
    }

    /// The proxy introduces itself to a client.
    #[derive(Clone, Debug, PartialEq)]
    ConnectedToProxy<'tl> = "client.connectedToProxy" 0x9531_7ad1 {
        /// Who the sender is and what it speaks.
        params: crate::proxy::Params<'tl>,
        /// Address text of the client contract.
        client_sc_address: Text<'tl>,
        /// How the client has to authorise itself.
        auth: ProxyConnectionAuth,
        /// Signed state that may be posted to the chain.
        signed_payment: crate::proxy::SignedPayment<'tl>,
    }

    /// First part of an answer, version 0.
    #[derive(Clone, Debug, PartialEq, Default)]
    QueryAnswer<'tl> = "client.queryAnswer" 0x9b94_3922 {
        /// A boxed `http.response`.
        answer: Blob<'tl>,
        /// Whether this is the last part.
        is_completed: bool,
        /// Id of the request.
        request_id: RequestId,
        /// What the request has used.
        request_tokens_used: TokensUsed,
    }

    /// A request failed before its first part, version 0; the older line sends it to newer clients
    /// too.
    #[derive(Clone, Debug, PartialEq, Default)]
    QueryAnswerError<'tl> = "client.queryAnswerError" 0x6d60_569a {
        /// Error code, see protocol notes 1.7.
        error_code: i32,
        /// What went wrong.
        error: Text<'tl>,
        /// Id of the request.
        request_id: RequestId,
        /// What the request has used.
        request_tokens_used: TokensUsed,
    }

    /// Later part of an answer, version 0.
    #[derive(Clone, Debug, PartialEq, Default)]
    QueryAnswerPart<'tl> = "client.queryAnswerPart" 0xb765_de4c {
        /// Part of the answer.
        answer: Blob<'tl>,
        /// Whether this is the last part.
        is_completed: bool,
        /// Id of the request.
        request_id: RequestId,
        /// What the request has used.
        request_tokens_used: TokensUsed,
    }

    /// A request failed after its first part, version 0; the older line sends it to newer clients
    /// too.
    #[derive(Clone, Debug, PartialEq, Default)]
    QueryAnswerPartError<'tl> = "client.queryAnswerPartError" 0xd790_a022 {
        /// Error code, see protocol notes 1.7.
        error_code: i32,
        /// What went wrong.
        error: Text<'tl>,
        /// Id of the request.
        request_id: RequestId,
        /// What the request has used.
        request_tokens_used: TokensUsed,
    }

    /// Usage and times of a finished request.
    #[derive(Clone, Debug, PartialEq, Default)]
    QueryFinalInfo<'tl> = "client.queryFinalInfo" 0x69a4_52f0 {
        /// Bits without a meaning in the schema.
        [flags] extensions: Extensions,
        /// Adjusted tokens used.
        tokens_used: TokensUsed,
        /// Debug texts, only when they were wanted.
        [0] debug: Debug<'tl>,
        /// Time stamps, from version 2 on.
        [1] times: Times,
    }

    /// First part of an answer: status and headers.
    #[derive(Clone, Debug, PartialEq, Default)]
    QueryAnswerEx<'tl> = "client.queryAnswerEx" 0xcd52_4720 {
        /// Id of the request.
        request_id: RequestId,
        /// A boxed `http.response`.
        answer: Blob<'tl>,
        /// Bits without a meaning in the schema.
        [flags] extensions: Extensions,
        /// What the request has used; present in the last message of an answer.
        [0] final_info: QueryFinalInfo<'tl>,
    }

    /// A request failed; nothing follows.
    #[derive(Clone, Debug, PartialEq, Default)]
    QueryAnswerErrorEx<'tl> = "client.queryAnswerErrorEx" 0x0725_62a8 {
        /// Id of the request.
        request_id: RequestId,
        /// Error code, see protocol notes 1.7.
        error_code: i32,
        /// What went wrong.
        error: Text<'tl>,
        /// Bits without a meaning in the schema.
        [flags] extensions: Extensions,
        /// What the request has used; present in the last message of an answer.
        [0] final_info: QueryFinalInfo<'tl>,
    }

    /// Later part of an answer.
    #[derive(Clone, Debug, PartialEq, Default)]
    QueryAnswerPartEx<'tl> = "client.queryAnswerPartEx" 0xc07b_faec {
        /// Id of the request.
        request_id: RequestId,
        /// Bytes of the body.
        answer: Blob<'tl>,
        /// Bits without a meaning in the schema.
        [flags] extensions: Extensions,
        /// What the request has used; present in the last message of an answer.
        [0] final_info: QueryFinalInfo<'tl>,
    }

    /// A refund; declared but unused.
    #[derive(Clone, Debug, PartialEq, Default)]
    Refund<'tl> = "client.refund" 0x83aa_bead {
        /// Content.
        data: Blob<'tl>,
    }

    /// No refund while requests run; declared but unused.
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    RefundRejected = "client.refundRejected" 0xcf9d_9957 {
        /// Requests that still run.
        active_queries: i64,
    }

    /// Workers of one model, old form.
    #[derive(Clone, Debug, PartialEq, Default)]
    WorkerType<'tl> = "client.workerType" 0x8210_e21c {
        /// Name.
        name: Text<'tl>,
        /// Connections, disabled ones included.
        active_workers: i32,
        /// Least price factor in thousandths.
        coefficient_min: i32,
        /// Middle price factor in thousandths.
        coefficient_bucket50: i32,
        /// Largest price factor in thousandths.
        coefficient_max: i32,
    }

    /// Workers per model, old form.
    #[derive(Clone, Debug, PartialEq, Default)]
    WorkerTypes<'tl> = "client.workerTypes" 0xf64e_0e01 {
        /// One entry per model.
        types: Vec<WorkerType<'tl>>,
    }

    /// One worker. The flags guard nothing.
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    WorkerInstanceV2 = "client.workerInstanceV2" 0x3ea9_3d00 {
        /// Bits without a meaning in the schema.
        [flags] extensions: Extensions,
        /// Price factor in thousandths.
        coefficient: i32,
        /// Requests that run through this proxy.
        active_requests: i32,
        /// Most requests at the same time.
        max_active_requests: i32,
    }

    /// Workers of one model.
    #[derive(Clone, Debug, PartialEq, Default)]
    WorkerTypeV2<'tl> = "client.workerTypeV2" 0xb27d_8197 {
        /// Name.
        name: Text<'tl>,
        /// Enabled connections, cheapest first.
        workers: Vec<WorkerInstanceV2>,
    }

    /// Workers per model.
    #[derive(Clone, Debug, PartialEq, Default)]
    WorkerTypesV2<'tl> = "client.workerTypesV2" 0x0cf0_dc67 {
        /// One entry per model.
        types: Vec<WorkerTypeV2<'tl>>,
    }

    /// Counters of a client.
    #[derive(Clone, Debug, PartialEq, Default)]
    PaymentStatus<'tl> = "client.paymentStatus" 0xaa8a_0ecc {
        /// Signed state that may be posted to the chain.
        signed_payment: crate::proxy::SignedPayment<'tl>,
        /// Adjusted tokens in the proxy's books.
        db_tokens: i64,
        /// Adjusted tokens counted at most so far.
        max_tokens: i64,
    }

    /// A client introduces itself.
    #[derive(Clone, Debug, PartialEq, Default)]
    ConnectToProxy<'tl> = "client.connectToProxy" 0xff5f_a0f4 {
        /// Who the sender is and what it speaks.
        params: Params<'tl>,
        /// Root version the sender knows.
        min_config_version: i32,
    }

    /// Authorises by secret.
    #[derive(Clone, Debug, PartialEq, Default)]
    AuthorizeWithProxyShort<'tl> = "client.authorizeWithProxyShort" 0x6c27_6723 {
        /// The secret itself.
        data: Blob<'tl>,
    }

    /// Authorises by the nonce registered on chain.
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    AuthorizeWithProxyLong = "client.authorizeWithProxyLong" 0xd347_4303 {

    }

    /// Runs a request, version 0.
    #[derive(Clone, Debug, PartialEq, Default)]
    RunQuery<'tl> = "client.runQuery" 0xbc74_8f32 {
        /// Model name without the part from `@` on.
        model_name: Text<'tl>,
        /// A boxed `http.request`.
        query: Blob<'tl>,
        /// Largest accepted price factor in thousandths.
        max_coefficient: i32,
        /// Most tokens to generate.
        max_tokens: i32,
        /// Seconds until the sender gives up.
        timeout: f64,
        /// Id of the request.
        request_id: RequestId,
        /// Root version the sender knows.
        min_config_version: i32,
    }

    /// Runs a request. `public_key` must be absent below version 3.
    #[derive(Clone, Debug, PartialEq, Default)]
    RunQueryEx<'tl> = "client.runQueryEx" 0xf54c_b74b {
        /// Model name without the part from `@` on.
        model_name: Text<'tl>,
        /// A boxed `http.request`.
        query: Blob<'tl>,
        /// Largest accepted price factor in thousandths.
        max_coefficient: i32,
        /// Most tokens to generate.
        max_tokens: i32,
        /// Seconds until the sender gives up.
        timeout: f64,
        /// Id of the request.
        request_id: RequestId,
        /// Root version the sender knows.
        min_config_version: i32,
        /// Bits without a meaning in the schema.
        [flags] extensions: Extensions,
        /// Whether debug texts are wanted.
        [0] enable_debug: bool,
        /// Public key the request is encrypted to; zero is none.
        [1] public_key: PublicKey,
    }

    /// Asks for a refund; never served.
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    RequestRefund = "client.requestRefund" 0x238d_863d {

    }

    /// Asks for the counters.
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    UpdatePaymentStatus = "client.updatePaymentStatus" 0x9ed1_c697 {

    }

    /// Asks for the models, old form.
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    GetWorkerTypes = "client.getWorkerTypes" 0x7f06_2bdb {

    }

    /// Asks for the models.
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    GetWorkerTypesV2 = "client.getWorkerTypesV2" 0xb213_3d72 {

    }
}

tl_group! {
    /// Range of protocol versions a peer speaks.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    VersionRange {
        /// Lowest version.
        min: i32,
        /// Highest version.
        max: i32,
    }

    /// Debug texts of a finished request.
    #[derive(Clone, Debug, PartialEq, Default)]
    Debug<'tl> {
        /// Statistics of the worker as JSON.
        worker: Text<'tl>,
        /// Statistics of the proxy as JSON.
        proxy: Text<'tl>,
    }

    /// Time stamps of a finished request in Unix seconds.
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    Times {
        /// The proxy got the request.
        proxy_start: f64,
        /// The proxy sent the end of the answer.
        proxy_end: f64,
        /// The worker got the request; 0 when it never answered.
        worker_start: f64,
        /// The worker sent the end of the answer; 0 when it never answered.
        worker_end: f64,
    }
}

tl_enum! {
    /// How the client has to authorise itself.
    #[derive(Clone, Copy, Debug, PartialEq)]
    ProxyConnectionAuth {
        /// By secret, or on chain.
        Short(ProxyConnectionAuthShort),
        /// On chain.
        Long(ProxyConnectionAuthLong),
    }

    /// Result of an authorisation.
    #[derive(Clone, Debug, PartialEq)]
    AuthorizationWithProxy<'tl> {
        /// The client may send requests.
        Success(AuthorizationWithProxySuccess<'tl>),
        /// The client is refused.
        Failed(AuthorizationWithProxyFailed<'tl>),
    }
}

tl_dispatch! {
    /// One-way messages from a client to its proxy.
    #[derive(Clone, Debug, PartialEq)]
    Message<'tl> {
        /// Runs a request, version 0.
        RunQuery(RunQuery<'tl>),
        /// Runs a request.
        RunQueryEx(RunQueryEx<'tl>),
        /// Ends a request early; only when both sides announced it.
        CancelQuery(CancelQuery),
        /// Names the only workers for the next request; only when both sides announced it.
        OnlyWorkers(OnlyWorkers),
    }

    /// Queries from a client to its proxy.
    #[derive(Clone, Debug, PartialEq)]
    Query<'tl> {
        /// Introduces the client.
        ConnectToProxy(ConnectToProxy<'tl>),
        /// Authorises by secret.
        AuthorizeWithProxyShort(AuthorizeWithProxyShort<'tl>),
        /// Authorises on chain.
        AuthorizeWithProxyLong(AuthorizeWithProxyLong),
        /// Asks for the counters.
        UpdatePaymentStatus(UpdatePaymentStatus),
        /// Asks for the models, old form.
        GetWorkerTypes(GetWorkerTypes),
        /// Asks for the models.
        GetWorkerTypesV2(GetWorkerTypesV2),
        /// Asks for a refund; never served.
        RequestRefund(RequestRefund),
        /// Asks for the workers that give reports; only when both sides announced it.
        ListWorkers(crate::cocoon::ListWorkers),
        /// Asks a worker for a report; only when both sides announced it.
        GetReport(crate::cocoon::GetReport),
        /// The same with the owner's endorsement; only when both sides announced it.
        GetEndorsedReport(crate::cocoon::GetEndorsedReport),
        /// The same with whatever the client reads; only when both sides announced it.
        GetFullReport(crate::cocoon::GetFullReport),
    }

    /// One-way messages from a proxy to its client.
    #[derive(Clone, Debug, PartialEq)]
    FromProxy<'tl> {
        /// Status and headers of an answer.
        QueryAnswerEx(QueryAnswerEx<'tl>),
        /// Later part of an answer.
        QueryAnswerPartEx(QueryAnswerPartEx<'tl>),
        /// A request failed.
        QueryAnswerErrorEx(QueryAnswerErrorEx<'tl>),
        /// First part of an answer, version 0.
        QueryAnswer(QueryAnswer<'tl>),
        /// A request failed before its first part, version 0.
        QueryAnswerError(QueryAnswerError<'tl>),
        /// Later part of an answer, version 0.
        QueryAnswerPart(QueryAnswerPart<'tl>),
        /// A request failed after its first part, version 0.
        QueryAnswerPartError(QueryAnswerPartError<'tl>),
        /// Counters after a request.
        ClientRequestPayment(ClientRequestPayment<'tl>),
        /// A signed state alone.
        SignedPayment(crate::proxy::SignedPaymentData<'tl>),
        /// The proxy ends soon (our addition).
        Leaving(Leaving),
        /// What the worker signed about an answer; only when both sides announced it.
        Receipt(crate::cocoon::Receipt<'tl>),
    }
}

impl TokensUsed {
    /// Makes the wire form of a usage; counts above the wire's range become its maximum.
    #[must_use]
    pub fn from_usage(usage: &AdjustedUsage) -> Self {
        Self {
            prompt_tokens_used: usage.prompt.to_wire(),
            cached_tokens_used: usage.cached.to_wire(),
            completion_tokens_used: usage.completion.to_wire(),
            reasoning_tokens_used: usage.reasoning.to_wire(),
            total_tokens_used: usage.total.to_wire(),
        }
    }

    /// The usage as a value; `None` when a count is negative, which is the peer's fault.
    ///
    /// The sum is taken as given; see [`AdjustedUsage::is_consistent`].
    #[must_use]
    pub fn to_usage(&self) -> Option<AdjustedUsage> {
        Some(AdjustedUsage {
            prompt: Tokens::from_wire(self.prompt_tokens_used)?,
            cached: Tokens::from_wire(self.cached_tokens_used)?,
            completion: Tokens::from_wire(self.completion_tokens_used)?,
            reasoning: Tokens::from_wire(self.reasoning_tokens_used)?,
            total: Tokens::from_wire(self.total_tokens_used)?,
        })
    }
}
