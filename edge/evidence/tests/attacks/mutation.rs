//! Genuine evidence with bytes changed at random: never accepted where a signature covers
//! them, and never a panic anywhere.

use std::sync::LazyLock;

use cocoon_attest::snp::SnpProduct;
use cocoon_attest::{ClaimKind, Collateral, Finding, Outcome, PeerEvidence, Policy, verify};
use cocoon_evidence::sim::SimulatedPlatform;
use proptest::prelude::*;

use super::stage::{NOW_MS, NOW_S, evidence, snp, tdx, with_gpu};

struct Genuine {
    evidence: PeerEvidence,
    collateral: Collateral,
    policy: Policy,
}

fn genuine(platform: &SimulatedPlatform) -> Genuine {
    Genuine {
        evidence: evidence(platform),
        collateral: platform.collateral(NOW_S).unwrap(),
        policy: platform.policy(),
    }
}

static TDX: LazyLock<Genuine> = LazyLock::new(|| genuine(&tdx(None)));
static SNP: LazyLock<Genuine> = LazyLock::new(|| genuine(&snp(SnpProduct::Turin, None)));
static GPU: LazyLock<Genuine> = LazyLock::new(|| genuine(&with_gpu(None)));

/// Header, body and signature of a TDX quote of version 4.
const QUOTE_COVERED: usize = 632;

fn change(bytes: &mut [u8], at: usize, by: u8) {
    let at = at % bytes.len();
    bytes[at] ^= by;
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        // The findings of other roots say nothing about these: the keys are drawn anew.
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn changed_quotes_are_refused(at in 0..QUOTE_COVERED, by in 1_u8..) {
        let mut evidence = TDX.evidence.clone();
        change(evidence.tdx_quote.as_mut().unwrap(), at, by);
        let verdict = verify(&evidence, &TDX.collateral, &TDX.policy, NOW_MS);
        prop_assert!(matches!(verdict.outcome(), Outcome::Refuse(_)), "{at}");
    }

    #[test]
    fn quotes_changed_anywhere_and_cut_never_panic(at: usize, by: u8, cut in 0_usize..6000) {
        let mut evidence = TDX.evidence.clone();
        let quote = evidence.tdx_quote.as_mut().unwrap();
        change(quote, at, by);
        quote.truncate(cut);
        let verdict = verify(&evidence, &TDX.collateral, &TDX.policy, NOW_MS);
        // Only the lines of PEM may be written in more than one way.
        if verdict.outcome() == Outcome::Accept {
            let whole = TDX.evidence.tdx_quote.as_ref().unwrap();
            prop_assert!(cut >= whole.len() && (by == 0 || at % whole.len() > QUOTE_COVERED));
        }
    }

    #[test]
    fn changed_reports_and_chips_are_refused(at in 0_usize..1184, by in 1_u8.., vcek: bool, place: usize) {
        let mut evidence = SNP.evidence.clone();
        if vcek {
            change(evidence.sev_vcek_pem.as_mut().unwrap(), place, by);
        } else {
            change(evidence.sev_report.as_mut().unwrap(), at, by);
        }
        let verdict = verify(&evidence, &SNP.collateral, &SNP.policy, NOW_MS);
        let hardware = verdict.finding(ClaimKind::Hardware);
        // Behind the two numbers of the signature come bytes that nothing covers, and in
        // PEM a blank may stand for another.
        let covered = !vcek && at < 0x2a0 + 2 * 72;
        prop_assert!(!covered || matches!(hardware, Finding::Fails(_)), "{at}");
    }

    #[test]
    fn changed_gpu_reports_are_refused(at: usize, by in 1_u8.., chain: bool) {
        let mut evidence = GPU.evidence.clone();
        let gpu = evidence.gpu.as_mut().unwrap();
        change(if chain { &mut gpu.chain_pem } else { &mut gpu.report }, at, by);
        let verdict = verify(&evidence, &GPU.collateral, &GPU.policy, NOW_MS);
        // The digest in the event log covers every byte, of the chain as well.
        prop_assert!(matches!(verdict.finding(ClaimKind::Gpu), Finding::Fails(_)));
    }

    #[test]
    fn changed_collateral_never_panics_and_is_never_the_peers_fault_alone(
        at: usize, by in 1_u8.., item in 0_usize..8,
    ) {
        let mut collateral = TDX.collateral.clone();
        let dcap = &mut collateral.tdx.as_mut().unwrap().dcap;
        let text = |text: &mut String| {
            let mut bytes = std::mem::take(text).into_bytes();
            change(&mut bytes, at, by & 0x1f);
            *text = String::from_utf8_lossy(&bytes).into_owned();
        };
        match item {
            0 => text(&mut dcap.tcb_info),
            1 => text(&mut dcap.qe_identity),
            2 => text(&mut dcap.tcb_info_issuer_chain),
            3 => text(&mut dcap.qe_identity_issuer_chain),
            4 => change(&mut dcap.tcb_info_signature, at, by),
            5 => change(&mut dcap.qe_identity_signature, at, by),
            6 => change(&mut dcap.root_ca_crl, at, by),
            _ => change(&mut dcap.pck_crl, at, by),
        }
        let verdict = verify(&TDX.evidence, &collateral, &TDX.policy, NOW_MS);
        prop_assert!(!matches!(verdict.outcome(), Outcome::Refuse(_)), "{item}: {verdict:#?}");
    }
}
