//! Attacks on GPU evidence.

use cocoon_attest::gpu::check;
use cocoon_attest::{
    BadEvidence, ClaimKind, Collateral, Finding, Outcome, PeerEvidence, TrustRoots, Verdict,
    Verifier, verify,
};
use cocoon_evidence::EvidenceProvider as _;
use cocoon_evidence::sim::{Misbehave, SimulatedPlatform};

use super::stage::{
    GPU_NONCE, NOW_MS, NOW_S, accepted, evidence, fails, judge, judge_evidence, only, with_gpu,
};

fn strict(platform: &SimulatedPlatform) -> Verdict {
    judge(platform, &platform.policy().requiring(ClaimKind::Gpu))
}

/// What the worker does at boot, before it starts the workload.
fn at_boot(platform: &SimulatedPlatform) -> Result<(), BadEvidence> {
    let policy = platform.policy();
    let gpu = platform.gpu().unwrap();
    check(&gpu, Some(&GPU_NONCE), &policy.gpu, &policy.roots, NOW_S).map(|_| ())
}

#[test]
fn honest_gpu_passes() {
    let platform = with_gpu(None);
    accepted(&strict(&platform));
    at_boot(&platform).unwrap();
}

#[test]
fn a_gpu_is_not_remembered_beyond_its_certificates() {
    let platform = with_gpu(None);
    let (gpu, policy) = (platform.gpu().unwrap(), platform.policy());
    let at = |now_s| check(&gpu, None, &policy.gpu, &policy.roots, now_s);
    let until_s = at(NOW_S).unwrap().valid_until_s;
    at(until_s).unwrap();
    assert!(matches!(at(until_s + 1), Err(BadEvidence::Certificate { .. })));
}

#[test]
fn gpu_absent() {
    let verdict = strict(&with_gpu(Some(Misbehave::GpuAbsent)));
    let missing = BadEvidence::NotClaimed { claim: ClaimKind::Gpu };
    assert_eq!(verdict.outcome(), Outcome::Refuse(missing));
}

#[test]
fn gpu_in_developer_mode_or_without_confidential_mode() {
    for lie in [Misbehave::GpuDeveloperMode, Misbehave::GpuConfidentialOff] {
        let platform = with_gpu(Some(lie));
        let verdict = strict(&platform);
        let bad = fails(&verdict, ClaimKind::Gpu);
        assert!(bad.to_string().contains("mode"), "{bad}");
        only(&verdict, ClaimKind::Gpu);
        at_boot(&platform).unwrap_err();
    }
}

#[test]
fn gpu_modes_stated_otherwise_than_measured() {
    let platform = with_gpu(Some(Misbehave::GpuDeveloperMode));
    let mut lied = evidence(&platform);
    if let Some(gpu) = &mut lied.gpu {
        gpu.mode.developer = false;
    }
    let policy = platform.policy().requiring(ClaimKind::Gpu);
    let bad = fails(&judge_evidence(&platform, &lied, &policy), ClaimKind::Gpu);
    assert!(bad.to_string().contains("event log"), "{bad}");
}

#[test]
fn report_of_another_gpu() {
    let verdict = strict(&with_gpu(Some(Misbehave::GpuOfAnother)));
    let bad = fails(&verdict, ClaimKind::Gpu);
    assert!(bad.to_string().contains("another GPU"), "{bad}");
    only(&verdict, ClaimKind::Gpu);
    let platform = with_gpu(Some(Misbehave::GpuForeignSignature));
    assert!(matches!(fails(&strict(&platform), ClaimKind::Gpu), BadEvidence::Signature { .. }));
}

#[test]
fn gpu_report_for_an_old_nonce() {
    let platform = with_gpu(Some(Misbehave::GpuOldNonce));
    let bad = at_boot(&platform).unwrap_err();
    assert!(bad.to_string().contains("another nonce"), "{bad}");
    // A verifier that drew a nonce itself sees it, too.
    let fresh = PeerEvidence { gpu_nonce: Some(GPU_NONCE), ..evidence(&platform) };
    let policy = platform.policy().requiring(ClaimKind::Gpu);
    fails(&judge_evidence(&platform, &fresh, &policy), ClaimKind::Gpu);
}

#[test]
fn gpu_firmware_on_no_list() {
    let platform = with_gpu(Some(Misbehave::GpuUnknownFirmware));
    let bad = fails(&strict(&platform), ClaimKind::Gpu);
    assert!(bad.to_string().contains("measurement 3"), "{bad}");
    let mut policy = with_gpu(None).policy().requiring(ClaimKind::Gpu);
    policy.gpu.profiles.clear();
    fails(&judge(&with_gpu(None), &policy), ClaimKind::Gpu);
}

#[test]
fn gpu_of_another_root_or_with_a_revoked_key() {
    let platform = with_gpu(None);
    let mut policy = platform.policy().requiring(ClaimKind::Gpu);
    policy.roots.gpu = TrustRoots::production().gpu;
    let bad = fails(&judge(&platform, &policy), ClaimKind::Gpu);
    assert!(matches!(bad, BadEvidence::UntrustedRoot { .. }), "{bad}");
    let mut policy = platform.policy().requiring(ClaimKind::Gpu);
    policy.gpu.revoked_keys = policy.roots.gpu.clone();
    let bad = fails(&judge(&platform, &policy), ClaimKind::Gpu);
    assert!(matches!(bad, BadEvidence::Certificate { .. }), "{bad}");
}

#[test]
fn gpu_evidence_without_a_measured_log() {
    let platform = with_gpu(None);
    let silent = PeerEvidence { event_log: None, ..evidence(&platform) };
    let policy = platform.policy().requiring(ClaimKind::Gpu);
    let bad = fails(&judge_evidence(&platform, &silent, &policy), ClaimKind::Gpu);
    assert!(bad.to_string().contains("event log"), "{bad}");
    // Whatever its machine turns out to be.
    let unchecked = |evidence| verify(evidence, &Collateral::default(), &policy, NOW_MS);
    fails(&unchecked(&silent), ClaimKind::Gpu);
    // A log that cannot be checked now may be the measured one.
    let verdict = unchecked(&evidence(&platform));
    assert!(matches!(verdict.finding(ClaimKind::Gpu), Finding::Unknown(_)), "{verdict:?}");
}

#[test]
fn a_gpu_checked_before_does_not_excuse_another_policy_or_nonce() {
    let platform = with_gpu(None);
    let collateral = platform.collateral(NOW_S).unwrap();
    let policy = platform.policy().requiring(ClaimKind::Gpu);
    let mut verifier = Verifier::new(policy.clone(), 16, 3_600_000).unwrap();
    accepted(&verifier.judge(&evidence(&platform), &collateral, NOW_MS));
    // The same GPU with other evidence around it: remembered, but tied to the machine anew.
    let silent = PeerEvidence { event_log: None, ..evidence(&platform) };
    fails(&verifier.judge(&silent, &collateral, NOW_MS), ClaimKind::Gpu);
    let asked = PeerEvidence { gpu_nonce: Some([1; 32]), ..evidence(&platform) };
    fails(&verifier.judge(&asked, &collateral, NOW_MS), ClaimKind::Gpu);
    let mut revoking = policy;
    revoking.gpu.revoked_keys = revoking.roots.gpu.clone();
    verifier.replace_policy(revoking).unwrap();
    fails(&verifier.judge(&evidence(&platform), &collateral, NOW_MS), ClaimKind::Gpu);
}
