//! The vTPM of Azure's machines, made of a map, with reports of the simulated platform. No byte here
//! comes from Azure itself.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(feature = "azure")]

use std::io;
use std::sync::{Arc, LazyLock, Mutex};

use cocoon_attest::snp::SnpProduct;
use cocoon_attest::tdx::TdReport;
use cocoon_attest::{ClaimKind, Finding, Verdict, certificate_report_data, verify};
use cocoon_evidence::azure::{AzureVtpm, HclReport, HclTee, TdQuotes, Tpm};
use cocoon_evidence::sim::{DevPki, SimulatedPlatform, SimulatedPlatformForm};
use cocoon_evidence::{EvidenceFault, EvidenceProvider, QuoteSubject, TeeEvidence, TeeKind};
use proptest::prelude::*;

const NOW_S: u64 = 1_795_262_400;
const KEY: [u8; 32] = [0x42; 32];

static PKI: LazyLock<Arc<DevPki>> =
    LazyLock::new(|| Arc::new(DevPki::generate(NOW_S).expect("keys can be drawn")));

fn platform(snp: Option<SnpProduct>) -> SimulatedPlatform {
    let form = SimulatedPlatformForm { snp, paravisor: true, ..SimulatedPlatformForm::default() };
    SimulatedPlatform::boot(Arc::clone(&PKI), form).unwrap()
}

/// The paravisor's report over what the platform gave.
fn hcl(evidence: &TeeEvidence) -> Vec<u8> {
    let text = evidence.runtime_data.clone().unwrap();
    let (kind, hardware) = match (&evidence.sev_report, &evidence.tdx_quote) {
        (Some(report), _) => (2_u32, report.clone()),
        (None, Some(quote)) => {
            let mut report = vec![0; 1024];
            report[128..192].copy_from_slice(&TdReport::read(quote).unwrap().report_data);
            (4, report)
        }
        (None, None) => panic!("no report"),
    };
    let mut out = b"HCLA".to_vec();
    out.resize(32, 0);
    out.extend_from_slice(&hardware);
    out.resize(32 + 1184, 0);
    for word in [0, 1, kind, 1, text.len() as u32] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&text);
    out.resize(2600, 0);
    out
}

struct FakeTpm {
    platform: Arc<SimulatedPlatform>,
    user_data: Mutex<Option<Vec<u8>>>,
    /// Reports that are still about something else after each writing.
    stale: Mutex<u32>,
    commands: Mutex<Vec<Vec<u8>>>,
}

impl FakeTpm {
    fn report(&self) -> Vec<u8> {
        let known = certificate_report_data(&KEY).to_vec();
        let mut stale = self.stale.lock().unwrap();
        let current = *stale == 0 && self.user_data.lock().unwrap().as_ref() == Some(&known);
        *stale = stale.saturating_sub(1);
        let key = if current { KEY } else { [0; 32] };
        hcl(&self.platform.quote(QuoteSubject::CertificateKey(&key)).unwrap())
    }
}

fn good(body: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80, 0x01];
    out.extend_from_slice(&(body.len() as u32 + 10).to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(body);
    out
}

impl Tpm for &FakeTpm {
    fn transmit(&self, command: &[u8]) -> io::Result<Vec<u8>> {
        self.commands.lock().unwrap().push(command.to_vec());
        assert_eq!(command.len(), u32::from_be_bytes(command[2..6].try_into().unwrap()) as usize);
        let word = |at: usize| u32::from_be_bytes(command[at..at + 4].try_into().unwrap());
        let half =
            |at: usize| usize::from(u16::from_be_bytes(command[at..at + 2].try_into().unwrap()));
        let public = |len: usize| {
            let mut body = vec![0, 14];
            body.extend_from_slice(&command[10..14]);
            body.extend_from_slice(&[0, 11, 0, 2, 0, 2, 0, 0]);
            body.extend_from_slice(&(len as u16).to_be_bytes());
            good(&body)
        };
        Ok(match (word(6), word(10)) {
            (0x169, 0x0140_0001) => public(2600),
            (0x169, 0x0140_0002) if self.user_data.lock().unwrap().is_some() => public(64),
            (0x169, _) => vec![0x80, 0x01, 0, 0, 0, 10, 0, 0, 1, 0x8b],
            (0x12a, _) => {
                *self.user_data.lock().unwrap() = Some(vec![0; 64]);
                good(&[0; 9])
            }
            (0x137, _) => {
                let len = half(31);
                *self.user_data.lock().unwrap() = Some(command[33..33 + len].to_vec());
                good(&[0; 9])
            }
            (0x14e, _) => {
                let (len, at) = (half(31), half(33));
                let content = self.report();
                let mut body = vec![0; 4];
                body.extend_from_slice(&(len as u16).to_be_bytes());
                body.extend_from_slice(&content[at..at + len]);
                good(&body)
            }
            _ => panic!("an unknown command"),
        })
    }
}

struct Quotes(Arc<SimulatedPlatform>);

impl TdQuotes for Quotes {
    fn quote(&self, td_report: &[u8]) -> Result<Vec<u8>, EvidenceFault> {
        // The simulated TEE takes typed subjects only, so the service knows two reports.
        let quotes = [KEY, [0; 32]].map(|key| {
            self.0.quote(QuoteSubject::CertificateKey(&key)).unwrap().tdx_quote.unwrap()
        });
        let covers =
            |quote: &Vec<u8>| TdReport::read(quote).unwrap().report_data == td_report[128..192];
        Ok(quotes.into_iter().find(covers).unwrap())
    }
}

/// Reports are read in several pieces, so the platform makes many; none differ but by their subject.
fn tpm(snp: Option<SnpProduct>, stale: u32) -> FakeTpm {
    let platform = Arc::new(platform(snp));
    FakeTpm {
        platform,
        user_data: Mutex::default(),
        stale: Mutex::new(stale),
        commands: Mutex::default(),
    }
}

fn judged(platform: &SimulatedPlatform, evidence: &TeeEvidence, key: &[u8; 32]) -> Verdict {
    let collateral = platform.collateral(NOW_S).unwrap();
    let evidence = evidence.to_peer_evidence(key);
    verify(&evidence, &collateral, &platform.policy(), NOW_S * 1000)
}

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

proptest! {
    #[test]
    fn whatever_lies_in_the_vtpm_is_read_or_refused(
        place in 0_usize..1300, byte in any::<u8>(), len in 0_usize..2700,
    ) {
        let platform = platform(Some(SnpProduct::Genoa));
        let mut bytes = hcl(&platform.quote(QuoteSubject::CertificateKey(&KEY)).unwrap());
        prop_assert_eq!(HclReport::read(&bytes).unwrap().tee, HclTee::Snp);
        bytes[place] = byte;
        bytes.truncate(len);
        let _ = HclReport::read(&bytes);
    }
}
