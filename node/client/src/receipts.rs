//! What a receipt must agree with: the request as it was sent and the answer as it came.

use cocoon_attest::Digest32;
use cocoon_gateway::InferenceRequest;
use cocoon_link::ConnId;
use cocoon_proof::{Body, SignedReceipt};
use cocoon_role_client::WorkerReceipt;
use sha2::{Digest as _, Sha256};

use crate::vet::is_asked_for;

/// Watches one request for which a receipt may come.
pub(crate) struct Expected {
    /// The user demands one.
    demanded: bool,
    /// Keys that may sign it, where only some workers may answer.
    keys: Option<Vec<Digest32>>,
    nonce: Digest32,
    network_id: i32,
    root_contract: Digest32,
    /// As the user named it.
    model: String,
    path: &'static str,
    request: Body,
    answer: Sha256,
    answer_len: u64,
    got: Option<(i64, Result<SignedReceipt, String>)>,
}

/// A receipt that agrees with what this node saw. Who vouches for its key is another question.
#[derive(Debug)]
pub(crate) struct Received {
    /// Where its worker can be asked.
    pub(crate) conn: ConnId,
    /// The proxy's name of the worker.
    pub(crate) worker: i64,
    /// The receipt.
    pub(crate) receipt: SignedReceipt,
}

impl Expected {
    /// `sent` and `body` are the request, `network` its id and the hash part of the root contract.
    pub(crate) fn new(
        nonce: [u8; 32],
        network: (i32, [u8; 32]),
        sent: &InferenceRequest,
        body: Body,
        demanded: bool,
    ) -> Self {
        Self {
            demanded,
            keys: None,
            nonce: Digest32::from(nonce),
            network_id: network.0,
            root_contract: Digest32::from(network.1),
            model: sent.model.clone(),
            path: sent.path,
            request: body,
            answer: Sha256::new(),
            answer_len: 0,
            got: None,
        }
    }

    /// Only these keys may have signed it; nothing allows every key.
    pub(crate) fn signed_by(self, keys: Option<Vec<Digest32>>) -> Self {
        Self { keys, ..self }
    }

    /// Bytes of the answer came.
    pub(crate) fn part(&mut self, bytes: &[u8]) {
        self.answer.update(bytes);
        self.answer_len += bytes.len() as u64;
    }

    /// The receipt came; the first one counts.
    pub(crate) fn receipt(&mut self, passed: &WorkerReceipt) {
        let read = || SignedReceipt::read(&passed.receipt).map_err(|fault| fault.to_string());
        self.got.get_or_insert_with(|| (passed.worker, read()));
    }

    /// Whether the answer may not end without a receipt.
    pub(crate) const fn is_demanded(&self) -> bool {
        self.demanded
    }

    /// The answer has ended: the receipt, or why it is none; nothing when none came.
    pub(crate) fn finish(self, conn: ConnId) -> Option<Result<Received, String>> {
        let (worker, read) = self.got?;
        let answer = Body {
            len: self.answer_len,
            sha256: Digest32::from(<[u8; 32]>::from(self.answer.finalize())),
        };
        Some(read.and_then(|receipt| {
            let said = &receipt.receipt;
            let differs = |what: &str| Err(format!("it is about another {what}"));
            if said.nonce != self.nonce {
                return differs("request: its nonce is not ours");
            }
            if said.request != self.request {
                return differs("request body");
            }
            if said.answer != answer {
                return differs("answer than the one that came");
            }
            if said.root_contract != self.root_contract || said.network_id != self.network_id {
                return differs("network");
            }
            if said.path != self.path {
                return differs("endpoint");
            }
            if !is_asked_for(&said.model_name, &self.model) {
                return differs(&format!("model: it names {:?}", said.model_name));
            }
            if self.keys.as_ref().is_some_and(|keys| !keys.contains(&said.receipt_key)) {
                let why = "it is signed by a worker whose evidence was not checked";
                return Err(why.to_owned());
            }
            Ok(Received { conn, worker, receipt })
        }))
    }
}

#[cfg(test)]
mod tests {
    use cocoon_link::ConnId;
    use cocoon_proof::{Money, Receipt, ReceiptEnd, ReceiptKey, TeeMark};
    use cocoon_units::{Coefficient, PriceTable, Tokens, Usage};

    use super::*;

    const PATH: &str = "/v1/chat/completions";

    fn finish(asked: &str, change: impl FnOnce(&mut Receipt)) -> Result<Received, String> {
        let key = ReceiptKey::from_seed(&[7; 32]);
        let (zero, body) = (Digest32::ZERO, Body::of(b""));
        let mut receipt = Receipt {
            receipt_key: key.public(),
            worker_key: zero,
            worker_id: zero,
            worker_image: zero,
            worker_tee: TeeMark::Tdx,
            gpu: zero,
            proxy_image: zero,
            proxy_contract: zero,
            network_id: -3,
            root_contract: zero,
            model_name: "big@a:b".into(),
            nonce: zero,
            path: PATH.into(),
            request: body,
            status: 200,
            answer: body,
            end: ReceiptEnd::Complete,
            money: Money {
                usage: Usage::default(),
                charged: Tokens::ZERO,
                coefficient: Coefficient::ONE,
                prices: PriceTable::default(),
            },
            started_ms: 1,
            answered_ms: 1,
            ended_ms: 1,
        };
        change(&mut receipt);
        let mut expected = Expected {
            demanded: true,
            keys: None,
            nonce: zero,
            network_id: -3,
            root_contract: zero,
            model: asked.to_owned(),
            path: PATH,
            request: body,
            answer: Sha256::new(),
            answer_len: 0,
            got: None,
        };
        expected.receipt(&WorkerReceipt { worker: 1, receipt: receipt.sign(&key).into() });
        expected.finish(ConnId(1)).unwrap()
    }

    #[test]
    fn a_receipt_is_about_the_model_that_was_asked_for() {
        for asked in ["big", "big@a:b"] {
            assert!(finish(asked, |_| {}).is_ok(), "{asked}");
        }
        for asked in ["small", "big@a:c", "big@c:b", "big@", "bi"] {
            let refused = finish(asked, |_| {}).unwrap_err();
            assert!(refused.contains("another model") && refused.contains("big@a:b"), "{refused}");
        }
    }

    #[test]
    fn a_receipt_is_about_this_network_and_endpoint() {
        let refused = finish("big", |said| said.network_id = -239).unwrap_err();
        assert!(refused.contains("another network"), "{refused}");
        let refused = finish("big", |said| said.path = "/v1/completions".into()).unwrap_err();
        assert!(refused.contains("another endpoint"), "{refused}");
    }
}
