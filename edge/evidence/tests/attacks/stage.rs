//! What the attacks need: one PKI for all, machines, and a look at the verdict.

use std::sync::{Arc, LazyLock};

use cocoon_attest::snp::SnpProduct;
use cocoon_attest::{
    BadEvidence, CannotCheck, ClaimKind, Finding, Outcome, PeerEvidence, Policy, Verdict, verify,
};
use cocoon_evidence::sim::{DevPki, Misbehave, SimulatedPlatform, SimulatedPlatformForm};
use cocoon_evidence::{EvidenceProvider, QuoteSubject};

/// 2026-11-21T12:00:00Z.
pub(crate) const NOW_S: u64 = 1_795_262_400;
pub(crate) const NOW_MS: u64 = NOW_S * 1000;
pub(crate) const KEY: [u8; 32] = [0x42; 32];
pub(crate) const GPU_NONCE: [u8; 32] = [0x99; 32];

static PKI: LazyLock<Arc<DevPki>> =
    LazyLock::new(|| Arc::new(DevPki::generate(NOW_S).expect("keys can be drawn")));

pub(crate) fn boot(form: SimulatedPlatformForm) -> SimulatedPlatform {
    SimulatedPlatform::boot(Arc::clone(&PKI), form).unwrap()
}

pub(crate) fn tdx(lie: Option<Misbehave>) -> SimulatedPlatform {
    boot(SimulatedPlatformForm { lie, ..SimulatedPlatformForm::default() })
}

pub(crate) fn snp(product: SnpProduct, lie: Option<Misbehave>) -> SimulatedPlatform {
    boot(SimulatedPlatformForm { snp: Some(product), lie, ..SimulatedPlatformForm::default() })
}

pub(crate) fn with_gpu(lie: Option<Misbehave>) -> SimulatedPlatform {
    boot(SimulatedPlatformForm {
        gpu_nonce: Some(GPU_NONCE),
        measure_gpu: true,
        lie,
        ..SimulatedPlatformForm::default()
    })
}

/// Evidence as a certificate carries it, and after the handshake GPU and event log.
pub(crate) fn evidence(platform: &SimulatedPlatform) -> PeerEvidence {
    let evidence = platform.quote(QuoteSubject::CertificateKey(&KEY)).unwrap();
    PeerEvidence {
        gpu: platform.gpu(),
        event_log: platform.event_log(),
        boot_log: platform.boot_log(),
        ..evidence.to_peer_evidence(&KEY)
    }
}

pub(crate) fn judge(platform: &SimulatedPlatform, policy: &Policy) -> Verdict {
    judge_evidence(platform, &evidence(platform), policy)
}

pub(crate) fn judge_evidence(
    platform: &SimulatedPlatform,
    evidence: &PeerEvidence,
    policy: &Policy,
) -> Verdict {
    let collateral = platform.collateral(NOW_S).unwrap();
    verify(evidence, &collateral, policy, NOW_MS)
}

/// Checks that the peer is refused and returns why `kind` fails.
pub(crate) fn fails(verdict: &Verdict, kind: ClaimKind) -> BadEvidence {
    assert!(matches!(verdict.outcome(), Outcome::Refuse(_)), "{verdict:#?}");
    match verdict.finding(kind) {
        Finding::Fails(bad) => bad.clone(),
        other => panic!("{kind:?} is {other:?} in {verdict:#?}"),
    }
}

/// Checks that the peer is neither accepted nor called bad and returns why.
pub(crate) fn unknown(verdict: &Verdict, kind: ClaimKind) -> CannotCheck {
    assert!(matches!(verdict.outcome(), Outcome::Undecided(_)), "{verdict:#?}");
    match verdict.finding(kind) {
        Finding::Unknown(cannot) => cannot.clone(),
        other => panic!("{kind:?} is {other:?} in {verdict:#?}"),
    }
}

pub(crate) fn accepted(verdict: &Verdict) {
    assert_eq!(verdict.outcome(), Outcome::Accept, "{verdict:#?}");
}

/// Checks that every claim but `kind` is as in the honest case: only the check for this
/// attack caught it.
pub(crate) fn only(verdict: &Verdict, kind: ClaimKind) {
    let failing: Vec<ClaimKind> = verdict
        .claims
        .iter()
        .filter(|claim| matches!(claim.finding, Finding::Fails(_) | Finding::Unknown(_)))
        .map(|claim| claim.kind)
        .collect();
    assert_eq!(failing, [kind], "{verdict:#?}");
}
