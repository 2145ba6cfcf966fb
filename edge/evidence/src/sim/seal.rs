//! The sealing enclave of a simulated machine.

use std::sync::Arc;

use cocoon_attest::{Digest32, Digest48, TdxCollateral};
use cocoon_wire::sealed_key::{
    PUBLIC_KEY_BYTES, PersistentKey, REPORT_BYTES, SECRET_BYTES, answer_report_data,
    decode_request, derive, encode_answer, request_report_data,
};
use cocoon_wire::tl::Blob;
use ctr::cipher::StreamCipher as _;

use super::pki::DevPki;
use super::platform::SimulatedPlatform;
use super::tdx::TdxMachine;
use crate::fault::EvidenceFault;
use crate::seal::{EnclaveTrust, SealChannel, SealPair, SealReporter};

/// Parts of a TD report (Intel TDX module specification, `TDREPORT_STRUCT`).
const TCB_INFO_HASH: std::ops::Range<usize> = 32..80;
const TD_INFO_HASH: std::ops::Range<usize> = 80..128;
const REPORT_DATA: std::ops::Range<usize> = 128..192;
const MAC: std::ops::Range<usize> = 224..256;
const TCB_INFO: std::ops::Range<usize> = 256..495;
const TD_INFO: std::ops::Range<usize> = 512..1024;

/// An enclave that seals keys on the machine of a simulated platform, and checks TD reports
/// by a secret that only this machine's "processor" knows.
pub struct SimulatedEnclave {
    machine: TdxMachine,
    pki: Arc<DevPki>,
    processor: Digest32,
    mr_enclave: Digest32,
}

impl SimulatedEnclave {
    /// Starts the enclave on the machine of `platform`. `image` names its code.
    ///
    /// # Errors
    /// The cryptographic library failed.
    pub fn start(platform: &SimulatedPlatform, image: &str) -> Result<Self, EvidenceFault> {
        let (number, pki) = platform.maker();
        Ok(Self {
            machine: TdxMachine::new(pki, number, None)?,
            pki: Arc::clone(pki),
            processor: processor_secret(platform),
            mr_enclave: Digest32::sha256(&[b"enclave ", image.as_bytes()]),
        })
    }

    /// Returns what a guest has to know to trust this enclave at `now_s` (Unix seconds).
    ///
    /// # Errors
    /// The cryptographic library failed.
    pub fn trust(&self, now_s: u64) -> Result<EnclaveTrust, EvidenceFault> {
        let collateral: TdxCollateral = self.machine.sgx_collateral(&self.pki, now_s)?;
        Ok(EnclaveTrust { mr_enclave: self.mr_enclave, roots: self.pki.roots(), collateral })
    }

    fn answer(&self, request: &[u8]) -> Result<Vec<u8>, EvidenceFault> {
        let refused = |detail: &str| EvidenceFault::Seal { detail: detail.to_owned() };
        let request = decode_request(request)
            .map_err(|error| refused(&error.to_string()))?
            .ok_or_else(|| refused("a field of another size"))?;
        let wrong_size = |_| refused("a field of another size");
        let report: [u8; REPORT_BYTES] = request.tdx_report.0.try_into().map_err(wrong_size)?;
        let guest: [u8; PUBLIC_KEY_BYTES] = request.public_key.0.try_into().map_err(wrong_size)?;
        if report[..3] != [0x81, 0, 0] || report[MAC] != mac(&self.processor, &report) {
            return Err(refused("the TD report is not of this machine"));
        }
        if report[TD_INFO_HASH] != Digest48::sha384(&[&report[TD_INFO]]).0
            || report[TCB_INFO_HASH] != Digest48::sha384(&[&report[TCB_INFO]]).0
        {
            return Err(refused("the TD report contradicts itself"));
        }
        if report[REPORT_DATA] != request_report_data(&guest) {
            return Err(refused("the TD report is about another key"));
        }
        let name = String::from_utf8_lossy(request.key_name.as_bytes()).into_owned();
        self.seal(&report, &guest, &name)
    }

    fn seal(
        &self,
        report: &[u8; REPORT_BYTES],
        guest: &[u8; PUBLIC_KEY_BYTES],
        name: &str,
    ) -> Result<Vec<u8>, EvidenceFault> {
        let part = |range: std::ops::Range<usize>| -> [u8; 48] {
            let mut bytes = [0; 48];
            bytes.copy_from_slice(&report[range]);
            bytes
        };
        let sealing = Digest32::sha256(&[b"sealing", &self.processor.0, &self.mr_enclave.0]);
        let mut sealing_key = [0; 16];
        sealing_key.copy_from_slice(&sealing.0[..16]);
        let key = derive(&sealing_key, &part(TD_INFO_HASH), &part(TCB_INFO_HASH), name);
        let pair = SealPair::draw()?;
        let mut secret = [0; SECRET_BYTES];
        secret[..PUBLIC_KEY_BYTES].copy_from_slice(&pair.public);
        secret[PUBLIC_KEY_BYTES..].copy_from_slice(key.expose());
        pair.agree(guest)?.apply_keystream(&mut secret[PUBLIC_KEY_BYTES..]);
        let report_data = answer_report_data(guest, &secret);
        let quote = self.machine.sgx_quote(&self.mr_enclave.0, &report_data)?;
        let answer = encode_answer(&PersistentKey {
            sgx_quote: Blob(&quote),
            encrypted_secret: Blob(&secret),
        });
        Ok(answer.get(4..).unwrap_or_default().to_vec())
    }
}

impl SealChannel for SimulatedEnclave {
    fn exchange(&self, request: &[u8]) -> std::io::Result<Vec<u8>> {
        self.answer(request).map_err(std::io::Error::other)
    }
}

impl SealReporter for SimulatedPlatform {
    fn seal_report(
        &self,
        public_key: &[u8; PUBLIC_KEY_BYTES],
    ) -> Result<[u8; REPORT_BYTES], EvidenceFault> {
        let td = self
            .td()
            .ok_or_else(|| EvidenceFault::NoTee { found: "a SEV-SNP guest".to_owned() })?;
        let mut report = [0; REPORT_BYTES];
        report[0] = 0x81;
        report[REPORT_DATA].copy_from_slice(&request_report_data(public_key));
        // Attributes and features take the first 16 bytes, then come the registers.
        report[TD_INFO.start + 16..][..384].copy_from_slice(&td.to_bytes());
        let (tcb_info, td_info) =
            (Digest48::sha384(&[&report[TCB_INFO]]), Digest48::sha384(&[&report[TD_INFO]]));
        report[TCB_INFO_HASH].copy_from_slice(&tcb_info.0);
        report[TD_INFO_HASH].copy_from_slice(&td_info.0);
        let mac = mac(&processor_secret(self), &report);
        report[MAC].copy_from_slice(&mac);
        Ok(report)
    }
}

/// Returns what only the processor of this machine knows: the same after each boot.
fn processor_secret(platform: &SimulatedPlatform) -> Digest32 {
    let (number, pki) = platform.maker();
    Digest32::sha256(&[b"processor", pki.intel_root.key.pkcs8(), &number.to_be_bytes()])
}

/// Returns the processor's code over the report, which covers its first 224 bytes.
fn mac(processor: &Digest32, report: &[u8; REPORT_BYTES]) -> [u8; 32] {
    Digest32::sha256(&[b"report", &processor.0, &report[..MAC.start], &processor.0]).0
}
