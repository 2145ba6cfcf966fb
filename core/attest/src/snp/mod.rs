//! AMD SEV-SNP: report, VCEK chain, revocation, policy.

mod genuine;
mod judge;
mod report;
mod vcek;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest48;

pub(crate) use genuine::{collateral_dates, collateral_need};
pub(crate) use judge::judge;
pub use report::{GuestPolicy, REPORT_LEN, SnpReport};
pub use vcek::{SnpTcb, Vcek};

/// Generations of processors with SEV-SNP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnpProduct {
    /// Zen 3. Its VCEK seeds were extracted in software (2026), so it is refused by default.
    Milan,
    /// Zen 4, Siena and Bergamo included.
    Genoa,
    /// Zen 5.
    Turin,
}

impl SnpProduct {
    /// Returns the name in AMD's certificates.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Milan => "Milan",
            Self::Genoa => "Genoa",
            Self::Turin => "Turin",
        }
    }

    /// Returns the generation that a certificate's product name begins with; Siena is a
    /// Genoa with its own name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        if name.starts_with("Siena") {
            return Some(Self::Genoa);
        }
        [Self::Milan, Self::Genoa, Self::Turin]
            .into_iter()
            .find(|known| name.starts_with(known.name()))
    }
}

/// What is accepted from SEV-SNP guests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SnpPolicy {
    /// Accepted generations.
    pub products: Vec<SnpProduct>,
    /// Accepted launch measurements; an empty list means "not looked at".
    pub measurements: Vec<Digest48>,
    /// Smallest versions of each generation, compared with the VCEK certificate. AMD signs no list
    /// of patched versions as Intel does, so this is the only thing that says which ones are: of a
    /// generation without an entry, or with one of zeros alone, the claim "TCB" is not claimed.
    pub min_tcb: BTreeMap<SnpProduct, SnpTcb>,
    /// Highest accepted privilege level of the requester; 0 is the most privileged.
    pub max_vmpl: u32,
    /// Whether the guest may run with simultaneous multithreading.
    pub allow_smt: bool,
    /// Whether a migration agent may be associated.
    pub allow_migration: bool,
}

impl Default for SnpPolicy {
    fn default() -> Self {
        Self {
            products: vec![SnpProduct::Genoa, SnpProduct::Turin],
            measurements: Vec::new(),
            min_tcb: BTreeMap::new(),
            max_vmpl: 0,
            allow_smt: true,
            allow_migration: false,
        }
    }
}
