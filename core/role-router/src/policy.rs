//! Whom a port admits: policies by name (protocol notes, wire 2.5 and 2.11).

use std::collections::BTreeMap;

use cocoon_attest::{Digest32, Digest48, Policy, TrustRoots};
use serde::{Deserialize, Serialize};

use crate::fault::RouterFault;

/// Most policies of one router.
const POLICIES_MAX: usize = 1024;

/// What a policy looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyKind {
    /// Nothing: every Ed25519 key is admitted.
    Any,
    /// TDX or SEV-SNP evidence.
    #[default]
    Tee,
    /// TDX evidence alone.
    Tdx,
    /// The reference's evidence without hardware.
    FakeTee,
}

impl PolicyKind {
    /// Reads the reference's word for it, of either line.
    ///
    /// # Errors
    /// [`RouterFault::Form`]: no such kind.
    pub fn read(text: &str) -> Result<Self, RouterFault> {
        match text {
            "any" => Ok(Self::Any),
            "tee" => Ok(Self::Tee),
            "tdx" => Ok(Self::Tdx),
            "fake_tee" | "fake_tdx" => Ok(Self::FakeTee),
            _ => Err(RouterFault::Form {
                text: text.chars().take(100).collect(),
                form: "a policy type: any, tee, tdx, fake_tee or fake_tdx",
            }),
        }
    }
}

/// One policy as it is configured. An empty list is not looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicySpec {
    /// What it looks at.
    pub kind: PolicyKind,
    /// Image hashes of the protocol, hex or base64.
    pub image_hashes: Vec<Digest32>,
    /// TDX: measurements of the initial contents, hex.
    pub mr_td: Vec<Digest48>,
    /// TDX: sets of the four runtime registers, hex.
    pub rtmr: Vec<[Digest48; 4]>,
    /// TDX: digests of the root keys that end quotes' chains, instead of Intel's.
    pub collateral_roots: Vec<Digest48>,
    /// SEV-SNP: launch measurements, hex.
    pub measurements: Vec<Digest48>,
}

impl PolicySpec {
    /// A policy of this kind with no lists.
    #[must_use]
    pub fn of(kind: PolicyKind) -> Self {
        Self { kind, ..Self::default() }
    }

    /// The policy that verifies by it. `roots` end the chains where the policy names none.
    ///
    /// # Errors
    /// [`RouterFault::Policy`]: it contradicts itself, or accepts fake evidence in a build that
    /// has none.
    pub fn policy(&self, name: &str, roots: &TrustRoots) -> Result<Policy, RouterFault> {
        let fault = |reason: String| RouterFault::Policy { name: name.to_owned(), reason };
        let lists =
            !self.mr_td.is_empty() || !self.rtmr.is_empty() || !self.measurements.is_empty();
        let mut policy = match self.kind {
            PolicyKind::Any if lists => {
                let reason = "kind any looks at nothing, so it can list no measurements";
                return Err(fault(reason.to_owned()));
            }
            PolicyKind::Any => Policy::any(),
            PolicyKind::Tee | PolicyKind::Tdx => Policy::tee().with_roots(roots.clone()),
            PolicyKind::FakeTee => fake(name)?,
        };
        name.clone_into(&mut policy.name);
        if let Some(tdx) = &mut policy.tdx {
            tdx.mr_td.clone_from(&self.mr_td);
            tdx.rtmr.clone_from(&self.rtmr);
        }
        if let Some(snp) = &mut policy.snp {
            snp.measurements.clone_from(&self.measurements);
        }
        if self.kind == PolicyKind::Tdx {
            policy.snp = None;
        }
        if !self.collateral_roots.is_empty() {
            policy.roots.tdx.clone_from(&self.collateral_roots);
        }
        if !self.image_hashes.is_empty() {
            policy = policy.with_images(self.image_hashes.iter().copied());
        }
        policy.check().map_err(|reason| fault(reason.to_string()))?;
        Ok(policy)
    }
}

#[cfg(feature = "dangerous-fake-evidence")]
fn fake(_name: &str) -> Result<Policy, RouterFault> {
    Ok(Policy::fake_tee())
}

#[cfg(not(feature = "dangerous-fake-evidence"))]
fn fake(name: &str) -> Result<Policy, RouterFault> {
    Err(RouterFault::Policy {
        name: name.to_owned(),
        reason: "fake evidence is accepted only by builds with the feature dangerous-fake-evidence"
            .to_owned(),
    })
}

/// Policies by name. `any`, `tee` and `tdx` are always there, and `fake_tee` and `fake_tdx` fail
/// when they are used in a build without them.
#[derive(Clone, Debug)]
pub struct PolicyTable {
    by_name: BTreeMap<String, PolicySpec>,
}

impl Default for PolicyTable {
    fn default() -> Self {
        let named = [
            ("any", PolicyKind::Any),
            ("tee", PolicyKind::Tee),
            ("tdx", PolicyKind::Tdx),
            ("fake_tee", PolicyKind::FakeTee),
            ("fake_tdx", PolicyKind::FakeTee),
        ];
        let by_name = named.map(|(name, kind)| (name.to_owned(), PolicySpec::of(kind)));
        Self { by_name: by_name.into_iter().collect() }
    }
}

impl PolicyTable {
    /// Adds a policy, or replaces the one of this name.
    ///
    /// # Errors
    /// [`RouterFault::Form`]: a name that cannot stand in a port's text, or too many.
    pub fn put(&mut self, name: &str, spec: PolicySpec) -> Result<(), RouterFault> {
        let form = "a policy's name: 1 to 255 bytes without `:`, `@` and blanks";
        let odd = |byte: u8| [b':', b'@'].contains(&byte) || byte.is_ascii_whitespace();
        if name.is_empty() || name.len() > 255 || name.bytes().any(odd) {
            return Err(RouterFault::Form { text: name.chars().take(100).collect(), form });
        }
        if self.by_name.len() >= POLICIES_MAX {
            let form = "fewer than 1024 policies";
            return Err(RouterFault::Form { text: name.to_owned(), form });
        }
        self.by_name.insert(name.to_owned(), spec);
        Ok(())
    }

    /// Adds `name:type[:hash,...]`, as `-P` takes it.
    ///
    /// # Errors
    /// [`RouterFault`]: written otherwise.
    pub fn put_text(&mut self, text: &str) -> Result<(), RouterFault> {
        let form = "name:type[:hash,...]";
        let mut parts = text.splitn(3, ':');
        let (Some(name), Some(kind)) = (parts.next(), parts.next()) else {
            return Err(RouterFault::Form { text: text.chars().take(200).collect(), form });
        };
        let kind = PolicyKind::read(kind)?;
        let image_hashes = parts.next().map(hashes).transpose()?.unwrap_or_default();
        self.put(name, PolicySpec { kind, image_hashes, ..PolicySpec::default() })
    }

    /// Finds `name`, or makes a policy of `name:hash,...` or the newer line's `tdx@hash` and
    /// `sev@hash`: that of the name, with these image hashes.
    ///
    /// # Errors
    /// [`RouterFault::NoPolicy`] names those that exist.
    pub fn find(&self, text: &str) -> Result<PolicySpec, RouterFault> {
        let (name, listed) = match text.split_once([':', '@']) {
            Some((name, listed)) => (if name == "sev" { "tee" } else { name }, Some(listed)),
            None => (text, None),
        };
        let mut spec = self.by_name.get(name).cloned().ok_or_else(|| RouterFault::NoPolicy {
            name: name.chars().take(100).collect(),
            known: self.by_name.keys().cloned().collect::<Vec<_>>().join(", "),
        })?;
        if let Some(listed) = listed {
            spec.image_hashes = hashes(listed)?;
        }
        Ok(spec)
    }

    /// The policy that a SOCKS user name asks for; names alone, nothing is made of them.
    #[must_use]
    pub fn named(&self, user: &[u8]) -> Option<(&str, &PolicySpec)> {
        let name = std::str::from_utf8(user).ok()?;
        self.by_name.get_key_value(name).map(|(name, spec)| (name.as_str(), spec))
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &PolicySpec)> {
        self.by_name.iter().map(|(name, spec)| (name.as_str(), spec))
    }
}

/// Image hashes, hex or base64, with commas between.
fn hashes(text: &str) -> Result<Vec<Digest32>, RouterFault> {
    let one = |text: &str| {
        // `tdx@` or `sev@` before a hash says what it is of; the hash alone decides.
        let bare = text.strip_prefix("tdx@").or_else(|| text.strip_prefix("sev@")).unwrap_or(text);
        Digest32::read("image hash", bare).map_err(|_| RouterFault::Form {
            text: text.chars().take(100).collect(),
            form: "an image hash: 64 hex digits, or base64 of 32 bytes",
        })
    };
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(one).collect()
}
