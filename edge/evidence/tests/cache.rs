//! Remembered verdicts: how long, for whom, and when they are forgotten.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{Arc, LazyLock};

use cocoon_attest::{
    BadEvidence, ClaimKind, Collateral, Finding, Outcome, PeerEvidence, Policy, Verifier, verify,
};
use cocoon_evidence::sim::{DevPki, SimulatedPlatform, SimulatedPlatformForm};
use cocoon_evidence::{EvidenceProvider as _, QuoteSubject};

const NOW_S: u64 = 1_795_262_400;
const NOW_MS: u64 = NOW_S * 1000;
const HOUR_MS: u64 = 3_600_000;

static PKI: LazyLock<Arc<DevPki>> =
    LazyLock::new(|| Arc::new(DevPki::generate(NOW_S).expect("keys can be drawn")));

struct Peer {
    platform: SimulatedPlatform,
    evidence: PeerEvidence,
    collateral: Collateral,
}

fn peer(number: u64, key: u8) -> Peer {
    let form = SimulatedPlatformForm { number, ..SimulatedPlatformForm::default() };
    let platform = SimulatedPlatform::boot(Arc::clone(&PKI), form).unwrap();
    let key = [key; 32];
    let evidence = platform.quote(QuoteSubject::CertificateKey(&key)).unwrap();
    let collateral = platform.collateral(NOW_S).unwrap();
    Peer { evidence: evidence.to_peer_evidence(&key), platform, collateral }
}

fn verifier(policy: Policy, capacity: usize) -> Verifier {
    Verifier::new(policy, capacity, HOUR_MS).unwrap()
}

#[test]
fn verdicts_are_remembered_until_their_time_and_never_across_a_clock_that_turned_back() {
    let peer = peer(1, 1);
    let mut verifier = verifier(peer.platform.policy(), 8);
    assert_eq!(verifier.known(&peer.evidence, NOW_MS), None);
    let verdict = verifier.judge(&peer.evidence, &peer.collateral, NOW_MS);
    assert_eq!(verdict.outcome(), Outcome::Accept);
    // No collateral is needed for what is remembered.
    let nothing = Collateral::default();
    assert_eq!(verifier.judge(&peer.evidence, &nothing, NOW_MS + HOUR_MS), verdict);
    assert_eq!(verifier.known(&peer.evidence, NOW_MS - 1), None);
    verifier.judge(&peer.evidence, &peer.collateral, NOW_MS);
    assert_eq!(verifier.known(&peer.evidence, NOW_MS + HOUR_MS + 1), None);
}

#[test]
fn verdicts_end_with_the_collateral_they_rest_on() {
    let peer = peer(1, 1);
    let month_ms = 40 * 24 * HOUR_MS;
    let mut verifier = Verifier::new(peer.platform.policy(), 8, month_ms).unwrap();
    let verdict = verifier.judge(&peer.evidence, &peer.collateral, NOW_MS);
    assert!(verifier.known(&peer.evidence, verdict.valid_until_ms).is_some());
    assert_eq!(verifier.known(&peer.evidence, verdict.valid_until_ms + 1), None);
}

#[test]
fn refusals_and_doubts_are_not_remembered() {
    let peer = peer(1, 1);
    let mut verifier = verifier(peer.platform.policy(), 8);
    let nothing = Collateral::default();
    let doubt = verifier.judge(&peer.evidence, &nothing, NOW_MS);
    assert!(matches!(doubt.outcome(), Outcome::Undecided(_)));
    let stolen = PeerEvidence {
        public_key: [9; 32],
        user_claims: Some(vec![9; 32]),
        ..peer.evidence.clone()
    };
    let refusal = verifier.judge(&stolen, &peer.collateral, NOW_MS);
    assert!(matches!(refusal.outcome(), Outcome::Refuse(_)));
    assert_eq!(verifier.known(&stolen, NOW_MS), None);
    // The doubt did not stick.
    let verdict = verifier.judge(&peer.evidence, &peer.collateral, NOW_MS);
    assert_eq!(verdict.outcome(), Outcome::Accept);
}

#[test]
fn revocation_and_new_policies_forget() {
    let peer = peer(1, 1);
    let mut verifier = verifier(peer.platform.policy(), 8);
    verifier.judge(&peer.evidence, &peer.collateral, NOW_MS);
    verifier.revoke_platform(peer.platform.platform_id());
    assert_eq!(verifier.known(&peer.evidence, NOW_MS), None);
    let verdict = verifier.judge(&peer.evidence, &peer.collateral, NOW_MS);
    let site = verdict.finding(ClaimKind::Site);
    assert!(matches!(site, Finding::Fails(BadEvidence::Site { .. })), "{site:?}");
    verifier.replace_policy(peer.platform.policy()).unwrap();
    let verdict = verifier.judge(&peer.evidence, &peer.collateral, NOW_MS);
    assert_eq!(verdict.outcome(), Outcome::Accept);
    // A policy that contradicts itself does not replace a good one.
    let broken = Policy { tdx: None, snp: None, ..peer.platform.policy() };
    verifier.replace_policy(broken).unwrap_err();
    assert!(verifier.known(&peer.evidence, NOW_MS).is_some());
}

#[test]
fn policies_of_one_version_do_not_share_verdicts() {
    let peer = peer(1, 1);
    let lax = Policy { image_hashes: Vec::new(), ..peer.platform.policy() };
    let lax = Policy { required: Policy::tee().required, ..lax };
    let strict = peer.platform.policy();
    assert_eq!(lax.version, strict.version);
    let judged = verify(&peer.evidence, &peer.collateral, &lax, NOW_MS);
    let mut cache = cocoon_attest::VerdictCache::new(8, HOUR_MS);
    let digest = peer.evidence.digest();
    cache.keep(judged);
    assert!(cache.find(digest, lax.digest(), NOW_MS).is_some());
    assert!(cache.find(digest, strict.digest(), NOW_MS).is_none());
    assert_eq!(cache.drop_policy(lax.digest()), 1);
    assert!(cache.is_empty());
}

#[test]
fn the_store_is_bounded_and_the_oldest_gives_way() {
    let peers: Vec<Peer> = (1..=4).map(|key| peer(1, key)).collect();
    let mut verifier = verifier(peers[0].platform.policy(), 3);
    for peer in &peers {
        verifier.judge(&peer.evidence, &peer.collateral, NOW_MS);
    }
    assert_eq!(verifier.known(&peers[0].evidence, NOW_MS), None);
    for peer in &peers[1..] {
        assert!(verifier.known(&peer.evidence, NOW_MS).is_some());
    }
}
