//! What the machines behind a program show, judged by the program's own rules.

use cocoon_attest::{Digest32, Policy};
use cocoon_gateway::Upstream as _;
use cocoon_host::clock;
use cocoon_host::evidence::{EvidenceConfig, simulated_policy};
use cocoon_proof::{Asker, Bundle, Examination, Occasion, Requirement, examine};

use super::{AskFault, Client};
use crate::fault::NetworkFault;

/// What fresh evidence of all machines shows: the same claims, judged the same way, as
/// `cocoon verify` prints.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Every claim with its verdict and its reason.
    pub examination: Examination,
    /// Why the machines are not good enough, one sentence each. Empty: they are.
    pub objections: Vec<String>,
    /// The evidence as a file, for `cocoon verify --offline`; holds no secret.
    pub bundle: Vec<u8>,
}

impl Verified {
    /// True when every claim that the usual rules demand holds, and none fails.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.objections.is_empty()
    }
}

impl Client {
    /// Asks every proxy and worker for evidence over a nonce drawn now, and judges it by the
    /// registry as this program reads it and by the roots of its own configuration: hardware,
    /// TCB, image, debug mode, key binding of every machine; freshness, weights, network and
    /// receipt key of every worker. Takes seconds.
    ///
    /// # Errors
    /// [`AskFault`]: the evidence could not be had; nothing is known of the machines. Try again.
    pub async fn verify(&self) -> Result<Verified, AskFault> {
        self.verify_by(&Occasion::Live.requirements()).await
    }

    /// As [`Client::verify`], with demands of one's own, as in `"worker.gpu".parse()`.
    ///
    /// # Errors
    /// As of [`Client::verify`].
    pub async fn verify_by(&self, required: &[Requirement]) -> Result<Verified, AskFault> {
        let nonce = Digest32::from(clock::random());
        let bytes = self.network.attestation(nonce.0).await?;
        let bundle =
            Bundle::read(&bytes).map_err(|_| AskFault::senseless("the evidence cannot be read"))?;
        let asker = Asker {
            policy: (*self.policy).clone(),
            nonce: Some(nonce),
            root: Some(self.network.registry()),
            now_ms: clock::now_ms(),
            date_is_now: true,
        };
        let examination = examine(&bundle, &asker);
        let objections = examination.objections(required);
        Ok(Verified { examination, objections, bundle: bytes })
    }
}

/// The rules and roots that a configuration trusts.
pub(super) fn policy_of(evidence: &EvidenceConfig) -> Result<Policy, NetworkFault> {
    match evidence {
        EvidenceConfig::Simulated { roots, .. } => {
            simulated_policy(roots).map_err(NetworkFault::Certificate)
        }
        _ => Ok(Policy::tee()),
    }
}
