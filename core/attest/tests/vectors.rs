//! The vectors of the protocol that belong to evidence: quote, image hashes, report data,
//! certificates, runtime registers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use cocoon_attest::tdx::{EventLog, READY_EVENT, TdReport};
use cocoon_attest::{
    Digest48, ExtensionKind, ExtensionUse, Measurement, PeerEvidence, TdMeasurement,
    certificate_report_data,
};
use serde_json::Value;
use x509_parser::prelude::{FromDer as _, X509Certificate};

fn vectors() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/evidence-vectors.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn register(value: &Value) -> Digest48 {
    Digest48::read("vector", value.as_str().unwrap()).unwrap()
}

fn key(vectors: &Value) -> [u8; 32] {
    bytes(&vectors["reportdata"]["public_key"]).try_into().unwrap()
}

/// Lays the fields of the vector out as a quote without its signature.
fn quote_of(vector: &Value) -> Vec<u8> {
    let mut quote = vec![0; 632];
    quote[0] = 4;
    quote[2] = 2;
    quote[4] = 0x81;
    for field in vector["fields"].as_object().unwrap().values() {
        let offset = usize::try_from(field["offset"].as_u64().unwrap()).unwrap();
        let value = bytes(&field["value"]);
        quote[offset..offset + value.len()].copy_from_slice(&value);
    }
    quote
}

#[test]
fn quote_dat() {
    let vector = &vectors()["quote_dat"];
    let report = TdReport::read(&quote_of(vector)).unwrap();
    let field = |name: &str| &vector["fields"][name]["value"];
    assert_eq!(report.measurement.mr_td, register(field("mr_td")));
    assert_eq!(report.mr_seam, register(field("mr_seam")));
    assert_eq!(report.measurement.rtmr[2], register(field("rtmr2")));
    assert_eq!(report.report_data.to_vec(), bytes(field("report_data")));
    assert_eq!(report.td_attributes.to_le_bytes().to_vec(), bytes(field("td_attributes")));
    assert_eq!(report.xfam.to_le_bytes().to_vec(), bytes(field("xfam")));
    assert_eq!(report.debug(), None);
    let hash = Measurement::Td(Box::new(report.measurement)).image_hash();
    assert_eq!(hash.to_string(), vector["image_hash_hex"].as_str().unwrap());
    assert_eq!(hash.to_base64(), vector["image_hash_base64"].as_str().unwrap());
}

#[test]
fn image_hash() {
    let vector = &vectors()["image_hash"];
    let td = |td: TdMeasurement| Measurement::Td(Box::new(td)).image_hash();
    let empty = td(TdMeasurement::default());
    assert_eq!(empty.to_string(), vector["fake_or_empty_tdx"].as_str().unwrap());
    assert_eq!(empty.to_base64(), vector["fake_or_empty_tdx_base64"].as_str().unwrap());
    let all = |byte| Digest48::from([byte; 48]);
    let synthetic = TdMeasurement {
        mr_td: all(0x12),
        mr_config_id: all(0x34),
        mr_owner: all(0xaa),
        mr_owner_config: all(0xbb),
        rtmr: [all(0x61), all(0x62), all(0x63), all(0x64)],
    };
    assert_eq!(td(synthetic).to_string(), vector["synthetic"].as_str().unwrap());
    let sev = Measurement::Snp(all(0x66)).image_hash();
    assert_eq!(sev.to_string(), vector["live_sev_measurement_66"].as_str().unwrap());
    // A fake SEV report measures zeros (protocol notes 10.2, 25).
    let fake_sev = Measurement::Snp(Digest48::ZERO).image_hash();
    assert_eq!(fake_sev.to_base64(), "tf2reNiUfqzIZL/uy00hAHgOWv4c2O+vsSSIeROsSfo=");
}

#[test]
fn reportdata() {
    let vectors = vectors();
    let expected = bytes(&vectors["reportdata"]["report_data_sha512"]);
    assert_eq!(certificate_report_data(&key(&vectors)).to_vec(), expected);
}

/// Takes the extensions of a sample certificate as the TLS edge does.
fn taken(der: &[u8], key: [u8; 32]) -> (PeerEvidence, usize) {
    let (_, certificate) = X509Certificate::from_der(der).unwrap();
    assert_eq!(&*certificate.public_key().subject_public_key.data, key);
    let mut evidence = PeerEvidence::new(key);
    let mut kept = 0;
    for extension in certificate.extensions() {
        let (oid, critical) = (extension.oid.as_bytes(), extension.critical);
        if let ExtensionUse::Kept(_) =
            evidence.take_extension(oid, critical, extension.value).unwrap()
        {
            kept += 1;
        }
    }
    (evidence, kept)
}

#[test]
fn certificates() {
    let vectors = vectors();
    let key = key(&vectors);
    let fake = bytes(&vectors["certificates"]["base_fake_tdx_der"]);
    let (evidence, kept) = taken(&fake, key);
    assert_eq!(kept, 2);
    assert_eq!(evidence.user_claims, Some(key.to_vec()));
    assert_eq!(evidence.tdx_quote, Some(bytes(&vectors["reportdata"]["base_fake_tdx_quote"])));
    let plain = bytes(&vectors["certificates"]["no_quote_der"]);
    let (evidence, kept) = taken(&plain, key);
    assert_eq!((evidence, kept), (PeerEvidence::new(key), 0));
}

#[test]
fn object_identifiers_read_and_write_alike() {
    for kind in ExtensionKind::ALL {
        assert_eq!(ExtensionKind::from_oid(&kind.oid()), Some(kind));
    }
    assert_eq!(hex::encode(ExtensionKind::SevVcek.oid()), "2b06010401e03966");
    assert_eq!(ExtensionKind::from_oid(&[0x2b, 0x06, 0x01, 0x04, 0x01, 0xe0, 0x39, 3]), None);
}

#[test]
fn rtmr3() {
    let vector = &vectors()["rtmr3"];
    let spec = format!("cocoon:spec.tree={}", "0".repeat(64));
    let log = EventLog::from_events([spec, READY_EVENT.to_owned()]);
    let replay = log.replay();
    for (step, expected) in replay.iter().zip(vector["steps"].as_array().unwrap()) {
        assert_eq!(step.digest, register(&expected["digest"]));
        assert_eq!(step.register, register(&expected["rtmr3"]));
    }
    assert_eq!(replay.len(), 2);
    let text = log.to_text();
    assert_eq!(EventLog::read(text.as_bytes()).unwrap(), log);
    log.check(&register(&vector["steps"][1]["rtmr3"])).unwrap();
    log.check(&register(&vector["steps"][0]["rtmr3"])).unwrap_err();
    let debug = EventLog::from_events([cocoon_attest::tdx::DEBUG_EVENT.to_owned()]);
    assert_eq!(debug.replay()[0].digest, register(&vector["debug_event_digest"]));
}

#[cfg(feature = "dangerous-fake-evidence")]
mod fake {
    use cocoon_attest::{
        ClaimKind, Collateral, Finding, Outcome, PeerEvidence, Policy, Verdict, fake, verify,
    };

    use super::{bytes, key, vectors};

    fn judge(evidence: &PeerEvidence, policy: &Policy) -> Verdict {
        verify(evidence, &Collateral::default(), policy, 1_795_262_400_000)
    }

    #[test]
    fn fake_quotes_of_both_lines_are_those_of_the_vectors_and_prove_no_hardware() {
        let vectors = vectors();
        let key = key(&vectors);
        let reportdata = &vectors["reportdata"];
        let base = bytes(&reportdata["base_fake_tdx_quote"]);
        let live = bytes(&reportdata["live_fake_tee_quote_ext"]);
        assert_eq!(fake::base_quote(&key), base);
        assert_eq!(fake::live_quote(&key), live);
        for quote in [base, live] {
            let evidence = PeerEvidence {
                tdx_quote: Some(quote),
                user_claims: Some(key.to_vec()),
                ..PeerEvidence::new(key)
            };
            let verdict = judge(&evidence, &Policy::fake_tee());
            assert_eq!(verdict.outcome(), Outcome::Accept);
            assert_eq!(*verdict.finding(ClaimKind::Hardware), Finding::NotClaimed);
            assert_eq!(
                verdict.image_hash().unwrap().to_base64(),
                "XFXI9NtAELqSA9g1NtBgmFavjIR6wDnjfn3ej71XS2E="
            );
            // The same bytes never pass where hardware is asked for.
            assert!(matches!(judge(&evidence, &Policy::tee()).outcome(), Outcome::Refuse(_)));
        }
        let sev =
            PeerEvidence { sev_report: Some(fake::sev_report(&key)), ..PeerEvidence::new(key) };
        assert_eq!(judge(&sev, &Policy::fake_tee()).outcome(), Outcome::Accept);
        let other = PeerEvidence { public_key: [1; 32], ..sev };
        assert!(matches!(judge(&other, &Policy::fake_tee()).outcome(), Outcome::Refuse(_)));
    }
}
