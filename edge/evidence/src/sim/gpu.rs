//! A simulated GPU: SPDM measurement reports and a device chain in NVIDIA's formats.

use std::collections::BTreeMap;

use cocoon_attest::Digest48;
use cocoon_attest::gpu::{GpuEvidence, GpuMode, GpuProfile};

use super::der;
use super::key::{KeyKind, SigningKey};
use super::misbehave::Misbehave;
use super::pki::{DevPki, GPU_ROOT, LIFE_S};
use super::x509::{CertificateForm, certificate, pem};
use crate::fault::EvidenceFault;
use crate::gpu::GpuProvider;

const DRIVER: &str = "590.10.01";
const VBIOS: [u8; 8] = [0x00, 0x9f, 0x00, 0x96, 0x01, 0x00, 0x00, 0x00];
const FIRMWARE: [u8; 48] = [0xf1; 48];

/// How many measurements a report has.
const MEASUREMENTS: u8 = 8;

/// One simulated GPU.
pub(super) struct GpuMachine {
    key: SigningKey,
    chain_pem: String,
}

impl GpuMachine {
    /// Makes the GPU of this number.
    pub(super) fn new(pki: &DevPki, number: u64) -> Result<Self, EvidenceFault> {
        let issuer = "Simulated GPU Provisioner";
        let form = |subject, serial, authority| CertificateForm {
            subject,
            serial,
            from_s: pki.from_s,
            until_s: pki.from_s + LIFE_S,
            authority,
            extensions: Vec::new(),
        };
        let middle_key = SigningKey::generate(KeyKind::P384)?;
        let middle = certificate(&form(issuer, 2, true), &middle_key, GPU_ROOT, &pki.gpu_root.key)?;
        let key = SigningKey::generate(KeyKind::P384)?;
        let name = format!("Simulated GPU {number}");
        let mut leaf_form = form(&name, 0x100 + number, false);
        // TCG DICE TcbInfo: one firmware digest, [6] { SEQUENCE { hash, digest } }.
        let digest =
            der::sequence(&[der::oid(&[2, 16, 840, 1, 101, 3, 4, 2, 2]), der::octets(&FIRMWARE)]);
        let dice = der::sequence(&[der::tagged(6, &digest)]);
        leaf_form.extensions.push((vec![2, 23, 133, 5, 4, 1], dice));
        let leaf = certificate(&leaf_form, &key, issuer, &middle_key)?;
        Ok(Self { key, chain_pem: pem(&[&leaf, &middle, &pki.gpu_root.der]) })
    }

    /// Makes evidence for `nonce`.
    pub(super) fn evidence(
        &self,
        nonce: [u8; 32],
        lie: Option<Misbehave>,
    ) -> Result<GpuEvidence, EvidenceFault> {
        let nonce = if lie == Some(Misbehave::GpuOldNonce) { [0x01; 32] } else { nonce };
        let mut report = vec![0x11, 0xe0, 0x01, 0xff];
        report.extend_from_slice(&nonce);
        report.push(0);
        report.extend_from_slice(&[0x11, 0x60, 0x00, 0x00, MEASUREMENTS]);
        let record = record(lie == Some(Misbehave::GpuUnknownFirmware));
        report.extend_from_slice(&(record.len() as u32).to_le_bytes()[..3]);
        report.extend_from_slice(&record);
        report.extend_from_slice(&[0x77; 32]);
        let opaque = opaque();
        report.extend_from_slice(&(opaque.len() as u16).to_le_bytes());
        report.extend_from_slice(&opaque);
        let foreign = SigningKey::generate(KeyKind::P384)?;
        let signer = if lie == Some(Misbehave::GpuForeignSignature) { &foreign } else { &self.key };
        let signature = signer.sign_fixed(&report)?;
        report.extend_from_slice(&signature);
        let mode = GpuMode {
            confidential: lie != Some(Misbehave::GpuConfidentialOff),
            developer: lie == Some(Misbehave::GpuDeveloperMode),
        };
        Ok(GpuEvidence { report, chain_pem: self.chain_pem.clone().into_bytes(), mode })
    }
}

/// A simulated GPU, as a machine's boot asks it.
pub struct SimulatedGpu {
    machine: GpuMachine,
    lie: Option<Misbehave>,
}

impl SimulatedGpu {
    /// Makes the GPU of this number, which tells this lie.
    ///
    /// # Errors
    /// The cryptographic library failed.
    pub fn new(pki: &DevPki, number: u64, lie: Option<Misbehave>) -> Result<Self, EvidenceFault> {
        Ok(Self { machine: GpuMachine::new(pki, number)?, lie })
    }
}

impl GpuProvider for SimulatedGpu {
    fn evidence(&self, nonce: [u8; 32]) -> Result<GpuEvidence, EvidenceFault> {
        self.machine.evidence(nonce, self.lie)
    }
}

/// Returns the profile that honest simulated GPUs match.
pub(super) fn profile() -> GpuProfile {
    let measurements: BTreeMap<u8, Vec<Digest48>> =
        (1..=MEASUREMENTS).map(|index| (index, vec![golden(index)])).collect();
    GpuProfile {
        name: "simulated".to_owned(),
        driver: DRIVER.to_owned(),
        vbios: hex::encode(VBIOS),
        measurements,
    }
}

fn golden(index: u8) -> Digest48 {
    Digest48::sha384(&[b"simulated firmware", &[index]])
}

fn record(altered: bool) -> Vec<u8> {
    let mut record = Vec::new();
    for index in 1..=MEASUREMENTS {
        let digest = if altered && index == 3 { Digest48::ZERO } else { golden(index) };
        record.extend_from_slice(&[index, 1, 51, 0, 1, 48, 0]);
        record.extend_from_slice(&digest.0);
    }
    record
}

fn opaque() -> Vec<u8> {
    let mut out = Vec::new();
    let driver = format!("{DRIVER}\0");
    for (kind, content) in [(6_u16, &VBIOS[..]), (3, driver.as_bytes()), (20, &FIRMWARE[..])] {
        out.extend_from_slice(&kind.to_le_bytes());
        out.extend_from_slice(&(content.len() as u16).to_le_bytes());
        out.extend_from_slice(content);
    }
    out
}
