//! Certificates: the vectors both ways, and the rules one by one.

#![allow(clippy::unwrap_used, reason = "a failure fails the test")]

mod crafted;

use cocoon_ratls::{
    CertificateFault, CertificateRequest, CertificateRules, Credentials, NodeKey, OwnEvidence,
    PeerCertificate, PeerSide, report_data,
};
use crafted::{Crafted, NEW_YEAR_UNIX_S, SEED, evidence_oid};
use proptest::prelude::*;
use serde_json::Value;

const NOON_UNIX_S: u64 = NEW_YEAR_UNIX_S + 43_200;
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../testdata/vectors/ratls.json")).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn judge(der: &[u8], side: PeerSide, now_unix_s: u64) -> Result<(), CertificateFault> {
    PeerCertificate::read(der)?.judge(side, now_unix_s, &CertificateRules::default())
}

fn request(evidence: OwnEvidence) -> CertificateRequest {
    CertificateRequest {
        not_before_unix_s: i64::try_from(NEW_YEAR_UNIX_S).unwrap(),
        lifetime_s: 86_400,
        serial: 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef_u128.to_be_bytes(),
        evidence,
    }
}

#[test]
fn report_data_is_the_vector() {
    let vectors = vectors();
    let vector = &vectors["reportdata"];
    let key = NodeKey::from_seed(&SEED).unwrap();
    assert_eq!(bytes(&vector["ed25519_seed"]), SEED);
    assert_eq!(bytes(&vector["public_key"]), key.public_key());
    assert_eq!(bytes(&vector["report_data_sha512"]), key.report_data());
    assert_eq!(bytes(&vector["report_data_sha512"]), report_data(key.public_key()));
}

#[test]
fn our_certificates_are_the_vectors_byte_for_byte() {
    let vectors = vectors();
    let make = |evidence| {
        let key = NodeKey::from_seed(&SEED).unwrap();
        Credentials::make(key, &request(evidence)).unwrap().certificate_der().to_vec()
    };
    assert_eq!(make(OwnEvidence::None), bytes(&vectors["certificates"]["no_quote_der"]));
    let quote = bytes(&vectors["reportdata"]["base_fake_tdx_quote"]);
    let made = make(OwnEvidence::Tdx { quote });
    assert_eq!(made, bytes(&vectors["certificates"]["base_fake_tdx_der"]));
}

#[test]
fn the_vectors_are_read_and_admitted_version_one_included() {
    let vectors = vectors();
    let public_key = bytes(&vectors["reportdata"]["public_key"]);
    let quote = bytes(&vectors["reportdata"]["base_fake_tdx_quote"]);
    for (name, quote) in [
        ("no_quote_der", None),
        ("base_fake_tdx_der", Some(&quote)),
        ("base_fake_tdx_der_v1_openssl30", Some(&quote)),
    ] {
        let der = bytes(&vectors["certificates"][name]);
        let peer = PeerCertificate::read(&der).unwrap();
        assert_eq!(peer.public_key[..], public_key, "{name}");
        assert_eq!(peer.evidence.tdx_quote.as_ref(), quote, "{name}");
        assert_eq!(peer.evidence.user_claims.is_some(), quote.is_some(), "{name}");
        assert_eq!(peer.dns_names, ["localhost", "127.0.0.1"], "{name}");
        for side in [PeerSide::Accepting, PeerSide::Connecting] {
            let rules = CertificateRules { skew_s: 0, server_name: Some("127.0.0.1".to_owned()) };
            assert_eq!(peer.judge(side, NOON_UNIX_S, &rules), Ok(()), "{name}");
        }
    }
}

#[test]
fn a_sev_certificate_reads_back() {
    let key = NodeKey::from_seed(&SEED).unwrap();
    let (report, vcek_pem) = (vec![7; 1_184], b"-----BEGIN CERTIFICATE-----".to_vec());
    let evidence = OwnEvidence::Sev { report: report.clone(), vcek_pem: vcek_pem.clone() };
    let made = Credentials::make(key.clone(), &request(evidence)).unwrap();
    let peer = PeerCertificate::read(made.certificate_der()).unwrap();
    assert_eq!(peer.evidence.sev_report_data.as_deref(), Some(&key.report_data()[..]));
    assert_eq!(peer.evidence.sev_report, Some(report));
    assert_eq!(peer.evidence.sev_vcek_pem, Some(vcek_pem));
    assert!(!peer.evidence.claims_tdx());
}

#[test]
fn dates_are_judged_by_the_clock_given_with_the_skew() {
    let der = Crafted::new().der();
    let day_after = NEW_YEAR_UNIX_S + 86_400;
    for (now, admitted) in [
        (NEW_YEAR_UNIX_S - 61, false),
        (NEW_YEAR_UNIX_S - 60, true),
        (day_after + 60, true),
        (day_after + 61, false),
        (0, false),
        (u64::MAX, false),
    ] {
        assert_eq!(judge(&der, PeerSide::Accepting, now).is_ok(), admitted, "at {now}");
    }
}

#[test]
fn purposes_count_where_they_are_stated() {
    let server = crafted::der(6, &[&[0x2b, 6, 1, 5, 5, 7, 3, 1]]);
    let client = crafted::der(6, &[&[0x2b, 6, 1, 5, 5, 7, 3, 2]]);
    let (server, client) = (crafted::der(0x30, &[&server]), crafted::der(0x30, &[&client]));
    let at = |certificate: &Crafted, side| judge(&certificate.der(), side, NOON_UNIX_S);
    let server_only = Crafted::new().with(EXTENDED_KEY_USAGE, true, &server);
    assert_eq!(at(&server_only, PeerSide::Accepting), Ok(()));
    let wanted = "clientAuth";
    let fault = CertificateFault::WrongPurpose { wanted };
    assert_eq!(at(&server_only, PeerSide::Connecting), Err(fault));
    let client_only = Crafted::new().with(EXTENDED_KEY_USAGE, false, &client);
    assert_eq!(at(&client_only, PeerSide::Connecting), Ok(()));
    assert!(at(&client_only, PeerSide::Accepting).is_err());
    let signs = Crafted::new().with(KEY_USAGE, true, &[3, 2, 7, 0x80]);
    assert_eq!(at(&signs, PeerSide::Accepting), Ok(()));
    let agrees_only = Crafted::new().with(KEY_USAGE, true, &[3, 2, 3, 0x08]);
    assert!(at(&agrees_only, PeerSide::Accepting).is_err());
}

#[test]
fn each_broken_rule_has_its_fault() {
    let at = |certificate: Crafted| judge(&certificate.der(), PeerSide::Accepting, NOON_UNIX_S);
    let quote = evidence_oid(1);
    assert_eq!(at(Crafted::new()), Ok(()));
    assert_eq!(at(Crafted { version: None, ..Crafted::new() }), Ok(()));
    let foreign = Crafted { issuer: "authority", ..Crafted::new() };
    assert_eq!(at(foreign), Err(CertificateFault::NotSelfIssued));
    let ec_key = vec![
        0x30, 0x13, 0x30, 0x09, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 3, 6, 0, 4, 1, 2, 3, 4,
    ];
    let ec = Crafted { key_info: ec_key, ..Crafted::new() };
    assert_eq!(at(ec), Err(CertificateFault::NotEd25519));
    let unknown = Crafted::new().with(&[0x2a, 3, 4], true, b"?");
    let fault = CertificateFault::UnknownCritical { oid: "1.2.3.4".to_owned() };
    assert_eq!(at(unknown), Err(fault));
    assert_eq!(at(Crafted::new().with(&[0x2a, 3, 4], false, b"?")), Ok(()));
    let both = Crafted::new().with(&quote, true, b"q").with(&evidence_oid(100), true, &[0; 64]);
    assert_eq!(at(both), Err(CertificateFault::TwoPlatforms));
    let twice = Crafted::new().with(&quote, true, b"q").with(&quote, false, b"q");
    let fault = CertificateFault::DuplicateExtension { oid: "1.3.6.1.4.1.12345.1".to_owned() };
    assert_eq!(at(twice), Err(fault));
    assert_eq!(at(Crafted::new().with(&quote, true, &vec![0; 32 * 1024])), Ok(()));
    let long = at(Crafted::new().with(&quote, true, &vec![0; 32 * 1024 + 1]));
    assert!(matches!(long, Err(CertificateFault::Evidence(_))));
    let tail = Crafted { tail: vec![0], ..Crafted::new() };
    assert_eq!(at(tail), Err(CertificateFault::Malformed("bytes after the certificate")));
    let huge = Crafted::new().with(&[0x2a, 3, 4], false, &vec![0; 66_000]);
    assert!(matches!(at(huge), Err(CertificateFault::TooLong { .. })));
}

#[test]
fn evidence_that_is_not_critical_is_no_attestation() {
    let der = Crafted::new().with(&evidence_oid(1), false, b"quote").der();
    let peer = PeerCertificate::read(&der).unwrap();
    assert!(!peer.evidence.claims_tdx());
    assert_eq!(peer.evidence.not_critical.len(), 1);
}

#[test]
fn the_server_name_is_checked_only_when_asked_for() {
    let peer = PeerCertificate::read(&Crafted::new().der()).unwrap();
    let rules = CertificateRules { server_name: Some("127.0.0.1".to_owned()), skew_s: 0 };
    let fault = CertificateFault::WrongName { wanted: "127.0.0.1".to_owned() };
    assert_eq!(peer.judge(PeerSide::Accepting, NOON_UNIX_S, &rules), Err(fault));
    assert_eq!(peer.judge(PeerSide::Connecting, NOON_UNIX_S, &rules), Ok(()));
}

#[test]
fn keys_survive_their_pem_form_and_are_never_printed() {
    let key = NodeKey::from_seed(&[0xa7; 32]).unwrap();
    let pem = key.to_pkcs8_pem();
    let read = NodeKey::from_pkcs8_pem(pem.as_bytes()).unwrap();
    assert_eq!(read.public_key(), key.public_key());
    assert_eq!(format!("{read:?}"), "NodeKey { .. }");
    assert!(
        NodeKey::from_pkcs8_pem(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
            .is_err()
    );
    let other = NodeKey::from_seed(&[1; 32]).unwrap().to_pkcs8_pem();
    let pair = Credentials::from_pem(Crafted::new().pem().as_bytes(), other.as_bytes());
    assert!(pair.is_err(), "a certificate of another key");
}

proptest! {
    #[test]
    fn arbitrary_certificates_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        cocoon_ratls::fuzz::certificate(&bytes);
    }

    /// One changed byte anywhere gives a certificate or a fault.
    #[test]
    fn damaged_certificates_never_panic(at in 0usize..640, to: u8, cut in 0usize..700) {
        let vectors = vectors();
        let mut der = bytes(&vectors["certificates"]["base_fake_tdx_der"]);
        if let Some(byte) = der.get_mut(at) { *byte = to }
        der.truncate(cut);
        if let Ok(peer) = PeerCertificate::read(&der) {
            let _ = peer.judge(PeerSide::Connecting, NOON_UNIX_S, &CertificateRules::default());
        }
    }

    /// Whatever is made reads back and is admitted by both sides during its life.
    #[test]
    fn made_certificates_are_admitted(seed: [u8; 32], serial: [u8; 16], now in 0u64..4_000_000_000, quote in prop::option::of(prop::collection::vec(any::<u8>(), 0..2_000))) {
        let key = NodeKey::from_seed(&seed).unwrap();
        let evidence = quote.clone().map_or(OwnEvidence::None, |quote| OwnEvidence::Tdx { quote });
        let request = CertificateRequest { serial, evidence, ..CertificateRequest::new(now, 60) };
        let made = Credentials::make(key.clone(), &request).unwrap();
        let peer = PeerCertificate::read(made.certificate_der()).unwrap();
        prop_assert_eq!(peer.public_key, *key.public_key());
        prop_assert_eq!(peer.evidence.tdx_quote.clone(), quote);
        for side in [PeerSide::Accepting, PeerSide::Connecting] {
            let rules = CertificateRules { skew_s: 0, server_name: None };
            prop_assert_eq!(peer.judge(side, now + 1, &rules), Ok(()));
        }
        let again = Credentials::from_pem(made.certificate_pem().as_bytes(), key.to_pkcs8_pem().as_bytes()).unwrap();
        prop_assert_eq!(again.certificate_der(), made.certificate_der());
    }
}
