//! Messages between proxy and worker, and payments, namespace `proxy` (protocol notes 3.7, 3.9).

use cocoon_units::{PublicKey, RequestId};

use crate::TlFault;
use crate::cocoon::CancelQuery;
use crate::tl::{Blob, Boxed, Constructor, Extensions, Reader, SecretKey, Text, Tl};
use crate::worker::ChangeModel;

tl_struct! {
    /// Who a proxy is and what it speaks.
    #[derive(Clone, Debug, PartialEq, Default)]
    Params<'tl> = "proxy.params" 0xd5c5_609f {
        /// Bits without a meaning in the schema.
        [flags] extensions: Extensions,
        /// Ed25519 key that signs payments.
        proxy_public_key: PublicKey,
        /// Address text of the proxy's owner.
        proxy_owner_address: Text<'tl>,
        /// Address text of the proxy contract.
        proxy_sc_address: Text<'tl>,
        /// Whether the node runs in test mode.
        [0] is_test: bool,
        /// Protocol version.
        [1] proto_version: i32,
    }

    /// Counters after a request; goes to the client.
    #[derive(Clone, Debug, PartialEq, Default)]
    ClientRequestPayment<'tl> = "proxy.clientRequestPayment" 0xc6bc_f127 {
        /// Id of the request.
        request_id: RequestId,
        /// Signed state that may be posted to the chain.
        signed_payment: SignedPayment<'tl>,
        /// Adjusted tokens in the proxy's books.
        db_tokens: i64,
        /// Adjusted tokens counted at most so far.
        max_tokens: i64,
        /// Adjusted tokens of this request.
        request_tokens: i64,
    }

    /// First part of an answer, version 0.
    #[derive(Clone, Debug, PartialEq, Default)]
    QueryAnswer<'tl> = "proxy.queryAnswer" 0x37e5_f725 {
        /// A boxed `http.response`.
        answer: Blob<'tl>,
        /// Whether this is the last part.
        is_completed: bool,
        /// Id of the request.
        request_id: RequestId,
        /// Adjusted tokens used.
        tokens_used: crate::client::TokensUsed,
    }

    /// A request failed before its first part, version 0.
    #[derive(Clone, Debug, PartialEq, Default)]
    QueryAnswerError<'tl> = "proxy.queryAnswerError" 0x669d_014e {
        /// Error code, see protocol notes 1.7.
        error_code: i32,
        /// What went wrong.
        error: Text<'tl>,
        /// Id of the request.
        request_id: RequestId,
        /// Adjusted tokens used.
        tokens_used: crate::client::TokensUsed,
    }

    /// Later part of an answer, version 0.
    #[derive(Clone, Debug, PartialEq, Default)]
    QueryAnswerPart<'tl> = "proxy.queryAnswerPart" 0x72eb_00ee {
        /// Part of the answer.
        answer: Blob<'tl>,
        /// Whether this is the last part.
        is_completed: bool,
        /// Id of the request.
        request_id: RequestId,
        /// Adjusted tokens used.
        tokens_used: crate::client::TokensUsed,
    }

    /// A request failed after its first part, version 0.
    #[derive(Clone, Debug, PartialEq, Default)]
    QueryAnswerPartError<'tl> = "proxy.queryAnswerPartError" 0x940e_1168 {
        /// Error code, see protocol notes 1.7.
        error_code: i32,
        /// What went wrong.
        error: Text<'tl>,
        /// Id of the request.
        request_id: RequestId,
        /// Adjusted tokens used.
        tokens_used: crate::client::TokensUsed,
    }

    /// Usage and times of a finished request. `worker_debug` shares no group: bit 0 guards it
    /// alone.
    #[derive(Clone, Debug, PartialEq, Default)]
    QueryFinalInfo<'tl> = "proxy.queryFinalInfo" 0xe794_e6fc {
        /// Bits without a meaning in the schema.
        [flags] extensions: Extensions,
        /// Adjusted tokens used.
        tokens_used: crate::client::TokensUsed,
        /// Statistics of the worker as JSON.
        [0] worker_debug: Text<'tl>,
        /// Time stamps, from version 2 on.
        [1] times: Times,
    }

    /// First part of an answer: status and headers.
    #[derive(Clone, Debug, PartialEq, Default)]
    QueryAnswerEx<'tl> = "proxy.queryAnswerEx" 0x1ce5_74e8 {
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
    QueryAnswerErrorEx<'tl> = "proxy.queryAnswerErrorEx" 0x8f7f_b0a7 {
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
    QueryAnswerPartEx<'tl> = "proxy.queryAnswerPartEx" 0x6d85_b50f {
        /// Id of the request.
        request_id: RequestId,
        /// Bytes of the body.
        answer: Blob<'tl>,
        /// Bits without a meaning in the schema.
        [flags] extensions: Extensions,
        /// What the request has used; present in the last message of an answer.
        [0] final_info: QueryFinalInfo<'tl>,
    }

    /// Counters after a request; goes to the worker.
    #[derive(Clone, Debug, PartialEq, Default)]
    WorkerRequestPayment<'tl> = "proxy.workerRequestPayment" 0x1436_c0d5 {
        /// Id of the request.
        request_id: RequestId,
        /// Signed state that may be posted to the chain.
        signed_payment: SignedPayment<'tl>,
        /// Adjusted tokens in the proxy's books.
        db_tokens: i64,
        /// Adjusted tokens counted at most so far.
        max_tokens: i64,
        /// Adjusted tokens of this request.
        request_tokens: i64,
        /// Address text of the client's owner.
        request_client_owner: Text<'tl>,
    }

    /// Runs a request, version 0.
    #[derive(Clone, Debug, PartialEq, Default)]
    RunQuery<'tl> = "proxy.runQuery" 0x4718_2416 {
        /// A boxed `http.request`.
        query: Blob<'tl>,
        /// Signed state that may be posted to the chain.
        signed_payment: SignedPayment<'tl>,
        /// The worker's announced price factor in thousandths.
        coefficient: i64,
        /// Seconds until the sender gives up.
        timeout: f64,
        /// Id of the request.
        request_id: RequestId,
    }

    /// Runs a request. `private_key` must be absent below version 3.
    #[derive(Clone, Debug)]
    RunQueryEx<'tl> = "proxy.runQueryEx" 0xc805_e7e2 {
        /// A boxed `http.request`.
        query: Blob<'tl>,
        /// Signed state that may be posted to the chain.
        signed_payment: SignedPayment<'tl>,
        /// Price factor in thousandths.
        coefficient: i64,
        /// Seconds until the sender gives up.
        timeout: f64,
        /// Id of the request.
        request_id: RequestId,
        /// Bits without a meaning in the schema.
        [flags] extensions: Extensions,
        /// Whether debug texts are wanted.
        [0] enable_debug: bool,
        /// Private key.
        [1] private_key: SecretKey,
    }
}

tl_group! {
    /// Time stamps of a worker in Unix seconds.
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    Times {
        /// The worker got the request.
        worker_start: f64,
        /// The worker sent the end of the answer.
        worker_end: f64,
    }
}

tl_struct! {
    /// A signed state (`proxy.signedPayment`), as a message of its own.
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    SignedPaymentData<'tl> = "proxy.signedPayment" 0x0299_8182 {
        /// Bag of cells of the signed message.
        data: Blob<'tl>,
    }

    /// No signed state (`proxy.signedPaymentEmpty`).
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    SignedPaymentEmpty = "proxy.signedPaymentEmpty" 0xb347_ce64 {}
}

/// A signed state that may be posted to the chain, or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub enum SignedPayment<'tl> {
    /// Nothing.
    #[default]
    Empty,
    /// Bag of cells of the signed message.
    Signed(Blob<'tl>),
}

impl<'tl> Tl<'tl> for SignedPayment<'tl> {
    fn read(reader: &mut Reader<'tl>) -> Result<Self, TlFault> {
        let offset = reader.offset();
        match reader.u32()? {
            SignedPaymentData::ID => Blob::read(reader).map(Self::Signed),
            SignedPaymentEmpty::ID => Ok(Self::Empty),
            id => Err(TlFault::UnknownConstructor { offset, id }),
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Empty => 4,
            Self::Signed(data) => 4 + data.size(),
        }
    }

    fn write<B: bytes::BufMut>(&self, out: &mut B) {
        match self {
            Self::Empty => out.put_u32_le(SignedPaymentEmpty::ID),
            Self::Signed(data) => {
                out.put_u32_le(SignedPaymentData::ID);
                data.write(out);
            }
        }
    }
}

impl<'tl> Boxed<'tl> for SignedPayment<'tl> {
    fn read_boxed(reader: &mut Reader<'tl>) -> Result<Self, TlFault> {
        Self::read(reader)
    }

    fn boxed_size(&self) -> usize {
        self.size()
    }

    fn write_boxed<B: bytes::BufMut>(&self, out: &mut B) {
        self.write(out);
    }
}

tl_dispatch! {
    /// One-way messages from a proxy to a worker.
    #[derive(Clone, Debug)]
    ToWorker<'tl> {
        /// Runs a request.
        RunQueryEx(RunQueryEx<'tl>),
        /// Runs a request, version 0.
        RunQuery(RunQuery<'tl>),
        /// Counters after a request.
        WorkerRequestPayment(WorkerRequestPayment<'tl>),
        /// A signed state alone.
        SignedPayment(SignedPaymentData<'tl>),
        /// Ends a request early; only when both sides announced it.
        CancelQuery(CancelQuery),
    }

    /// Queries from a proxy to a worker.
    #[derive(Clone, Debug, PartialEq)]
    WorkerQuery<'tl> {
        /// Asks for another model.
        ChangeModel(ChangeModel<'tl>),
        /// Asks for a report; only when both sides announced it.
        GetReport(crate::cocoon::GetReport),
        /// The same with the owner's endorsement; only when both sides announced it.
        GetEndorsedReport(crate::cocoon::GetEndorsedReport),
        /// The same with whatever the client reads; only when both sides announced it.
        GetFullReport(crate::cocoon::GetFullReport),
    }
}
