//! The evidence a node shows about itself, and what it demands of its peers.

use cocoon_attest::{Collateral, PeerEvidence, Policy, TrustRoots};
use cocoon_evidence::sim::{DevPki, SimulatedPlatform, SimulatedPlatformForm};
use cocoon_evidence::{EvidenceProvider, QuoteSubject};
use cocoon_ratls::{AnyPeer, AttestedPeer, CollateralSource, OwnEvidence, PeerPolicy};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use crate::clock;

/// Which evidence a node has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum EvidenceConfig {
    /// None. Peers are not asked for any either: nothing is confidential. Test mode only.
    #[default]
    None,
    /// A software TEE in the real formats under development roots. It protects nothing; the whole
    /// verification runs. Test mode only.
    Simulated {
        /// File of the development roots, shared by the nodes of one machine.
        roots: PathBuf,
        /// Name of the image that this node is said to have booted.
        image: String,
        /// Number of the machine that it is said to run on.
        machine: u64,
    },
}

impl EvidenceConfig {
    /// What answers from such a network say of the machines: empty for nothing.
    #[must_use]
    pub fn tee_kind(&self) -> &'static str {
        match self {
            Self::None => "",
            Self::Simulated { .. } => "simulated",
        }
    }
}

/// A node's own TEE, if it has one, and the rule for its peers.
#[derive(Clone)]
pub(crate) struct Trust {
    platform: Option<Arc<SimulatedPlatform>>,
    collateral: Arc<Kept>,
    roots: TrustRoots,
    policy: Arc<dyn PeerPolicy>,
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trust").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// Collateral that is renewed while the node runs.
#[derive(Default)]
struct Kept(RwLock<Collateral>);

impl CollateralSource for Kept {
    fn at_hand(&self, _evidence: &PeerEvidence) -> Collateral {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Trust {
    pub(crate) fn new(config: &EvidenceConfig) -> Result<Self, String> {
        let EvidenceConfig::Simulated { roots, image, machine } = config else {
            let collateral = Arc::default();
            let roots = TrustRoots::production();
            return Ok(Self { platform: None, collateral, roots, policy: Arc::new(AnyPeer) });
        };
        let now_s = clock::now_ms() / 1000;
        let pki = DevPki::load_or_generate(roots, now_s).map_err(|fault| fault.to_string())?;
        let pki = Arc::new(pki);
        let form = SimulatedPlatformForm {
            image: image.clone(),
            number: *machine,
            ..SimulatedPlatformForm::default()
        };
        let platform =
            SimulatedPlatform::boot(Arc::clone(&pki), form).map_err(|fault| fault.to_string())?;
        let collateral = Arc::new(Kept::default());
        // Which image may run is the registry's to say; the role compares with it.
        let roots = pki.roots();
        let policy = Policy::tee().with_roots(roots.clone());
        let source: Arc<dyn CollateralSource> = Arc::clone(&collateral) as _;
        let policy = AttestedPeer::new(policy, source).map_err(|fault| fault.to_string())?;
        let trust = Self {
            platform: Some(Arc::new(platform)),
            collateral,
            roots,
            policy: Arc::new(policy),
        };
        trust.renew()?;
        Ok(trust)
    }

    /// What peers with evidence are judged by.
    pub(crate) fn policy(&self) -> Arc<dyn PeerPolicy> {
        Arc::clone(&self.policy)
    }

    /// What ends the chains of evidence on this network.
    pub(crate) fn roots(&self) -> TrustRoots {
        self.roots.clone()
    }

    /// The collateral of the simulated platform, kept fresh; none without it.
    pub(crate) fn collateral(&self) -> Option<Arc<dyn CollateralSource>> {
        self.platform.as_ref().map(|_| Arc::clone(&self.collateral) as _)
    }

    /// Gets fresh collateral.
    pub(crate) fn renew(&self) -> Result<(), String> {
        let Some(platform) = &self.platform else { return Ok(()) };
        let fresh =
            platform.collateral(clock::now_ms() / 1000).map_err(|fault| fault.to_string())?;
        *self.collateral.0.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// Evidence for a certificate over this key.
    pub(crate) fn evidence(&self, public_key: &[u8; 32]) -> Result<OwnEvidence, String> {
        let Some(platform) = &self.platform else { return Ok(OwnEvidence::None) };
        let evidence = platform
            .quote(QuoteSubject::CertificateKey(public_key))
            .map_err(|fault| fault.to_string())?;
        match evidence.tdx_quote {
            Some(quote) => Ok(OwnEvidence::Tdx { quote }),
            None => Err("the platform made no TDX quote".into()),
        }
    }
}

/// The image hash of a simulated machine that booted this image, as the registry lists it.
///
/// # Errors
/// The text says what is wrong with the roots' file.
pub fn simulated_image_hash(roots: &std::path::Path, image: &str) -> Result<[u8; 32], String> {
    let now_s = clock::now_ms() / 1000;
    let pki = DevPki::load_or_generate(roots, now_s).map_err(|fault| fault.to_string())?;
    let form =
        SimulatedPlatformForm { image: image.to_owned(), ..SimulatedPlatformForm::default() };
    let platform =
        SimulatedPlatform::boot(Arc::new(pki), form).map_err(|fault| fault.to_string())?;
    Ok(platform.image_hash().0)
}
