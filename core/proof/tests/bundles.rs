//! Bundles: read as written, within limits, and never believed for what they say of themselves.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use cocoon_attest::channel::{ChannelRole, Statement};
use cocoon_attest::{Binding, ClaimKind, Collateral, Digest32, PeerEvidence, Policy, TrustRoots};
use cocoon_proof::{
    Asker, Bundle, BundleFault, MachineRole, RootView, Shown, Standing, Trust, TrustFault, examine,
    fuzz,
};
use proptest::prelude::*;

fn bundle() -> Bundle {
    let root = RootView { contract: Digest32::from([1; 32]), ..RootView::default() };
    let mut bundle = Bundle::new(1_795_262_400_000, Digest32::from([2; 32]), root);
    let evidence = Shown::Evidence(Box::new(PeerEvidence::new([3; 32])));
    bundle.add(MachineRole::Proxy, "a proxy\nof two lines", evidence, Collateral::default());
    let reason = "it understands none".to_owned();
    let nothing = Shown::Nothing { reason };
    bundle.add(MachineRole::Worker, "m", nothing, Collateral::default());
    bundle.add(MachineRole::Worker, "m", Shown::report(b"none"), Collateral::default());
    let failed = Shown::Failed { reason: "no answer".to_owned() };
    bundle.add(MachineRole::Worker, "m", failed, Collateral::default());
    bundle.policy = Some(Policy::any());
    bundle
}

fn asker(root: Option<RootView>) -> Asker {
    Asker { policy: Policy::tee(), nonce: None, root, now_ms: 1_795_262_400_000, date_is_now: true }
}

fn standing(found: &cocoon_proof::Examination, subject: &str, claim: &str) -> Standing {
    let of = |line: &&cocoon_proof::ClaimLine| line.subject == subject && line.claim == claim;
    found.claims.iter().find(of).unwrap().verdict
}

#[test]
fn a_bundle_reads_as_it_was_written() {
    let bundle = bundle();
    assert_eq!(Bundle::read(&bundle.write().unwrap()), Ok(bundle));
}

#[test]
fn what_was_not_shown_is_not_good() {
    let found = examine(&bundle(), &asker(None));
    // The policy in the bundle looks at nothing; the reader's counts.
    assert_eq!(standing(&found, "proxy 1", "hardware"), Standing::Fails);
    assert_eq!(standing(&found, "worker 1", "hardware"), Standing::NotClaimed);
    assert_eq!(standing(&found, "worker 2", "hardware"), Standing::Fails);
    assert_eq!(standing(&found, "worker 3", "hardware"), Standing::Unknown);
    assert_eq!(standing(&found, "registry", "registry"), Standing::Unknown);
    let own = RootView { contract: Digest32::from([9; 32]), ..RootView::default() };
    let found = examine(&bundle(), &asker(Some(own)));
    assert_eq!(standing(&found, "registry", "registry"), Standing::Fails);
    let empty = Bundle::new(0, Digest32::ZERO, RootView::default());
    let found = examine(&empty, &asker(None));
    assert_eq!(standing(&found, "network", "workers"), Standing::NotClaimed);
}

#[test]
fn a_proxy_speaks_in_its_role_and_network_or_fails() {
    let root =
        RootView { contract: Digest32::from([1; 32]), network_id: -3, ..RootView::default() };
    let honest = Statement {
        role: ChannelRole::Proxy,
        peer_role: ChannelRole::Client,
        verifier_nonce: [1; 32],
        exporter: [2; 32],
        own_key: Digest32::from([3; 32]),
        peer_key: Digest32::ZERO,
        network_id: -3,
        root_contract: root.contract,
        own_id: Digest32::ZERO,
        dialled_address: String::new(),
        keyset: Digest32::ZERO,
        image: Digest32::ZERO,
        model: Digest32::ZERO,
        gpu: Digest32::ZERO,
        beacon: Digest32::ZERO,
        not_after_s: 1_795_262_500,
    };
    let judged = |statement: Option<Statement>, trusts: bool| {
        let binding = statement.map(|it| Binding::Channel(Box::new(it))).unwrap_or_default();
        // Well formed up to its signature, so that without roots nobody can tell.
        let mut quote = vec![0; 632];
        quote[..8].copy_from_slice(&[4, 0, 2, 0, 0x81, 0, 0, 0]);
        quote[48 + 120 + 3] = 0x10;
        let evidence =
            PeerEvidence { tdx_quote: Some(quote), binding, ..PeerEvidence::new([3; 32]) };
        let mut bundle = Bundle::new(1_795_262_400_000, Digest32::ZERO, root.clone());
        let shown = Shown::Evidence(Box::new(evidence));
        bundle.add(MachineRole::Proxy, "p", shown, Collateral::default());
        let mut asker = asker(Some(root.clone()));
        if !trusts {
            asker.policy.roots = TrustRoots::default();
        }
        let found = examine(&bundle, &asker);
        let of = |line: &&cocoon_proof::ClaimLine| line.claim == "network";
        found.claims.iter().find(of).map(|line| line.verdict)
    };
    assert_eq!(judged(None, true), None, "a certificate names no network");
    // As good as the hardware behind it, and never better.
    assert_eq!(judged(Some(honest.clone()), true), Some(Standing::Fails));
    assert_eq!(judged(Some(honest.clone()), false), Some(Standing::Unknown));
    for lie in [
        Statement { role: ChannelRole::Worker, ..honest.clone() },
        Statement { network_id: -239, ..honest.clone() },
        Statement { root_contract: Digest32::from([9; 32]), ..honest },
    ] {
        assert_eq!(judged(Some(lie), false), Some(Standing::Fails));
    }
}

#[test]
fn files_that_are_none_are_refused() {
    let written = String::from_utf8(bundle().write().unwrap()).unwrap();
    let refused = |text: &str| Bundle::read(text.as_bytes()).unwrap_err();
    assert!(matches!(refused("{}"), BundleFault::Malformed { .. }));
    let later = written.replacen("\"version\":1", "\"version\":2", 1);
    assert!(matches!(refused(&later), BundleFault::Version { version: 2, .. }));
    let more = written.replacen("{\"format\"", "{\"more\":1,\"format\"", 1);
    assert!(matches!(refused(&more), BundleFault::Malformed { .. }));
    let pointing = written.replacen("\"collateral\":null", "\"collateral\":7", 1);
    assert!(matches!(refused(&pointing), BundleFault::Malformed { .. }));
    let control = written.replacen("no answer", "no\\u001b[2Janswer", 1);
    assert!(matches!(refused(&control), BundleFault::Malformed { .. }));
    let long = " ".repeat(cocoon_proof::BUNDLE_LIMIT + 1);
    assert!(matches!(refused(&long), BundleFault::TooLong { .. }));
}

proptest! {
    #[test]
    fn changed_bundles_never_panic(place in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = bundle().write().unwrap();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        fuzz::bundle(&bytes);
        fuzz::bundle(&bytes[..place]);
    }
}

#[test]
fn a_trust_file_reads_as_it_was_written_and_nothing_else_is_one() {
    let registry = RootView { models: vec![Digest32::from([5; 32])], ..RootView::default() };
    let trust = Trust::new(Policy::tee(), Some(registry));
    let written = String::from_utf8(trust.write().unwrap()).unwrap();
    assert_eq!(Trust::read(written.as_bytes()), Ok(trust));
    assert_eq!(Trust::read(&Trust::default().write().unwrap()), Ok(Trust::default()));
    // The registry says which images and models.
    let strict = Policy::tee().requiring(ClaimKind::Image).requiring(ClaimKind::Weights);
    let strict = Trust::new(strict, None);
    assert_eq!(Trust::read(&strict.write().unwrap()), Ok(strict));
    let refused = |text: &str| Trust::read(text.as_bytes()).unwrap_err();
    assert!(matches!(refused("{}"), TrustFault::Malformed { .. }));
    let bundle = String::from_utf8(bundle().write().unwrap()).unwrap();
    assert!(matches!(refused(&bundle), TrustFault::Version { .. }));
    let later = written.replacen("\"version\": 1", "\"version\": 2", 1);
    assert!(matches!(refused(&later), TrustFault::Version { version: 2, .. }));
    let lame = Policy { tdx: None, snp: None, ..Policy::tee() };
    let lame = String::from_utf8(Trust::new(lame, None).write().unwrap()).unwrap();
    assert!(matches!(refused(&lame), TrustFault::Policy { .. }));
    let long = " ".repeat(cocoon_proof::TRUST_LIMIT + 1);
    assert!(matches!(refused(&long), TrustFault::TooLong { .. }));
    fuzz::trust(written.as_bytes());
}
