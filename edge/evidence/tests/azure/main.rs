//! The vTPM of Azure's machines, made of a map, with reports of the simulated platform. No byte here
//! comes from Azure itself.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(feature = "azure")]

mod machine;
mod registers;

use std::sync::{Arc, LazyLock};

use cocoon_attest::snp::SnpProduct;
use cocoon_attest::{ClaimKind, Finding};
use cocoon_evidence::azure::{AzureVtpm, HclReport, HclTee};
use cocoon_evidence::{EvidenceFault, EvidenceProvider as _, QuoteSubject, TeeEvidence, TeeKind};
use proptest::prelude::*;

use machine::{KEY, Quotes, hcl, judged, platform, tpm};

#[test]
fn a_report_by_way_of_the_vtpm_is_bound_to_its_subject_and_shows_no_image() {
    for snp in [None, Some(SnpProduct::Genoa)] {
        let platform = platform(snp);
        let evidence = platform.quote(QuoteSubject::CertificateKey(&KEY)).unwrap();
        let verdict = judged(&platform, &evidence, &KEY);
        for kind in [ClaimKind::Hardware, ClaimKind::Tcb, ClaimKind::KeyBinding] {
            assert_eq!(verdict.finding(kind), &Finding::Holds, "{kind:?}");
        }
        assert_eq!(verdict.finding(ClaimKind::Image), &Finding::NotClaimed);
        assert_eq!(verdict.image_hash(), None, "a paravisor is nobody's image");
        // About another key; with another text; with none.
        let other = judged(&platform, &evidence, &[7; 32]);
        assert!(matches!(other.finding(ClaimKind::KeyBinding), Finding::Fails(_)));
        let text = Some(br#"{"user-data":"00"}"#.to_vec());
        for runtime_data in [text, None] {
            let changed = TeeEvidence { runtime_data, ..evidence.clone() };
            let verdict = judged(&platform, &changed, &KEY);
            assert_ne!(verdict.finding(ClaimKind::KeyBinding), &Finding::Holds);
        }
    }
}

#[test]
fn the_vtpm_is_asked_as_its_specification_says() {
    let fake = tpm(Some(SnpProduct::Genoa), 0);
    let pem = fake.platform.quote(QuoteSubject::CertificateKey(&KEY)).unwrap().sev_vcek_pem;
    let quotes = Quotes(Arc::clone(&fake.platform));
    let found = AzureVtpm::with(&fake, quotes, |_| ()).unwrap().with_vcek_pem(pem.unwrap());
    assert_eq!(found.kind(), TeeKind::Snp);
    fake.commands.lock().unwrap().clear();
    let commands = {
        found.quote(QuoteSubject::CertificateKey(&KEY)).unwrap();
        fake.commands.lock().unwrap().clone()
    };
    let hex: Vec<String> = commands.iter().map(hex::encode).collect();
    assert_eq!(hex[0], "80010000000e0000016901400002");
    let public = "001000000140000200000b00020002000000".len();
    assert!(
        hex[1].starts_with("80020000002d0000012a40000001000000094000000900000000000000"),
        "{} {public}",
        hex[1]
    );
    assert!(hex[1].ends_with("000e01400002000b0002000200000040"), "{}", hex[1]);
    assert!(hex[2].starts_with("8002000000630000013740000001014000020000000940000009000000000000"));
    assert!(hex[2].ends_with("0000"), "from the beginning");
    assert_eq!(
        hex[4],
        "8002000000230000014e4000000101400001000000094000000900000000000200".to_owned() + "0000"
    );
}

#[test]
fn a_report_about_something_else_is_waited_out_or_refused() {
    // Six pieces a report: the first report is an old one, and the second.
    for (stale, good) in [(0, true), (12, true), (1_000, false)] {
        let fake = tpm(None, stale);
        let quotes = Quotes(Arc::clone(&fake.platform));
        let found = AzureVtpm::with(&fake, quotes, |_| ()).unwrap();
        assert_eq!(found.kind(), TeeKind::Tdx);
        *fake.stale.lock().unwrap() = stale;
        let made = found.quote(QuoteSubject::CertificateKey(&KEY));
        assert_eq!(made.is_ok(), good);
        match made {
            Ok(evidence) => {
                let verdict = judged(&fake.platform, &evidence, &KEY);
                assert_eq!(verdict.finding(ClaimKind::KeyBinding), &Finding::Holds);
            }
            Err(fault) => assert!(matches!(fault, EvidenceFault::Contended { .. }), "{fault}"),
        }
    }
}

static REPORT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    hcl(&platform(Some(SnpProduct::Genoa)).quote(QuoteSubject::CertificateKey(&KEY)).unwrap())
});

proptest! {
    #[test]
    fn whatever_lies_in_the_vtpm_is_read_or_refused(
        place in 0_usize..1300, byte in any::<u8>(), len in 0_usize..2700,
    ) {
        let mut bytes = REPORT.clone();
        prop_assert_eq!(HclReport::read(&bytes).unwrap().tee, HclTee::Snp);
        bytes[place] = byte;
        bytes.truncate(len);
        let _ = HclReport::read(&bytes);
    }
}
