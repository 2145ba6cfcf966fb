//! Evidence of real machines. Built only with the feature `real-evidence`, since the samples
//! belong to others; without `COCOON_REAL_EVIDENCE` every test here fails.
//!
//! Expected files: `tdx_v4_cocoon.{quote,collateral.json}`, the `sample` files of the crate
//! `dcap-qvl`, `report_milan.hex`, `vcek_milan.der` and the built-in chains of the crate `sev`
//! (`ark_milan.pem`, `ask_milan.pem`), `hopperAttestationReport.txt` and
//! `hopperCertChain.txt` of NVIDIA's verifier.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "findings are for people to read")]

use std::path::PathBuf;

use cocoon_attest::gpu::{
    self, GpuEvidence, GpuMode, GpuPolicy, GpuProfile, OpaqueField, SpdmReport,
};
use cocoon_attest::snp::{SnpPolicy, SnpProduct};
use cocoon_attest::tdx::TdReport;
use cocoon_attest::{
    BadEvidence, Binding, CannotCheck, ClaimKind, Collateral, Digest32, Finding, PeerEvidence,
    Policy, SnpCollateral, TdxCollateral, TrustRoots, Verdict, verify,
};

/// 2026-02-18T22:58:00Z.
const FEBRUARY_MS: u64 = 1_771_455_480_000;

fn sample(name: &str) -> Vec<u8> {
    let directory = std::env::var_os("COCOON_REAL_EVIDENCE")
        .expect("COCOON_REAL_EVIDENCE must name the directory of the samples");
    let path = PathBuf::from(directory).join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn tdx(quote: &str, collateral: &str, now_ms: u64, policy: &Policy) -> Verdict {
    let evidence = PeerEvidence {
        tdx_quote: Some(sample(quote)),
        user_claims: Some(vec![0; 32]),
        ..PeerEvidence::new([0; 32])
    };
    let dcap = serde_json::from_slice(&sample(collateral)).unwrap();
    let collateral = Collateral { tdx: Some(TdxCollateral { dcap, fetched_ms: 0 }), snp: None };
    verify(&evidence, &collateral, policy, now_ms)
}

fn holds(verdict: &Verdict, kinds: &[ClaimKind]) {
    for kind in kinds {
        assert_eq!(*verdict.finding(*kind), Finding::Holds, "{kind:?}: {verdict:#?}");
    }
}

/// The key behind the samples is unknown, so the binding to it must fail.
fn not_bound(verdict: &Verdict) {
    let finding = verdict.finding(ClaimKind::KeyBinding);
    assert!(matches!(finding, Finding::Fails(BadEvidence::NotBound { .. })), "{verdict:#?}");
}

#[test]
fn cocoon_quote_of_a_real_guest_is_up_to_date_at_its_date() {
    let image =
        Digest32::read("", "04b3afd931d28680af91a15b09d672c40ad6b141f7f9089a8d67d595220f7436")
            .unwrap();
    let policy = Policy::tee().with_images([image]);
    let names = ("tdx_v4_cocoon.quote", "tdx_v4_cocoon.collateral.json");
    let verdict = tdx(names.0, names.1, FEBRUARY_MS, &policy);
    println!("{}", serde_json::to_string_pretty(&verdict).unwrap());
    holds(&verdict, &[ClaimKind::Hardware, ClaimKind::Tcb, ClaimKind::Image, ClaimKind::DebugOff]);
    not_bound(&verdict);
    // A year later the same bytes cannot be checked, which is not the peer's fault.
    let verdict = tdx(names.0, names.1, FEBRUARY_MS + 31_536_000_000, &policy);
    let finding = verdict.finding(ClaimKind::Hardware);
    assert!(
        matches!(finding, Finding::Unknown(CannotCheck::StaleCollateral { .. })),
        "{finding:?}"
    );
}

/// Finds the second at which the collateral counts, and judges the quote then.
fn at_its_date(quote: &str, collateral: &str) -> Verdict {
    let dcap: serde_json::Value = serde_json::from_slice(&sample(collateral)).unwrap();
    let info: serde_json::Value = serde_json::from_str(dcap["tcb_info"].as_str().unwrap()).unwrap();
    println!("{quote}: {} .. {}", info["issueDate"], info["nextUpdate"]);
    let dcap = TdxCollateral { dcap: serde_json::from_value(dcap).unwrap(), fetched_ms: 0 };
    let mut now_s = FEBRUARY_MS / 1000 - 400 * 86_400;
    let dates = loop {
        match cocoon_attest::tdx::collateral_dates(&dcap, now_s) {
            Ok(dates) => break dates,
            Err(cannot) => {
                now_s += 6 * 3600;
                assert!(now_s < FEBRUARY_MS / 1000 + 400 * 86_400, "{quote}: {cannot}");
            }
        }
    };
    tdx(quote, collateral, dates.next_update_s * 1000 - 3_600_000, &Policy::tee())
}

#[test]
fn samples_of_dcap_qvl_give_what_their_authors_say() {
    let verdict = at_its_date("tdx_quote", "tdx_quote_collateral.json");
    println!("{}", serde_json::to_string_pretty(&verdict).unwrap());
    holds(&verdict, &[ClaimKind::Hardware, ClaimKind::Tcb]);
    not_bound(&verdict);
    let verdict = at_its_date("tdx_quote_td15ex", "tdx_quote_td15ex_collateral.json");
    println!("{}", serde_json::to_string_pretty(&verdict).unwrap());
    holds(&verdict, &[ClaimKind::Hardware, ClaimKind::Tcb]);
    let report = TdReport::read(&sample("tdx_quote_td15ex")).unwrap();
    assert_eq!(report.version, 5);
    let verdict = at_its_date("tdx_quote_outdated", "tdx_quote_outdated_collateral.json");
    println!("{}", serde_json::to_string_pretty(&verdict).unwrap());
    let finding = verdict.finding(ClaimKind::Hardware);
    assert!(matches!(finding, Finding::Fails(BadEvidence::Tcb { .. })), "{finding:?}");
}

#[test]
fn sgx_quote_of_a_real_enclave_is_no_tdx_quote() {
    let verdict = tdx("sgx_quote", "sgx_quote_collateral.json", FEBRUARY_MS, &Policy::tee());
    let finding = verdict.finding(ClaimKind::Hardware);
    assert_eq!(*finding, Finding::Fails(BadEvidence::WrongTee { tee_type: 0 }));
}

fn milan(change: impl FnOnce(&mut Vec<u8>), policy: &Policy) -> Verdict {
    let text = String::from_utf8(sample("report_milan.hex")).unwrap();
    let mut report = hex::decode(text.split_whitespace().collect::<String>()).unwrap();
    change(&mut report);
    let der = |name| {
        let (_, pem) = x509_parser::pem::parse_x509_pem(&sample(name)).unwrap();
        pem.contents
    };
    let vcek = {
        use base64::Engine as _;
        let body = base64::engine::general_purpose::STANDARD.encode(sample("vcek_milan.der"));
        format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
    };
    let evidence = PeerEvidence {
        sev_report_data: Some(report[0x50..0x90].to_vec()),
        sev_report: Some(report),
        sev_vcek_pem: Some(vcek.into_bytes()),
        ..PeerEvidence::new([0; 32])
    };
    let (ark, ask) = (der("ark_milan.pem"), der("ask_milan.pem"));
    let product = SnpProduct::Milan;
    let snp = Some(SnpCollateral { product, ark, ask, crl: Vec::new(), fetched_ms: 0 });
    verify(&evidence, &Collateral { tdx: None, snp }, policy, FEBRUARY_MS)
}

#[test]
fn milan_report_verifies_up_to_the_missing_revocation_list() {
    let verdict = milan(|_| {}, &Policy::tee());
    let finding = verdict.finding(ClaimKind::Hardware);
    assert!(matches!(finding, Finding::Fails(BadEvidence::Product { .. })), "{finding:?}");
    let policy = Policy {
        snp: Some(SnpPolicy { products: vec![SnpProduct::Milan], ..SnpPolicy::default() }),
        ..Policy::tee()
    };
    let verdict = milan(|_| {}, &policy);
    println!("{}", serde_json::to_string_pretty(&verdict).unwrap());
    let finding = verdict.finding(ClaimKind::Hardware);
    let missing = CannotCheck::NoCollateral { what: "AMD's revocation list" };
    assert_eq!(*finding, Finding::Unknown(missing));
    let verdict = milan(|report| report[0x90] ^= 1, &policy);
    let finding = verdict.finding(ClaimKind::Hardware);
    assert!(matches!(finding, Finding::Fails(BadEvidence::Signature { .. })), "{finding:?}");
}

#[test]
fn hopper_report_verifies_to_the_device_root() {
    let text = String::from_utf8(sample("hopperAttestationReport.txt")).unwrap();
    let report = hex::decode(text.trim()).unwrap();
    let read = SpdmReport::read(&report).unwrap();
    assert_eq!(read.text(OpaqueField::DriverVersion), Some("550.90.07"));
    assert_eq!(read.measurements.len(), 64);
    let mode = GpuMode { confidential: true, developer: false };
    let chain_pem = sample("hopperCertChain.txt");
    let evidence = GpuEvidence { report, chain_pem, mode };
    let profile = GpuProfile {
        name: "sample".to_owned(),
        driver: "550.90.07".to_owned(),
        vbios: "009f009601000000".to_owned(),
        measurements: read
            .measurements
            .iter()
            .map(|(index, found)| (*index, vec![*found]))
            .collect(),
    };
    let rules = GpuPolicy { profiles: vec![profile], ..GpuPolicy::default() };
    let roots = TrustRoots::production();
    let now_s = FEBRUARY_MS / 1000;
    let checked = gpu::check(&evidence, Some(&read.nonce), &rules, &roots, now_s).unwrap();
    assert_eq!(checked.profile, "sample");
    let mut other = evidence.clone();
    other.report[60] ^= 1;
    let bad = gpu::check(&other, Some(&read.nonce), &rules, &roots, now_s).unwrap_err();
    assert!(matches!(bad, BadEvidence::Signature { .. }), "{bad}");
    assert_eq!(PeerEvidence::default().binding, Binding::CertificateKey);
}
