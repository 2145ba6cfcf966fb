//! Looks at the machine: files of the kernel, ports, servers, the chain. Nothing is changed, no key
//! is made, nothing is sent but questions.

use cocoon_contract::root::RootState;
use cocoon_evidence::TeeKind;
use cocoon_evidence::collateral::{HttpGet as _, WebHttp};
use cocoon_host::chain::{ChainKind, node_wallet, read_root};
use cocoon_host::evidence::{EvidenceConfig, simulated_image_hash};
use cocoon_host::hardware::Tee;
use cocoon_host::{clock, keys, network};
use cocoon_units::{Address, AddressForm, Nanoton};
use rustix::process::{Resource, getrlimit};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use super::judge::{ChainFacts, Facts, Found, Registry, TeeFacts};
use super::role::{Role, Settings};

/// Longest wait for a server.
const WAIT: Duration = Duration::from_secs(10);
/// Longest wait for the chain, whose first answer may need a walk through proofs.
const CHAIN_WAIT: Duration = Duration::from_secs(60);
/// Devices through which the kernel offers a TEE to its guest.
const TEE_DEVICES: [(&str, &str); 3] = [
    ("/sys/kernel/config/tsm/report", "configfs-tsm"),
    ("/dev/tdx_guest", "TDX device"),
    ("/dev/sev-guest", "SEV-SNP device"),
];

/// Looks at everything that matters for these settings, or at the machine alone.
pub(crate) async fn examine(settings: Option<&Settings>) -> Facts {
    let mut facts = Facts {
        gpu_device: Path::new("/dev/nvidiactl").exists(),
        now_s: clock::now_ms() / 1000,
        files_max: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
        core_pattern: read("/proc/sys/kernel/core_pattern"),
        swaps: swaps(&read("/proc/swaps")),
        ..Facts::default()
    };
    let Some(settings) = settings else {
        let there = TEE_DEVICES.iter().filter(|(path, _)| Path::new(path).exists());
        facts.tee = TeeFacts::Devices(there.map(|(_, name)| *name).collect());
        return facts;
    };
    facts.settings = Some((settings.file.clone(), settings.check.clone()));
    let image = evidence(settings, &mut facts).await;
    facts.disk = Some((settings.data_dir.display().to_string(), disk(&settings.data_dir)));
    let bound = |(name, address): &(&'static str, SocketAddr)| {
        let bound = TcpListener::bind(address).map(drop).map_err(|fault| fault.to_string());
        (*name, *address, bound)
    };
    facts.ports = settings.ports.iter().map(bound).collect();
    for (name, address) in &settings.servers {
        facts.servers.push((*name, address.clone(), reach(address).await));
    }
    facts.model = settings.model_path.as_ref().map(|path| {
        let read = std::fs::metadata(path).map(drop).map_err(|fault| fault.to_string());
        (path.display().to_string(), read)
    });
    chain(settings, image, &mut facts).await;
    facts
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// First words of the lines behind the head.
fn swaps(table: &str) -> Vec<String> {
    let device = |line: &str| line.split_whitespace().next().map(str::to_owned);
    table.lines().skip(1).filter_map(device).collect()
}

/// Fills in what concerns evidence; gives the image hash of this machine.
async fn evidence(settings: &Settings, facts: &mut Facts) -> Option<[u8; 32]> {
    match &settings.evidence {
        EvidenceConfig::None => {
            facts.tee = TeeFacts::None;
            None
        }
        EvidenceConfig::Simulated { roots, image, .. } => {
            // Asking would make the file of roots.
            if !roots.exists() {
                let why = format!("{} is not there", roots.display());
                facts.tee = TeeFacts::Simulated(Err(why));
                return None;
            }
            let image = simulated_image_hash(roots, image);
            facts.tee = TeeFacts::Simulated(image.as_ref().map(drop).map_err(Clone::clone));
            image.ok()
        }
        EvidenceConfig::Hardware(hardware) => {
            let asked = hardware.clone();
            let asked = tokio::task::spawn_blocking(move || (asked.probe_tee(), asked.probe_gpu()));
            let Ok((tee, gpu)) = asked.await else { return None };
            facts.gpu = gpu;
            let kind = |kind| match kind {
                TeeKind::Tdx => "TDX",
                TeeKind::Snp => "SEV-SNP",
            };
            let image = tee.as_ref().ok().and_then(|found| found.map(|(_, image)| image));
            facts.tee = match tee {
                Ok(None) if hardware.tee == Tee::None => TeeFacts::Client,
                Ok(None) => TeeFacts::Real(Err("this machine offers no TEE".to_owned())),
                Ok(Some((of, image))) => {
                    TeeFacts::Real(Ok((kind(of).to_owned(), hex::encode(image))))
                }
                Err(why) => TeeFacts::Real(Err(why)),
            };
            let intel = format!("{}/sgx/certification/v4/rootcacrl", hardware.intel_url);
            let amd = format!("{}/vcek/v1/Genoa/cert_chain", hardware.amd_url);
            for url in [intel, amd] {
                let got = get(&url).await;
                facts.collateral.push((url, got));
            }
            image
        }
    }
}

async fn get(url: &str) -> Found<()> {
    let http = WebHttp::new().map_err(|fault| fault.to_string())?;
    match tokio::time::timeout(WAIT, http.get(url)).await {
        Ok(Ok(answer)) if answer.status < 500 => Ok(()),
        Ok(Ok(answer)) => Err(format!("status {}", answer.status)),
        Ok(Err(fault)) => Err(fault.to_string()),
        Err(_) => Err(format!("no answer within {} s", WAIT.as_secs())),
    }
}

/// Whether somebody listens at `http://host:port` or `host:port`.
async fn reach(address: &str) -> Found<()> {
    let place = address.split_once("://").map_or(address, |(_, place)| place);
    let place = place.split('/').next().unwrap_or_default();
    let place = if place.contains(':') { place.to_owned() } else { format!("{place}:80") };
    match tokio::time::timeout(WAIT, tokio::net::TcpStream::connect(&place)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(fault)) => Err(fault.to_string()),
        Err(_) => Err(format!("no answer within {} s", WAIT.as_secs())),
    }
}

/// Bytes that are free for the node: in its directory, or where it will be made.
fn disk(dir: &Path) -> Found<u64> {
    let here = Path::new(".");
    let is_there = |dir: &&Path| !dir.as_os_str().is_empty() && dir.symlink_metadata().is_ok();
    let there = dir.ancestors().find(is_there).unwrap_or(here);
    if !there.is_dir() {
        return Err(format!("{} is no directory", there.display()));
    }
    let writable = rustix::fs::access(there, rustix::fs::Access::WRITE_OK);
    writable.map_err(|fault| format!("cannot be written: {fault}"))?;
    let space = rustix::fs::statvfs(there).map_err(|fault| fault.to_string())?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

async fn chain(settings: &Settings, image: Option<[u8; 32]>, facts: &mut Facts) {
    let is_listed = |root: &RootState| Registry {
        version: root.version,
        proxies: root.endpoints().count(),
        lists_image: image.and_then(|image| match settings.role {
            Role::Proxy => Some(root.proxy_hashes.iter().any(|hash| hash.0 == image)),
            Role::Worker => Some(root.worker_hashes.iter().any(|hash| hash.0 == image)),
            Role::Gateway | Role::KeyManager => None,
        }),
    };
    if !settings.chain.is_real() {
        let file = settings.network_file.display().to_string();
        let read = network::load_pseudo(&settings.network_file);
        let read = read.map(|root| is_listed(&root)).map_err(|fault| fault.to_string());
        facts.registry = Some((file, read));
        return;
    }
    let name = || format!("{:?}", settings.chain.kind);
    let is_local = settings.chain.kind == ChainKind::Local;
    let fault = |why: String| ChainFacts { name: name(), head_s: Err(why), is_local, wallet: None };
    let chain = match settings.chain.open() {
        Ok(Some(chain)) => chain,
        Ok(None) => return,
        Err(why) => {
            facts.chain = Some(fault(why.to_string()));
            return;
        }
    };
    let late = || format!("no answer within {} s", CHAIN_WAIT.as_secs());
    let head = tokio::time::timeout(CHAIN_WAIT, chain.head()).await;
    let head_s = match head {
        Ok(head) => head.map(|head| head.time.0).map_err(|fault| fault.to_string()),
        Err(_) => Err(late()),
    };
    let answers = head_s.is_ok();
    facts.now_s = clock::now_ms() / 1000;
    facts.chain = Some(ChainFacts { name: chain.name(), head_s, is_local, wallet: None });
    if !answers {
        return;
    }
    if let Ok(root) = Address::parse(&settings.root) {
        let read = read_root(chain.as_ref(), root, settings.is_test);
        let read = match tokio::time::timeout(CHAIN_WAIT, read).await {
            Ok(read) => read.map(|root| is_listed(&root)).map_err(|fault| fault.to_string()),
            Err(_) => Err(late()),
        };
        facts.registry = Some((settings.root.clone(), read));
    }
    let key = keys::load(&settings.data_dir.join("wallet.key"));
    let (Ok(owner), Ok(key)) = (Address::parse(&settings.owner), key) else { return };
    let Ok(wallet) = node_wallet(owner, &key) else { return };
    let text = wallet.address().to_friendly(AddressForm::NON_BOUNCEABLE);
    let balance: Found<Nanoton> =
        match tokio::time::timeout(CHAIN_WAIT, chain.account(wallet.address(), None)).await {
            Ok(account) => {
                account.map(|account| account.balance).map_err(|fault| fault.to_string())
            }
            Err(_) => Err(late()),
        };
    if let Some(facts) = &mut facts.chain {
        facts.wallet = Some((text, balance));
    }
}
