//! A simulated processor with SEV-SNP: reports and certificates in AMD's formats.
//!
//! Layouts: AMD SEV-SNP Firmware ABI (56860), AMD VCEK certificate specification (57230).

use cocoon_attest::snp::{REPORT_LEN, SnpProduct, SnpTcb};
use cocoon_attest::{Digest48, SnpCollateral};

use super::der;
use super::key::{KeyKind, SigningKey};
use super::misbehave::Misbehave;
use super::pki::{ASK, DevPki, LIFE_S};
use super::x509::{CertificateForm, certificate, pem};
use crate::fault::EvidenceFault;

/// Versions of an honest simulated processor.
pub(super) const TCB: SnpTcb = SnpTcb { fmc: 0, boot_loader: 10, tee: 1, snp: 23, microcode: 84 };

/// Guest policy of an honest guest: ABI 0.31, multithreading, the bit that must be one.
const POLICY: u64 = 0x1f | 1 << 16 | 1 << 17;

/// One simulated processor.
pub(super) struct SnpMachine {
    product: SnpProduct,
    vcek_key: SigningKey,
    vcek_pem: String,
    certified: SnpTcb,
    chip_id: [u8; 64],
}

impl SnpMachine {
    /// Makes the processor of this number.
    pub(super) fn new(
        pki: &DevPki,
        product: SnpProduct,
        number: u64,
        lie: Option<Misbehave>,
    ) -> Result<Self, EvidenceFault> {
        let certified = match lie {
            Some(Misbehave::SnpOldTcb) => SnpTcb { snp: 5, ..TCB },
            _ => TCB,
        };
        let mut chip_id = [0; 64];
        let hardware_len = if product == SnpProduct::Turin { 8 } else { 64 };
        for (at, byte) in chip_id.iter_mut().take(hardware_len).enumerate() {
            *byte = number.to_be_bytes()[at % 8] ^ (at / 8) as u8;
        }
        let vcek_key = SigningKey::generate(KeyKind::P384)?;
        let form = CertificateForm {
            subject: "SEV-VCEK",
            serial: 0,
            from_s: pki.from_s,
            until_s: pki.from_s + LIFE_S,
            authority: false,
            extensions: extensions(product, certified, &chip_id[..hardware_len]),
        };
        let vcek = certificate(&form, &vcek_key, ASK, &pki.ask.key)?;
        Ok(Self { product, vcek_key, vcek_pem: pem(&[&vcek]), certified, chip_id })
    }

    /// Returns the chip's name, as its certificate gives it.
    pub(super) fn hardware_id(&self) -> &[u8] {
        let len = if self.product == SnpProduct::Turin { 8 } else { 64 };
        self.chip_id.get(..len).unwrap_or_default()
    }

    /// Returns the certificate of the chip's key.
    pub(super) fn vcek_pem(&self) -> &str {
        &self.vcek_pem
    }

    /// Signs a report.
    pub(super) fn report(
        &self,
        measurement: &Digest48,
        report_data: &[u8; 64],
        lie: Option<Misbehave>,
    ) -> Result<Vec<u8>, EvidenceFault> {
        let policy = match lie {
            Some(Misbehave::SnpDebug) => POLICY | 1 << 19,
            Some(Misbehave::SnpMigration) => POLICY | 1 << 18,
            _ => POLICY,
        };
        let reported = match lie {
            Some(Misbehave::SnpInflatedTcb) => {
                SnpTcb { microcode: self.certified.microcode + 9, ..self.certified }
            }
            _ => self.certified,
        };
        let mut chip_id = self.chip_id;
        if lie == Some(Misbehave::SnpOtherChip) {
            chip_id[0] ^= 0x80;
        }
        let vmpl: u32 = if lie == Some(Misbehave::SnpLowPrivilege) { 3 } else { 0 };
        let tcb = reported.to_report(self.product);
        let mut report = vec![0; REPORT_LEN];
        let mut put = |at: usize, bytes: &[u8]| report[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x00, &3_u32.to_le_bytes());
        put(0x08, &policy.to_le_bytes());
        put(0x30, &vmpl.to_le_bytes());
        put(0x34, &1_u32.to_le_bytes());
        put(0x38, &tcb);
        put(0x50, report_data);
        put(0x90, &measurement.0);
        put(0x180, &tcb);
        put(0x1a0, &chip_id);
        put(0x1e0, &tcb);
        put(0x1f0, &tcb);
        let signature = self.vcek_key.sign_fixed(&report[..0x2a0])?;
        for (at, half) in [0x2a0, 0x2a0 + 72].into_iter().zip(signature.chunks_exact(48)) {
            for (to, from) in report[at..].iter_mut().zip(half.iter().rev()) {
                *to = *from;
            }
        }
        Ok(report)
    }

    /// Returns AMD's certificates and revocation list, issued an hour before `now_s`.
    pub(super) fn collateral(
        &self,
        pki: &DevPki,
        now_s: u64,
        lie: Option<Misbehave>,
    ) -> Result<SnpCollateral, EvidenceFault> {
        let expired = lie == Some(Misbehave::ExpiredCrl);
        let until_s = if expired { now_s - 60 } else { now_s + 30 * 86_400 };
        let dates = (now_s.saturating_sub(3600), until_s);
        let mut crl = pki.amd_list(dates, lie == Some(Misbehave::SnpRevokedAuthority))?;
        if lie == Some(Misbehave::ForgedCrl)
            && let Some(last) = crl.last_mut()
        {
            *last ^= 1;
        }
        Ok(SnpCollateral {
            product: self.product,
            ark: pki.ark.der.clone(),
            ask: pki.ask.der.clone(),
            crl,
            fetched_ms: now_s * 1000,
        })
    }
}

/// Returns AMD's extensions of a VCEK certificate.
fn extensions(product: SnpProduct, tcb: SnpTcb, hardware_id: &[u8]) -> Vec<(Vec<u64>, Vec<u8>)> {
    const BASE: [u64; 8] = [1, 3, 6, 1, 4, 1, 3704, 1];
    let entry = |arcs: &[u64], content: Vec<u8>| ([&BASE, arcs].concat(), content);
    let version = |value: u8| der::number(u64::from(value));
    let mut list = vec![
        entry(&[1], der::number(1)),
        entry(&[2], der::ia5(&format!("{}-B1", product.name()))),
        entry(&[3, 1], version(tcb.boot_loader)),
        entry(&[3, 2], version(tcb.tee)),
        entry(&[3, 3], version(tcb.snp)),
        entry(&[3, 8], version(tcb.microcode)),
        entry(&[4], hardware_id.to_vec()),
    ];
    if product == SnpProduct::Turin {
        list.push(entry(&[3, 9], version(tcb.fmc)));
    }
    list
}
