//! Evidence with everything that is needed to judge it, as one file.

use cocoon_attest::report::Report;
use cocoon_attest::{Collateral, Digest32, PeerEvidence, Policy};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest bundle in bytes.
pub const BUNDLE_LIMIT: usize = 16 << 20;

/// Most machines in a bundle.
const MACHINES_MAX: usize = 512;

/// Most hashes in a list of the registry.
pub(crate) const HASHES_MAX: usize = 65_536;

/// Longest text of a bundle that is shown to people, in bytes.
const TEXT_LIMIT: usize = 1024;

const FORMAT: &str = "cocoon.bundle";
const VERSION: u32 = 1;

/// A file that is no bundle. Nothing in it may be believed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BundleFault {
    /// It is too long.
    #[error("the bundle has {len} bytes, the limit is {BUNDLE_LIMIT}")]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// It is no JSON of this form.
    #[error("the bundle cannot be read: {detail}")]
    Malformed {
        /// Where and why.
        detail: String,
    },
    /// It is of a form that this version does not know.
    #[error("the file is {format:?} version {version}, this program reads {FORMAT:?} version 1")]
    Version {
        /// What it says it is.
        format: String,
        /// Which version.
        version: u32,
    },
}

/// Evidence of the machines behind a gateway at one time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// Always `cocoon.bundle`.
    pub format: String,
    /// Always 1.
    pub version: u32,
    /// When it was made, Unix milliseconds, by the clock of whoever made it.
    pub made_ms: u64,
    /// Nonce that the workers' reports were asked with.
    pub nonce: Digest32,
    /// State of the root contract as its maker read it.
    pub root: RootView,
    /// Policy of its maker, for the record; whoever examines the bundle brings an own one.
    pub policy: Option<Policy>,
    /// Collateral that machines point to.
    pub collateral: Vec<Collateral>,
    /// The machines.
    pub machines: Vec<Machine>,
}

/// What the root contract allows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootView {
    /// Hash part of its address.
    pub contract: Digest32,
    /// Network.
    pub network_id: i32,
    /// Its version.
    pub version: u32,
    /// Images of proxies.
    pub proxy_images: Vec<Digest32>,
    /// Images of workers.
    pub worker_images: Vec<Digest32>,
    /// Models, SHA-256 of their full names.
    pub models: Vec<Digest32>,
}

/// What a machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MachineRole {
    /// Between clients and workers.
    Proxy,
    /// In front of a model server.
    Worker,
}

impl MachineRole {
    /// Returns the word for people.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Worker => "worker",
        }
    }
}

/// One machine and what it showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// What it is.
    pub role: MachineRole,
    /// Address, contract or model, for people.
    pub name: String,
    /// What it showed.
    pub shown: Shown,
    /// Place of its collateral in [`Bundle::collateral`].
    pub collateral: Option<usize>,
}

/// What a machine showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Shown {
    /// Evidence in the certificate of its connection, or over its channel.
    Evidence(Box<PeerEvidence>),
    /// A report, base64 of its encoding.
    Report(String),
    /// Nothing, since it or somebody in between understands no reports.
    Nothing {
        /// Why, for people.
        reason: String,
    },
    /// It was asked and did not answer.
    Failed {
        /// Why, for people.
        reason: String,
    },
}

impl Bundle {
    /// Returns an empty bundle.
    #[must_use]
    pub fn new(made_ms: u64, nonce: Digest32, root: RootView) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            made_ms,
            nonce,
            root,
            policy: None,
            collateral: Vec::new(),
            machines: Vec::new(),
        }
    }

    /// Adds a machine. Collateral that is in the bundle already is not added twice; machines
    /// beyond the limit are left out.
    pub fn add(&mut self, role: MachineRole, name: &str, shown: Shown, collateral: Collateral) {
        if self.machines.len() >= MACHINES_MAX {
            return;
        }
        let place = (collateral != Collateral::default()).then(|| {
            self.collateral.iter().position(|kept| *kept == collateral).unwrap_or_else(|| {
                self.collateral.push(collateral);
                self.collateral.len() - 1
            })
        });
        let name = name.chars().filter(|c| !c.is_control()).take(TEXT_LIMIT / 4).collect();
        self.machines.push(Machine { role, name, shown, collateral: place });
    }

    /// Writes the file.
    ///
    /// # Errors
    /// Never for a bundle that was read or made here; the text is the library's.
    pub fn write(&self) -> Result<Vec<u8>, BundleFault> {
        serde_json::to_vec(self)
            .map_err(|fault| BundleFault::Malformed { detail: fault.to_string() })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`BundleFault`]: it is no bundle.
    pub fn read(bytes: &[u8]) -> Result<Self, BundleFault> {
        #[derive(Deserialize)]
        struct Head {
            format: String,
            version: u32,
        }
        if bytes.len() > BUNDLE_LIMIT {
            return Err(BundleFault::TooLong { len: bytes.len() });
        }
        let malformed = |detail: String| BundleFault::Malformed { detail };
        let head: Head =
            serde_json::from_slice(bytes).map_err(|fault| malformed(fault.to_string()))?;
        if head.format != FORMAT || head.version != VERSION {
            let format = head.format.chars().take(80).collect();
            return Err(BundleFault::Version { format, version: head.version });
        }
        let bundle: Self =
            serde_json::from_slice(bytes).map_err(|fault| malformed(fault.to_string()))?;
        bundle.check().map_err(|detail| malformed(detail.to_owned()))?;
        Ok(bundle)
    }

    fn check(&self) -> Result<(), &'static str> {
        if self.machines.len() > MACHINES_MAX || self.collateral.len() > MACHINES_MAX {
            return Err("it holds too many machines");
        }
        let root = &self.root;
        if [&root.proxy_images, &root.worker_images, &root.models]
            .iter()
            .any(|list| list.len() > HASHES_MAX)
        {
            return Err("a list of the registry is too long");
        }
        for machine in &self.machines {
            if machine.collateral.is_some_and(|place| place >= self.collateral.len()) {
                return Err("a machine points to collateral that is not there");
            }
            let (Shown::Nothing { reason } | Shown::Failed { reason }) = &machine.shown else {
                if machine.name.len() > TEXT_LIMIT || machine.name.chars().any(char::is_control) {
                    return Err("a name is too long or no plain text");
                }
                continue;
            };
            for text in [&machine.name, reason] {
                if text.len() > TEXT_LIMIT || text.chars().any(char::is_control) {
                    return Err("a text is too long or no plain text");
                }
            }
        }
        Ok(())
    }
}

impl Shown {
    /// Returns what a report is shown as.
    #[must_use]
    pub fn report(report: &[u8]) -> Self {
        use base64::Engine as _;
        Self::Report(base64::engine::general_purpose::STANDARD.encode(report))
    }

    /// Returns the report, when this is one.
    ///
    /// # Errors
    /// The text is no report.
    pub(crate) fn read_report(text: &str) -> Result<Report, String> {
        use base64::Engine as _;
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(text)
            .map_err(|_| "the report is no base64".to_owned())?;
        Report::decode(&bytes).map_err(|fault| format!("the report cannot be read: {fault}"))
    }
}
