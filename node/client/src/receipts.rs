//! What a receipt must agree with: the request as it was sent and the answer as it came.

use cocoon_attest::Digest32;
use cocoon_link::ConnId;
use cocoon_proof::{Body, SignedReceipt};
use cocoon_role_client::WorkerReceipt;
use sha2::{Digest as _, Sha256};

/// Watches one request for which a receipt may come.
pub(crate) struct Expected {
    /// The user demands one.
    demanded: bool,
    /// Keys that may sign it, where only some workers may answer.
    keys: Option<Vec<Digest32>>,
    nonce: Digest32,
    root_contract: Digest32,
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
    pub(crate) fn new(nonce: [u8; 32], root: [u8; 32], request: Body, demanded: bool) -> Self {
        Self {
            demanded,
            keys: None,
            nonce: Digest32::from(nonce),
            root_contract: Digest32::from(root),
            request,
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
            if said.root_contract != self.root_contract {
                return differs("network");
            }
            if self.keys.as_ref().is_some_and(|keys| !keys.contains(&said.receipt_key)) {
                let why = "it is signed by a worker whose evidence was not checked";
                return Err(why.to_owned());
            }
            Ok(Received { conn, worker, receipt })
        }))
    }
}
