//! The policies `any`, `tee` and `fake_tee` at the certificate.

#![allow(clippy::unwrap_used, reason = "a failure fails the test")]

mod crafted;

use std::sync::Arc;

use cocoon_attest::{Collateral, Digest32, Policy};
use cocoon_ratls::{
    AnyPeer, AttestedPeer, CertificateRequest, Credentials, NodeKey, OwnEvidence, PeerCertificate,
    PeerPolicy, PolicyRefusal, Voucher,
};
use crafted::NEW_YEAR_UNIX_S;

fn peer(evidence: OwnEvidence) -> PeerCertificate {
    let key = NodeKey::from_seed(&[3; 32]).unwrap();
    let request = CertificateRequest { evidence, ..CertificateRequest::new(NEW_YEAR_UNIX_S, 0) };
    let made = Credentials::make(key, &request).unwrap();
    PeerCertificate::read(made.certificate_der()).unwrap()
}

fn attested(policy: Policy) -> AttestedPeer {
    AttestedPeer::new(policy, Arc::new(Collateral::default())).unwrap()
}

#[test]
fn any_admits_every_key_and_claims_nothing() {
    for policy in [&AnyPeer as &dyn PeerPolicy, &attested(Policy::any())] {
        for evidence in [OwnEvidence::None, OwnEvidence::Tdx { quote: vec![1; 700] }] {
            let peer = peer(evidence);
            let identity = policy.check(&peer, NEW_YEAR_UNIX_S).unwrap();
            assert_eq!(identity.public_key, Some(peer.public_key));
            assert_eq!(identity.voucher, Voucher::Handshake);
            assert_eq!(identity.image_hash, None, "nothing was checked, so nothing is claimed");
        }
    }
}

/// The reference admits a certificate without evidence under every policy (protocol notes
/// 2.5, last part). Ours does not.
#[test]
fn tee_refuses_missing_and_false_evidence() {
    let policy = attested(Policy::tee());
    let not_critical = crafted::Crafted::new().with(&crafted::evidence_oid(1), false, b"quote");
    let not_critical = PeerCertificate::read(&not_critical.der()).unwrap();
    let sev = OwnEvidence::Sev { report: vec![0; 1_184], vcek_pem: b"none".to_vec() };
    let quote = vec![0; 496];
    for peer in [
        peer(OwnEvidence::None),
        peer(OwnEvidence::Tdx { quote }),
        peer(OwnEvidence::Tdx { quote: Vec::new() }),
        peer(sev),
        not_critical,
    ] {
        let refused = policy.check(&peer, NEW_YEAR_UNIX_S).unwrap_err();
        assert!(matches!(&refused, PolicyRefusal::Refused { policy, .. } if policy == "tee"));
    }
}

#[test]
fn a_policy_can_be_replaced_but_not_by_one_that_contradicts_itself() {
    let policy = attested(Policy::any());
    let peer = peer(OwnEvidence::None);
    assert!(policy.check(&peer, NEW_YEAR_UNIX_S).is_ok());
    let images = [Digest32::sha256(&[b"image"])];
    assert!(policy.replace_policy(Policy::any().with_images(images)).is_err());
    assert!(policy.check(&peer, NEW_YEAR_UNIX_S).is_ok());
    policy.replace_policy(Policy::tee()).unwrap();
    assert!(policy.check(&peer, NEW_YEAR_UNIX_S).is_err());
}

#[cfg(feature = "dangerous-fake-evidence")]
#[test]
fn fake_tee_admits_the_fakes_of_both_lines_for_their_own_key_only() {
    use cocoon_attest::fake;
    let policy = attested(Policy::fake_tee());
    let key = *NodeKey::from_seed(&[3; 32]).unwrap().public_key();
    for evidence in [
        OwnEvidence::Tdx { quote: fake::base_quote(&key) },
        OwnEvidence::Tdx { quote: fake::live_quote(&key) },
        OwnEvidence::Sev { report: fake::sev_report(&key), vcek_pem: b"none".to_vec() },
    ] {
        let identity = policy.check(&peer(evidence), NEW_YEAR_UNIX_S).unwrap();
        assert!(identity.image_hash.is_some() && identity.verdict.is_some());
    }
    let stolen = OwnEvidence::Tdx { quote: fake::live_quote(&[9; 32]) };
    assert!(policy.check(&peer(stolen), NEW_YEAR_UNIX_S).is_err());
    assert!(policy.check(&peer(OwnEvidence::None), NEW_YEAR_UNIX_S).is_err());
}
