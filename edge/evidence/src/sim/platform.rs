//! One simulated machine with its guest.

use std::sync::Arc;

use cocoon_attest::gpu::{GpuEvidence, GpuPolicy};
use cocoon_attest::snp::{SnpPolicy, SnpProduct};
use cocoon_attest::tdx::{BootLog, DEBUG_EVENT, EventLog, GPU_EVENT, READY_EVENT, SPEC_EVENT};
use cocoon_attest::vtpm::VtpmQuote;
use cocoon_attest::{
    Collateral, Digest32, Digest48, Measurement, PlatformId, Policy, TdMeasurement,
};

use super::boot;
use super::gpu::{GpuMachine, profile};
use super::misbehave::Misbehave;
use super::pki::DevPki;
use super::snp::{SnpMachine, TCB};
use super::tdx::{QuoteForm, TdxMachine};
use super::vtpm::SimulatedVtpm;
use crate::fault::EvidenceFault;
use crate::provider::{EvidenceProvider, QuoteSubject, TeeEvidence, TeeKind};

/// What to simulate.
#[derive(Clone, Debug)]
pub struct SimulatedPlatformForm {
    /// Which TEE; nothing means TDX, otherwise SEV-SNP of this generation.
    pub snp: Option<SnpProduct>,
    /// Number of the machine; machines of one number share no keys, but their name.
    pub number: u64,
    /// Name of the image; images of different names have different measurements.
    pub image: String,
    /// Version of TDX quotes: 4, or 5 with a TD 1.5 body.
    pub quote_version: u16,
    /// Nonce of the GPU check at boot; nothing means no GPU.
    pub gpu_nonce: Option<[u8; 32]>,
    /// Whether the GPU's digest is extended into the event log. The reference then takes
    /// the machine for one of another image.
    pub measure_gpu: bool,
    /// Whether a TDX machine's firmware leaves a boot log, to which RTMR0 to RTMR2 belong.
    pub boot_log: bool,
    /// Whether a paravisor asks for reports, as on Azure: they name a text that names the subject, and
    /// the key of a vTPM.
    pub paravisor: bool,
    /// The lie it tells.
    pub lie: Option<Misbehave>,
}

impl SimulatedPlatformForm {
    /// What the firmware measured, when it leaves a log.
    fn measured_boot(&self) -> Option<BootLog> {
        // A lie about a log needs one.
        let has_log = self.boot_log || self.lie == Some(Misbehave::BootLogAltered);
        (has_log && self.snp.is_none()).then(|| boot::boot_log(&self.image))
    }
}

impl Default for SimulatedPlatformForm {
    fn default() -> Self {
        Self {
            snp: None,
            number: 1,
            image: "worker".to_owned(),
            quote_version: 4,
            gpu_nonce: None,
            measure_gpu: false,
            boot_log: false,
            paravisor: false,
            lie: None,
        }
    }
}

enum Machine {
    Tdx(Box<TdxMachine>),
    Snp(Box<SnpMachine>),
}

/// A simulated machine that booted one image.
pub struct SimulatedPlatform {
    form: SimulatedPlatformForm,
    pki: Arc<DevPki>,
    machine: Machine,
    measurement: Measurement,
    log: EventLog,
    gpu: Option<GpuEvidence>,
    vtpm: Option<SimulatedVtpm>,
}

impl SimulatedPlatform {
    /// Boots a machine: measures the image, checks the GPU, extends the event log.
    ///
    /// # Errors
    /// The cryptographic library failed.
    pub fn boot(pki: Arc<DevPki>, form: SimulatedPlatformForm) -> Result<Self, EvidenceFault> {
        // A machine of other roots is honest in everything but its maker.
        let maker = match form.lie {
            Some(Misbehave::WrongRoot) => Arc::new(DevPki::generate_foreign(pki.from_s)?),
            _ => Arc::clone(&pki),
        };
        let lie = form.lie;
        let machine = match form.snp {
            None => Machine::Tdx(Box::new(TdxMachine::new(&maker, form.number, lie)?)),
            Some(product) => {
                Machine::Snp(Box::new(SnpMachine::new(&maker, product, form.number, lie)?))
            }
        };
        let gpu = match form.gpu_nonce {
            Some(nonce) => Some(GpuMachine::new(&maker, form.number)?.evidence(nonce, lie)?),
            None => None,
        };
        let log = event_log(&form.image, gpu.as_ref().filter(|_| form.measure_gpu), lie);
        let measurement = measure(&form, log.register());
        let gpu = match lie {
            Some(Misbehave::GpuAbsent) => None,
            Some(Misbehave::GpuOfAnother) => {
                let nonce = form.gpu_nonce.unwrap_or_default();
                Some(GpuMachine::new(&maker, form.number + 1000)?.evidence(nonce, None)?)
            }
            _ => gpu,
        };
        let vtpm = form.paravisor.then(|| SimulatedVtpm::boot(&form.image)).transpose()?;
        Ok(Self { form, pki, machine, measurement, log, gpu, vtpm })
    }

    /// Returns the vTPM of a machine with a paravisor.
    #[must_use]
    pub const fn vtpm(&self) -> Option<&SimulatedVtpm> {
        self.vtpm.as_ref()
    }

    /// Returns the collateral that a service would hand out at `now_s` (Unix seconds).
    ///
    /// # Errors
    /// The cryptographic library failed.
    pub fn collateral(&self, now_s: u64) -> Result<Collateral, EvidenceFault> {
        let lie = self.form.lie;
        Ok(match &self.machine {
            Machine::Tdx(machine) => {
                Collateral { tdx: Some(machine.collateral(&self.pki, now_s, lie)?), snp: None }
            }
            Machine::Snp(machine) => {
                Collateral { tdx: None, snp: Some(machine.collateral(&self.pki, now_s, lie)?) }
            }
        })
    }

    /// Returns the strict policy that trusts this PKI and lists the image this machine
    /// claims to have booted, whether or not it lies about it.
    #[must_use]
    pub fn policy(&self) -> Policy {
        let has_log = self.form.measured_boot().is_some();
        let honest = SimulatedPlatformForm { lie: None, boot_log: has_log, ..self.form.clone() };
        let listed = measure(&honest, event_log(&honest.image, None, None).register());
        Policy {
            snp: Some(SnpPolicy {
                min_tcb: [SnpProduct::Milan, SnpProduct::Genoa, SnpProduct::Turin]
                    .map(|product| (product, TCB))
                    .into(),
                ..SnpPolicy::default()
            }),
            gpu: GpuPolicy { profiles: vec![profile()], ..GpuPolicy::default() },
            ..Policy::tee().with_roots(self.pki.roots()).with_images([listed.image_hash()])
        }
    }

    /// Returns the name of the platform as its maker gives it.
    #[must_use]
    pub fn platform_id(&self) -> PlatformId {
        match &self.machine {
            Machine::Tdx(machine) => PlatformId::IntelPpid(hex::encode(machine.ppid)),
            Machine::Snp(machine) => PlatformId::AmdChip(hex::encode(machine.hardware_id())),
        }
    }

    /// Returns the image hash of this guest as verifiers compute it that see its event log.
    #[must_use]
    pub fn image_hash(&self) -> Digest32 {
        let mut measurement = self.measurement.clone();
        if let Measurement::Td(td) = &mut measurement
            && self.log.contains_prefix(GPU_EVENT)
        {
            let [_, _, _, rtmr3] = &mut td.rtmr;
            *rtmr3 = self.log.register_without(GPU_EVENT);
        }
        measurement.image_hash()
    }

    /// Extends one more event, as software that runs later would.
    pub fn extend(&mut self, event: &str) {
        let events = self.log.replay().into_iter().map(|step| step.event);
        self.log = EventLog::from_events(events.chain([event.to_owned()]));
        if let Measurement::Td(td) = &mut self.measurement {
            let [_, _, _, rtmr3] = &mut td.rtmr;
            *rtmr3 = self.log.register();
        }
    }

    /// Returns the registers of a TDX guest.
    pub(super) fn td(&self) -> Option<&TdMeasurement> {
        match &self.measurement {
            Measurement::Td(td) => Some(td),
            Measurement::Snp(_) => None,
        }
    }

    /// Returns the number and the roots of this machine.
    pub(super) fn maker(&self) -> (u64, &Arc<DevPki>) {
        (self.form.number, &self.pki)
    }

    fn tdx_quote(
        &self,
        machine: &TdxMachine,
        report_data: [u8; 64],
    ) -> Result<Vec<u8>, EvidenceFault> {
        let Measurement::Td(measurement) = &self.measurement else {
            return Err(EvidenceFault::NoTee { found: "a SEV-SNP guest".to_owned() });
        };
        let lie = self.form.lie;
        let version = self.form.quote_version;
        let mut quote = machine.quote(&QuoteForm { version, measurement, report_data, lie })?;
        match lie {
            Some(Misbehave::TruncatedQuote) => quote.truncate(600),
            Some(Misbehave::OversizedQuote) => quote.resize(40_000, 0),
            Some(Misbehave::GarbageQuote) => {
                quote.iter_mut().enumerate().for_each(|(at, byte)| *byte ^= (at * 7 + 1) as u8);
            }
            // In the body, so that only the signature can tell.
            Some(Misbehave::FlippedBit) => quote[48 + 130] ^= 1,
            _ => {}
        }
        Ok(quote)
    }
}

impl EvidenceProvider for SimulatedPlatform {
    fn kind(&self) -> TeeKind {
        match &self.machine {
            Machine::Tdx(_) => TeeKind::Tdx,
            Machine::Snp(_) => TeeKind::Snp,
        }
    }

    fn quote(&self, subject: QuoteSubject<'_>) -> Result<TeeEvidence, EvidenceFault> {
        let lie = self.form.lie;
        let mut report_data = subject.report_data();
        if lie == Some(Misbehave::OtherReportData) {
            report_data[0] ^= 1;
        }
        let mut evidence = TeeEvidence::default();
        if let Some(vtpm) = &self.vtpm {
            let text = vtpm.runtime_data(&report_data)?;
            let extra_data = VtpmQuote::extra_data(&report_data);
            evidence.vtpm = Some(vtpm.quote(&extra_data)?.encode());
            report_data = [0; 64];
            report_data[..32].copy_from_slice(&Digest32::sha256(&[text.as_bytes()]).0);
            evidence.runtime_data = Some(text.into_bytes());
        }
        match &self.machine {
            Machine::Tdx(machine) => {
                evidence.tdx_quote = Some(self.tdx_quote(machine, report_data)?);
            }
            Machine::Snp(machine) => {
                let Measurement::Snp(measurement) = &self.measurement else {
                    return Err(EvidenceFault::NoTee { found: "a TDX guest".to_owned() });
                };
                evidence.sev_report = Some(machine.report(measurement, &report_data, lie)?);
                evidence.sev_vcek_pem = Some(machine.vcek_pem().as_bytes().to_vec());
            }
        }
        if lie == Some(Misbehave::BothPlatforms) {
            evidence.tdx_quote.get_or_insert_with(|| vec![0; 64]);
            evidence.sev_report.get_or_insert_with(|| vec![0; 1184]);
        }
        Ok(evidence)
    }

    fn measurement(&self) -> Result<Measurement, EvidenceFault> {
        Ok(self.measurement.clone())
    }

    fn event_log(&self) -> Option<Vec<u8>> {
        let Machine::Tdx(_) = &self.machine else { return None };
        let mut text = self.log.to_text();
        if self.form.lie == Some(Misbehave::EventLogAltered) {
            text = text.replacen(SPEC_EVENT, "cocoon:spec.tree=f", 1);
        }
        Some(text.into_bytes())
    }

    fn boot_log(&self) -> Option<Vec<u8>> {
        let log = self.form.measured_boot()?;
        Some(match self.form.lie {
            Some(Misbehave::BootLogAltered) => boot::altered(&log).encode(),
            _ => log.encode(),
        })
    }

    fn gpu(&self) -> Option<GpuEvidence> {
        self.gpu.clone()
    }
}

impl std::fmt::Debug for SimulatedPlatform {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("SimulatedPlatform").field("form", &self.form).finish_non_exhaustive()
    }
}

/// Returns the runtime events of a boot (protocol notes 6.1, with the GPU before the work begins).
fn event_log(image: &str, gpu: Option<&GpuEvidence>, lie: Option<Misbehave>) -> EventLog {
    let spec = Digest32::sha256(&[b"spec of ", image.as_bytes()]);
    let mut events = Vec::new();
    if lie == Some(Misbehave::DebugImage) {
        events.push(DEBUG_EVENT.to_owned());
    }
    events.push(format!("{SPEC_EVENT}{spec}"));
    if let Some(gpu) = gpu {
        events.push(format!("{GPU_EVENT}{}", gpu.digest()));
    }
    events.push(READY_EVENT.to_owned());
    EventLog::from_events(events)
}

fn measure(form: &SimulatedPlatformForm, rtmr3: Digest48) -> Measurement {
    let register = |name: &str| Digest48::sha384(&[name.as_bytes(), form.image.as_bytes()]);
    if form.snp.is_some() {
        let name = match form.lie {
            Some(Misbehave::SnpWrongMeasurement) => "other launch of ",
            _ => "launch of ",
        };
        return Measurement::Snp(register(name));
    }
    let mut td = TdMeasurement {
        mr_td: register("firmware of "),
        rtmr: [
            register("configuration of "),
            register("kernel of "),
            register("command line of "),
            rtmr3,
        ],
        ..TdMeasurement::default()
    };
    if let Some(log) = form.measured_boot() {
        let [rtmr0, rtmr1, rtmr2, _] = log.registers();
        td.rtmr = [rtmr0, rtmr1, rtmr2, rtmr3];
    }
    match form.lie {
        Some(Misbehave::WrongMrTd) => td.mr_td = register("other firmware of "),
        Some(Misbehave::WrongConfig) => td.mr_config_id = register("other configuration of "),
        Some(Misbehave::WrongRtmr(number)) => {
            if let Some(rtmr) = td.rtmr.get_mut(usize::from(number)) {
                *rtmr = register("other register of ");
            }
        }
        _ => {}
    }
    Measurement::Td(Box::new(td))
}
