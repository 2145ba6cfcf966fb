//! The claims that a SEV-SNP report decides.

use super::SnpPolicy;
use super::genuine::{Genuine, genuine};
use super::report::SnpReport;
use super::vcek::SnpTcb;
use crate::binding;
use crate::collateral::SnpCollateral;
use crate::draft::{Draft, Obstacle};
use crate::evidence::PeerEvidence;
use crate::fault::BadEvidence;
use crate::measurement::Measurement;
use crate::policy::Policy;
use crate::runtime::user_data;
use crate::verdict::{ClaimKind, PlatformId, Source};

/// Everything that rests on the report's signature.
const RESTING: [ClaimKind; 5] = [
    ClaimKind::Hardware,
    ClaimKind::Tcb,
    ClaimKind::Image,
    ClaimKind::DebugOff,
    ClaimKind::KeyBinding,
];

/// Judges the SEV-SNP report of `evidence`.
pub(crate) fn judge(
    evidence: &PeerEvidence,
    collateral: Option<&SnpCollateral>,
    policy: &Policy,
    now_s: u64,
    draft: &mut Draft,
) {
    let source = Source::SnpReport;
    let Some(rules) = &policy.snp else {
        let bad = BadEvidence::PlatformRefused { platform: "SEV-SNP" };
        return draft.obstructed(&RESTING, source, &Obstacle::Bad(bad));
    };
    let (report, genuine) = match check(evidence, collateral, rules, policy, now_s) {
        Ok(checked) => checked,
        Err(obstacle) => return draft.obstructed(&RESTING, source, &obstacle),
    };
    let product = genuine.vcek.product;
    if evidence.runtime_data.is_none() {
        draft.measured(Measurement::Snp(report.measurement));
    }
    draft.platform(PlatformId::AmdChip(hex::encode(&genuine.vcek.hardware_id)));
    draft.root(genuine.root);
    draft.valid_until_s(genuine.valid_until_s);
    draft.judge(ClaimKind::Hardware, source, launched(&report, rules, product.name()));
    match tcb(&report, &genuine, rules) {
        Ok(Some(reason)) => draft.holds_since(ClaimKind::Tcb, source, genuine.issued_s, reason),
        Ok(None) => {
            let (name, found) = (product.name(), genuine.vcek.tcb);
            let reason = format!(
                "the policy names no smallest versions for {name} (snp.min_tcb); here are {found}"
            );
            draft.silent(ClaimKind::Tcb, Source::Policy, reason);
        }
        Err(bad) => draft.fails(ClaimKind::Tcb, source, bad),
    }
    draft.judge(ClaimKind::DebugOff, source, debug_off(&report));
    binding::judge(evidence, &report.report_data, source, now_s, draft);
    image(evidence, &report, rules, policy, draft);
}

/// Reads the three extensions and verifies their signatures (protocol notes 2.8).
fn check(
    evidence: &PeerEvidence,
    collateral: Option<&SnpCollateral>,
    rules: &SnpPolicy,
    policy: &Policy,
    now_s: u64,
) -> Result<(SnpReport, Genuine), Obstacle> {
    let missing = |what| BadEvidence::Missing { what };
    let raw = evidence.sev_report.as_deref().ok_or(missing("the SEV-SNP report"))?;
    let vcek = evidence.sev_vcek_pem.as_deref().ok_or(missing("the VCEK certificate"))?;
    let stated = evidence.sev_report_data.as_deref().ok_or(missing("the SEV report data"))?;
    let report = SnpReport::read(raw)?;
    let covered = match evidence.runtime_data.as_deref() {
        None => report.report_data,
        Some(runtime_data) => user_data(runtime_data, &report.report_data)?,
    };
    if stated != covered {
        let expected = "the report data beside the report";
        return Err(BadEvidence::NotBound { expected }.into());
    }
    let genuine = genuine(raw, &report, vcek, collateral, rules, &policy.roots, now_s)?;
    Ok((report, genuine))
}

/// Judges how the guest was launched.
fn launched(report: &SnpReport, rules: &SnpPolicy, name: &str) -> Result<String, BadEvidence> {
    let attribute = |what, found: String, required: String| {
        Err(BadEvidence::Attribute { what, found, required })
    };
    if !report.policy.well_formed() {
        return attribute("bit 17 of the guest policy", "0".to_owned(), "1".to_owned());
    }
    if report.vmpl > rules.max_vmpl {
        let required = format!("at most {}", rules.max_vmpl);
        return attribute("the privilege level (VMPL)", report.vmpl.to_string(), required);
    }
    if report.policy.migration() && !rules.allow_migration {
        return attribute("a migration agent", "allowed".to_owned(), "forbidden".to_owned());
    }
    if report.policy.smt() && !rules.allow_smt {
        return attribute("multithreading", "allowed".to_owned(), "forbidden".to_owned());
    }
    Ok(format!("a SEV-SNP guest on {name}, signed by its chip"))
}

/// Judges versions by the certificate; the report's own word never counts. Only the policy says which
/// versions are patched; without its word there is nothing to compare with.
fn tcb(
    report: &SnpReport,
    genuine: &Genuine,
    rules: &SnpPolicy,
) -> Result<Option<String>, BadEvidence> {
    let certified = genuine.vcek.tcb;
    let reported = report.tcb(genuine.vcek.product);
    let pairs = |left: SnpTcb, right: SnpTcb| left.components().into_iter().zip(right.components());
    for ((component, report), (_, certificate)) in pairs(reported, certified) {
        if report != certificate {
            return Err(BadEvidence::TcbInflated { component, report, certificate });
        }
    }
    let smallest = rules.min_tcb.get(&genuine.vcek.product);
    let Some(smallest) = smallest.filter(|smallest| **smallest != SnpTcb::default()) else {
        return Ok(None);
    };
    for ((component, found), (_, required)) in pairs(certified, *smallest) {
        if found < required {
            return Err(BadEvidence::TooOld { component, found, required });
        }
    }
    Ok(Some("the chip's certificate names the versions that the policy asks for".to_owned()))
}

fn debug_off(report: &SnpReport) -> Result<String, BadEvidence> {
    if report.policy.debug() {
        return Err(BadEvidence::Debug { detail: "the guest policy allows debugging" });
    }
    Ok("the guest policy forbids debugging".to_owned())
}

fn image(
    evidence: &PeerEvidence,
    report: &SnpReport,
    rules: &SnpPolicy,
    policy: &Policy,
    draft: &mut Draft,
) {
    let source = Source::SnpReport;
    let listed = !rules.measurements.is_empty();
    if listed && !rules.measurements.contains(&report.measurement) {
        let found = report.measurement.to_string();
        let bad = BadEvidence::Measurement { register: "the launch measurement", found };
        return draft.fails(ClaimKind::Image, source, bad);
    }
    let hash = Measurement::Snp(report.measurement).image_hash();
    binding::image(evidence, (&report.report_data, hash), policy, listed, source, draft);
}
