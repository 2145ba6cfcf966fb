//! The evidence a node shows about itself, and what it demands of its peers.

use cocoon_attest::snp::SnpProduct;
use cocoon_attest::{
    Collateral, CollateralNeed, Digest32, PeerEvidence, Policy, PolicyMode, TrustRoots, gpu,
};
use cocoon_evidence::seal::{LastingKey, SealClient, SealedKeys as _};
use cocoon_evidence::sim::{
    DevPki, Misbehave, SimulatedEnclave, SimulatedPlatform, SimulatedPlatformForm,
};
use cocoon_evidence::{EvidenceProvider, QuoteSubject};
use cocoon_link::Later;
use cocoon_ratls::{AnyPeer, AttestedPeer, CollateralSource, OwnEvidence, PeerPolicy};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use crate::clock;
use crate::hardware::{self, Ahead, BehindRouter, Fresh, HardwareConfig};

/// Name of the simulated enclave that seals keys.
const SEALER: &str = "cocoon sealer";

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
        /// Whether the machine has a GPU, which is checked at boot and shown to peers.
        #[serde(default)]
        gpu: bool,
        /// Whether it is an AMD machine (SEV-SNP) instead of an Intel one (TDX).
        #[serde(default)]
        snp: bool,
        /// The lie it tells, to see who notices.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        misbehave: Option<Misbehave>,
        /// Dangerous: accept peers whatever they show, to see who else notices.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        dangerous_unchecked_peers: bool,
    },
    /// A real TEE, or a client's machine that verifies others.
    Hardware(Box<HardwareConfig>),
}

impl EvidenceConfig {
    /// What answers from such a network say of the machines: empty for nothing.
    #[must_use]
    pub fn tee_kind(&self) -> &'static str {
        match self {
            Self::None => "",
            Self::Simulated { .. } => "simulated",
            Self::Hardware(_) => "tee",
        }
    }
}

/// Collateral of peers' platforms, kept and renewed while the node runs.
pub(crate) trait Keeper: CollateralSource {
    /// Gets what `need` names, from memory or from its source. Nothing when there is none: the
    /// verdict is then "cannot check now".
    fn find(self: Arc<Self>, need: CollateralNeed) -> Later<Collateral>;

    /// Gets fresh collateral ahead of time.
    fn renew(&self) -> Result<(), String>;
}

/// A node's own TEE, if it has one, and the rule for its peers.
#[derive(Clone)]
pub(crate) struct Trust {
    provider: Option<Arc<dyn EvidenceProvider>>,
    image: Digest32,
    /// Judges certificates. Their image is compared by the role, which tells the peer why.
    judge: Option<AttestedPeer>,
    /// Judges fresh evidence, the image too.
    fresh: Option<AttestedPeer>,
    /// Whether `fresh` looks at images, by a list that may be replaced.
    lists_images: bool,
    /// The rules for machines, also where every peer is admitted.
    rules: Option<Policy>,
    keeper: Arc<dyn Keeper>,
    requires_fresh: bool,
    /// Peers that the operator knows to stand behind routers.
    behind_router: Arc<BehindRouter>,
    /// The machine that seals keys.
    sealer: Option<Arc<SimulatedPlatform>>,
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trust").field("judge", &self.judge).finish_non_exhaustive()
    }
}

/// Collateral of the simulated platform, which any of its machines can make: one machine of each
/// maker.
struct Simulated {
    platforms: Vec<Arc<SimulatedPlatform>>,
    current: RwLock<Collateral>,
}

impl CollateralSource for Simulated {
    fn at_hand(&self, _evidence: &PeerEvidence) -> Collateral {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Keeper for Simulated {
    fn find(self: Arc<Self>, _need: CollateralNeed) -> Later<Collateral> {
        Box::pin(async move { self.at_hand(&PeerEvidence::default()) })
    }

    fn renew(&self) -> Result<(), String> {
        let mut fresh = Collateral::default();
        for platform in &self.platforms {
            let made =
                platform.collateral(clock::now_ms() / 1000).map_err(|fault| fault.to_string())?;
            fresh.tdx = fresh.tdx.or(made.tdx);
            fresh.snp = fresh.snp.or(made.snp);
        }
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }
}

impl Trust {
    pub(crate) fn new(config: &EvidenceConfig) -> Result<Self, String> {
        match config {
            EvidenceConfig::None => Ok(Self {
                provider: None,
                image: Digest32::ZERO,
                judge: None,
                fresh: None,
                lists_images: false,
                rules: None,
                requires_fresh: false,
                behind_router: Arc::default(),
                sealer: None,
                keeper: Arc::new(Simulated { platforms: Vec::new(), current: RwLock::default() }),
            }),
            EvidenceConfig::Simulated { roots, .. } => Self::simulated(roots, config),
            EvidenceConfig::Hardware(hardware) => Self::hardware(hardware),
        }
    }

    fn simulated(roots: &Path, config: &EvidenceConfig) -> Result<Self, String> {
        let EvidenceConfig::Simulated {
            image,
            machine,
            gpu,
            snp,
            misbehave,
            dangerous_unchecked_peers,
            ..
        } = config
        else {
            return Err("this is no simulated machine".to_owned());
        };
        let gpu_nonce = gpu.then(clock::random);
        let form = SimulatedPlatformForm {
            snp: snp.then_some(SnpProduct::Genoa),
            image: image.clone(),
            number: *machine,
            gpu_nonce,
            // What a lie about the GPU is compared with.
            measure_gpu: *gpu && misbehave.is_some(),
            lie: *misbehave,
            ..SimulatedPlatformForm::default()
        };
        let other = SimulatedPlatformForm {
            snp: (!*snp).then_some(SnpProduct::Genoa),
            gpu_nonce: None,
            lie: None,
            ..form.clone()
        };
        let platform = Arc::new(boot(roots, form)?);
        // Which image may run is the registry's to say; the role compares with it.
        let mut policy = platform.policy();
        policy.image_hashes.clear();
        policy.required.retain(|claim| *claim != cocoon_attest::ClaimKind::Image);
        // A machine that is told to lie is not stopped by its own check.
        check_gpu(&*platform, gpu_nonce.filter(|_| misbehave.is_none()), &policy)?;
        let keeper = Arc::new(Simulated {
            platforms: vec![Arc::clone(&platform), Arc::new(boot(roots, other)?)],
            current: RwLock::default(),
        });
        keeper.renew()?;
        let image = platform.image_hash();
        let trust = Self::judging(Some(Arc::clone(&platform) as _), image, policy, keeper)?;
        let trust = Self { sealer: Some(platform), ..trust };
        if *dangerous_unchecked_peers {
            return Ok(Self { judge: None, fresh: None, requires_fresh: false, ..trust });
        }
        Ok(trust)
    }

    fn hardware(config: &HardwareConfig) -> Result<Self, String> {
        let policy = config.policy()?;
        let provider = config.provider(&policy)?;
        let image = match &provider {
            Some(provider) => hardware::image_of(&**provider)?,
            None => Digest32::ZERO,
        };
        let keeper = Arc::new(Ahead::new(config.keeper()?));
        let trust = Self::judging(provider, image, policy, keeper)?;
        let behind_router = Arc::new(BehindRouter::read(&config.behind_router)?);
        Ok(Self { requires_fresh: config.fresh == Fresh::Require, behind_router, ..trust })
    }

    /// Admits only peers whose fresh evidence shows one of these images, which the root contract
    /// lists.
    pub(crate) fn admit_images(&mut self, images: &[[u8; 32]]) -> Result<(), String> {
        let Some(judge) = self.judge.as_ref().filter(|_| !images.is_empty()) else { return Ok(()) };
        let policy = judge.current_policy();
        if policy.mode != PolicyMode::Tee {
            return Ok(());
        }
        let images = images.iter().map(|image| Digest32::from(*image));
        let source = Arc::new(AtHand(Arc::clone(&self.keeper)));
        let fresh = AttestedPeer::new(policy.with_images(images), source);
        self.fresh = Some(fresh.map_err(|fault| fault.to_string())?);
        self.lists_images = true;
        Ok(())
    }

    /// Admits peers of any image again.
    pub(crate) fn look_at_no_images(&mut self) {
        (self.fresh, self.lists_images) = (self.judge.clone(), false);
    }

    /// Judges by this list instead from now on, in all clones. Where images are not looked at they
    /// still are not; an empty list admits nobody.
    pub(crate) fn replace_images(&self, images: &[[u8; 32]]) -> Result<(), String> {
        let (Some(judge), Some(fresh), true) = (&self.judge, &self.fresh, self.lists_images) else {
            return Ok(());
        };
        let listed = images.iter().map(|image| Digest32::from(*image));
        // Without any image the claim would not be looked at.
        let nobody = images.is_empty().then_some(Digest32::ZERO);
        let policy = judge.current_policy().with_images(listed.chain(nobody));
        fresh.replace_policy(policy).map_err(|fault| fault.to_string())
    }

    fn judging(
        provider: Option<Arc<dyn EvidenceProvider>>,
        image: Digest32,
        policy: Policy,
        keeper: Arc<dyn Keeper>,
    ) -> Result<Self, String> {
        let source = Arc::new(AtHand(Arc::clone(&keeper)));
        let rules = Some(policy.clone());
        let judge = AttestedPeer::new(policy, source).map_err(|fault| fault.to_string())?;
        let fresh = Some(judge.clone());
        let judge = Some(judge);
        Ok(Self {
            provider,
            image,
            judge,
            fresh,
            lists_images: false,
            rules,
            keeper,
            requires_fresh: true,
            behind_router: Arc::default(),
            sealer: None,
        })
    }

    /// The rules for machines; none where evidence is not looked at.
    pub(crate) fn rules(&self) -> Option<Policy> {
        self.rules.clone()
    }

    /// What peers with evidence are judged by.
    pub(crate) fn policy(&self) -> Arc<dyn PeerPolicy> {
        match &self.judge {
            Some(judge) => Arc::new(judge.clone()),
            None => Arc::new(AnyPeer),
        }
    }

    /// The judge of fresh evidence; nothing where peers are not asked for any.
    pub(crate) fn judge(&self) -> Option<&AttestedPeer> {
        self.fresh.as_ref()
    }

    /// Whether a peer that shows no fresh evidence is refused even if it was never known to be
    /// able to.
    pub(crate) fn requires_fresh(&self) -> bool {
        self.requires_fresh
    }

    /// Peers that the operator knows to stand behind routers: they show the evidence of their
    /// certificates alone.
    pub(crate) fn behind_router(&self) -> &BehindRouter {
        &self.behind_router
    }

    /// The same, knowing such peers.
    #[cfg(test)]
    pub(crate) fn naming(self, named: BehindRouter) -> Self {
        Self { behind_router: Arc::new(named), ..self }
    }

    /// The same, admitting peers that never showed fresh evidence.
    #[cfg(test)]
    pub(crate) fn wishing(self) -> Self {
        Self { requires_fresh: false, ..self }
    }

    /// The own TEE.
    pub(crate) fn provider(&self) -> Option<&Arc<dyn EvidenceProvider>> {
        self.provider.as_ref()
    }

    /// Image hash of this machine; zero without a TEE.
    pub(crate) fn image(&self) -> Digest32 {
        self.image
    }

    pub(crate) fn keeper(&self) -> &Arc<dyn Keeper> {
        &self.keeper
    }

    /// What ends the chains of evidence on this network.
    pub(crate) fn roots(&self) -> TrustRoots {
        self.judge
            .as_ref()
            .map_or_else(TrustRoots::production, |judge| judge.current_policy().roots)
    }

    /// Collateral without waiting; none where peers are not asked for evidence.
    pub(crate) fn collateral(&self) -> Option<Arc<dyn CollateralSource>> {
        let keeper = Arc::clone(&self.keeper);
        self.judge.as_ref().map(|_| Arc::new(AtHand(keeper)) as Arc<dyn CollateralSource>)
    }

    /// Gets fresh collateral.
    pub(crate) fn renew(&self) -> Result<(), String> {
        self.keeper.renew()
    }

    /// The key of this name that this machine and image always get again, sealed by the machine
    /// (protocol notes, wire 6.4); none where nothing seals: real
    /// hardware is not asked yet.
    pub(crate) fn lasting_key(&self, name: &str) -> Result<Option<LastingKey>, String> {
        let Some(platform) = &self.sealer else { return Ok(None) };
        let now_s = clock::now_ms() / 1000;
        let lasting = SimulatedEnclave::start(platform, SEALER).and_then(|enclave| {
            let trust = enclave.trust(now_s)?;
            SealClient::new(Arc::clone(platform), enclave, trust).lasting_key(name, now_s)
        });
        lasting.map(Some).map_err(|fault| fault.to_string())
    }

    /// Evidence for a certificate over this key.
    pub(crate) fn evidence(&self, public_key: &[u8; 32]) -> Result<OwnEvidence, String> {
        let Some(provider) = &self.provider else { return Ok(OwnEvidence::None) };
        let evidence = provider
            .quote(QuoteSubject::CertificateKey(public_key))
            .map_err(|fault| fault.to_string())?;
        if evidence.runtime_data.is_some() {
            // A certificate has no place for them, and without them the report says nothing.
            return Ok(OwnEvidence::None);
        }
        match (evidence.tdx_quote, evidence.sev_report, evidence.sev_vcek_pem) {
            (Some(quote), None, None) => Ok(OwnEvidence::Tdx { quote }),
            (None, Some(report), Some(vcek_pem)) => Ok(OwnEvidence::Sev { report, vcek_pem }),
            _ => Err("the platform made neither a TDX quote nor a SEV-SNP report".into()),
        }
    }
}

/// A keeper as certificates ask for it, without waiting.
struct AtHand(Arc<dyn Keeper>);

impl CollateralSource for AtHand {
    fn at_hand(&self, evidence: &PeerEvidence) -> Collateral {
        self.0.at_hand(evidence)
    }
}

/// Checks the GPU of this machine as a peer would, with the nonce that was just drawn for it: a
/// machine whose GPU does not protect what it computes serves nobody.
fn check_gpu(
    provider: &dyn EvidenceProvider,
    nonce: Option<[u8; 32]>,
    policy: &Policy,
) -> Result<(), String> {
    let Some(nonce) = nonce else { return Ok(()) };
    let evidence = provider.gpu().ok_or("the machine shows no GPU")?;
    let now_s = clock::now_ms() / 1000;
    gpu::check(&evidence, Some(&nonce), &policy.gpu, &policy.roots, now_s)
        .map(drop)
        .map_err(|bad| format!("the GPU of this machine: {bad}"))
}

fn boot(roots: &Path, form: SimulatedPlatformForm) -> Result<SimulatedPlatform, String> {
    let now_s = clock::now_ms() / 1000;
    let pki = DevPki::load_or_generate(roots, now_s).map_err(|fault| fault.to_string())?;
    SimulatedPlatform::boot(Arc::new(pki), form).map_err(|fault| fault.to_string())
}

/// The image hash of a simulated machine that booted this image, as the registry lists it.
///
/// # Errors
/// The text says what is wrong with the roots' file.
pub fn simulated_image_hash(roots: &Path, image: &str) -> Result<[u8; 32], String> {
    let form =
        SimulatedPlatformForm { image: image.to_owned(), ..SimulatedPlatformForm::default() };
    boot(roots, form).map(|platform| platform.image_hash().0)
}

/// The rules for machines of the simulated platform under these roots; images and models are to
/// be added from the registry.
///
/// # Errors
/// The text says what is wrong with the roots' file.
pub fn simulated_policy(roots: &Path) -> Result<Policy, String> {
    let platform = boot(roots, SimulatedPlatformForm::default())?;
    Ok(Policy { image_hashes: Vec::new(), ..platform.policy() })
}
