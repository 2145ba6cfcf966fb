//! Evidence of real machines: which TEE this one has, where collateral comes from, what peers
//! are judged by.

use cocoon_attest::gpu::{self, GpuEvidence};
use cocoon_attest::{Collateral, CollateralNeed, Digest32, PeerEvidence, Policy};
use cocoon_evidence::azure::AzureVtpm;
use cocoon_evidence::collateral::{
    AMD_KDS_URL, CollateralStore, INTEL_PCS_URL, KeptOnDisk, MakerServices, StoreLimits, WebHttp,
};
use cocoon_evidence::gpu::GpuProvider as _;
use cocoon_evidence::linux::{
    ACPI_TABLES, ConfigfsTsm, EVENT_LOG, EXTEND_PATH, KernelFiles, Nvml, TdxDevice, is_measured,
    measure_gpu, read_boot_log,
};
use cocoon_evidence::{EvidenceProvider, QuoteSubject, TeeKind};
use cocoon_link::Later;
use cocoon_ratls::CollateralSource;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Semaphore;

use crate::clock;
use crate::evidence::Keeper;

/// Most fetches at once for peers that are still in their TLS handshake.
const FETCHES_MAX: usize = 16;

/// Which TEE this machine has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tee {
    /// Whatever the kernel offers: configfs for TDX and SEV-SNP, otherwise the older TDX device.
    /// A machine that offers nothing does not start.
    #[default]
    Auto,
    /// The kernel's configfs, TDX or SEV-SNP.
    ConfigfsTsm,
    /// The older TDX device, with the quoting service of the host.
    TdxDevice,
    /// A confidential machine of Azure, by way of its vTPM. What it shows is bound to each connection,
    /// but shows an image only by registers that a policy lists: it is for looking, not for serving.
    /// Never run on Azure itself.
    Azure,
    /// None: a client's machine, which verifies others and shows nothing itself.
    None,
}

/// Whether peers have to show fresh evidence over the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fresh {
    /// When they can. A peer that could before has to; of others the verdict says
    /// "freshness: not claimed".
    #[default]
    IfAble,
    /// Always: nodes of the reference are refused.
    Require,
}

/// Evidence of real hardware.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HardwareConfig {
    /// Which TEE this machine has.
    pub tee: Tee,
    /// Whether peers have to show fresh evidence.
    pub fresh: Fresh,
    /// Peers that stand behind a router of their own, so that they cannot show fresh evidence:
    /// addresses that this node dials (`ip:port`), and connection keys (64 hex digits) of those that
    /// come to it. The evidence of their certificates is checked as ever.
    pub behind_router: Vec<String>,
    /// Whether the machine has an NVIDIA GPU in confidential mode, which is checked at boot with a
    /// fresh nonce by the profiles of the policy. A machine whose GPU does not pass does not start.
    pub gpu: bool,
    /// The GPU's evidence as the image's boot measured it (`cocoon measure-gpu`), which is shown instead
    /// of a fresh one; empty asks the GPU at each start.
    pub gpu_file: PathBuf,
    /// Intel's service for collateral, or a PCCS; without a path.
    pub intel_url: String,
    /// AMD's service for collateral, or a cache of it; without a path.
    pub amd_url: String,
    /// Where collateral is kept over restarts; empty keeps none.
    pub collateral_dir: PathBuf,
    /// What is accepted, in TOML, with dates; empty takes the strict rules without dates. The image
    /// hashes of the root contract are added to it.
    pub policy_file: PathBuf,
    /// The VCEK certificate of this machine (PEM), where its host does not hand it over.
    pub vcek_file: PathBuf,
}

/// Peers that are known to stand behind routers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BehindRouter {
    /// That this node dials.
    pub(crate) addresses: BTreeSet<SocketAddr>,
    /// Of peers, wherever they are.
    pub(crate) keys: BTreeSet<[u8; 32]>,
}

impl BehindRouter {
    /// Reads the operator's list.
    pub(crate) fn read(named: &[String]) -> Result<Self, String> {
        let mut read = Self::default();
        for text in named {
            if let Ok(address) = text.parse() {
                read.addresses.insert(address);
            } else if let Ok(key) = Digest32::read("behind_router", text) {
                read.keys.insert(key.0);
            } else {
                let reason = "neither ip:port nor a key of 64 hex digits";
                return Err(format!("behind_router: {text:?} is {reason}"));
            }
        }
        Ok(read)
    }
}

impl Default for HardwareConfig {
    fn default() -> Self {
        Self {
            tee: Tee::Auto,
            fresh: Fresh::IfAble,
            behind_router: Vec::new(),
            gpu: false,
            gpu_file: PathBuf::new(),
            intel_url: INTEL_PCS_URL.to_owned(),
            amd_url: AMD_KDS_URL.to_owned(),
            collateral_dir: PathBuf::new(),
            policy_file: PathBuf::new(),
            vcek_file: PathBuf::new(),
        }
    }
}

/// A boot log that cannot be read is left out of what peers are shown; the operator hears why.
fn say_what_ails_the_boot_log() {
    if let Err(fault) = read_boot_log(&KernelFiles, Path::new(ACPI_TABLES)) {
        tracing::warn!(%fault, "the firmware's boot log cannot be read: peers see none");
    }
}

impl HardwareConfig {
    /// Finds the TEE of this machine, and checks its GPU by `policy`.
    pub(crate) fn provider(
        &self,
        policy: &Policy,
    ) -> Result<Option<Arc<dyn EvidenceProvider>>, String> {
        let device = Path::new(TdxDevice::PATH);
        match self.tee {
            Tee::None if self.gpu => Err("gpu = true needs a TEE that vouches for it".to_owned()),
            Tee::None => Ok(None),
            Tee::ConfigfsTsm => self.configfs(policy).map(Some),
            Tee::TdxDevice => self.tdx_device(policy).map(Some),
            Tee::Azure => self.azure(policy).map(Some),
            Tee::Auto => match ConfigfsTsm::detect() {
                Ok(_) => self.configfs(policy).map(Some),
                Err(_) if device.exists() => self.tdx_device(policy).map(Some),
                Err(fault) => Err(format!(
                    "this machine offers no TEE ({fault}); write tee = \"none\" for a client's \
                     machine"
                )),
            },
        }
    }

    fn configfs(&self, policy: &Policy) -> Result<Arc<dyn EvidenceProvider>, String> {
        let mut found = ConfigfsTsm::detect().map_err(|fault| fault.to_string())?;
        if found.kind() == TeeKind::Tdx {
            say_what_ails_the_boot_log();
        }
        if let Some(pem) = self.vcek_pem()? {
            found = found.with_vcek_pem(pem);
        }
        if let Some(gpu) = self.checked_gpu(policy)? {
            found = found.with_gpu(gpu);
        }
        Ok(Arc::new(found))
    }

    fn azure(&self, policy: &Policy) -> Result<Arc<dyn EvidenceProvider>, String> {
        let mut found = AzureVtpm::detect().map_err(|fault| fault.to_string())?;
        // Any subject tells whether the vTPM signs; what it gives here is shown to nobody.
        if let Err(fault) = found.registers(QuoteSubject::CertificateKey(&[0; 32])) {
            tracing::warn!(%fault, "peers do not see what this machine booted");
        }
        if let Some(pem) = self.vcek_pem()? {
            found = found.with_vcek_pem(pem);
        }
        if let Some(gpu) = self.checked_gpu(policy)? {
            found = found.with_gpu(gpu);
        }
        Ok(Arc::new(found))
    }

    fn tdx_device(&self, policy: &Policy) -> Result<Arc<dyn EvidenceProvider>, String> {
        let found = TdxDevice::new();
        say_what_ails_the_boot_log();
        Ok(match self.checked_gpu(policy)? {
            Some(gpu) => Arc::new(found.with_gpu(gpu)),
            None => Arc::new(found),
        })
    }

    /// Asks the GPU with a fresh nonce and judges it as a peer would. It is tied to this machine by
    /// the statement of each connection: the measured log is closed when the workload starts, so
    /// only the image's boot could extend it.
    fn checked_gpu(&self, policy: &Policy) -> Result<Option<GpuEvidence>, String> {
        if !self.gpu {
            return Ok(None);
        }
        if !self.gpu_file.as_os_str().is_empty() {
            return self.measured_gpu(policy).map(Some);
        }
        let nonce = clock::random();
        let evidence = Nvml::default().evidence(nonce).map_err(|fault| fault.to_string())?;
        let now_s = clock::now_ms() / 1000;
        gpu::check(&evidence, Some(&nonce), &policy.gpu, &policy.roots, now_s)
            .map_err(|bad| format!("the GPU of this machine: {bad}"))?;
        Ok(Some(evidence))
    }

    /// Kind and image hash of this machine's TEE, as a node would find them; none for a client's
    /// machine. Blocks for as long as the machine takes.
    ///
    /// # Errors
    /// The text says what is missing.
    pub fn probe_tee(&self) -> Result<Option<(TeeKind, [u8; 32])>, String> {
        let policy = self.policy()?;
        let alone = Self { gpu: false, ..self.clone() };
        let Some(provider) = alone.provider(&policy)? else { return Ok(None) };
        Ok(Some((provider.kind(), image_of(&*provider)?.0)))
    }

    /// Whether the GPU passes the check that a node makes at boot; nothing when none is asked for.
    /// Blocks for as long as the GPU takes.
    #[must_use]
    pub fn probe_gpu(&self) -> Option<Result<(), String>> {
        let check = || self.checked_gpu(&self.policy()?).map(drop);
        self.gpu.then(check)
    }

    /// Reads the evidence that the boot left, and holds it against the measured log. Its nonce was
    /// compared when it was made.
    fn measured_gpu(&self, policy: &Policy) -> Result<GpuEvidence, String> {
        let fault = |reason: String| format!("gpu_file {}: {reason}", self.gpu_file.display());
        let text = std::fs::read(&self.gpu_file).map_err(|source| fault(source.to_string()))?;
        let evidence: GpuEvidence =
            serde_json::from_slice(&text).map_err(|source| fault(source.to_string()))?;
        let log = std::fs::read(EVENT_LOG).map_err(|source| format!("{EVENT_LOG}: {source}"))?;
        if !is_measured(&log, &evidence) {
            return Err(fault("it is not the one that this machine's boot measured".to_owned()));
        }
        let now_s = clock::now_ms() / 1000;
        gpu::check(&evidence, None, &policy.gpu, &policy.roots, now_s)
            .map_err(|bad| format!("the GPU of this machine: {bad}"))?;
        Ok(evidence)
    }

    /// Asks the GPU with a fresh nonce, judges it as a peer would, extends its digest into RTMR3 and
    /// the event log, and leaves the evidence in `gpu_file`. For the image's boot, before it is set
    /// up; blocks for as long as the GPU takes. Gives the digest in hex.
    ///
    /// # Errors
    /// The text says what failed. When the register was extended and the rest failed, boot again.
    pub fn measure_gpu(&self) -> Result<String, String> {
        let policy = self.policy()?;
        let asked = Self { gpu: true, gpu_file: PathBuf::new(), ..self.clone() };
        let evidence = asked.checked_gpu(&policy)?.ok_or("there is no GPU")?;
        let text = serde_json::to_vec(&evidence).map_err(|fault| fault.to_string())?;
        // A digest without its evidence would be of no use, and a second call must not spoil the file.
        let fault = |fault: std::io::Error| format!("{}: {fault}", self.gpu_file.display());
        let beside = self.gpu_file.with_extension("new");
        std::fs::write(&beside, text).map_err(fault)?;
        let places = (Path::new(EXTEND_PATH), Path::new(EVENT_LOG));
        measure_gpu(&KernelFiles, places, &evidence).map_err(|fault| fault.to_string())?;
        std::fs::rename(&beside, &self.gpu_file).map_err(fault)?;
        Ok(evidence.digest().to_string())
    }

    fn vcek_pem(&self) -> Result<Option<Vec<u8>>, String> {
        if self.vcek_file.as_os_str().is_empty() {
            return Ok(None);
        }
        let fault = |source| format!("vcek_file {}: {source}", self.vcek_file.display());
        std::fs::read(&self.vcek_file).map(Some).map_err(fault)
    }

    /// Reads what is accepted: the policy file's rules, or the strict ones where none is named.
    ///
    /// # Errors
    /// One sentence: the file cannot be read, is no policy, or contradicts itself.
    pub fn policy(&self) -> Result<Policy, String> {
        if self.policy_file.as_os_str().is_empty() {
            return Ok(Policy::tee());
        }
        let fault =
            |reason: String| format!("policy_file {}: {reason}", self.policy_file.display());
        let text = std::fs::read_to_string(&self.policy_file)
            .map_err(|source| fault(source.to_string()))?;
        let policy: Policy = toml::from_str(&text).map_err(|source| fault(source.to_string()))?;
        policy.check().map_err(|contradiction| fault(contradiction.to_string()))?;
        Ok(policy)
    }

    /// Opens the store of collateral.
    pub(crate) fn keeper(&self) -> Result<Arc<Fetched>, String> {
        let http = WebHttp::new().map_err(|fault| fault.to_string())?;
        let services = MakerServices::new(http, self.intel_url.clone(), self.amd_url.clone());
        let limits = StoreLimits::default();
        if self.collateral_dir.as_os_str().is_empty() {
            return Ok(Arc::new(Fetched::Memory(CollateralStore::new(services, limits))));
        }
        let kept = KeptOnDisk::new(services, self.collateral_dir.clone())
            .map_err(|fault| fault.to_string())?;
        let keeper = Arc::new(Fetched::Disk(CollateralStore::new(kept, limits)));
        let loading = Arc::clone(&keeper);
        tokio::spawn(async move {
            if let Fetched::Disk(store) = &*loading {
                let platforms = store.load(clock::now_ms()).await;
                tracing::info!(platforms, "collateral read from disk");
            }
        });
        Ok(keeper)
    }
}

/// The image hash of the machine this runs on.
pub(crate) fn image_of(provider: &dyn EvidenceProvider) -> Result<Digest32, String> {
    Ok(provider.measurement().map_err(|fault| fault.to_string())?.image_hash())
}

/// Collateral from the makers' services.
pub(crate) enum Fetched {
    Memory(CollateralStore<MakerServices<WebHttp>>),
    Disk(CollateralStore<KeptOnDisk<MakerServices<WebHttp>>>),
}

impl Fetched {
    fn peek(&self, need: &CollateralNeed, now_ms: u64) -> Option<Arc<Collateral>> {
        match self {
            Self::Memory(store) => store.peek(need, now_ms),
            Self::Disk(store) => store.peek(need, now_ms),
        }
    }

    async fn fetch(&self, need: &CollateralNeed) -> Collateral {
        let now_ms = clock::now_ms();
        let found = match self {
            Self::Memory(store) => store.find(need, now_ms).await,
            Self::Disk(store) => store.find(need, now_ms).await,
        };
        match found {
            Ok(collateral) => Collateral::clone(&collateral),
            Err(fault) => {
                // The verdict says "cannot check now"; nothing is said against the peer.
                tracing::warn!(%fault, "collateral cannot be had now");
                Collateral::default()
            }
        }
    }
}

/// Inside the TLS handshake nothing may wait: what is not at hand is fetched for the next attempt.
pub(crate) struct Ahead {
    fetched: Arc<Fetched>,
    /// Strangers name platforms in evidence that nobody has checked yet.
    permits: Arc<Semaphore>,
}

impl Ahead {
    pub(crate) fn new(fetched: Arc<Fetched>) -> Self {
        Self { fetched, permits: Arc::new(Semaphore::new(FETCHES_MAX)) }
    }
}

impl CollateralSource for Ahead {
    fn at_hand(&self, evidence: &PeerEvidence) -> Collateral {
        let Ok(need) = CollateralNeed::of(evidence) else { return Collateral::default() };
        if let Some(kept) = self.fetched.peek(&need, clock::now_ms()) {
            return Collateral::clone(&kept);
        }
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            let fetching = Arc::clone(&self.fetched);
            tokio::spawn(async move {
                fetching.fetch(&need).await;
                drop(permit);
            });
        }
        Collateral::default()
    }
}

impl Keeper for Ahead {
    fn find(self: Arc<Self>, need: CollateralNeed) -> Later<Collateral> {
        Box::pin(async move { self.fetched.fetch(&need).await })
    }

    /// The store renews what it is asked for ahead of time by itself.
    fn renew(&self) -> Result<(), String> {
        Ok(())
    }
}
