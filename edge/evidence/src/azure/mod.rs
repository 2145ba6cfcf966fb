//! Confidential machines of Azure: the report of the paravisor, read out of the vTPM.
//!
//! **Never run on Azure itself**: written by its documentation and by public code, tested on bytes
//! that were constructed by them. Sources: Microsoft, "Confidential VM guest attestation design"
//! (reserved NV indices and handles, attestation report format); TCG, TPM 2.0 Library, parts 2 and 3.
//!
//! What such a report can show is less than elsewhere: see [`cocoon_attest::runtime`]; what the guest
//! booted stands in the vTPM's registers: see [`cocoon_attest::vtpm`].

mod hcl;
mod imds;
mod registers;
mod tpm;

pub(crate) use imds::quote_in;
pub(crate) use registers::quote as quote_registers;

pub use hcl::{HclReport, HclTee};
pub use imds::{Imds, TdQuotes};
pub use registers::KeyHandle;
pub use tpm::{NvIndex, Tpm, TpmDevice};

use std::time::Duration;

use cocoon_attest::gpu::GpuEvidence;
use cocoon_attest::runtime::user_data;
use cocoon_attest::snp::SnpReport;
use cocoon_attest::tdx::TdReport;
use cocoon_attest::vtpm::VtpmQuote;
use cocoon_attest::{BadEvidence, Measurement};

use crate::fault::EvidenceFault;
use crate::provider::{EvidenceProvider, QuoteSubject, TeeEvidence, TeeKind};

/// Where the report lies.
pub const REPORT_INDEX: NvIndex = NvIndex(0x0140_0001);
/// Where the guest writes the 64 bytes that the next report is to name.
pub const USER_DATA_INDEX: NvIndex = NvIndex(0x0140_0002);

/// The vTPM's signing key, made by the paravisor; its public part stands in the runtime data.
pub const SIGNING_KEY: KeyHandle = KeyHandle(0x8100_0003);

/// How often the report is looked at until it names what was written, and the pause between.
const ATTEMPTS: u32 = 8;
const PAUSE: Duration = Duration::from_secs(1);

/// The TEE of this machine, by way of Azure's vTPM.
pub struct AzureVtpm<T = TpmDevice, Q = Imds> {
    tpm: T,
    quotes: Q,
    kind: TeeKind,
    vcek_pem: Option<Vec<u8>>,
    gpu: Option<GpuEvidence>,
    pause: fn(Duration),
    /// The vTPM holds one text at a time.
    turn: std::sync::Mutex<()>,
}

impl AzureVtpm<TpmDevice, Imds> {
    /// Finds out which TEE this machine has.
    ///
    /// # Errors
    /// There is no vTPM, or it holds no report.
    pub fn detect() -> Result<Self, EvidenceFault> {
        Self::with(TpmDevice::default(), Imds, std::thread::sleep)
    }
}

impl<T: Tpm, Q: TdQuotes> AzureVtpm<T, Q> {
    /// Like [`AzureVtpm::detect`], with another vTPM, quoting service and way to wait.
    ///
    /// # Errors
    /// Like [`AzureVtpm::detect`].
    pub fn with(tpm: T, quotes: Q, pause: fn(Duration)) -> Result<Self, EvidenceFault> {
        let kind = match HclReport::read(&tpm::read(&tpm, REPORT_INDEX)?)?.tee {
            HclTee::Tdx => TeeKind::Tdx,
            HclTee::Snp => TeeKind::Snp,
        };
        let turn = std::sync::Mutex::default();
        Ok(Self { tpm, quotes, kind, vcek_pem: None, gpu: None, pause, turn })
    }

    /// Gives the VCEK certificate (PEM) of an AMD machine.
    #[must_use]
    pub fn with_vcek_pem(self, pem: Vec<u8>) -> Self {
        Self { vcek_pem: Some(pem), ..self }
    }

    /// Gives the GPU evidence of boot.
    #[must_use]
    pub fn with_gpu(self, gpu: GpuEvidence) -> Self {
        Self { gpu: Some(gpu), ..self }
    }

    /// Has the vTPM sign its registers for the report about this subject.
    ///
    /// # Errors
    /// [`EvidenceFault::Registers`] and others: the report is as good without them, but nobody sees
    /// what this machine booted. Tell the operator.
    pub fn registers(&self, subject: QuoteSubject<'_>) -> Result<VtpmQuote, EvidenceFault> {
        let extra_data = VtpmQuote::extra_data(&subject.report_data());
        quote_registers(&self.tpm, SIGNING_KEY, &extra_data)
    }

    /// A report that names these bytes.
    fn report(&self, report_data: &[u8; 64]) -> Result<HclReport, EvidenceFault> {
        let _turn = self.turn.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        tpm::write(&self.tpm, USER_DATA_INDEX, report_data)?;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                (self.pause)(PAUSE);
            }
            let report = HclReport::read(&tpm::read(&self.tpm, REPORT_INDEX)?)?;
            // Until the paravisor has made a new one it is about somebody else's bytes.
            if user_data(&report.runtime_data, &report.report_data()?)
                .is_ok_and(|chosen| chosen == *report_data)
            {
                return Ok(report);
            }
        }
        Err(EvidenceFault::Contended { attempts: ATTEMPTS })
    }
}

impl HclReport {
    /// What the processor signed.
    fn report_data(&self) -> Result<[u8; 64], BadEvidence> {
        match self.tee {
            HclTee::Snp => Ok(SnpReport::read(&self.hardware)?.report_data),
            // TDREPORT_STRUCT begins with REPORTMACSTRUCT; REPORTDATA stands at 128 (Intel, TDX
            // module base specification).
            HclTee::Tdx => {
                let found = self.hardware.get(128..192).and_then(|found| found.try_into().ok());
                found.ok_or(BadEvidence::Malformed {
                    what: "the TD report",
                    detail: "it ends early".to_owned(),
                })
            }
        }
    }
}

impl<T: Tpm, Q: TdQuotes> EvidenceProvider for AzureVtpm<T, Q> {
    fn kind(&self) -> TeeKind {
        self.kind
    }

    fn quote(&self, subject: QuoteSubject<'_>) -> Result<TeeEvidence, EvidenceFault> {
        let report = self.report(&subject.report_data())?;
        let runtime_data = Some(report.runtime_data.clone());
        // Without them the report is as good as it is; whoever starts a node is told why there are none.
        let vtpm = self.registers(subject).ok().map(|quote| quote.encode());
        match report.tee {
            HclTee::Snp => {
                let Some(vcek) = self.vcek_pem.clone() else {
                    let found = "SEV-SNP without a VCEK certificate; fetch it from AMD".to_owned();
                    return Err(EvidenceFault::NoTee { found });
                };
                let (sev_report, sev_vcek_pem) = (Some(report.hardware), Some(vcek));
                let tdx_quote = None;
                Ok(TeeEvidence { tdx_quote, sev_report, sev_vcek_pem, runtime_data, vtpm })
            }
            HclTee::Tdx => {
                let quote = self.quotes.quote(&report.hardware)?;
                if TdReport::read(&quote)?.report_data != report.report_data()? {
                    let expected = "the TD report that the quoting service was given";
                    return Err(EvidenceFault::Unusable(BadEvidence::NotBound { expected }));
                }
                let tdx_quote = Some(quote);
                Ok(TeeEvidence { tdx_quote, runtime_data, vtpm, ..TeeEvidence::default() })
            }
        }
    }

    fn measurement(&self) -> Result<Measurement, EvidenceFault> {
        let report = HclReport::read(&tpm::read(&self.tpm, REPORT_INDEX)?)?;
        Ok(match report.tee {
            HclTee::Snp => Measurement::Snp(SnpReport::read(&report.hardware)?.measurement),
            HclTee::Tdx => {
                let quote = self.quotes.quote(&report.hardware)?;
                Measurement::Td(Box::new(TdReport::read(&quote)?.measurement))
            }
        })
    }

    fn gpu(&self) -> Option<GpuEvidence> {
        self.gpu.clone()
    }
}
