//! Intel TDX: quotes, collateral, policy, event log.

mod bootlog;
mod collateral;
mod eventlog;
mod genuine;
mod judge;
mod report;

use serde::{Deserialize, Serialize};

use crate::digest::Digest48;

pub use bootlog::{BootEvent, BootLog, BootRegister, BootStep};
pub(crate) use collateral::in_dates;
pub use collateral::{TdxDates, collateral_dates};
pub(crate) use collateral::{check_signatures, trusted_root};
pub use eventlog::{DEBUG_EVENT, EventLog, GPU_EVENT, READY_EVENT, ReplayStep, SPEC_EVENT};
pub(crate) use genuine::{blame, collateral_need, parse, quote_root};
pub(crate) use judge::judge;
pub use report::TdReport;

/// What is accepted from TDX guests. An empty list of measurements means "not looked at".
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TdxPolicy {
    /// Accepted measurements of the initial contents.
    pub mr_td: Vec<Digest48>,
    /// Accepted sets of the four runtime registers.
    pub rtmr: Vec<[Digest48; 4]>,
    /// Accepted configurations (`MRCONFIGID`).
    pub mr_config_id: Vec<Digest48>,
    /// Accepted TDX modules.
    pub mr_seam: Vec<Digest48>,
    /// TCB statuses accepted besides `UpToDate`, in Intel's spelling. `Revoked` is never
    /// accepted. Out-of-date statuses also need [`TdxPolicy::grace_days`].
    pub tcb_statuses: Vec<String>,
    /// Advisories that may apply to a platform that is not up to date. With an empty list
    /// none may.
    pub tolerated_advisories: Vec<String>,
    /// Advisories that refuse a platform whatever its status.
    pub rejected_advisories: Vec<String>,
    /// For how many days after its level's date an out-of-date platform is still accepted.
    pub grace_days: u32,
    /// Smallest `tcbEvaluationDataNumber` of the collateral.
    pub min_tcb_evaluation: u32,
    /// Whether the event log must be offered. Only peers that speak the channel handshake
    /// can offer one.
    pub require_event_log: bool,
    /// Whether the firmware's boot log must be offered. Like the event log it comes after the
    /// handshake only, and only from machines whose firmware leaves one.
    pub require_boot_log: bool,
}
