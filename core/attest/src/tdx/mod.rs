//! Intel TDX: quotes, collateral, policy, event log.

use serde::{Deserialize, Serialize};

use crate::collateral::CollateralNeed;
use crate::fault::BadEvidence;

/// What is accepted from TDX guests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TdxPolicy {
}

/// Returns what to fetch for a quote.
pub(crate) fn collateral_need(_quote: &[u8]) -> Result<CollateralNeed, BadEvidence> {
    Ok(CollateralNeed::Nothing)
}
