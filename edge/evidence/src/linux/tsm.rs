//! Reports through configfs: TDX and SEV-SNP alike.
//!
//! Interface: Linux, `Documentation/ABI/testing/configfs-tsm-report`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use cocoon_attest::gpu::GpuEvidence;
use cocoon_attest::snp::SnpReport;
use cocoon_attest::tdx::TdReport;
use cocoon_attest::{Digest48, Measurement};

use super::bootlog::{ACPI_TABLES, read_boot_log};
use super::files::{KernelFiles, TsmFiles};
use crate::fault::EvidenceFault;
use crate::provider::{EvidenceProvider, QuoteSubject, TeeEvidence, TeeKind};
use crate::sim::pem_of;

/// Where the kernel keeps report entries.
const REPORT_ROOT: &str = "/sys/kernel/config/tsm/report";

/// Where the guest's image writes its runtime events (protocol notes 6.1).
pub const EVENT_LOG: &str = "/var/log/tdx-attestation.log";

/// The attribute that extends RTMR3.
pub const EXTEND_PATH: &str = "/sys/class/misc/tdx_guest/measurements/rtmr3:sha384";

/// How often an entry that others changed is tried again.
const ATTEMPTS: u32 = 5;

/// GUID of the VCEK in the certificate table that the host gives (GHCB specification), in
/// both byte orders that firmware writes.
const VCEK_GUIDS: [[u8; 16]; 2] = [
    [
        0x63, 0xda, 0x75, 0x8d, 0xe6, 0x64, 0x45, 0x64, 0xad, 0xc5, 0xf4, 0xb9, 0x3b, 0xe8, 0xac,
        0xcd,
    ],
    [
        0x8d, 0x75, 0xda, 0x63, 0x64, 0xe6, 0x64, 0x45, 0xad, 0xc5, 0xf4, 0xb9, 0x3b, 0xe8, 0xac,
        0xcd,
    ],
];

static NEXT_ENTRY: AtomicU64 = AtomicU64::new(0);

/// The TEE of this machine through configfs.
pub struct ConfigfsTsm<F = KernelFiles> {
    files: F,
    root: PathBuf,
    event_log: PathBuf,
    /// Read once: firmware has written its last event before the system starts.
    boot_log: Option<Vec<u8>>,
    kind: TeeKind,
    vcek_pem: Option<Vec<u8>>,
    gpu: Option<GpuEvidence>,
}

impl ConfigfsTsm<KernelFiles> {
    /// Finds out which TEE this machine has.
    ///
    /// # Errors
    /// There is none, or the kernel does not offer it here.
    pub fn detect() -> Result<Self, EvidenceFault> {
        let found = Self::with_files(KernelFiles, REPORT_ROOT.into(), EVENT_LOG.into())?;
        Ok(found.with_boot_log(Path::new(ACPI_TABLES)))
    }
}

impl<F: TsmFiles> ConfigfsTsm<F> {
    /// Like [`ConfigfsTsm::detect`], with other files.
    ///
    /// # Errors
    /// Like [`ConfigfsTsm::detect`].
    pub fn with_files(files: F, root: PathBuf, event_log: PathBuf) -> Result<Self, EvidenceFault> {
        let entry = Entry::create(&files, &root)?;
        let provider = entry.read("provider")?;
        let kind = match String::from_utf8_lossy(&provider).trim() {
            "tdx_guest" => TeeKind::Tdx,
            "sev_guest" => TeeKind::Snp,
            other => return Err(EvidenceFault::NoTee { found: format!("{other:?}") }),
        };
        drop(entry);
        Ok(Self { files, root, event_log, boot_log: None, kind, vcek_pem: None, gpu: None })
    }

    /// Looks for the firmware's boot log below `tables`. One that cannot be read is not offered:
    /// [`read_boot_log`] says why.
    #[must_use]
    pub fn with_boot_log(mut self, tables: &Path) -> Self {
        if self.kind == TeeKind::Tdx {
            self.boot_log = read_boot_log(&self.files, tables).ok().flatten();
        }
        self
    }

    /// Gives the VCEK certificate (PEM) that the host does not hand over; from AMD's service.
    #[must_use]
    pub fn with_vcek_pem(mut self, pem: Vec<u8>) -> Self {
        self.vcek_pem = Some(pem);
        self
    }

    /// Gives the GPU evidence of boot.
    #[must_use]
    pub fn with_gpu(mut self, gpu: GpuEvidence) -> Self {
        self.gpu = Some(gpu);
        self
    }

    /// Has the kernel make a report; returns it with the auxiliary blob.
    fn report(&self, report_data: &[u8; 64]) -> Result<(Vec<u8>, Vec<u8>), EvidenceFault> {
        for _ in 0..ATTEMPTS {
            let entry = Entry::create(&self.files, &self.root)?;
            let before = entry.generation()?;
            entry.write("inblob", report_data)?;
            let report = entry.read("outblob")?;
            // SEV-SNP keeps the certificate table here; TDX has no such attribute.
            let auxiliary = match self.kind {
                TeeKind::Snp => entry.read("auxblob").unwrap_or_default(),
                TeeKind::Tdx => Vec::new(),
            };
            // The generation counts writes: one more than before, or the report may be
            // about the input of somebody else.
            if entry.generation()? == before + 1 {
                return Ok((report, auxiliary));
            }
        }
        Err(EvidenceFault::Contended { attempts: ATTEMPTS })
    }
}

impl<F: TsmFiles> EvidenceProvider for ConfigfsTsm<F> {
    fn kind(&self) -> TeeKind {
        self.kind
    }

    fn quote(&self, subject: QuoteSubject<'_>) -> Result<TeeEvidence, EvidenceFault> {
        let report_data = subject.report_data();
        let (report, auxiliary) = self.report(&report_data)?;
        match self.kind {
            TeeKind::Tdx => {
                let found = TdReport::read(&report)?.report_data;
                bound(&found, &report_data)?;
                Ok(TeeEvidence { tdx_quote: Some(report), ..TeeEvidence::default() })
            }
            TeeKind::Snp => {
                bound(&SnpReport::read(&report)?.report_data, &report_data)?;
                let from_host = || vcek(&auxiliary).map(|der| pem_of(der).into_bytes());
                let sev_vcek_pem = self.vcek_pem.clone().or_else(from_host);
                if sev_vcek_pem.is_none() {
                    let found = "SEV-SNP without a VCEK certificate; fetch it from AMD".to_owned();
                    return Err(EvidenceFault::NoTee { found });
                }
                let sev_report = Some(report);
                Ok(TeeEvidence { sev_report, sev_vcek_pem, ..TeeEvidence::default() })
            }
        }
    }

    fn measurement(&self) -> Result<Measurement, EvidenceFault> {
        // Any subject will do: the measurements do not depend on it.
        let (report, _) = self.report(&QuoteSubject::CertificateKey(&[0; 32]).report_data())?;
        Ok(match self.kind {
            TeeKind::Tdx => Measurement::Td(Box::new(TdReport::read(&report)?.measurement)),
            TeeKind::Snp => Measurement::Snp(SnpReport::read(&report)?.measurement),
        })
    }

    fn event_log(&self) -> Option<Vec<u8>> {
        self.files.read(&self.event_log).ok()
    }

    fn boot_log(&self) -> Option<Vec<u8>> {
        self.boot_log.clone()
    }

    fn gpu(&self) -> Option<GpuEvidence> {
        self.gpu.clone()
    }
}

/// Extends RTMR3 with an event (protocol notes 6.1). The caller appends the event to its log.
///
/// # Errors
/// The kernel refused; the machine's measurements no longer match its log: stop.
pub fn extend_rtmr3(files: &dyn TsmFiles, path: &Path, event: &str) -> Result<(), EvidenceFault> {
    let digest = Digest48::sha384(&[event.as_bytes()]);
    files.write(path, &digest.0).map_err(|source| EvidenceFault::Device {
        what: "extending RTMR3",
        path: path.to_owned(),
        source,
    })
}

/// Guards against a kernel or a host that gives a report about something else.
fn bound(found: &[u8; 64], asked: &[u8; 64]) -> Result<(), EvidenceFault> {
    if found == asked {
        return Ok(());
    }
    let expected = "what this process asked for";
    Err(EvidenceFault::Unusable(cocoon_attest::BadEvidence::NotBound { expected }))
}

/// Finds the VCEK in a certificate table: entries of GUID, offset and length (both u32,
/// little endian), ended by a zero GUID.
pub(crate) fn vcek(table: &[u8]) -> Option<&[u8]> {
    for entry in table.chunks_exact(24) {
        let (guid, place) = entry.split_at(16);
        if guid.iter().all(|byte| *byte == 0) {
            return None;
        }
        if VCEK_GUIDS.iter().any(|known| known == guid) {
            let (offset, len) = place.split_at(4);
            let offset = usize::try_from(u32::from_le_bytes(offset.try_into().ok()?)).ok()?;
            let len = usize::try_from(u32::from_le_bytes(len.try_into().ok()?)).ok()?;
            return table.get(offset..offset.checked_add(len)?);
        }
    }
    None
}

/// One report entry, removed when dropped.
struct Entry<'a> {
    files: &'a dyn TsmFiles,
    path: PathBuf,
}

impl<'a> Entry<'a> {
    fn create(files: &'a dyn TsmFiles, root: &Path) -> Result<Self, EvidenceFault> {
        let number = NEXT_ENTRY.fetch_add(1, Ordering::Relaxed);
        let path = root.join(format!("cocoon-{}-{number}", std::process::id()));
        files.create(&path).map_err(|source| fault("making a report entry", &path, source))?;
        Ok(Self { files, path })
    }

    fn read(&self, attribute: &str) -> Result<Vec<u8>, EvidenceFault> {
        let path = self.path.join(attribute);
        self.files.read(&path).map_err(|source| fault("reading a report", &path, source))
    }

    fn write(&self, attribute: &str, bytes: &[u8]) -> Result<(), EvidenceFault> {
        let path = self.path.join(attribute);
        self.files.write(&path, bytes).map_err(|source| fault("asking for a report", &path, source))
    }

    fn generation(&self) -> Result<u64, EvidenceFault> {
        let text = self.read("generation")?;
        String::from_utf8_lossy(&text).trim().parse().map_err(|_| EvidenceFault::NoTee {
            found: "a report interface without generations".to_owned(),
        })
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        // A leftover entry costs the kernel a little memory and nobody anything else.
        let _ = self.files.remove(&self.path);
    }
}

fn fault(what: &'static str, path: &Path, source: io::Error) -> EvidenceFault {
    EvidenceFault::Device { what, path: path.to_owned(), source }
}
