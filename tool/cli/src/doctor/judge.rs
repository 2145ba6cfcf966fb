//! From what was found on a machine to what it means. Nothing here looks at the machine.

use cocoon_units::Nanoton;
use std::net::SocketAddr;

use super::check::Check;

/// Open files below which a node cannot serve, and below which a busy one may run out.
const FILES: (u64, u64) = (1_024, 16_384);
/// Bytes of disk below which a node cannot go on, and below which it will soon not.
const DISK: (u64, u64) = (256 << 20, 2 << 30);
/// Seconds that the clock may differ from the chain's newest block.
const CLOCK_S: u64 = 60;
/// Before this the clock is certainly wrong: Unix seconds, 2026-01-01.
const PAST_S: u64 = 1_767_225_600;
/// Below this a wallet cannot pay for many messages.
const LITTLE: Nanoton = Nanoton(500_000_000);

/// What something gave, or why not.
pub(crate) type Found<T> = Result<T, String>;

/// Everything that was found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// The settings, and where they come from; none without a role.
    pub(crate) settings: Option<(String, Found<()>)>,
    pub(crate) tee: TeeFacts,
    /// Whether the settings ask for a GPU in confidential mode, and what it showed.
    pub(crate) gpu: Option<Found<()>>,
    /// Whether there is an NVIDIA device at all.
    pub(crate) gpu_device: bool,
    /// Services for collateral.
    pub(crate) collateral: Vec<(String, Found<()>)>,
    pub(crate) now_s: u64,
    /// Most open files of this process.
    pub(crate) files_max: u64,
    /// Where the kernel writes core dumps.
    pub(crate) core_pattern: String,
    /// Devices that memory is swapped to.
    pub(crate) swaps: Vec<String>,
    /// The data directory: whether it can be written, and how much is free, bytes.
    pub(crate) disk: Option<(String, Found<u64>)>,
    /// Ports that the node opens.
    pub(crate) ports: Vec<(&'static str, SocketAddr, Found<()>)>,
    /// Servers that the node needs: name, address.
    pub(crate) servers: Vec<(&'static str, String, Found<()>)>,
    /// The model's files.
    pub(crate) model: Option<(String, Found<()>)>,
    pub(crate) chain: Option<ChainFacts>,
    /// The registry: where it is, and what it says.
    pub(crate) registry: Option<(String, Found<Registry>)>,
}

/// The TEE.
#[derive(Clone, Debug, Default)]
pub(crate) enum TeeFacts {
    /// Nobody asks for one; these devices are there.
    #[default]
    Unasked,
    /// Nobody asks for one, and these devices are there.
    Devices(Vec<&'static str>),
    /// The settings say that there is none.
    None,
    /// The settings say that this machine verifies others only.
    Client,
    /// The simulated platform.
    Simulated(Found<()>),
    /// Hardware: its kind and image hash.
    Real(Found<(String, String)>),
}

/// The chain.
#[derive(Clone, Debug)]
pub(crate) struct ChainFacts {
    pub(crate) name: String,
    /// Time of the newest block, Unix seconds.
    pub(crate) head_s: Found<u64>,
    /// Whether its time is the world's.
    pub(crate) is_local: bool,
    /// The node's wallet and its balance; none before the first start.
    pub(crate) wallet: Option<(String, Found<Nanoton>)>,
}

/// The registry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Registry {
    pub(crate) version: u32,
    /// Proxies that can be reached.
    pub(crate) proxies: usize,
    /// Whether it lists this machine's image for its role; none when that does not matter.
    pub(crate) lists_image: Option<bool>,
}

/// Judges everything.
pub(crate) fn judge(facts: &Facts) -> Vec<Check> {
    let mut out = Vec::new();
    if let Some((file, read)) = &facts.settings {
        out.push(match read {
            Ok(()) => Check::good("settings", file.as_str()),
            Err(why) => Check::failed("settings", why.as_str(), "correct it and ask again"),
        });
    }
    tee(facts, &mut out);
    memory(facts, &mut out);
    clock(facts, &mut out);
    limits(facts, &mut out);
    for (name, address, bound) in &facts.ports {
        let port = format!("port {name}");
        out.push(match bound {
            Ok(()) => Check::good(&port, format!("{address} is free")),
            Err(why) => {
                let advice = "is the node running already? Otherwise stop what listens there, or \
                              set another address";
                Check::failed(&port, format!("{address}: {why}"), advice)
            }
        });
    }
    for (name, address, reached) in &facts.servers {
        out.push(match reached {
            Ok(()) => Check::good(name, format!("{address} answers")),
            Err(why) => {
                let advice = "start it, or correct the address in the settings";
                Check::failed(name, format!("{address}: {why}"), advice)
            }
        });
    }
    if let Some((path, read)) = &facts.model {
        out.push(match read {
            Ok(()) => Check::good("model", format!("{path} can be read")),
            Err(why) => {
                let advice = "write in model_path where the model lies; cocoon model verify \
                              compares its bytes with its name";
                Check::failed("model", format!("{path}: {why}"), advice)
            }
        });
    }
    chain(facts, &mut out);
    out
}

fn tee(facts: &Facts, out: &mut Vec<Check>) {
    let name = "tee";
    out.push(match &facts.tee {
        TeeFacts::Unasked => Check::note(name, "not looked at"),
        TeeFacts::Devices(found) if found.is_empty() => {
            Check::note(name, "none: fit for a gateway, and for cocoon up")
        }
        TeeFacts::Devices(found) => Check::good(name, found.join(", ")),
        TeeFacts::None => Check::warning(
            name,
            "evidence = none: nothing is confidential",
            "for test networks only; set evidence for a real one",
        ),
        TeeFacts::Client => Check::good(name, "none; this machine verifies others"),
        TeeFacts::Simulated(Ok(())) => Check::warning(
            name,
            "the simulated platform: it proves nothing",
            "for test networks only; set evidence = { hardware = { ... } } for a real one",
        ),
        TeeFacts::Simulated(Err(why)) => {
            Check::failed(name, why.as_str(), "correct evidence.simulated.roots")
        }
        TeeFacts::Real(Ok((kind, image))) => Check::good(name, format!("{kind}, image {image}")),
        TeeFacts::Real(Err(why)) => Check::failed(
            name,
            why.as_str(),
            "run inside a TDX or SEV-SNP guest with /sys/kernel/config/tsm mounted; a client's \
             machine needs tee = \"none\"",
        ),
    });
    match &facts.gpu {
        Some(Ok(())) => out.push(Check::good("gpu", "NVIDIA, confidential mode on")),
        Some(Err(why)) => out.push(Check::failed(
            "gpu",
            why.as_str(),
            "turn confidential mode on (and developer mode off) at the host, or set gpu = false",
        )),
        None if facts.gpu_device => {
            out.push(Check::note("gpu", "an NVIDIA GPU is there; nobody asks for its evidence"));
        }
        None => {}
    }
    for (url, reached) in &facts.collateral {
        out.push(match reached {
            Ok(()) => Check::good("collateral", format!("{url} answers")),
            Err(why) => Check::failed(
                "collateral",
                format!("{url}: {why}"),
                "without it no quote can be judged: open the way there, or name a PCCS",
            ),
        });
    }
}

fn memory(facts: &Facts, out: &mut Vec<Check>) {
    let piped = facts.core_pattern.starts_with('|');
    out.push(Check::good(
        "core dumps",
        match piped {
            true => "go to a collector; nodes forbid their own",
            false => "nodes forbid their own",
        },
    ));
    if facts.swaps.is_empty() {
        out.push(Check::good("swap", "off"));
    } else {
        out.push(Check::warning(
            "swap",
            format!("on: {}", facts.swaps.join(", ")),
            "prompts in memory may reach the disk: swapoff -a, or swap to an encrypted device",
        ));
    }
}

fn clock(facts: &Facts, out: &mut Vec<Check>) {
    let name = "clock";
    let sync = "set it, and keep it set (chrony, systemd-timesyncd)";
    if facts.now_s < PAST_S {
        out.push(Check::failed(name, "it stands before 2026", sync));
        return;
    }
    let world = facts.chain.as_ref().filter(|chain| !chain.is_local);
    let Some(Ok(head_s)) = world.map(|chain| &chain.head_s) else {
        out.push(Check::note(name, "plausible; there is nothing to compare it with"));
        return;
    };
    let differs_s = facts.now_s.abs_diff(*head_s);
    out.push(match differs_s <= CLOCK_S {
        true => Check::good(name, format!("{differs_s} s from the chain's newest block")),
        false => Check::failed(name, format!("{differs_s} s from the chain's newest block"), sync),
    });
}

fn limits(facts: &Facts, out: &mut Vec<Check>) {
    let (files, name) = (facts.files_max, "open files");
    let advice = "ulimit -n 65536, or LimitNOFILE=65536 in the unit";
    out.push(match files {
        files if files < FILES.0 => Check::failed(name, format!("at most {files}"), advice),
        files if files < FILES.1 => Check::warning(
            name,
            format!("at most {files}: enough for a few thousand connections"),
            advice,
        ),
        files => Check::good(name, format!("at most {files}")),
    });
    let Some((dir, free)) = &facts.disk else { return };
    let advice = "make room, or set data_dir to a larger disk";
    out.push(match free {
        Err(why) => Check::failed(
            "disk",
            format!("{dir}: {why}"),
            "let this user write there, or set data_dir",
        ),
        Ok(free) => {
            let found = format!("{dir}: {} MiB free", free >> 20);
            match *free {
                free if free < DISK.0 => Check::failed("disk", found, advice),
                free if free < DISK.1 => Check::warning("disk", found, advice),
                _ => Check::good("disk", found),
            }
        }
    });
}

fn chain(facts: &Facts, out: &mut Vec<Check>) {
    if let Some(chain) = &facts.chain {
        out.push(match &chain.head_s {
            Ok(_) => Check::good("chain", format!("{} answers", chain.name)),
            Err(why) => Check::failed(
                "chain",
                format!("{}: {why}", chain.name),
                "open the way to its servers, or set others under chain",
            ),
        });
    }
    if let Some((place, read)) = &facts.registry {
        registry(place, read, out);
    }
    match facts.chain.as_ref().and_then(|chain| chain.wallet.as_ref()) {
        None => {}
        Some((wallet, Err(why))) => {
            let advice = "see the line about the chain";
            out.push(Check::failed("balance", format!("{wallet}: {why}"), advice));
        }
        Some((wallet, Ok(balance))) if *balance < LITTLE => out.push(Check::warning(
            "balance",
            format!("{wallet} has {balance}"),
            "send it coins: every message to the chain costs some",
        )),
        Some((wallet, Ok(balance))) => {
            out.push(Check::good("balance", format!("{wallet} has {balance}")));
        }
    }
}

fn registry(place: &str, read: &Found<Registry>, out: &mut Vec<Check>) {
    let name = "registry";
    let registry = match read {
        Ok(registry) => registry,
        Err(why) => {
            let advice = "correct root (the root contract's address) or network_file";
            out.push(Check::failed(name, format!("{place}: {why}"), advice));
            return;
        }
    };
    let Registry { version, proxies, lists_image } = *registry;
    out.push(match proxies {
        0 => Check::failed(
            name,
            format!("{place}: version {version} lists no proxy that can be reached"),
            "is this the right network?",
        ),
        _ => Check::good(name, format!("{place}: version {version}, {proxies} proxies")),
    });
    match lists_image {
        Some(false) => out.push(Check::failed(
            "image",
            "the registry does not list this machine's image for its role",
            "boot a listed image, or have the network's owner list this one",
        )),
        Some(true) => out.push(Check::good("image", "listed in the registry")),
        None => {}
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
