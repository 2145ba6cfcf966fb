//! Handshake and state of a worker, namespace `worker` (protocol notes 3.3, 3.4).

use crate::proxy;
use crate::tl::{Blob, Extensions, Text};

tl_struct! {
    /// Who a worker is and what it speaks.
    #[derive(Clone, Debug, PartialEq, Default)]
    Params<'tl> = "worker.params" 0x869c_73ed {
        /// Bits without a meaning in the schema.
        [flags] extensions: Extensions,
        /// Address text of the worker's owner.
        worker_owner_address: Text<'tl>,
        /// Full model name.
        model: Text<'tl>,
        /// Price factor in thousandths.
        coefficient: i32,
        /// Present in peers that are not ancient.
        [0] load: Load,
        /// Range of protocol versions; absent counts as 0.
        [1] versions: crate::client::VersionRange,
        /// Description of the machine as JSON.
        [2] machine_description_json: Text<'tl>,
    }

    /// The worker wants requests or not.
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    EnabledDisabled = "worker.enabledDisabled" 0xb3b7_1039 {
        /// 1 when no requests are wanted, else 0.
        disabled: i32,
    }

    /// The worker changes its price.
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    NewCoefficient = "worker.newCoefficient" 0x6af0_92b0 {
        /// New price factor in thousandths.
        new_coefficient: i32,
    }

    /// The proxy introduces itself to a worker.
    #[derive(Clone, Debug, PartialEq, Default)]
    ConnectedToProxy<'tl> = "worker.connectedToProxy" 0x66bc_82ee {
        /// Who the sender is and what it speaks.
        params: crate::proxy::Params<'tl>,
        /// Address text of the worker contract.
        worker_sc_address: Text<'tl>,
    }

    /// The proxy's counters; `error_code` 1 when the worker knows more.
    #[derive(Clone, Debug, PartialEq, Default)]
    CompareBalanceWithProxyResult<'tl> = "worker.compareBalanceWithProxyResult" 0x9054_c411 {
        /// Signed state that may be posted to the chain.
        signed_payment: crate::proxy::SignedPayment<'tl>,
        /// Adjusted tokens in the proxy's books.
        tokens_committed_to_db: i64,
        /// Adjusted tokens counted at most so far.
        max_tokens: i64,
        /// Error code, see protocol notes 1.7.
        error_code: i32,
    }

    /// Result of the extended comparison.
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    ExtendedCompareBalanceWithProxyResult = "worker.extendedCompareBalanceWithProxyResult" 0x0c10_973e {
        /// Error code, see protocol notes 1.7.
        error_code: i32,
    }

    /// The worker may get requests.
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    ProxyHandshakeCompleted = "worker.proxyHandshakeCompleted" 0x3ad9_b886 {

    }

    /// Counters of a worker.
    #[derive(Clone, Debug, PartialEq, Default)]
    PaymentStatus<'tl> = "worker.paymentStatus" 0xa88b_d701 {
        /// Signed state that may be posted to the chain.
        signed_payment: crate::proxy::SignedPayment<'tl>,
        /// Adjusted tokens in the proxy's books.
        db_tokens: i64,
        /// Adjusted tokens counted at most so far.
        max_tokens: i64,
    }

    /// The model was changed.
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    ChangedModel = "worker.changedModel" 0x3402_9366 {

    }

    /// A worker introduces itself.
    #[derive(Clone, Debug, PartialEq, Default)]
    ConnectToProxy<'tl> = "worker.connectToProxy" 0xcc48_4c5d {
        /// Who the sender is and what it speaks.
        params: Params<'tl>,
    }

    /// Compares counters.
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    CompareBalanceWithProxy = "worker.compareBalanceWithProxy" 0xdb38_6501 {
        /// Adjusted tokens the chain knows.
        tokens_committed_to_blockchain: i64,
        /// Adjusted tokens in the proxy's books.
        tokens_committed_to_db: i64,
        /// Adjusted tokens counted at most so far.
        max_tokens: i64,
    }

    /// Compares counters after a difference.
    #[derive(Clone, Debug, PartialEq, Default)]
    ExtendedCompareBalanceWithProxy<'tl> = "worker.extendedCompareBalanceWithProxy" 0xf8dd_9914 {
        /// Adjusted tokens in the proxy's books.
        tokens_committed_to_db: i64,
        /// Unused.
        other: Blob<'tl>,
    }

    /// Ends the handshake.
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    ProxyHandshakeComplete = "worker.proxyHandshakeComplete" 0xf843_b066 {
        /// Whether no requests are wanted.
        is_disabled: bool,
    }

    /// Asks for the counters.
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    UpdatePaymentStatus = "worker.updatePaymentStatus" 0xdc70_a524 {

    }

    /// Asks a worker of version 4 to change its model.
    #[derive(Clone, Debug, PartialEq, Default)]
    ChangeModel<'tl> = "worker.changeModel" 0x7266_2cee {
        /// Full name of the new model.
        new_model: Text<'tl>,
    }
}

tl_group! {
    /// What a worker offers.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    Load {
        /// Whether the node runs in test mode.
        is_test: bool,
        /// Number of proxies this worker connects to.
        proxy_cnt: i32,
        /// Most requests at the same time, over all proxies.
        max_active_requests: i32,
    }
}

tl_dispatch! {
    /// One-way messages from a worker to its proxy.
    #[derive(Clone, Debug, PartialEq)]
    Message<'tl> {
        /// Status and headers of an answer.
        QueryAnswerEx(proxy::QueryAnswerEx<'tl>),
        /// Later part of an answer.
        QueryAnswerPartEx(proxy::QueryAnswerPartEx<'tl>),
        /// A request failed.
        QueryAnswerErrorEx(proxy::QueryAnswerErrorEx<'tl>),
        /// First part of an answer, version 0.
        QueryAnswer(proxy::QueryAnswer<'tl>),
        /// A request failed before its first part, version 0.
        QueryAnswerError(proxy::QueryAnswerError<'tl>),
        /// Later part of an answer, version 0.
        QueryAnswerPart(proxy::QueryAnswerPart<'tl>),
        /// A request failed after its first part, version 0.
        QueryAnswerPartError(proxy::QueryAnswerPartError<'tl>),
        /// The worker wants requests or not.
        EnabledDisabled(EnabledDisabled),
        /// The worker changes its price.
        NewCoefficient(NewCoefficient),
        /// What the worker signed about an answer; only when both sides announced it.
        Receipt(crate::cocoon::Receipt<'tl>),
    }

    /// Queries from a worker to its proxy.
    #[derive(Clone, Debug, PartialEq)]
    Query<'tl> {
        /// Introduces the worker.
        ConnectToProxy(ConnectToProxy<'tl>),
        /// Compares counters.
        CompareBalanceWithProxy(CompareBalanceWithProxy),
        /// Compares counters after a difference.
        ExtendedCompareBalanceWithProxy(ExtendedCompareBalanceWithProxy<'tl>),
        /// Ends the handshake.
        ProxyHandshakeComplete(ProxyHandshakeComplete),
        /// Asks for the counters.
        UpdatePaymentStatus(UpdatePaymentStatus),
    }
}
