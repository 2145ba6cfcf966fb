//! Attacks on SEV-SNP reports.

use cocoon_attest::snp::{SnpPolicy, SnpProduct, SnpTcb};
use cocoon_attest::{
    BadEvidence, CannotCheck, ClaimKind, Finding, Outcome, PeerEvidence, Policy, TrustRoots,
};
use cocoon_evidence::sim::Misbehave;

use super::stage::{accepted, evidence, fails, judge, judge_evidence, only, snp, unknown};

fn lying(lie: Misbehave) -> cocoon_attest::Verdict {
    let platform = snp(SnpProduct::Genoa, Some(lie));
    judge(&platform, &platform.policy())
}

#[test]
fn honest_snp_guests_pass_on_genoa_and_turin() {
    for product in [SnpProduct::Genoa, SnpProduct::Turin] {
        let platform = snp(product, None);
        let verdict = judge(&platform, &platform.policy());
        accepted(&verdict);
        assert_eq!(verdict.image_hash(), Some(platform.image_hash()));
    }
}

#[test]
fn milan_is_refused_by_default() {
    let platform = snp(SnpProduct::Milan, None);
    let policy = platform.policy();
    let verdict = judge(&platform, &policy);
    assert!(matches!(fails(&verdict, ClaimKind::Hardware), BadEvidence::Product { .. }));
    let products = vec![SnpProduct::Milan];
    let rules = SnpPolicy { products, ..policy.snp.clone().unwrap() };
    accepted(&judge(&platform, &Policy { snp: Some(rules), ..policy }));
}

#[test]
fn without_smallest_versions_nothing_says_that_firmware_is_patched() {
    for product in [SnpProduct::Genoa, SnpProduct::Turin] {
        let platform = snp(product, None);
        let policy = Policy::tee().with_roots(platform.policy().roots);
        let verdict = judge(&platform, &policy);
        let missing = BadEvidence::NotClaimed { claim: ClaimKind::Tcb };
        assert_eq!(verdict.outcome(), Outcome::Refuse(missing), "{verdict:#?}");
        let reason = &verdict.claim(ClaimKind::Tcb).unwrap().reason;
        assert!(reason.contains("snp.min_tcb") && reason.contains("microcode 84"), "{reason}");
        // Smallest versions of another generation, or zeros, say nothing of this one.
        let others = [SnpProduct::Genoa, SnpProduct::Turin].into_iter().find(|it| *it != product);
        let smallest = SnpTcb { snp: 23, microcode: 84, ..SnpTcb::default() };
        let with = |product, smallest| {
            let rules = SnpPolicy { min_tcb: [(product, smallest)].into(), ..SnpPolicy::default() };
            judge(&platform, &Policy { snp: Some(rules), ..policy.clone() })
        };
        for (named, smallest) in [(others.unwrap(), smallest), (product, SnpTcb::default())] {
            assert_eq!(*with(named, smallest).finding(ClaimKind::Tcb), Finding::NotClaimed);
        }
        accepted(&with(product, smallest));
        // An inflated report is refused even where no versions are asked for.
        let lying = snp(product, Some(Misbehave::SnpInflatedTcb));
        let verdict = judge(&lying, &policy);
        assert!(matches!(fails(&verdict, ClaimKind::Tcb), BadEvidence::TcbInflated { .. }));
    }
}

#[test]
fn snp_debug_policy() {
    let verdict = lying(Misbehave::SnpDebug);
    assert!(matches!(fails(&verdict, ClaimKind::DebugOff), BadEvidence::Debug { .. }));
    only(&verdict, ClaimKind::DebugOff);
}

#[test]
fn snp_wrong_vmpl() {
    let verdict = lying(Misbehave::SnpLowPrivilege);
    let bad = fails(&verdict, ClaimKind::Hardware);
    assert!(bad.to_string().contains("VMPL"), "{bad}");
    only(&verdict, ClaimKind::Hardware);
}

#[test]
fn snp_migration_and_multithreading_policy() {
    let verdict = lying(Misbehave::SnpMigration);
    let bad = fails(&verdict, ClaimKind::Hardware);
    assert!(bad.to_string().contains("migration"), "{bad}");
    let platform = snp(SnpProduct::Genoa, None);
    let policy = platform.policy();
    let snp = Some(SnpPolicy { allow_smt: false, ..policy.snp.clone().unwrap() });
    let verdict = judge(&platform, &Policy { snp, ..policy });
    let bad = fails(&verdict, ClaimKind::Hardware);
    assert!(bad.to_string().contains("multithreading"), "{bad}");
}

#[test]
fn snp_tcb_in_the_report_higher_than_in_the_certificate() {
    let verdict = lying(Misbehave::SnpInflatedTcb);
    let bad = fails(&verdict, ClaimKind::Tcb);
    assert!(matches!(bad, BadEvidence::TcbInflated { report: 93, certificate: 84, .. }), "{bad}");
    only(&verdict, ClaimKind::Tcb);
}

#[test]
fn snp_tcb_of_the_certificate_too_old() {
    let verdict = lying(Misbehave::SnpOldTcb);
    let bad = fails(&verdict, ClaimKind::Tcb);
    assert!(matches!(bad, BadEvidence::TooOld { found: 5, .. }), "{bad}");
    only(&verdict, ClaimKind::Tcb);
}

#[test]
fn snp_report_of_another_chip() {
    let verdict = lying(Misbehave::SnpOtherChip);
    let bad = fails(&verdict, ClaimKind::Hardware);
    assert!(bad.to_string().contains("chip id"), "{bad}");
}

#[test]
fn snp_wrong_measurement() {
    let verdict = lying(Misbehave::SnpWrongMeasurement);
    assert!(matches!(fails(&verdict, ClaimKind::Image), BadEvidence::Measurement { .. }));
    only(&verdict, ClaimKind::Image);
}

#[test]
fn snp_stolen_report_on_another_key() {
    let platform = snp(SnpProduct::Genoa, None);
    let stolen = PeerEvidence { public_key: [0x43; 32], ..evidence(&platform) };
    let verdict = judge_evidence(&platform, &stolen, &platform.policy());
    assert!(matches!(fails(&verdict, ClaimKind::KeyBinding), BadEvidence::NotBound { .. }));
    only(&verdict, ClaimKind::KeyBinding);
}

#[test]
fn snp_authority_revoked() {
    let cannot = unknown(&lying(Misbehave::SnpRevokedAuthority), ClaimKind::Hardware);
    assert!(cannot.to_string().contains("revokes"), "{cannot}");
}

#[test]
fn snp_expired_and_forged_revocation_lists() {
    let cannot = unknown(&lying(Misbehave::ExpiredCrl), ClaimKind::Hardware);
    assert!(matches!(cannot, CannotCheck::StaleCollateral { .. }), "{cannot}");
    let cannot = unknown(&lying(Misbehave::ForgedCrl), ClaimKind::Hardware);
    assert!(matches!(cannot, CannotCheck::UntrustedCollateral { .. }), "{cannot}");
}

#[test]
fn snp_wrong_root() {
    let verdict = lying(Misbehave::WrongRoot);
    let bad = fails(&verdict, ClaimKind::Hardware);
    assert!(matches!(bad, BadEvidence::Signature { .. }), "{bad}");
    let platform = snp(SnpProduct::Genoa, None);
    let policy = platform.policy().with_roots(TrustRoots::production());
    let cannot = unknown(&judge(&platform, &policy), ClaimKind::Hardware);
    assert!(matches!(cannot, CannotCheck::UntrustedCollateral { .. }), "{cannot}");
}

#[test]
fn snp_truncated_and_altered_reports() {
    let platform = snp(SnpProduct::Genoa, None);
    let whole = evidence(&platform);
    let report = whole.sev_report.clone().unwrap();
    for len in [0, 1, 0x50, 0x2a0, 1183] {
        let cut = PeerEvidence { sev_report: Some(report[..len].to_vec()), ..whole.clone() };
        let verdict = judge_evidence(&platform, &cut, &platform.policy());
        assert!(matches!(fails(&verdict, ClaimKind::Hardware), BadEvidence::Malformed { .. }));
    }
    // Every signed byte counts; those of the report data are compared before.
    for at in (0..0x2a0).step_by(13) {
        let mut altered = report.clone();
        altered[at] ^= 1;
        let altered = PeerEvidence { sev_report: Some(altered), ..whole.clone() };
        fails(&judge_evidence(&platform, &altered, &platform.policy()), ClaimKind::Hardware);
    }
    for part in [
        PeerEvidence { sev_report: None, ..whole.clone() },
        PeerEvidence { sev_vcek_pem: None, ..whole.clone() },
        PeerEvidence { sev_report_data: None, ..whole },
    ] {
        let verdict = judge_evidence(&platform, &part, &platform.policy());
        assert!(matches!(fails(&verdict, ClaimKind::Hardware), BadEvidence::Missing { .. }));
    }
}
