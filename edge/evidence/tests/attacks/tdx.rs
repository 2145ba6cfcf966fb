//! Attacks on TDX quotes.

use cocoon_attest::tdx::TdxPolicy;
use cocoon_attest::{
    BadEvidence, ClaimKind, Finding, Measurement, PeerEvidence, Policy, RegisteredPlatform,
    TdMeasurement, TrustRoots, verify,
};
use cocoon_evidence::sim::{Misbehave, SimulatedPlatform, SimulatedPlatformForm};
use cocoon_evidence::{EvidenceProvider as _, QuoteSubject};

use super::stage::{
    KEY, NOW_S, accepted, boot, evidence, fails, judge, judge_evidence, only, tdx, with_gpu,
};

fn rules(change: impl FnOnce(&mut TdxPolicy)) -> impl FnOnce(Policy) -> Policy {
    |mut policy| {
        let mut tdx = TdxPolicy::default();
        change(&mut tdx);
        policy.tdx = Some(tdx);
        policy
    }
}

fn registers(platform: &SimulatedPlatform) -> TdMeasurement {
    match platform.measurement().unwrap() {
        Measurement::Td(td) => *td,
        Measurement::Snp(_) => panic!("a TDX guest"),
    }
}

#[test]
fn honest_tdx_guests_pass_in_both_quote_versions() {
    for quote_version in [4, 5] {
        let platform = boot(SimulatedPlatformForm { quote_version, ..Default::default() });
        let verdict = judge(&platform, &platform.policy());
        accepted(&verdict);
        assert_eq!(verdict.image_hash(), Some(platform.image_hash()));
        assert_eq!(verdict.platform, Some(platform.platform_id()));
        assert_eq!(*verdict.finding(ClaimKind::Freshness), Finding::NotClaimed);
        assert_eq!(*verdict.finding(ClaimKind::Gpu), Finding::NotClaimed);
        assert!(verdict.valid_until_ms > NOW_S * 1000);
        // What is known of patches is as old as the collateral, not as the roots.
        let tcb = verdict.claims.iter().find(|claim| claim.kind == ClaimKind::Tcb).unwrap();
        assert_eq!(tcb.age_ms, Some(3_600_000));
    }
}

#[test]
fn stolen_quote_on_another_key() {
    let platform = tdx(None);
    let stolen = PeerEvidence { public_key: [0x43; 32], ..evidence(&platform) };
    // The thief has to name its own key in the claims, too.
    let stolen = PeerEvidence { user_claims: Some(vec![0x43; 32]), ..stolen };
    let verdict = judge_evidence(&platform, &stolen, &platform.policy());
    assert!(matches!(fails(&verdict, ClaimKind::KeyBinding), BadEvidence::NotBound { .. }));
    only(&verdict, ClaimKind::KeyBinding);
    // And with the claims of the victim it fails before.
    let claims = PeerEvidence { public_key: [0x43; 32], ..evidence(&platform) };
    let verdict = judge_evidence(&platform, &claims, &platform.policy());
    assert!(matches!(fails(&verdict, ClaimKind::Hardware), BadEvidence::NotBound { .. }));
}

#[test]
fn report_about_something_else() {
    let platform = tdx(Some(Misbehave::OtherReportData));
    let verdict = judge(&platform, &platform.policy());
    assert!(matches!(fails(&verdict, ClaimKind::KeyBinding), BadEvidence::NotBound { .. }));
    only(&verdict, ClaimKind::KeyBinding);
}

#[test]
fn debug_td() {
    for lie in [Misbehave::DebugTd, Misbehave::ProfiledTd] {
        let platform = tdx(Some(lie));
        let verdict = judge(&platform, &platform.policy());
        assert!(matches!(fails(&verdict, ClaimKind::DebugOff), BadEvidence::Debug { .. }));
        only(&verdict, ClaimKind::DebugOff);
    }
}

#[test]
fn migratable_td() {
    let platform = tdx(Some(Misbehave::MigratableTd));
    let verdict = judge(&platform, &platform.policy());
    assert!(matches!(fails(&verdict, ClaimKind::Hardware), BadEvidence::Attribute { .. }));
}

#[test]
fn wrong_tdx_module_signer() {
    let platform = tdx(Some(Misbehave::WrongSeamSigner));
    let verdict = judge(&platform, &platform.policy());
    let bad = fails(&verdict, ClaimKind::Hardware);
    assert!(bad.to_string().contains("MRSIGNER"), "{bad}");
}

#[test]
fn wrong_mrtd_rtmr_or_config_changes_the_image_hash() {
    let lies = [
        Misbehave::WrongMrTd,
        Misbehave::WrongConfig,
        Misbehave::WrongRtmr(0),
        Misbehave::WrongRtmr(1),
        Misbehave::WrongRtmr(2),
    ];
    for lie in lies {
        let platform = tdx(Some(lie));
        let verdict = judge(&platform, &platform.policy());
        let bad = fails(&verdict, ClaimKind::Image);
        assert!(matches!(bad, BadEvidence::Measurement { .. }), "{lie:?}: {bad}");
        only(&verdict, ClaimKind::Image);
    }
}

#[test]
fn wrong_mrtd_and_each_rtmr_are_named_by_their_lists() {
    let honest = registers(&tdx(None));
    for number in 0..4_u8 {
        let platform = tdx(Some(Misbehave::WrongRtmr(number)));
        let policy = rules(|rules| rules.rtmr = vec![honest.rtmr])(platform.policy());
        let policy = Policy { image_hashes: Vec::new(), ..policy };
        let evidence = PeerEvidence { event_log: None, ..evidence(&platform) };
        let verdict = judge_evidence(&platform, &evidence, &policy);
        let bad = fails(&verdict, ClaimKind::Image);
        assert!(bad.to_string().starts_with(&format!("RTMR{number} is")), "{bad}");
    }
    let platform = tdx(Some(Misbehave::WrongMrTd));
    let policy = rules(|rules| rules.mr_td = vec![honest.mr_td])(platform.policy());
    let bad = fails(&judge(&platform, &policy), ClaimKind::Image);
    assert!(bad.to_string().starts_with("MRTD is"), "{bad}");
    let platform = tdx(Some(Misbehave::WrongConfig));
    let policy = rules(|rules| rules.mr_config_id = vec![honest.mr_config_id])(platform.policy());
    let bad = fails(&judge(&platform, &policy), ClaimKind::Image);
    assert!(bad.to_string().starts_with("MRCONFIGID is"), "{bad}");
}

#[test]
fn tcb_out_of_date() {
    let platform = tdx(Some(Misbehave::TcbOutOfDate));
    let verdict = judge(&platform, &platform.policy());
    let bad = fails(&verdict, ClaimKind::Tcb);
    assert!(matches!(&bad, BadEvidence::Tcb { status, .. } if status == "OutOfDate"), "{bad}");
    only(&verdict, ClaimKind::Tcb);
    // Tolerated only when the status, the advisory and the days of grace are all given.
    let tolerate = |grace_days| {
        rules(move |rules: &mut TdxPolicy| {
            rules.tcb_statuses = vec!["OutOfDate".to_owned()];
            rules.tolerated_advisories = vec!["INTEL-SA-90005".to_owned()];
            rules.grace_days = grace_days;
        })
    };
    let policy = tolerate(130)(platform.policy());
    let verdict = judge(&platform, &policy);
    accepted(&verdict);
    // Nobody may go on with the verdict when the grace is over.
    let collateral = platform.collateral(NOW_S).unwrap();
    let at = |now_ms| verify(&evidence(&platform), &collateral, &policy, now_ms);
    accepted(&at(verdict.valid_until_ms));
    let late = at(verdict.valid_until_ms + 1000);
    assert!(matches!(fails(&late, ClaimKind::Tcb), BadEvidence::Tcb { .. }));
    only(&late, ClaimKind::Tcb);
    let verdict = judge(&platform, &tolerate(110)(platform.policy()));
    assert!(matches!(fails(&verdict, ClaimKind::Tcb), BadEvidence::Tcb { .. }));
}

#[test]
fn tcb_with_an_advisory() {
    let platform = tdx(Some(Misbehave::TcbAdvisory));
    let verdict = judge(&platform, &platform.policy());
    assert!(matches!(fails(&verdict, ClaimKind::Tcb), BadEvidence::Tcb { .. }));
    let status = vec!["SWHardeningNeeded".to_owned()];
    let policy = rules(|rules| rules.tcb_statuses = status.clone())(platform.policy());
    let bad = fails(&judge(&platform, &policy), ClaimKind::Tcb);
    assert!(matches!(&bad, BadEvidence::Advisory { advisory } if advisory == "INTEL-SA-90007"));
    let advisories = vec!["INTEL-SA-90007".to_owned()];
    let tolerant = rules(|rules| {
        rules.tcb_statuses = status.clone();
        rules.tolerated_advisories = advisories.clone();
    });
    accepted(&judge(&platform, &tolerant(platform.policy())));
    let rejecting = rules(|rules| {
        rules.tcb_statuses = status;
        rules.tolerated_advisories = advisories.clone();
        rules.rejected_advisories = advisories;
    });
    let verdict = judge(&platform, &rejecting(platform.policy()));
    assert!(matches!(fails(&verdict, ClaimKind::Tcb), BadEvidence::Advisory { .. }));
}

#[test]
fn tcb_revoked_whatever_the_policy_tolerates() {
    let platform = tdx(Some(Misbehave::TcbRevoked));
    let policy = rules(|rules| {
        rules.tcb_statuses = vec!["Revoked".to_owned(), "OutOfDate".to_owned()];
        rules.tolerated_advisories = vec!["INTEL-SA-90002".to_owned()];
        rules.grace_days = 10_000;
    })(platform.policy());
    let bad = fails(&judge(&platform, &policy), ClaimKind::Tcb);
    assert!(matches!(&bad, BadEvidence::Tcb { status, .. } if status == "Revoked"), "{bad}");
}

#[test]
fn tcb_info_older_than_the_policy_asks() {
    let platform = tdx(None);
    let policy = rules(|rules| rules.min_tcb_evaluation = 21)(platform.policy());
    assert!(matches!(
        fails(&judge(&platform, &policy), ClaimKind::Tcb),
        BadEvidence::Attribute { .. }
    ));
}

#[test]
fn platform_certificate_revoked() {
    let platform = tdx(Some(Misbehave::PckRevoked));
    let verdict = judge(&platform, &platform.policy());
    let bad = fails(&verdict, ClaimKind::Hardware);
    assert!(matches!(bad, BadEvidence::Certificate { .. }), "{bad}");
}

#[test]
fn wrong_root() {
    let platform = tdx(Some(Misbehave::WrongRoot));
    let verdict = judge(&platform, &platform.policy());
    assert!(matches!(fails(&verdict, ClaimKind::Hardware), BadEvidence::UntrustedRoot { .. }));
    // The production roots refuse the simulated platform.
    let platform = tdx(None);
    let policy = platform.policy().with_roots(TrustRoots::production());
    let verdict = judge(&platform, &policy);
    assert!(matches!(fails(&verdict, ClaimKind::Hardware), BadEvidence::UntrustedRoot { .. }));
}

#[test]
fn sgx_quote_in_place_of_tdx() {
    let platform = tdx(Some(Misbehave::SgxQuote));
    let verdict = judge(&platform, &platform.policy());
    assert_eq!(fails(&verdict, ClaimKind::Hardware), BadEvidence::WrongTee { tee_type: 0 });
}

#[test]
fn truncated_oversized_and_garbage_quotes() {
    for lie in [Misbehave::TruncatedQuote, Misbehave::OversizedQuote, Misbehave::GarbageQuote] {
        let platform = tdx(Some(lie));
        let verdict = judge(&platform, &platform.policy());
        fails(&verdict, ClaimKind::Hardware);
    }
    let platform = tdx(None);
    let whole = evidence(&platform).tdx_quote.unwrap();
    for len in (0..whole.len()).step_by(61) {
        let tdx_quote = Some(whole[..len].to_vec());
        let cut = PeerEvidence { tdx_quote, ..evidence(&platform) };
        fails(&judge_evidence(&platform, &cut, &platform.policy()), ClaimKind::Hardware);
    }
}

#[test]
fn one_flipped_bit() {
    let platform = tdx(Some(Misbehave::FlippedBit));
    let bad = fails(&judge(&platform, &platform.policy()), ClaimKind::Hardware);
    assert!(matches!(bad, BadEvidence::Signature { .. }), "{bad}");
}

#[test]
fn event_log_that_does_not_replay() {
    let platform = tdx(Some(Misbehave::EventLogAltered));
    let verdict = judge(&platform, &platform.policy());
    assert!(matches!(fails(&verdict, ClaimKind::Image), BadEvidence::EventLog { .. }));
    let platform = tdx(None);
    let policy = rules(|rules| rules.require_event_log = true)(platform.policy());
    accepted(&judge(&platform, &policy));
    let silent = PeerEvidence { event_log: None, ..evidence(&platform) };
    let verdict = judge_evidence(&platform, &silent, &policy);
    assert!(matches!(fails(&verdict, ClaimKind::Image), BadEvidence::Missing { .. }));
}

#[test]
fn boot_log_that_does_not_replay() {
    let platform = tdx(Some(Misbehave::BootLogAltered));
    let verdict = judge(&platform, &platform.policy());
    let bad = fails(&verdict, ClaimKind::Image);
    assert!(matches!(bad, BadEvidence::BootLog { register: "RTMR2", .. }), "{bad}");
    only(&verdict, ClaimKind::Image);
    // The log of an honest machine holds, also where it is demanded; withheld it fails only there.
    let platform = boot(SimulatedPlatformForm { boot_log: true, ..Default::default() });
    let policy = rules(|rules| rules.require_boot_log = true)(platform.policy());
    accepted(&judge(&platform, &policy));
    let silent = PeerEvidence { boot_log: None, ..evidence(&platform) };
    accepted(&judge_evidence(&platform, &silent, &platform.policy()));
    let verdict = judge_evidence(&platform, &silent, &policy);
    assert!(matches!(fails(&verdict, ClaimKind::Image), BadEvidence::Missing { .. }));
    // That of another machine, garbage, one that is too long.
    let other = boot(SimulatedPlatformForm {
        boot_log: true,
        image: "other".to_owned(),
        ..Default::default()
    });
    for log in [other.boot_log().unwrap(), vec![7; 300], Vec::new()] {
        let swapped = PeerEvidence { boot_log: Some(log), ..evidence(&platform) };
        let verdict = judge_evidence(&platform, &swapped, &platform.policy());
        fails(&verdict, ClaimKind::Image);
    }
}

#[test]
fn input_after_the_measurement() {
    let mut platform = tdx(None);
    let policy = platform.policy();
    platform.extend("cocoon:environment=LD_PRELOAD");
    let verdict = judge(&platform, &policy);
    assert!(matches!(fails(&verdict, ClaimKind::Image), BadEvidence::Measurement { .. }));
    // Nor under the one name that the image hash leaves out.
    for event in ["cocoon:gpu=LD_PRELOAD".to_owned(), format!("cocoon:gpu={}", "0".repeat(64))] {
        let mut platform = tdx(None);
        platform.extend(&event);
        fails(&judge(&platform, &policy), ClaimKind::Image);
        let mut twice = with_gpu(None);
        twice.extend(&event);
        fails(&judge(&twice, &policy), ClaimKind::Image);
    }
}

#[test]
fn debug_image() {
    let platform = tdx(Some(Misbehave::DebugImage));
    let verdict = judge(&platform, &platform.policy());
    fails(&verdict, ClaimKind::Image);
    assert!(matches!(fails(&verdict, ClaimKind::DebugOff), BadEvidence::Debug { .. }));
}

#[test]
fn evidence_swapped_between_worker_and_proxy() {
    let image =
        |image: &str| boot(SimulatedPlatformForm { image: image.to_owned(), ..Default::default() });
    let (worker, proxy) = (image("worker"), image("proxy"));
    let verdict = judge(&proxy, &worker.policy());
    assert!(matches!(fails(&verdict, ClaimKind::Image), BadEvidence::Measurement { .. }));
    only(&verdict, ClaimKind::Image);
}

#[test]
fn platform_revoked_or_not_registered() {
    let platform = tdx(None);
    let id = platform.platform_id();
    let mut policy = platform.policy();
    policy.revoked_platforms.push(id.clone());
    assert!(matches!(fails(&judge(&platform, &policy), ClaimKind::Site), BadEvidence::Site { .. }));
    let entry =
        |platform| RegisteredPlatform { platform, site: "Example Town".to_owned(), owner_id: None };
    let mut policy = platform.policy().requiring(ClaimKind::Site);
    policy.platforms = vec![entry(id)];
    accepted(&judge(&platform, &policy));
    let other = boot(SimulatedPlatformForm { number: 2, ..Default::default() });
    assert!(matches!(fails(&judge(&other, &policy), ClaimKind::Site), BadEvidence::Site { .. }));
}

#[test]
fn missing_evidence_under_every_policy() {
    let platform = tdx(None);
    let nothing = PeerEvidence::new(KEY);
    let strict = platform.policy();
    let without_lists = Policy { image_hashes: Vec::new(), ..Policy::tee() };
    for policy in [&strict, &without_lists] {
        let verdict = judge_evidence(&platform, &nothing, policy);
        assert!(matches!(fails(&verdict, ClaimKind::Hardware), BadEvidence::Missing { .. }));
    }
    let verdict = judge_evidence(&platform, &nothing, &Policy::any());
    accepted(&verdict);
    assert!(verdict.claims.iter().all(|claim| claim.finding == Finding::NotClaimed));
    // Any one part missing is as good as all.
    let quote = platform.quote(QuoteSubject::CertificateKey(&KEY)).unwrap();
    let whole = quote.to_peer_evidence(&KEY);
    let no_quote = PeerEvidence { tdx_quote: None, ..whole.clone() };
    let no_claims = PeerEvidence { user_claims: None, ..whole };
    for part in [no_quote, no_claims] {
        let verdict = judge_evidence(&platform, &part, &strict);
        assert!(matches!(fails(&verdict, ClaimKind::Hardware), BadEvidence::Missing { .. }));
    }
}

#[test]
fn fake_evidence_in_place_of_a_quote() {
    let platform = tdx(None);
    for len in [64, 496] {
        let mut quote = vec![0; len];
        let at = if len == 64 { 0 } else { 384 };
        quote[at..at + 64].copy_from_slice(&cocoon_attest::certificate_report_data(&KEY));
        let fake = PeerEvidence {
            tdx_quote: Some(quote),
            user_claims: Some(KEY.to_vec()),
            ..PeerEvidence::new(KEY)
        };
        fails(&judge_evidence(&platform, &fake, &platform.policy()), ClaimKind::Hardware);
    }
}
