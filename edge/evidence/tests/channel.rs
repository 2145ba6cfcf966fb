//! The channel handshake from end to end: simulated machines quote, the verifier judges.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{Arc, LazyLock};

use cocoon_attest::channel::{
    Announcement, ChannelRole, Demand, Dialled, Effect, Exporter, Handshake, HandshakeFault, Local,
    leaf_key_digest,
};
use cocoon_attest::snp::SnpProduct;
use cocoon_attest::{
    BadEvidence, Binding, ClaimKind, Collateral, Digest32, Endorsement, EndorsementFault, Finding,
    NamedOwner, PeerEvidence, Policy, RegisteredPlatform, Source, Verdict, verify,
};
use cocoon_evidence::EvidenceProvider as _;
use cocoon_evidence::sim::{DevPki, Misbehave, SimulatedPlatform, SimulatedPlatformForm};
use ed25519_dalek::SigningKey;

const NOW_S: u64 = 1_795_262_400;
const NOW_MS: u64 = NOW_S * 1000;
const GPU_NONCE: [u8; 32] = [0x99; 32];
const WORKER_KEY: [u8; 32] = [3; 32];
const PROXY_KEY: [u8; 32] = [2; 32];
const WORKER_ID: [u8; 32] = [0x1d; 32];

static PKI: LazyLock<Arc<DevPki>> =
    LazyLock::new(|| Arc::new(DevPki::generate(NOW_S).expect("keys can be drawn")));

struct Connection(u8);

impl Exporter for Connection {
    fn export(&self, label: &[u8], context: &[u8]) -> Option<[u8; 32]> {
        Some(Digest32::sha256(&[&[self.0], label, context]).0)
    }
}

/// A worker with a GPU and a model, and what its peers know about it.
struct Worker {
    platform: SimulatedPlatform,
    announcement: Announcement,
    endorsement: Option<Vec<u8>>,
}

fn worker(number: u64, lie: Option<Misbehave>) -> Worker {
    booted(number, lie, true)
}

fn booted(number: u64, lie: Option<Misbehave>, measure_gpu: bool) -> Worker {
    let form = SimulatedPlatformForm {
        number,
        measure_gpu,
        gpu_nonce: Some(GPU_NONCE),
        snp: lie.filter(|lie| lie.is_snp()).map(|_| SnpProduct::Genoa),
        lie,
        ..SimulatedPlatformForm::default()
    };
    let platform = SimulatedPlatform::boot(Arc::clone(&PKI), form).unwrap();
    let announcement = Announcement {
        own_id: Digest32::from(WORKER_ID),
        keyset: Digest32::from([4; 32]),
        image: platform.image_hash(),
        model: Digest32::sha256(&[b"model@commit:root"]),
        gpu: platform.gpu().map(|gpu| gpu.digest()).unwrap_or_default(),
        beacon: Digest32::from([6; 32]),
        not_after_s: NOW_S + 600,
    };
    Worker { platform, announcement, endorsement: None }
}

fn policy(platform: &SimulatedPlatform) -> Policy {
    let mut policy = platform
        .policy()
        .requiring(ClaimKind::Freshness)
        .requiring(ClaimKind::Gpu)
        .requiring(ClaimKind::Weights)
        .requiring(ClaimKind::Site);
    policy.models = vec![Digest32::sha256(&[b"model@commit:root"])];
    policy.platforms = vec![RegisteredPlatform {
        platform: platform.platform_id(),
        site: "Example Town".to_owned(),
        owner_id: Some(Digest32::from(WORKER_ID)),
    }];
    policy.check().unwrap();
    policy
}

fn local(role: ChannelRole, announcement: Option<Announcement>) -> Local {
    let (own_key, peer_key, peer_role) = match role {
        ChannelRole::Worker => (WORKER_KEY, PROXY_KEY, ChannelRole::Proxy),
        _ => (PROXY_KEY, WORKER_KEY, ChannelRole::Worker),
    };
    Local {
        role,
        peer_role,
        own_key: Some(own_key),
        peer_key: Some(peer_key),
        network_id: -239,
        root_contract: Digest32::from([5; 32]),
        dialled: match role {
            ChannelRole::Proxy => Dialled::ByPeer { ours: Vec::new() },
            _ => Dialled::ByUs("192.0.2.1:11001".to_owned()),
        },
        demand: if announcement.is_some() { Demand::Nothing } else { Demand::Always },
        announcement,
        reads_endorsements: true,
        reads_vtpm_quotes: true,
        wanted_id: None,
    }
}

/// Lets a proxy verify a worker; `sessions` are the TLS sessions at the worker and at the
/// proxy, the same unless somebody sits between. Returns the proxy's verdict.
fn meet(
    worker: &Worker,
    policy: &Policy,
    sessions: (u8, u8),
    change: impl FnOnce(&mut PeerEvidence),
) -> (Verdict, Result<(), HandshakeFault>) {
    let said = Some(worker.announcement.clone());
    let (mut attester, first) = Handshake::start(local(ChannelRole::Worker, said), [0x31; 32]);
    let (mut verifier, hello) = Handshake::start(local(ChannelRole::Proxy, None), [0x21; 32]);
    let session = (Connection(sessions.0), Connection(sessions.1));
    let [Effect::Send(hello)] = hello.as_slice() else { panic!("{hello:?}") };
    let [Effect::Send(first)] = first.as_slice() else { panic!("{first:?}") };
    assert!(verifier.receive(first, &session.1, NOW_MS).unwrap().is_empty());
    let effects = attester.receive(hello, &session.0, NOW_MS).unwrap();
    let [Effect::Quote(statement)] = effects.as_slice() else { panic!("{effects:?}") };
    let mut offer = worker.platform.offer(statement).unwrap();
    offer.endorsement = worker.endorsement.clone();
    let effects = attester.quoted(Some(offer)).unwrap();
    let [Effect::Send(offer), Effect::Ready { fresh: false }] = effects.as_slice() else {
        panic!("{effects:?}")
    };
    let effects = match verifier.receive(offer, &session.1, NOW_MS) {
        Ok(effects) => effects,
        Err(fault) => return (nothing(policy), Err(fault)),
    };
    let [Effect::Verify(evidence)] = effects.as_slice() else { panic!("{effects:?}") };
    let mut evidence = evidence.clone();
    change(&mut evidence);
    let collateral = worker.platform.collateral(NOW_S).unwrap();
    let verdict = verify(&evidence, &collateral, policy, NOW_MS);
    let result = verifier.judged(&verdict).map(|effects| {
        assert_eq!(effects, [Effect::Ready { fresh: true }]);
        assert!(verifier.is_fresh());
    });
    (verdict, result)
}

/// The verdict over nothing, where the offer could not even be read.
fn nothing(policy: &Policy) -> Verdict {
    verify(&PeerEvidence::default(), &Collateral::default(), policy, NOW_MS)
}

fn refused(result: Result<(), HandshakeFault>) -> BadEvidence {
    match result {
        Err(HandshakeFault::Refused(bad)) => bad,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_claim_holds_over_an_honest_channel() {
    let worker = worker(1, None);
    let (verdict, result) = meet(&worker, &policy(&worker.platform), (1, 1), |_| {});
    result.unwrap();
    for claim in &verdict.claims {
        assert_eq!(claim.finding, Finding::Holds, "{claim:?}");
    }
    assert!(verdict.valid_until_ms <= (NOW_S + 600) * 1000);
}

#[test]
fn evidence_saved_today_verifies_years_later_at_its_own_date() {
    let worker = worker(1, None);
    let policy = policy(&worker.platform);
    let collateral = worker.platform.collateral(NOW_S).unwrap();
    let mut saved = String::new();
    let (verdict, _) = meet(&worker, &policy, (1, 1), |evidence| {
        saved = serde_json::to_string(&(evidence, &collateral, &policy)).unwrap();
    });
    let (evidence, collateral, policy): (PeerEvidence, Collateral, Policy) =
        serde_json::from_str(&saved).unwrap();
    assert_eq!(verify(&evidence, &collateral, &policy, NOW_MS), verdict);
    let years_later = verify(&evidence, &collateral, &policy, NOW_MS + 100_000_000_000);
    assert!(matches!(years_later.finding(ClaimKind::Hardware), Finding::Unknown(_)));
}

#[test]
fn quote_from_another_session_relayed() {
    let worker = worker(1, None);
    let (verdict, result) = meet(&worker, &policy(&worker.platform), (1, 2), |_| {});
    assert!(matches!(refused(result), BadEvidence::NotBound { .. }));
    let freshness = verdict.finding(ClaimKind::Freshness);
    assert!(matches!(freshness, Finding::Fails(BadEvidence::NotBound { .. })), "{freshness:?}");
}

#[test]
fn certificate_evidence_shown_in_place_of_fresh_evidence() {
    let worker = worker(1, None);
    let policy = policy(&worker.platform);
    // The certificate's quote is genuine and about the right key, but a day old.
    let subject = cocoon_evidence::QuoteSubject::CertificateKey(&WORKER_KEY);
    let old = worker.platform.quote(subject).unwrap().tdx_quote;
    let swapped = move |evidence: &mut PeerEvidence| evidence.tdx_quote = old;
    let (_, result) = meet(&worker, &policy, (1, 1), |_| {});
    result.unwrap();
    let said = Some(worker.announcement.clone());
    let (mut verifier, _) = Handshake::start(local(ChannelRole::Proxy, None), [0x21; 32]);
    let (_, first) = Handshake::start(local(ChannelRole::Worker, said), [0x31; 32]);
    let [Effect::Send(first)] = first.as_slice() else { panic!("{first:?}") };
    verifier.receive(first, &Connection(1), NOW_MS).unwrap();
    let offer = cocoon_attest::channel::Offer {
        announcement: worker.announcement.clone(),
        tdx_quote: {
            let mut evidence = PeerEvidence::default();
            swapped(&mut evidence);
            evidence.tdx_quote
        },
        gpu: worker.platform.gpu(),
        event_log: worker.platform.event_log(),
        ..Default::default()
    };
    let offer = cocoon_attest::channel::Message::Offer(Box::new(offer)).encode();
    let effects = verifier.receive(&offer, &Connection(1), NOW_MS).unwrap();
    let [Effect::Verify(evidence)] = effects.as_slice() else { panic!("{effects:?}") };
    let collateral = worker.platform.collateral(NOW_S).unwrap();
    let verdict = verify(evidence, &collateral, &policy, NOW_MS);
    assert!(matches!(refused(verifier.judged(&verdict).map(|_| ())), BadEvidence::NotBound { .. }));
}

#[test]
fn model_swapped_after_the_check() {
    let mut swapped = worker(1, None);
    let policy = policy(&swapped.platform);
    swapped.announcement.model = Digest32::sha256(&[b"another@commit:root"]);
    let (verdict, result) = meet(&swapped, &policy, (1, 1), |_| {});
    assert!(matches!(refused(result), BadEvidence::Measurement { register: "the model", .. }));
    assert!(matches!(verdict.finding(ClaimKind::Weights), Finding::Fails(_)));
    // Whoever changes the digest on the way breaks the signature over it.
    let honest = worker(1, None);
    let (verdict, _) = meet(&honest, &policy, (1, 1), |evidence| {
        if let Binding::Channel(statement) = &mut evidence.binding {
            statement.model = Digest32::sha256(&[b"another@commit:root"]);
        }
    });
    assert!(matches!(verdict.finding(ClaimKind::KeyBinding), Finding::Fails(_)));
}

#[test]
fn image_in_the_statement_other_than_measured() {
    let mut worker = worker(1, None);
    let policy = policy(&worker.platform);
    worker.announcement.image = Digest32::from([0x11; 32]);
    let (verdict, result) = meet(&worker, &policy, (1, 1), |_| {});
    refused(result);
    assert!(matches!(verdict.finding(ClaimKind::Image), Finding::Fails(_)));
}

#[test]
fn diversion_to_another_genuine_machine() {
    let wanted = worker(1, None);
    let policy = policy(&wanted.platform);
    // Another genuine machine, perhaps cracked by its owner, states the wanted id.
    let cracked = worker(2, None);
    let (verdict, result) = meet(&cracked, &policy, (1, 1), |_| {});
    assert!(matches!(refused(result), BadEvidence::Site { .. }), "{verdict:#?}");
    // And a registered machine that states an id which is not its own.
    let mut foreign = worker(1, None);
    foreign.announcement.own_id = Digest32::from([0x77; 32]);
    let (_, result) = meet(&foreign, &policy, (1, 1), |_| {});
    assert!(matches!(refused(result), BadEvidence::Site { .. }));
}

fn owner() -> SigningKey {
    SigningKey::from_bytes(&[0x0e; 32])
}

/// What the owner of this machine signs for it.
fn endorsement(worker: &Worker) -> Endorsement {
    Endorsement {
        owner: Digest32::ZERO,
        network_id: -239,
        root_contract: Digest32::from([5; 32]),
        id: Digest32::from(WORKER_ID),
        platform: worker.platform.platform_id(),
        not_after_s: NOW_S + 300,
    }
}

/// The policy that knows no platform, but this owner for this worker.
fn policy_of_owners(platform: &SimulatedPlatform) -> Policy {
    let named = NamedOwner {
        key: Digest32::from(owner().verifying_key().to_bytes()),
        site: "Example Owner".to_owned(),
        owner_id: Some(Digest32::from(WORKER_ID)),
    };
    let policy = Policy { platforms: Vec::new(), owners: vec![named], ..policy(platform) };
    policy.check().unwrap();
    policy
}

#[test]
fn an_owners_signature_ties_the_id_to_the_platform_of_either_maker() {
    for snp in [None, Some(SnpProduct::Genoa), Some(SnpProduct::Turin)] {
        let form = SimulatedPlatformForm {
            snp,
            gpu_nonce: Some(GPU_NONCE),
            ..SimulatedPlatformForm::default()
        };
        let platform = SimulatedPlatform::boot(Arc::clone(&PKI), form).unwrap();
        let image = platform.image_hash();
        let mut worker = Worker { platform, ..worker(1, None) };
        worker.announcement.image = image;
        worker.announcement.gpu = worker.platform.gpu().unwrap().digest();
        let policy = policy_of_owners(&worker.platform);
        // Without it nobody vouches for the machine.
        let (_, result) = meet(&worker, &policy, (1, 1), |_| {});
        assert!(matches!(refused(result), BadEvidence::Site { .. }));
        worker.endorsement = Some(endorsement(&worker).sign(&owner()).encode());
        let (verdict, result) = meet(&worker, &policy, (1, 1), |_| {});
        result.unwrap();
        let site = verdict.claim(ClaimKind::Site).unwrap();
        assert_eq!((&site.finding, site.source), (&Finding::Holds, Source::Endorsement));
        assert!(site.reason.contains("Example Owner"), "{}", site.reason);
        assert_eq!(verdict.valid_until_ms, (NOW_S + 300) * 1000);
        // Where nobody requires it and no owner is named, nobody looks at it.
        let mut lax = Policy { owners: Vec::new(), ..policy };
        lax.required.retain(|claim| *claim != ClaimKind::Site);
        let (verdict, result) = meet(&worker, &lax, (1, 1), |_| {});
        result.unwrap();
        assert_eq!(*verdict.finding(ClaimKind::Site), Finding::NotClaimed);
    }
}

#[test]
fn endorsements_that_do_not_fit_are_refused() {
    let refusal = |change: &dyn Fn(&mut Endorsement)| {
        let mut worker = worker(1, None);
        let mut said = endorsement(&worker);
        change(&mut said);
        worker.endorsement = Some(said.sign(&owner()).encode());
        let mut policy = policy_of_owners(&worker.platform);
        // Whether or not anybody asks for it: what is offered must be true.
        policy.required.retain(|claim| *claim != ClaimKind::Site);
        let (verdict, result) = meet(&worker, &policy, (1, 1), |_| {});
        let Finding::Fails(bad) = verdict.finding(ClaimKind::Site) else { panic!("{verdict:#?}") };
        assert_eq!(refused(result), *bad);
        let BadEvidence::Endorsement { fault } = bad else { panic!("{bad}") };
        fault.clone()
    };
    use EndorsementFault as F;
    let other = Digest32::from([0x77; 32]);
    assert!(matches!(refusal(&|said| said.id = other), F::OtherId { .. }));
    assert!(matches!(refusal(&|said| said.not_after_s = NOW_S - 1), F::Expired { .. }));
    assert!(matches!(refusal(&|said| said.network_id = -3), F::OtherNetwork { .. }));
    assert!(matches!(refusal(&|said| said.root_contract = other), F::OtherNetwork { .. }));
    // Stolen from another machine of the same owner.
    let neighbour = worker(2, None).platform.platform_id();
    let fault = refusal(&|said| said.platform = neighbour.clone());
    assert!(matches!(fault, F::OtherPlatform { .. }));
    // A machine that states the id it stole beside the endorsement of its own.
    let mut diverting = worker(1, None);
    diverting.endorsement = Some(endorsement(&diverting).sign(&owner()).encode());
    diverting.announcement.own_id = other;
    let policy = policy_of_owners(&diverting.platform);
    let (_, result) = meet(&diverting, &policy, (1, 1), |_| {});
    let fault = refused(result);
    assert!(matches!(fault, BadEvidence::Endorsement { fault: F::OtherId { .. } }), "{fault}");
}

#[test]
fn endorsements_by_strangers_of_other_ids_and_garbage_tie_nothing() {
    let mut worker = worker(1, None);
    let policy = policy_of_owners(&worker.platform);
    let signed = endorsement(&worker).sign(&owner()).encode();
    let refusal =
        |worker: &Worker, policy: &Policy| refused(meet(worker, policy, (1, 1), |_| {}).1);
    // A key that the policy does not name.
    let stranger = SigningKey::from_bytes(&[0x0f; 32]);
    worker.endorsement = Some(endorsement(&worker).sign(&stranger).encode());
    assert!(matches!(refusal(&worker, &policy), BadEvidence::Site { .. }));
    let mut lax = policy.clone();
    lax.required.retain(|claim| *claim != ClaimKind::Site);
    let (verdict, result) = meet(&worker, &lax, (1, 1), |_| {});
    result.unwrap();
    assert_eq!(*verdict.finding(ClaimKind::Site), Finding::NotClaimed);
    // The named key with the stranger's signature.
    let mut forged = worker.endorsement.clone().unwrap();
    forged[21..53].copy_from_slice(&owner().verifying_key().to_bytes());
    worker.endorsement = Some(forged);
    let fault = refusal(&worker, &policy);
    let signature = BadEvidence::Endorsement { fault: EndorsementFault::Signature };
    assert_eq!(fault, signature);
    // An owner that is named for another id.
    worker.endorsement = Some(signed.clone());
    let mut narrow = policy.clone();
    narrow.owners[0].owner_id = Some(Digest32::from([0x77; 32]));
    let fault = refusal(&worker, &narrow);
    let BadEvidence::Endorsement { fault: EndorsementFault::NotItsId { .. } } = fault else {
        panic!("{fault}")
    };
    // What the registry says of platform or id goes first.
    let entry = |platform, owner_id| RegisteredPlatform {
        platform,
        site: "Example Town".to_owned(),
        owner_id: Some(Digest32::from(owner_id)),
    };
    let (own, neighbour) = (worker.platform.platform_id(), self::worker(2, None).platform);
    for listed in [entry(own.clone(), [0x77; 32]), entry(neighbour.platform_id(), WORKER_ID)] {
        let registered = Policy { platforms: vec![listed], ..policy.clone() };
        assert!(matches!(refusal(&worker, &registered), BadEvidence::Site { .. }));
    }
    let revoked = Policy { revoked_platforms: vec![own], ..policy.clone() };
    assert!(matches!(refusal(&worker, &revoked), BadEvidence::Site { .. }));
    // However the operator wrote its id.
    let capitals = worker.platform.platform_id().hex().to_uppercase();
    let text =
        format!(r#"{{"revoked_platforms": [{{"maker": "intel_ppid", "id": "{capitals}"}}]}}"#);
    let written: Policy = serde_json::from_str(&text).unwrap();
    let revoked = Policy { revoked_platforms: written.revoked_platforms, ..policy.clone() };
    assert!(matches!(refusal(&worker, &revoked), BadEvidence::Site { .. }));
    // Garbage, a part, more than all.
    for bytes in [vec![0xff; 100], signed[..50].to_vec(), [&signed[..], &[0]].concat(), Vec::new()]
    {
        worker.endorsement = Some(bytes);
        let fault = refusal(&worker, &policy);
        assert!(matches!(fault, BadEvidence::Malformed { .. }), "{fault}");
    }
    worker.endorsement = Some(vec![0; 513]);
    let (_, result) = meet(&worker, &policy, (1, 1), |_| {});
    assert!(matches!(result, Err(HandshakeFault::Malformed { .. })), "{result:?}");
    // Shown beside a certificate, where nothing states an id.
    let key = [3; 32];
    let subject = cocoon_evidence::QuoteSubject::CertificateKey(&key);
    let mut evidence = worker.platform.quote(subject).unwrap().to_peer_evidence(&key);
    evidence.endorsement = Some(signed);
    let collateral = worker.platform.collateral(NOW_S).unwrap();
    let verdict = verify(&evidence, &collateral, &policy, NOW_MS);
    let nowhere = BadEvidence::Endorsement { fault: EndorsementFault::NoStatement };
    assert_eq!(*verdict.finding(ClaimKind::Site), Finding::Fails(nowhere));
}

#[test]
fn gpu_outside_the_event_log_is_shown_by_the_statement_alone() {
    let worker = booted(1, None, false);
    let mut policy = policy(&worker.platform);
    let (verdict, result) = meet(&worker, &policy, (1, 1), |_| {});
    result.unwrap();
    assert_eq!(*verdict.finding(ClaimKind::Gpu), Finding::Holds);
    policy.gpu.require_measured = true;
    let (_, result) = meet(&worker, &policy, (1, 1), |_| {});
    assert!(matches!(refused(result), BadEvidence::Gpu { .. }));
    // Both kinds of machine have the image hash of the list.
    assert_eq!(worker.platform.image_hash(), self::worker(2, None).platform.image_hash());
}

#[test]
fn gpu_evidence_other_than_stated_or_withheld() {
    let mut worker_ = worker(1, None);
    let policy = policy(&worker_.platform);
    worker_.announcement.gpu = Digest32::from([0x12; 32]);
    let (_, result) = meet(&worker_, &policy, (1, 1), |_| {});
    assert!(matches!(refused(result), BadEvidence::Gpu { .. }));
    let mut absent = worker(1, Some(Misbehave::GpuAbsent));
    absent.announcement.gpu = Digest32::from([0x12; 32]);
    let (verdict, result) = meet(&absent, &self::policy(&absent.platform), (1, 1), |_| {});
    refused(result);
    let missing =
        Finding::Fails(BadEvidence::Missing { what: "the GPU evidence named in the statement" });
    assert_eq!(*verdict.finding(ClaimKind::Gpu), missing);
}

#[test]
fn every_lie_of_the_platform_is_refused_over_the_channel_too() {
    for lie in Misbehave::ALL {
        let lying = worker(1, Some(lie));
        // Boot-time lies about nonces are seen at boot; here the log vouches for the check.
        if lie == Misbehave::GpuOldNonce {
            continue;
        }
        let (_, result) = meet(&lying, &policy(&lying.platform), (1, 1), |_| {});
        let fault = result.expect_err(&format!("{lie:?} must not pass"));
        assert!(
            matches!(fault, HandshakeFault::Refused(_) | HandshakeFault::Undecided(_))
                || (lie == Misbehave::OversizedQuote
                    && matches!(fault, HandshakeFault::Malformed { .. })),
            "{lie:?}: {fault}"
        );
    }
}

#[test]
fn nothing_that_only_the_peer_says_holds_where_its_hardware_does_not() {
    // A SEV-SNP report with the chip's signature that was launched as nobody may: `hardware` fails by
    // that alone, and the rest is what the chip did sign.
    const SIGNED: [ClaimKind; 6] = [
        ClaimKind::Tcb,
        ClaimKind::Image,
        ClaimKind::DebugOff,
        ClaimKind::KeyBinding,
        ClaimKind::Freshness,
        ClaimKind::Site,
    ];
    for lie in [None].into_iter().chain(Misbehave::ALL.map(Some)) {
        let worker = worker(1, lie);
        let policy = policy(&worker.platform);
        let mut seen = None;
        let (judged, _) = meet(&worker, &policy, (1, 1), |evidence| seen = Some(evidence.clone()));
        let Some(evidence) = seen else { continue };
        let unchecked = verify(&evidence, &Collateral::default(), &policy, NOW_MS);
        assert_ne!(*unchecked.finding(ClaimKind::Hardware), Finding::Holds, "{lie:?}");
        for verdict in [judged, unchecked] {
            let Some(unbound) = verdict.unbound() else { continue };
            for kind in [ClaimKind::Weights, ClaimKind::Gpu] {
                assert_ne!(*verdict.finding(kind), Finding::Holds, "{lie:?} {kind:?}");
            }
            let is_launched_wrong =
                matches!(lie, Some(Misbehave::SnpLowPrivilege | Misbehave::SnpMigration));
            for claim in verdict.claims.iter().filter(|claim| claim.finding == Finding::Holds) {
                let is_known = unbound.kind == ClaimKind::KeyBinding
                    || (is_launched_wrong && SIGNED.contains(&claim.kind));
                assert!(is_known, "{lie:?}: {claim:?}");
            }
        }
    }
}

#[test]
fn what_cannot_be_checked_now_fails_nothing_that_would_not_fail_checked() {
    let lies = Misbehave::ALL.map(|lie| (Some(lie), true));
    for (lie, measures) in [(None, true), (None, false)].into_iter().chain(lies) {
        for require_measured in [true, false] {
            let worker = booted(1, lie, measures);
            let mut policy = policy(&worker.platform);
            policy.gpu.require_measured = require_measured;
            let mut seen = None;
            let (judged, _) =
                meet(&worker, &policy, (1, 1), |evidence| seen = Some(evidence.clone()));
            let Some(evidence) = seen else { continue };
            let unchecked = verify(&evidence, &Collateral::default(), &policy, NOW_MS);
            let failing = |verdict: &Verdict, kind| {
                matches!(verdict.finding(kind), Finding::Fails(_)).then_some(kind)
            };
            for kind in ClaimKind::ALL.into_iter().filter_map(|kind| failing(&unchecked, kind)) {
                assert_eq!(failing(&judged, kind), Some(kind), "{lie:?} {:?}", unchecked.claims);
            }
            if lie.is_none() {
                let gpu = unchecked.finding(ClaimKind::Gpu);
                assert_eq!(gpu, unchecked.finding(ClaimKind::Hardware), "unknown as that one");
            }
        }
    }
}

#[test]
fn leaf_keys_are_named_by_their_public_key_info() {
    // SHA-256 of the DER of an Ed25519 SubjectPublicKeyInfo with 32 bytes of 3.
    let mut spki = hex::decode("302a300506032b6570032100").unwrap();
    spki.extend_from_slice(&WORKER_KEY);
    assert_eq!(leaf_key_digest(&WORKER_KEY), Digest32::sha256(&[&spki]));
}
