//! The claims that a TDX quote decides.

use dcap_qvl::TcbStatus;
use dcap_qvl::policy::QuoteClaims;

use super::TdxPolicy;
use super::bootlog::BootLog;
use super::eventlog::{DEBUG_EVENT, EventLog, GPU_EVENT, READY_EVENT};
use super::genuine::{Genuine, genuine};
use super::report::TdReport;
use crate::binding;
use crate::collateral::TdxCollateral;
use crate::digest::{Digest32, Digest48};
use crate::draft::{Draft, Obstacle};
use crate::evidence::PeerEvidence;
use crate::fault::BadEvidence;
use crate::measurement::{Measurement, TdMeasurement};
use crate::policy::Policy;
use crate::verdict::{ClaimKind, PlatformId, Source};

/// Everything that rests on the quote's signature.
const RESTING: [ClaimKind; 5] = [
    ClaimKind::Hardware,
    ClaimKind::Tcb,
    ClaimKind::Image,
    ClaimKind::DebugOff,
    ClaimKind::KeyBinding,
];

const DAY_S: u64 = 86_400;

/// Judges the quote of `evidence`; returns the event log when it is the measured one.
pub(crate) fn judge(
    evidence: &PeerEvidence,
    quote: &[u8],
    collateral: Option<&TdxCollateral>,
    policy: &Policy,
    now_s: u64,
    draft: &mut Draft,
) -> Option<EventLog> {
    let source = Source::TdxQuote;
    let Some(rules) = &policy.tdx else {
        let bad = BadEvidence::PlatformRefused { platform: "TDX" };
        draft.obstructed(&RESTING, source, &Obstacle::Bad(bad));
        return None;
    };
    let checked = TdReport::read(quote).map_err(Obstacle::Bad).and_then(|report| {
        let genuine = genuine(quote, &report, collateral, &policy.roots, now_s)?;
        Ok((report, genuine))
    });
    let (report, genuine) = match checked {
        Ok(checked) => checked,
        Err(obstacle) => {
            draft.obstructed(&RESTING, source, &obstacle);
            return None;
        }
    };
    record(&genuine, draft);
    if evidence.runtime_data.is_none() {
        draft.measured(Measurement::Td(Box::new(report.measurement.clone())));
    }
    let claims = &genuine.claims;
    draft.holds(
        ClaimKind::Hardware,
        source,
        format!(
            "a TDX guest, quote version {}, signed by a processor of the trusted root",
            report.version
        ),
    );
    match tcb(claims, rules, now_s) {
        Ok((reason, until_s)) => {
            draft.holds_since(ClaimKind::Tcb, source, genuine.patches_s, reason);
            draft.valid_until_s(until_s);
        }
        Err(bad) => draft.fails(ClaimKind::Tcb, source, bad),
    }
    binding::judge(evidence, &report.report_data, source, now_s, draft);
    let log = event_log(evidence, rules, &report);
    draft.judge(ClaimKind::DebugOff, source, debug_off(&report, log.as_ref().ok()));
    let boot_log = boot_log(evidence, rules, &report);
    match log {
        Ok(log) => {
            if let Err(bad) = boot_log {
                draft.fails(ClaimKind::Image, Source::BootLog, bad);
                return Some(log).filter(|_| evidence.event_log.is_some());
            }
            let booted = booted(&report.measurement, &log);
            image(evidence, &report, booted, rules, policy, draft);
            Some(log).filter(|_| evidence.event_log.is_some())
        }
        Err(bad) => {
            draft.fails(ClaimKind::Image, Source::EventLog, bad);
            None
        }
    }
}

fn record(genuine: &Genuine, draft: &mut Draft) {
    draft.platform(PlatformId::IntelPpid(hex::encode(&genuine.claims.platform.pck.ppid)));
    draft.root(genuine.root);
    draft.valid_until_s(genuine.valid_until_s);
}

/// Judges the level of patches; says until when that holds, Unix seconds.
fn tcb(claims: &QuoteClaims, rules: &TdxPolicy, now_s: u64) -> Result<(String, u64), BadEvidence> {
    let status = claims.tcb.status;
    let mut advisories = claims.tcb.advisory_ids.clone();
    if let Some(current) = &claims.platform.current_tcb_level {
        let missing =
            current.advisory_ids.iter().filter(|id| !claims.tcb.advisory_ids.contains(id));
        advisories.extend(missing.cloned());
    }
    let named = |list: &[String], id: &str| list.iter().any(|known| known.eq_ignore_ascii_case(id));
    if let Some(advisory) = advisories.iter().find(|id| named(&rules.rejected_advisories, id)) {
        return Err(BadEvidence::Advisory { advisory: advisory.clone() });
    }
    if claims.tcb.eval_data_number < rules.min_tcb_evaluation {
        return Err(BadEvidence::Attribute {
            what: "tcbEvaluationDataNumber",
            found: claims.tcb.eval_data_number.to_string(),
            required: format!("at least {}", rules.min_tcb_evaluation),
        });
    }
    let refused =
        || BadEvidence::Tcb { status: status.to_string(), advisories: advisories.clone() };
    if status == TcbStatus::UpToDate {
        return Ok(("the platform is up to date".to_owned(), u64::MAX));
    }
    let listed = rules.tcb_statuses.iter().any(|known| *known == status.to_string());
    if !listed || status == TcbStatus::Revoked {
        return Err(refused());
    }
    if let Some(advisory) = advisories.iter().find(|id| !named(&rules.tolerated_advisories, id)) {
        return Err(BadEvidence::Advisory { advisory: advisory.clone() });
    }
    let out_of_date =
        matches!(status, TcbStatus::OutOfDate | TcbStatus::OutOfDateConfigurationNeeded);
    let grace_end_s = claims
        .platform
        .tcb_date_tag
        .saturating_add(u64::from(rules.grace_days).saturating_mul(DAY_S));
    if out_of_date && now_s > grace_end_s {
        return Err(refused());
    }
    let until_s = if out_of_date { grace_end_s } else { u64::MAX };
    Ok((format!("the platform is {status}, which the policy tolerates"), until_s))
}

fn debug_off(report: &TdReport, log: Option<&EventLog>) -> Result<String, BadEvidence> {
    if let Some(detail) = report.debug() {
        return Err(BadEvidence::Debug { detail });
    }
    if log.is_some_and(|log| log.contains(DEBUG_EVENT)) {
        return Err(BadEvidence::Debug { detail: "the event log names a debugging image" });
    }
    Ok("no debugging and no profiling bit is set".to_owned())
}

/// Reads and replays the log; an absent one is an empty log unless the policy demands it.
fn event_log(
    evidence: &PeerEvidence,
    rules: &TdxPolicy,
    report: &TdReport,
) -> Result<EventLog, BadEvidence> {
    let Some(text) = &evidence.event_log else {
        if rules.require_event_log {
            return Err(BadEvidence::Missing { what: "the event log" });
        }
        return Ok(EventLog::default());
    };
    let log = EventLog::read(text)?;
    let [_, _, _, rtmr3] = &report.measurement.rtmr;
    log.check(rtmr3)?;
    Ok(log)
}

/// Replays the firmware's log; an absent one says nothing unless the policy demands it. What it says
/// changes no verdict: the registers decide, and the log explains them.
fn boot_log(
    evidence: &PeerEvidence,
    rules: &TdxPolicy,
    report: &TdReport,
) -> Result<(), BadEvidence> {
    match &evidence.boot_log {
        Some(bytes) => BootLog::read(bytes)?.check(&report.measurement.rtmr),
        None if rules.require_boot_log => Err(BadEvidence::Missing { what: "the boot log" }),
        None => Ok(()),
    }
}

/// Returns the registers without what differs from one machine of an image to the next: the
/// digest of GPU evidence, which the log vouches for and the GPU claim judges. Without it an
/// image would have another hash at every boot, and no list could name it.
///
/// Only one such event, of 64 hex digits, before the workload starts: otherwise software that
/// runs later could hide its traces under this name.
fn booted(measured: &TdMeasurement, log: &EventLog) -> TdMeasurement {
    let mut booted = measured.clone();
    let digest = log.value_before(GPU_EVENT, READY_EVENT);
    if digest.is_some_and(|text| Digest32::read("gpu", text).is_ok() && text.len() == 64) {
        let [_, _, _, rtmr3] = &mut booted.rtmr;
        *rtmr3 = log.register_without(GPU_EVENT);
    }
    booted
}

/// Judges what booted by every list the policy has.
fn image(
    evidence: &PeerEvidence,
    report: &TdReport,
    td: TdMeasurement,
    rules: &TdxPolicy,
    policy: &Policy,
    draft: &mut Draft,
) {
    let source = Source::TdxQuote;
    let registers: [(&'static str, &[Digest48], &Digest48); 3] = [
        ("MRTD", &rules.mr_td, &td.mr_td),
        ("MRCONFIGID", &rules.mr_config_id, &td.mr_config_id),
        ("MRSEAM", &rules.mr_seam, &report.mr_seam),
    ];
    for (register, list, found) in registers {
        if !list.is_empty() && !list.contains(found) {
            let found = found.to_string();
            return draft.fails(
                ClaimKind::Image,
                source,
                BadEvidence::Measurement { register, found },
            );
        }
    }
    if let Err(bad) = runtime(rules, &td.rtmr) {
        return draft.fails(ClaimKind::Image, source, bad);
    }
    let listed = !rules.mr_td.is_empty() || !rules.rtmr.is_empty();
    let hash = Measurement::Td(Box::new(td)).image_hash();
    binding::image(evidence, (&report.report_data, hash), policy, listed, source, draft);
}

/// Names the first runtime register that differs from the closest accepted set.
fn runtime(rules: &TdxPolicy, found: &[Digest48; 4]) -> Result<(), BadEvidence> {
    const NAMES: [&str; 4] = ["RTMR0", "RTMR1", "RTMR2", "RTMR3"];
    if rules.rtmr.is_empty() || rules.rtmr.contains(found) {
        return Ok(());
    }
    let first_difference = |set: &[Digest48; 4]| {
        set.iter().zip(found).position(|(expected, found)| expected != found).unwrap_or(0)
    };
    let at = rules.rtmr.iter().map(first_difference).max().unwrap_or(0);
    Err(BadEvidence::Measurement {
        register: NAMES.get(at).copied().unwrap_or("RTMR"),
        found: found.get(at).map(ToString::to_string).unwrap_or_default(),
    })
}
