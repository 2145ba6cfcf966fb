//! Judges a receipt: its signature, who vouches for its key, and what it is about.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cocoon_attest::{Digest32, Finding, Outcome, verify};
use serde::{Deserialize, Serialize};

use crate::bundle::{Bundle, BundleFault, MachineRole, RootView, Shown};
use crate::examine::{Asker, date, policy_for};
use crate::receipt::{Body, ReceiptEnd, SignedReceipt};
use crate::report_lines::{Examination, Standing};

const FORMAT: &str = "cocoon.receipt";
const VERSION: u32 = 1;

/// Longest file of a receipt in bytes.
const FILE_LIMIT: usize = 1 << 20;

/// How far the report's date may be from the receipt's, in seconds: a worker's key lives as long
/// as its process, and its report is asked for when the client first meets the key.
const KEY_LIFE_S: u64 = 400 * 24 * 3600;

const SUBJECT: &str = "receipt";

/// A receipt as a file: the signed bytes, and the evidence that vouches for its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptFile {
    /// Always `cocoon.receipt`.
    pub format: String,
    /// Always 1.
    pub version: u32,
    /// The signed receipt, base64.
    pub receipt: String,
    /// What is in it, for people; never read back.
    #[serde(default)]
    pub says: serde_json::Value,
    /// The report of the worker that signed, as the gateway got it; nothing while it has none.
    #[serde(default)]
    pub evidence: Option<Bundle>,
}

impl ReceiptFile {
    /// Makes the file of a receipt.
    #[must_use]
    pub fn new(receipt: &SignedReceipt, evidence: Option<Bundle>) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            receipt: STANDARD.encode(receipt.bytes()),
            says: serde_json::to_value(&receipt.receipt).unwrap_or_default(),
            evidence,
        }
    }

    /// Writes the file.
    ///
    /// # Errors
    /// Never for a file that was read or made here.
    pub fn write(&self) -> Result<Vec<u8>, BundleFault> {
        serde_json::to_vec_pretty(self)
            .map_err(|fault| BundleFault::Malformed { detail: fault.to_string() })
    }

    /// Reads a file and the receipt in it.
    ///
    /// # Errors
    /// [`BundleFault`]: it is no receipt, or its signature is wrong.
    pub fn read(bytes: &[u8]) -> Result<(Self, SignedReceipt), BundleFault> {
        if bytes.len() > FILE_LIMIT {
            return Err(BundleFault::TooLong { len: bytes.len() });
        }
        let malformed = |detail: String| BundleFault::Malformed { detail };
        let file: Self =
            serde_json::from_slice(bytes).map_err(|fault| malformed(fault.to_string()))?;
        if file.format != FORMAT || file.version != VERSION {
            let format = file.format.chars().take(80).collect();
            return Err(BundleFault::Version { format, version: file.version });
        }
        let signed = STANDARD
            .decode(&file.receipt)
            .map_err(|_| malformed("the receipt is no base64".to_owned()))?;
        let receipt = SignedReceipt::read(&signed).map_err(|fault| malformed(fault.to_string()))?;
        Ok((file, receipt))
    }
}

impl ReceiptFile {
    /// The file's own date, at which it is judged unless another is named, Unix milliseconds: that of
    /// the evidence, or of the receipt where none came with it.
    #[must_use]
    pub fn made_ms(&self, receipt: &SignedReceipt) -> u64 {
        self.evidence.as_ref().map_or(receipt.receipt.ended_ms, |bundle| bundle.made_ms)
    }
}

/// What the user has to compare the receipt with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Compared<'a> {
    /// The request's body.
    pub request: Option<&'a [u8]>,
    /// The answer's body.
    pub answer: Option<&'a [u8]>,
}

/// Judges a receipt whose signature was found to be right.
#[must_use]
pub fn check_receipt(
    file: &ReceiptFile,
    receipt: &SignedReceipt,
    compared: Compared<'_>,
    asker: &Asker,
) -> Examination {
    let mut found =
        Examination { judged_at_ms: asker.now_ms, claims: Vec::new(), events: Vec::new() };
    let said = &receipt.receipt;
    let reason = format!("signed by key {}", said.receipt_key);
    found.say(SUBJECT, "signature", Standing::Holds, "the receipt", reason);
    date(SUBJECT, asker, &mut found);
    evidence(file, receipt, asker, &mut found);
    model_line(&said.model_name, asker, &mut found);
    body_line("request", said.request, compared.request.map(Body::of), &mut found);
    body_line("answer", said.answer, compared.answer.map(Body::of), &mut found);
    if said.end == ReceiptEnd::Cancelled {
        let reason = "the client ended the answer early: it is not whole";
        found.say(SUBJECT, "whole", Standing::NotClaimed, "the receipt", reason);
    }
    let money = &said.money;
    let due = money.adjusted().total;
    let (standing, reason) = match money.cost() {
        Some(cost) if due == money.charged => {
            (Standing::Holds, format!("{due} tokens, {} nanoTON, follow from the usage", cost.0))
        }
        _ => {
            let claimed = money.charged;
            (Standing::Fails, format!("{claimed} tokens are claimed, the usage comes to {due}"))
        }
    };
    found.say(SUBJECT, "price", standing, "the receipt", reason);
    found
}

/// Names the model, which only whoever asked can compare with the one asked for.
fn model_line(name: &str, asker: &Asker, found: &mut Examination) {
    let digest = Digest32::sha256(&[name.as_bytes()]);
    let (standing, reason) = match &asker.root {
        None => (Standing::Unknown, format!("{name}, by the receipt; no registry to compare with")),
        Some(root) if root.models.contains(&digest) => (
            Standing::Holds,
            format!("{name}, which the registry lists; is it the one you asked for?"),
        ),
        Some(_) => (Standing::Fails, format!("{name}, which the registry does not list")),
    };
    found.say(SUBJECT, "model", standing, "the receipt", reason);
}

fn body_line(claim: &str, said: Body, shown: Option<Body>, found: &mut Examination) {
    let (standing, reason) = match shown {
        None => (Standing::NotClaimed, format!("nothing to compare with; SHA-256 {}", said.sha256)),
        Some(body) if body == said => {
            (Standing::Holds, format!("these are the {} bytes that the receipt names", body.len))
        }
        Some(body) => {
            let (found, wanted) = (body.sha256, said.sha256);
            (Standing::Fails, format!("SHA-256 is {found}, the receipt names {wanted}"))
        }
    };
    found.say(SUBJECT, claim, standing, "the receipt", reason);
}

/// Who vouches for the key.
fn evidence(file: &ReceiptFile, receipt: &SignedReceipt, asker: &Asker, found: &mut Examination) {
    let (standing, reason) = match vouched(file, receipt, asker) {
        Ok(reason) => (Standing::Holds, reason),
        Err((standing, reason)) => (standing, reason),
    };
    found.say(SUBJECT, "evidence", standing, "the worker's report", reason);
}

fn vouched(
    file: &ReceiptFile,
    receipt: &SignedReceipt,
    asker: &Asker,
) -> Result<String, (Standing, String)> {
    let unknown = |reason: &str| (Standing::Unknown, reason.to_owned());
    let fails = |reason: &str| (Standing::Fails, reason.to_owned());
    let bundle = file.evidence.as_ref().ok_or_else(|| {
        unknown("no report of the worker came with it, so nobody vouches for the key")
    })?;
    let machine = bundle
        .machines
        .iter()
        .find(|machine| machine.role == MachineRole::Worker)
        .ok_or_else(|| unknown("its evidence holds no worker"))?;
    let Shown::Report(text) = &machine.shown else {
        return Err(unknown("the worker showed no report"));
    };
    let report = Shown::read_report(text).map_err(|reason| (Standing::Fails, reason))?;
    let said = &receipt.receipt;
    if report.keyset.receipt_key != said.receipt_key {
        return Err(fails("the report vouches for another key"));
    }
    let root: &RootView = asker.root.as_ref().unwrap_or(&bundle.root);
    let network = (root.contract, root.network_id);
    if (report.root_contract, report.network_id) != network
        || (said.root_contract, said.network_id) != network
    {
        return Err(fails("the receipt or the report is about another network"));
    }
    let announced = &report.offer.announcement;
    let same = announced.image == said.worker_image
        && announced.gpu == said.gpu
        && announced.own_id == said.worker_id
        && report.own_key == said.worker_key;
    if !same {
        return Err(fails("the report is about another image, GPU, owner or connection key"));
    }
    if bundle.made_ms.abs_diff(said.ended_ms) / 1000 > KEY_LIFE_S {
        return Err(unknown("the report is more than a year from the receipt"));
    }
    let mut policy = policy_for(MachineRole::Worker, asker, root);
    // The weights are judged by the receipt's own name: the worker may have changed the model.
    let listed = policy.models.contains(&Digest32::sha256(&[said.model_name.as_bytes()]));
    policy.models.clear();
    let nothing = cocoon_attest::Collateral::default();
    let collateral =
        machine.collateral.and_then(|place| bundle.collateral.get(place)).unwrap_or(&nothing);
    let verdict = verify(&report.to_peer_evidence(bundle.nonce), collateral, &policy, asker.now_ms);
    if !listed {
        return Err(fails("the registry does not list the model that the receipt names"));
    }
    match verdict.outcome() {
        Outcome::Accept => {}
        Outcome::Refuse(bad) => return Err((Standing::Fails, bad.to_string())),
        Outcome::Undecided(cannot) => return Err((Standing::Unknown, cannot.to_string())),
    }
    if verdict.finding(cocoon_attest::ClaimKind::Image) != &Finding::Holds {
        return Err(unknown("the worker's image is on no list"));
    }
    if asker.root.is_none() {
        return Err(unknown(
            "the evidence is right, but the registry it is compared with is the gateway's word",
        ));
    }
    Ok(format!("a worker of image {} vouches for the key", said.worker_image))
}
