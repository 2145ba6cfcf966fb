//! AMD SEV-SNP: report, VCEK chain, revocation, policy.

use serde::{Deserialize, Serialize};

use crate::collateral::CollateralNeed;
use crate::fault::BadEvidence;

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

/// What is accepted from SEV-SNP guests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SnpPolicy {
}

/// Returns what to fetch for a VCEK.
pub(crate) fn collateral_need(_vcek_pem: &[u8]) -> Result<CollateralNeed, BadEvidence> {
    Ok(CollateralNeed::Nothing)
}
