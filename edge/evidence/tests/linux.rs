//! The configfs provider against a kernel made of a map, whose reports come from the
//! simulated platform.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};

use cocoon_attest::snp::SnpProduct;
use cocoon_attest::tdx::EventLog;
use cocoon_attest::{
    ClaimKind, Digest48, Finding, Outcome, PeerEvidence, certificate_report_data, verify,
};
use cocoon_evidence::linux::{
    ConfigfsTsm, EXTEND_PATH, TsmFiles, extend_rtmr3, is_measured, measure_gpu, read_boot_log,
};
use cocoon_evidence::sim::{DevPki, SimulatedPlatform, SimulatedPlatformForm};
use cocoon_evidence::{EvidenceFault, EvidenceProvider, QuoteSubject, TeeKind};

const NOW_S: u64 = 1_795_262_400;
const KEY: [u8; 32] = [0x42; 32];
const LOG: &str = "/log/events";

static PKI: LazyLock<Arc<DevPki>> =
    LazyLock::new(|| Arc::new(DevPki::generate(NOW_S).expect("keys can be drawn")));

/// What the kernel does wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    /// Another process writes to the entry each time.
    Contention,
    /// It answers with an older report.
    StaleReport,
    /// The host gives no certificates.
    NoCertificates,
}

struct FakeKernel {
    platform: SimulatedPlatform,
    trouble: Trouble,
    entries: Mutex<HashMap<PathBuf, (u64, Vec<u8>)>>,
    extended: Mutex<Vec<Vec<u8>>>,
    log: Mutex<Option<Vec<u8>>>,
    /// Tables of ACPI, by path.
    tables: Mutex<HashMap<PathBuf, Vec<u8>>>,
}

impl FakeKernel {
    fn new(snp: Option<SnpProduct>, trouble: Trouble) -> Self {
        let form = SimulatedPlatformForm { snp, boot_log: true, ..Default::default() };
        let platform = SimulatedPlatform::boot(Arc::clone(&PKI), form).unwrap();
        let (entries, extended, log, tables) = Default::default();
        Self { platform, trouble, entries, extended, log, tables }
    }

    /// The simulated TEE takes typed subjects only, so the kernel knows one key.
    fn evidence(&self, input: &[u8]) -> cocoon_evidence::TeeEvidence {
        let key = if self.trouble == Trouble::StaleReport || input != certificate_report_data(&KEY)
        {
            [0; 32]
        } else {
            KEY
        };
        self.platform.quote(QuoteSubject::CertificateKey(&key)).unwrap()
    }

    fn table(vcek_pem: &[u8]) -> Vec<u8> {
        let (_, pem) = x509_parser::pem::parse_x509_pem(vcek_pem).unwrap();
        let guid = hex::decode("63da758de6644564adc5f4b93be8accd").unwrap();
        let mut table = guid;
        table.extend_from_slice(&48_u32.to_le_bytes());
        table.extend_from_slice(&(pem.contents.len() as u32).to_le_bytes());
        table.resize(48, 0);
        table.extend_from_slice(&pem.contents);
        table
    }
}

impl TsmFiles for FakeKernel {
    fn create(&self, entry: &Path) -> io::Result<()> {
        let old = self.entries.lock().unwrap().insert(entry.to_owned(), (0, Vec::new()));
        if old.is_some() { Err(io::ErrorKind::AlreadyExists.into()) } else { Ok(()) }
    }

    fn write(&self, attribute: &Path, bytes: &[u8]) -> io::Result<()> {
        if attribute == Path::new(EXTEND_PATH) {
            self.extended.lock().unwrap().push(bytes.to_vec());
            return Ok(());
        }
        if attribute == Path::new(LOG) {
            *self.log.lock().unwrap() = Some(bytes.to_vec());
            return Ok(());
        }
        let mut entries = self.entries.lock().unwrap();
        let entry = entries.get_mut(attribute.parent().unwrap()).unwrap();
        assert_eq!(attribute.file_name().unwrap(), "inblob");
        let steps = if self.trouble == Trouble::Contention { 2 } else { 1 };
        *entry = (entry.0 + steps, bytes.to_vec());
        Ok(())
    }

    fn read(&self, attribute: &Path) -> io::Result<Vec<u8>> {
        if attribute == Path::new(LOG) {
            return self.log.lock().unwrap().clone().ok_or(io::ErrorKind::NotFound.into());
        }
        if let Some(table) = self.tables.lock().unwrap().get(attribute) {
            return Ok(table.clone());
        }
        let entries = self.entries.lock().unwrap();
        let Some(entry) = entries.get(attribute.parent().unwrap()) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let evidence = || self.evidence(&entry.1);
        Ok(match attribute.file_name().unwrap().to_str().unwrap() {
            "provider" => match self.platform.kind() {
                TeeKind::Tdx => b"tdx_guest\n".to_vec(),
                TeeKind::Snp => b"sev_guest\n".to_vec(),
            },
            "generation" => format!("{}\n", entry.0).into_bytes(),
            "outblob" => evidence().tdx_quote.or(evidence().sev_report).unwrap(),
            "auxblob" if self.trouble == Trouble::NoCertificates => Vec::new(),
            "auxblob" => FakeKernel::table(&evidence().sev_vcek_pem.unwrap()),
            other => panic!("no attribute {other}"),
        })
    }

    fn remove(&self, entry: &Path) -> io::Result<()> {
        self.entries.lock().unwrap().remove(entry).map(|_| ()).ok_or(io::ErrorKind::NotFound.into())
    }
}

fn provider(kernel: &Arc<FakeKernel>) -> ConfigfsTsm<Arc<FakeKernel>> {
    ConfigfsTsm::with_files(Arc::clone(kernel), "/report".into(), LOG.into()).unwrap()
}

#[test]
fn configfs_evidence_of_both_kinds_passes() {
    for snp in [None, Some(SnpProduct::Genoa)] {
        let kernel = Arc::new(FakeKernel::new(snp, Trouble::None));
        let provider = provider(&kernel);
        let evidence = provider.quote(QuoteSubject::CertificateKey(&KEY)).unwrap();
        let peer = evidence.to_peer_evidence(&KEY);
        let collateral = kernel.platform.collateral(NOW_S).unwrap();
        let verdict = verify(&peer, &collateral, &kernel.platform.policy(), NOW_S * 1000);
        assert_eq!(verdict.outcome(), Outcome::Accept, "{verdict:#?}");
        assert_eq!(*verdict.finding(ClaimKind::KeyBinding), Finding::Holds);
        assert_eq!(provider.measurement().unwrap(), kernel.platform.measurement().unwrap());
        assert!(kernel.entries.lock().unwrap().is_empty(), "entries are removed");
    }
}

#[test]
fn configfs_report_entries_changed_by_others_are_not_used() {
    let kernel = Arc::new(FakeKernel::new(None, Trouble::Contention));
    let fault = provider(&kernel).quote(QuoteSubject::CertificateKey(&KEY)).unwrap_err();
    assert!(matches!(fault, EvidenceFault::Contended { .. }), "{fault}");
}

#[test]
fn configfs_reports_about_something_else_are_not_used() {
    for snp in [None, Some(SnpProduct::Turin)] {
        let kernel = Arc::new(FakeKernel::new(snp, Trouble::StaleReport));
        let fault = provider(&kernel).quote(QuoteSubject::CertificateKey(&KEY)).unwrap_err();
        assert!(matches!(fault, EvidenceFault::Unusable(_)), "{fault}");
    }
}

#[test]
fn vcek_that_the_host_withholds_comes_from_elsewhere() {
    let kernel = Arc::new(FakeKernel::new(Some(SnpProduct::Genoa), Trouble::NoCertificates));
    let subject = QuoteSubject::CertificateKey(&KEY);
    let fault = provider(&kernel).quote(subject).unwrap_err();
    assert!(fault.to_string().contains("VCEK"), "{fault}");
    let pem = kernel.platform.quote(subject).unwrap().sev_vcek_pem.unwrap();
    let evidence = provider(&kernel).with_vcek_pem(pem.clone()).quote(subject).unwrap();
    assert_eq!(evidence.sev_vcek_pem, Some(pem));
}

#[test]
fn runtime_events_are_extended_by_their_digest() {
    let kernel = Arc::new(FakeKernel::new(None, Trouble::None));
    extend_rtmr3(&kernel, Path::new(EXTEND_PATH), "cocoon:tdx_inited").unwrap();
    let expected = Digest48::sha384(&[b"cocoon:tdx_inited"]).0.to_vec();
    assert_eq!(*kernel.extended.lock().unwrap(), [expected]);
}

#[test]
fn a_gpu_is_measured_once_and_before_the_image_is_set_up() {
    let kernel = Arc::new(FakeKernel::new(None, Trouble::None));
    let places = (Path::new(EXTEND_PATH), Path::new(LOG));
    let form = SimulatedPlatformForm { gpu_nonce: Some([3; 32]), ..Default::default() };
    let gpu = SimulatedPlatform::boot(Arc::clone(&PKI), form).unwrap().gpu().unwrap();
    *kernel.log.lock().unwrap() = Some(b"cocoon:spec.tree=aa".to_vec());
    let spec = Digest48::sha384(&[b"cocoon:spec.tree=aa"]);
    measure_gpu(&kernel, places, &gpu).unwrap();
    let log = provider(&kernel).event_log().unwrap();
    assert!(is_measured(&log, &gpu));
    // The register that the processor holds is the one that a verifier replays.
    let mut register = Digest48::sha384(&[&Digest48::ZERO.0, &spec.0]);
    for digest in kernel.extended.lock().unwrap().iter() {
        register = Digest48::sha384(&[&register.0, digest]);
    }
    assert_eq!(EventLog::read(&log).unwrap().register(), register);
    // Once, and never behind the start of the workload.
    let again = measure_gpu(&kernel, places, &gpu).unwrap_err();
    assert!(matches!(again, EvidenceFault::Gpu { .. }), "{again}");
    let late = b"cocoon:spec.tree=aa\ncocoon:tdx_inited\n".to_vec();
    *kernel.log.lock().unwrap() = Some(late.clone());
    assert!(measure_gpu(&kernel, places, &gpu).is_err());
    assert_eq!(kernel.extended.lock().unwrap().len(), 1);
    let behind = [late, format!("cocoon:gpu={}", gpu.digest()).into_bytes()].concat();
    assert!(!is_measured(&behind, &gpu));
}

/// The table CCEL over an area of this length.
fn ccel(kind: u8, area_len: u64) -> Vec<u8> {
    let mut table = b"CCEL".to_vec();
    table.extend_from_slice(&56_u32.to_le_bytes());
    table.resize(36, 0);
    table.extend_from_slice(&[kind, 0, 0, 0]);
    table.extend_from_slice(&area_len.to_le_bytes());
    table.extend_from_slice(&0xbedb_f000_u64.to_le_bytes());
    table
}

#[test]
fn the_boot_log_of_the_firmware_is_offered_and_leads_to_the_quote() {
    let kernel = Arc::new(FakeKernel::new(None, Trouble::None));
    let log = kernel.platform.boot_log().unwrap();
    let mut area = log.clone();
    area.resize(1 << 16, 0xff);
    let put = |name: &str, bytes: &[u8]| {
        kernel.tables.lock().unwrap().insert(Path::new("/acpi").join(name), bytes.to_vec());
    };
    let found = || provider(&kernel).with_boot_log(Path::new("/acpi")).boot_log();
    assert_eq!(found(), None, "there is no table");
    put("CCEL", &ccel(2, 1 << 16));
    assert_eq!(found(), None, "a kernel that hands no log on");
    put("data/CCEL", &area);
    assert_eq!(found().as_ref(), Some(&log));
    let machine = provider(&kernel).with_boot_log(Path::new("/acpi"));
    let evidence = machine.quote(QuoteSubject::CertificateKey(&KEY)).unwrap();
    let peer = PeerEvidence { boot_log: machine.boot_log(), ..evidence.to_peer_evidence(&KEY) };
    let collateral = kernel.platform.collateral(NOW_S).unwrap();
    let verdict = verify(&peer, &collateral, &kernel.platform.policy(), NOW_S * 1000);
    assert_eq!(verdict.outcome(), Outcome::Accept, "{verdict:#?}");

    // What cannot be read is not offered, and whoever asks is told why.
    let why = || read_boot_log(&kernel, Path::new("/acpi")).unwrap_err().to_string();
    for (table, data, says) in [
        (ccel(1, 1 << 16), &area, "of the kind"),
        (ccel(2, 1 << 40), &area, "an area of 1099511627776 bytes"),
        (ccel(2, 1 << 16)[..40].to_vec(), &area, "ends early"),
        (vec![0; 56], &area, "another name"),
        (ccel(2, 1 << 16), &vec![7; 100], "the boot log cannot be read"),
    ] {
        put("CCEL", &table);
        put("data/CCEL", data);
        assert_eq!(found(), None, "{says}");
        assert!(why().contains(says), "{}", why());
    }
    // An AMD machine has other logs.
    let amd = Arc::new(FakeKernel::new(Some(SnpProduct::Genoa), Trouble::None));
    *amd.tables.lock().unwrap() = kernel.tables.lock().unwrap().clone();
    assert_eq!(provider(&amd).with_boot_log(Path::new("/acpi")).boot_log(), None);
}

#[test]
fn a_machine_without_tee_says_so() {
    let fault = ConfigfsTsm::detect().err();
    // On a machine with a TEE this test has nothing to refuse, and its provider must work.
    match fault {
        Some(fault) => assert!(
            matches!(fault, EvidenceFault::Device { .. } | EvidenceFault::NoTee { .. }),
            "{fault}"
        ),
        None => {
            let provider = ConfigfsTsm::detect().unwrap();
            provider.quote(QuoteSubject::CertificateKey(&KEY)).unwrap();
        }
    }
}
