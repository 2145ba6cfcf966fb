//! What the worker signs: receipts of its answers, and reports for clients.

use cocoon_attest::Digest32;
use cocoon_attest::channel::ChannelRole;
use cocoon_attest::report::Keyset;
use cocoon_evidence::TeeKind;
use cocoon_host::clock;
use cocoon_host::witness::{Subject, Witness};
use cocoon_proof::{Body, Money, Receipt, ReceiptEnd, ReceiptKey, TeeMark};
use cocoon_role_worker::{AnswerWriter, Identity, Run};
use cocoon_units::{ImageHash, ModelName, Usage};
use cocoon_wire::tl::Extensions;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Reports that may wait for the platform; more are refused.
const REPORTS_WAITING_MAX: usize = 32;
/// Shortest time from one report to the next: a TEE signs for everybody who asks, but not
/// without end.
const REPORT_PAUSE: Duration = Duration::from_millis(50);

/// Signs with a key that was drawn when the node started and is in this memory alone.
#[derive(Debug)]
pub(crate) struct Notary {
    key: ReceiptKey,
    witness: Witness,
    image: Digest32,
    gpu: Digest32,
    network_id: i32,
    root_contract: Digest32,
    own_id: Digest32,
    waiting: Semaphore,
    platform: tokio::sync::Mutex<()>,
}

/// What is known of the proxy that a query came from.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AskedBy {
    /// Image that its evidence showed.
    pub(crate) image: Option<ImageHash>,
    /// Hash part of its contract's address.
    pub(crate) contract: Option<[u8; 32]>,
}

/// Follows one query until its receipt.
pub(crate) struct Record {
    notary: Arc<Notary>,
    asked_by: AskedBy,
    model: ModelName,
    path: &'static str,
    nonce: Digest32,
    request: Body,
    status: u16,
    answer_len: u64,
    answer: Sha256,
}

impl Notary {
    /// # Errors
    /// The text says what is wrong with the TEE.
    pub(crate) fn new(
        witness: Witness,
        identity: &Identity,
        key: ReceiptKey,
    ) -> Result<Self, String> {
        Ok(Self {
            key,
            image: witness.image()?,
            gpu: witness.gpu(),
            witness,
            network_id: cocoon_host::network::network_id(identity.is_testnet),
            root_contract: Digest32::from(identity.root.hash),
            own_id: Digest32::from(identity.owner.hash),
            waiting: Semaphore::new(REPORTS_WAITING_MAX),
            platform: tokio::sync::Mutex::new(()),
        })
    }

    /// The public keys that reports vouch for.
    pub(crate) fn keyset(&self) -> Keyset {
        Keyset { receipt_key: self.key.public() }
    }

    /// Has the TEE vouch for this worker over a client's nonce, with what only some clients read where
    /// this one does. One at a time.
    ///
    /// # Errors
    /// The text is for the client.
    pub(crate) async fn report(
        self: Arc<Self>,
        model: ModelName,
        nonce: [u8; 32],
        reads: Extensions,
    ) -> Result<Vec<u8>, String> {
        let busy = "the worker makes many reports already, try again later";
        let _waiting = self.waiting.try_acquire().map_err(|_| busy.to_owned())?;
        let _platform = self.platform.lock().await;
        let began = tokio::time::Instant::now();
        let subject = Subject {
            role: ChannelRole::Worker,
            network_id: self.network_id,
            root_contract: self.root_contract,
            own_id: self.own_id,
            keyset: self.keyset(),
            model_name: model.as_str().to_owned(),
        };
        let witness = self.witness.clone();
        let report = move || witness.report(&subject, nonce, reads);
        let made = tokio::task::spawn_blocking(report).await;
        tokio::time::sleep_until(began + REPORT_PAUSE).await;
        let failed = "the worker's TEE gave no evidence".to_owned();
        match made {
            Ok(Ok(report)) => Ok(report),
            Ok(Err(fault)) => {
                tracing::error!(%fault, "no report was made");
                Err(failed)
            }
            Err(_) => Err(failed),
        }
    }

    /// Begins to follow a query.
    pub(crate) fn follow(self: &Arc<Self>, run: &Run, model: ModelName, by: AskedBy) -> Record {
        let received = run.received.expose();
        Record {
            notary: Arc::clone(self),
            asked_by: by,
            model,
            path: run.backend.path,
            nonce: Digest32::from(run.nonce),
            request: Body { len: received.len() as u64, sha256: Digest32::sha256(&[received]) },
            status: 0,
            answer_len: 0,
            answer: Sha256::new(),
        }
    }
}

impl Record {
    /// The head of the answer left.
    pub(crate) fn head(&mut self, status: u16) {
        self.status = status;
    }

    /// Bytes of the body left.
    pub(crate) fn part(&mut self, bytes: &[u8]) {
        self.answer.update(bytes);
        self.answer_len += bytes.len() as u64;
    }

    /// Signs what was seen.
    pub(crate) fn sign(self, writer: &AnswerWriter, usage: Usage, end: ReceiptEnd) -> Vec<u8> {
        let notary = &self.notary;
        let (coefficient, prices) = writer.terms();
        let (started_ms, answered_ms) = writer.began_ms();
        let zero = |bytes: Option<[u8; 32]>| bytes.map(Digest32::from).unwrap_or_default();
        let receipt = Receipt {
            receipt_key: notary.key.public(),
            worker_key: notary.witness.own_key(),
            worker_id: notary.own_id,
            worker_image: notary.image,
            worker_tee: match notary.witness.tee() {
                None => TeeMark::None,
                Some(TeeKind::Tdx) => TeeMark::Tdx,
                Some(TeeKind::Snp) => TeeMark::Snp,
            },
            gpu: notary.gpu,
            proxy_image: zero(self.asked_by.image.map(|image| image.0)),
            proxy_contract: zero(self.asked_by.contract),
            network_id: notary.network_id,
            root_contract: notary.root_contract,
            model_name: self.model.as_str().to_owned(),
            nonce: self.nonce,
            path: self.path.to_owned(),
            request: self.request,
            status: self.status,
            answer: Body {
                len: self.answer_len,
                sha256: Digest32::from(<[u8; 32]>::from(self.answer.finalize())),
            },
            end,
            money: Money { usage, charged: writer.adjusted(&usage).total, coefficient, prices },
            started_ms,
            answered_ms,
            ended_ms: clock::now_ms(),
        };
        receipt.sign(&notary.key)
    }
}
