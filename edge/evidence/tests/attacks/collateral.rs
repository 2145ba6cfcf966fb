//! Attacks on collateral: never "good", and never the peer's fault.

use cocoon_attest::{CannotCheck, ClaimKind, Collateral, CollateralNeed, verify};
use cocoon_evidence::sim::Misbehave;

use super::stage::{NOW_MS, NOW_S, evidence, judge, tdx, unknown};

#[test]
fn forged_collateral() {
    for lie in [Misbehave::ForgedTcbInfo, Misbehave::ForgedQeIdentity, Misbehave::ForgedCrl] {
        let platform = tdx(Some(lie));
        let cannot = unknown(&judge(&platform, &platform.policy()), ClaimKind::Hardware);
        assert!(matches!(cannot, CannotCheck::UntrustedCollateral { .. }), "{lie:?}: {cannot}");
    }
}

#[test]
fn expired_crl_and_tcb_info() {
    for lie in [Misbehave::ExpiredCrl, Misbehave::ExpiredTcbInfo] {
        let platform = tdx(Some(lie));
        let cannot = unknown(&judge(&platform, &platform.policy()), ClaimKind::Hardware);
        assert!(matches!(cannot, CannotCheck::StaleCollateral { .. }), "{lie:?}: {cannot}");
    }
}

#[test]
fn collateral_from_the_future() {
    let platform = tdx(None);
    let collateral = platform.collateral(NOW_S + 86_400).unwrap();
    let verdict = verify(&evidence(&platform), &collateral, &platform.policy(), NOW_MS);
    let cannot = unknown(&verdict, ClaimKind::Hardware);
    assert!(matches!(cannot, CannotCheck::EarlyCollateral { .. }), "{cannot}");
}

#[test]
fn no_collateral_is_unknown_and_says_what_to_fetch() {
    let platform = tdx(None);
    let verdict = verify(&evidence(&platform), &Collateral::default(), &platform.policy(), NOW_MS);
    let cannot = unknown(&verdict, ClaimKind::Hardware);
    assert!(matches!(cannot, CannotCheck::NoCollateral { .. }), "{cannot}");
    let need = CollateralNeed::of(&evidence(&platform)).unwrap();
    assert!(
        matches!(need, CollateralNeed::Tdx { fmspc: [0xc0, 0xc0, 0, 0, 0, 1], .. }),
        "{need:?}"
    );
}

#[test]
fn collateral_of_another_platform() {
    let platform = tdx(None);
    let mut collateral = platform.collateral(NOW_S).unwrap();
    if let Some(tdx) = &mut collateral.tdx {
        tdx.dcap.tcb_info = tdx.dcap.tcb_info.replace("c0c000000001", "c0c000000002");
    }
    let verdict = verify(&evidence(&platform), &collateral, &platform.policy(), NOW_MS);
    let cannot = unknown(&verdict, ClaimKind::Hardware);
    assert!(matches!(cannot, CannotCheck::NoCollateral { .. }), "{cannot}");
}

#[test]
fn collateral_that_ends_in_another_root() {
    let (platform, foreign) = (tdx(None), tdx(Some(Misbehave::WrongRoot)));
    // The foreign maker's own signer chain, spliced into honest collateral.
    let mut collateral = platform.collateral(NOW_S).unwrap();
    let stranger = foreign_chain(&foreign);
    if let Some(tdx) = &mut collateral.tdx {
        tdx.dcap.tcb_info_issuer_chain = stranger;
    }
    let verdict = verify(&evidence(&platform), &collateral, &platform.policy(), NOW_MS);
    let cannot = unknown(&verdict, ClaimKind::Hardware);
    assert!(matches!(cannot, CannotCheck::UntrustedCollateral { .. }), "{cannot}");
}

/// Takes the chain out of a foreign machine's quote.
fn foreign_chain(foreign: &cocoon_evidence::sim::SimulatedPlatform) -> String {
    let quote = evidence(foreign).tdx_quote.unwrap();
    let text = String::from_utf8_lossy(&quote);
    text[text.find("-----BEGIN").unwrap()..].to_owned()
}

#[test]
fn policy_out_of_its_dates() {
    let platform = tdx(None);
    let mut policy = platform.policy();
    policy.not_after_s = Some(NOW_S - 1);
    let cannot = unknown(&judge(&platform, &policy), ClaimKind::Hardware);
    assert!(matches!(cannot, CannotCheck::PolicyDates { .. }), "{cannot}");
}
