//! A simulated processor with TDX: quotes and collateral in Intel's formats.
//!
//! Layouts: Intel TDX DCAP quoting library (quote formats 4 and 5), Intel SGX PCK
//! Certificate and CRL Profile, Intel PCS API version 4.

use cocoon_attest::{TdMeasurement, TdxCollateral};
use dcap_qvl::QuoteCollateralV3;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::der;
use super::key::{KeyKind, SigningKey};
use super::misbehave::Misbehave;
use super::pki::{DevPki, INTEL_ROOT, LIFE_S, PCK_CA};
use super::x509::{CertificateForm, certificate, pem, revocation_list};
use crate::fault::EvidenceFault;

/// Family, model, stepping, platform and custom SKU of simulated processors.
pub(super) const FMSPC: [u8; 6] = [0xc0, 0xc0, 0x00, 0x00, 0x00, 0x01];

const VENDOR: [u8; 16] = [
    0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07,
];
const QE_SIGNER: [u8; 32] = [0xa5; 32];
const QE_SVN: u16 = 8;
const PCE_SVN: u16 = 13;
const MODULE_SVN: u8 = 5;
const SEPT_VE_DISABLE: u64 = 1 << 28;

/// Levels of patches, newest first: version, status, advisory.
const LEVELS: [(u8, &str, &str); 4] = [
    (9, "UpToDate", ""),
    (7, "SWHardeningNeeded", "INTEL-SA-90007"),
    (5, "OutOfDate", "INTEL-SA-90005"),
    (2, "Revoked", "INTEL-SA-90002"),
];

/// One simulated processor.
pub(super) struct TdxMachine {
    chain_pem: String,
    pck_key: SigningKey,
    attestation_key: SigningKey,
    serial: u64,
    svn: u8,
    pub ppid: [u8; 16],
}

/// What a guest's quote says besides its measurements.
pub(super) struct QuoteForm<'a> {
    pub version: u16,
    pub measurement: &'a TdMeasurement,
    pub report_data: [u8; 64],
    pub lie: Option<Misbehave>,
}

impl TdxMachine {
    /// Makes the processor of this number.
    pub(super) fn new(
        pki: &DevPki,
        number: u64,
        lie: Option<Misbehave>,
    ) -> Result<Self, EvidenceFault> {
        let svn = match lie {
            Some(Misbehave::TcbAdvisory) => 7,
            Some(Misbehave::TcbOutOfDate) => 5,
            Some(Misbehave::TcbRevoked) => 2,
            _ => 9,
        };
        let mut ppid = [0xc0; 16];
        for (to, from) in ppid.iter_mut().zip(number.to_be_bytes()) {
            *to = from;
        }
        let serial = 0x1000 + number;
        let pck_key = SigningKey::generate(KeyKind::P256)?;
        let form = CertificateForm {
            subject: "Simulated SGX PCK Certificate",
            serial,
            from_s: pki.from_s,
            until_s: pki.from_s + LIFE_S,
            authority: false,
            extensions: vec![(vec![1, 2, 840, 113_741, 1, 13, 1], sgx_extension(&ppid, svn))],
        };
        let pck = certificate(&form, &pck_key, PCK_CA, &pki.pck_ca.key)?;
        let chain_pem = pem(&[&pck, &pki.pck_ca.der, &pki.intel_root.der]);
        let attestation_key = SigningKey::generate(KeyKind::P256)?;
        Ok(Self { chain_pem, pck_key, attestation_key, serial, svn, ppid })
    }

    /// Signs a quote.
    pub(super) fn quote(&self, form: &QuoteForm<'_>) -> Result<Vec<u8>, EvidenceFault> {
        let sgx = form.lie == Some(Misbehave::SgxQuote);
        let mut quote = header(form.version, sgx);
        let body = if sgx { enclave(&[0x0e; 32], &form.report_data) } else { self.body(form) };
        if form.version == 5 {
            let body_type: u16 = if sgx { 1 } else { 3 };
            quote.extend_from_slice(&body_type.to_le_bytes());
            quote.extend_from_slice(&(body.len() as u32).to_le_bytes());
        }
        quote.extend_from_slice(&body);
        let signature = self.signature(&quote)?;
        quote.extend_from_slice(&(signature.len() as u32).to_le_bytes());
        quote.extend_from_slice(&signature);
        Ok(quote)
    }

    /// Signs a quote of version 3 for an SGX enclave.
    pub(super) fn sgx_quote(
        &self,
        mr_enclave: &[u8; 32],
        report_data: &[u8; 64],
    ) -> Result<Vec<u8>, EvidenceFault> {
        let mut quote = header(3, true);
        quote.extend_from_slice(&enclave(mr_enclave, report_data));
        let mut signature = self.attestation_key.sign_fixed(&quote)?;
        signature.extend_from_slice(self.attestation_point());
        signature.extend_from_slice(&self.qe_certification()?);
        quote.extend_from_slice(&(signature.len() as u32).to_le_bytes());
        quote.extend_from_slice(&signature);
        Ok(quote)
    }

    /// Returns the collateral by which [`TdxMachine::sgx_quote`] is checked.
    pub(super) fn sgx_collateral(
        &self,
        pki: &DevPki,
        now_s: u64,
    ) -> Result<TdxCollateral, EvidenceFault> {
        let dates = (now_s.saturating_sub(3600), now_s + 30 * 86_400);
        let mut collateral = self.collateral(pki, now_s, None)?;
        let dcap = &mut collateral.dcap;
        dcap.tcb_info = tcb_info("SGX", dates);
        dcap.tcb_info_signature = pki.tcb_signer.key.sign_fixed(dcap.tcb_info.as_bytes())?;
        dcap.qe_identity = qe_identity("QE", dates);
        dcap.qe_identity_signature = pki.tcb_signer.key.sign_fixed(dcap.qe_identity.as_bytes())?;
        Ok(collateral)
    }

    /// Returns the collateral for this processor, issued an hour before `now_s`.
    pub(super) fn collateral(
        &self,
        pki: &DevPki,
        now_s: u64,
        lie: Option<Misbehave>,
    ) -> Result<TdxCollateral, EvidenceFault> {
        let from_s = now_s.saturating_sub(3600);
        let until_s = |expired: bool| if expired { now_s - 60 } else { now_s + 30 * 86_400 };
        let info_until_s = until_s(lie == Some(Misbehave::ExpiredTcbInfo));
        let mut tcb_info = tcb_info("TDX", (from_s, info_until_s));
        let tcb_info_signature = pki.tcb_signer.key.sign_fixed(tcb_info.as_bytes())?;
        if lie == Some(Misbehave::ForgedTcbInfo) {
            tcb_info = tcb_info.replace("OutOfDate", "UpToDate");
        }
        let mut qe_identity = qe_identity("TD_QE", (from_s, until_s(false)));
        let qe_identity_signature = pki.tcb_signer.key.sign_fixed(qe_identity.as_bytes())?;
        if lie == Some(Misbehave::ForgedQeIdentity) {
            qe_identity = qe_identity.replace("OutOfDate", "UpToDate");
        }
        let list_dates = (from_s, until_s(lie == Some(Misbehave::ExpiredCrl)));
        let revoked: &[u64] = if lie == Some(Misbehave::PckRevoked) { &[self.serial] } else { &[] };
        let forger = SigningKey::generate(KeyKind::P256)?;
        let pck_signer = if lie == Some(Misbehave::ForgedCrl) { &forger } else { &pki.pck_ca.key };
        let signer_chain = pem(&[&pki.tcb_signer.der, &pki.intel_root.der]);
        let dcap = QuoteCollateralV3 {
            pck_crl_issuer_chain: pem(&[&pki.pck_ca.der, &pki.intel_root.der]),
            root_ca_crl: revocation_list(INTEL_ROOT, &pki.intel_root.key, list_dates, &[])?,
            pck_crl: revocation_list(PCK_CA, pck_signer, list_dates, revoked)?,
            tcb_info_issuer_chain: signer_chain.clone(),
            tcb_info,
            tcb_info_signature,
            qe_identity_issuer_chain: signer_chain,
            qe_identity,
            qe_identity_signature,
            pck_certificate_chain: None,
        };
        Ok(TdxCollateral { dcap, fetched_ms: now_s * 1000 })
    }

    /// Returns a TD 1.0 body, or for version 5 a TD 1.5 body.
    fn body(&self, form: &QuoteForm<'_>) -> Vec<u8> {
        let attributes = match form.lie {
            Some(Misbehave::DebugTd) => SEPT_VE_DISABLE | 1,
            Some(Misbehave::ProfiledTd) => SEPT_VE_DISABLE | 0x10,
            Some(Misbehave::MigratableTd) => SEPT_VE_DISABLE | 1 << 29,
            _ => SEPT_VE_DISABLE,
        };
        let signer =
            if form.lie == Some(Misbehave::WrongSeamSigner) { [0xbb; 48] } else { [0; 48] };
        let mut svn = [0; 16];
        svn[..3].copy_from_slice(&[MODULE_SVN, 1, self.svn]);
        let mut body = svn.to_vec();
        body.extend_from_slice(&[0x5e; 48]);
        body.extend_from_slice(&signer);
        body.extend_from_slice(&[0; 8]);
        body.extend_from_slice(&attributes.to_le_bytes());
        body.extend_from_slice(&0x0006_02e7_u64.to_le_bytes());
        body.extend_from_slice(&form.measurement.to_bytes());
        body.extend_from_slice(&form.report_data);
        if form.version == 5 {
            body.extend_from_slice(&svn);
            body.extend_from_slice(&[0; 48]);
        }
        body
    }

    /// Returns the signature data of a quote of version 4 or 5.
    fn signature(&self, signed: &[u8]) -> Result<Vec<u8>, EvidenceFault> {
        let inner = self.qe_certification()?;
        let mut out = self.attestation_key.sign_fixed(signed)?;
        out.extend_from_slice(self.attestation_point());
        out.extend_from_slice(&6_u16.to_le_bytes());
        out.extend_from_slice(&(inner.len() as u32).to_le_bytes());
        out.extend_from_slice(&inner);
        Ok(out)
    }

    /// Returns the quoting enclave's report with its signature and the platform's chain.
    fn qe_certification(&self) -> Result<Vec<u8>, EvidenceFault> {
        let auth = [0x11; 32];
        let hash = Sha256::new().chain_update(self.attestation_point()).chain_update(auth);
        let mut report_data = [0; 64];
        report_data[..32].copy_from_slice(&hash.finalize());
        let mut out = enclave(&[0x0e; 32], &report_data);
        out.extend_from_slice(&self.pck_key.sign_fixed(&out)?);
        out.extend_from_slice(&32_u16.to_le_bytes());
        out.extend_from_slice(&auth);
        out.extend_from_slice(&5_u16.to_le_bytes());
        out.extend_from_slice(&(self.chain_pem.len() as u32).to_le_bytes());
        out.extend_from_slice(self.chain_pem.as_bytes());
        Ok(out)
    }

    /// Returns the attestation key as quotes carry it: X and Y.
    fn attestation_point(&self) -> &[u8] {
        self.attestation_key.public().get(1..).unwrap_or_default()
    }
}

fn header(version: u16, sgx: bool) -> Vec<u8> {
    let mut header = Vec::with_capacity(48);
    header.extend_from_slice(&version.to_le_bytes());
    header.extend_from_slice(&2_u16.to_le_bytes());
    header.extend_from_slice(&if sgx { 0_u32 } else { 0x81 }.to_le_bytes());
    header.extend_from_slice(&[0; 4]);
    header.extend_from_slice(&VENDOR);
    header.extend_from_slice(&[0; 20]);
    header
}

/// Returns the report of an enclave: the quoting one, the sealing one, or that of a lie.
fn enclave(mr_enclave: &[u8; 32], report_data: &[u8; 64]) -> Vec<u8> {
    let mut report = vec![0; 384];
    report[48] = 0x15;
    report[64..96].copy_from_slice(mr_enclave);
    report[128..160].copy_from_slice(&QE_SIGNER);
    report[256..258].copy_from_slice(&2_u16.to_le_bytes());
    report[258..260].copy_from_slice(&QE_SVN.to_le_bytes());
    report[320..384].copy_from_slice(report_data);
    report
}

/// Returns the SGX extension of a PCK certificate.
fn sgx_extension(ppid: &[u8; 16], svn: u8) -> Vec<u8> {
    const BASE: [u64; 7] = [1, 2, 840, 113_741, 1, 13, 1];
    let entry =
        |arcs: &[u64], value: Vec<u8>| der::sequence(&[der::oid(&[&BASE, arcs].concat()), value]);
    let mut tcb: Vec<Vec<u8>> =
        (1..=16).map(|arc| entry(&[2, arc], der::number(u64::from(svn)))).collect();
    tcb.push(entry(&[2, 17], der::number(u64::from(PCE_SVN))));
    tcb.push(entry(&[2, 18], der::octets(&[svn; 16])));
    der::sequence(&[
        entry(&[1], der::octets(ppid)),
        entry(&[2], der::sequence(&tcb)),
        entry(&[3], der::octets(&[0, 0])),
        entry(&[4], der::octets(&FMSPC)),
        entry(&[5], der::enumerated(1)),
        entry(&[6], der::octets(&[0x1d; 16])),
        entry(
            &[7],
            der::sequence(&[
                entry(&[7, 1], der::boolean(false)),
                entry(&[7, 2], der::boolean(false)),
                entry(&[7, 3], der::boolean(false)),
            ]),
        ),
    ])
}

fn tcb_info(id: &str, (from_s, until_s): (u64, u64)) -> String {
    let levels: Vec<serde_json::Value> = LEVELS
        .iter()
        .map(|(svn, status, advisory)| {
            let sgx = vec![json!({ "svn": svn }); 16];
            let tdx: Vec<_> =
                (0..16).map(|at| json!({ "svn": if at == 2 { *svn } else { 0 } })).collect();
            let advisories: Vec<&str> = if advisory.is_empty() { vec![] } else { vec![advisory] };
            json!({
                "tcb": { "sgxtcbcomponents": sgx, "tdxtcbcomponents": tdx, "pcesvn": PCE_SVN },
                "tcbDate": der::iso8601(from_s.saturating_sub(u64::from(9 - svn) * 30 * 86_400)),
                "tcbStatus": status,
                "advisoryIDs": advisories,
            })
        })
        .collect();
    let module = json!({
        "mrsigner": "00".repeat(48),
        "attributes": "00".repeat(8),
        "attributesMask": "ff".repeat(8),
    });
    let mut identity = module.clone();
    identity["id"] = json!("TDX_01");
    identity["tcbLevels"] = json!([{
        "tcb": { "isvsvn": MODULE_SVN },
        "tcbDate": der::iso8601(from_s),
        "tcbStatus": "UpToDate",
    }]);
    let mut info = json!({
        "id": id,
        "version": 3,
        "issueDate": der::iso8601(from_s),
        "nextUpdate": der::iso8601(until_s),
        "fmspc": hex::encode(FMSPC),
        "pceId": "0000",
        "tcbType": 0,
        "tcbEvaluationDataNumber": 20,
        "tcbLevels": levels,
    });
    if id == "TDX" {
        info["tdxModule"] = module;
        info["tdxModuleIdentities"] = json!([identity]);
    }
    info.to_string()
}

fn qe_identity(id: &str, (from_s, until_s): (u64, u64)) -> String {
    let level = |svn: u16, status: &str| {
        json!({
            "tcb": { "isvsvn": svn },
            "tcbDate": der::iso8601(from_s),
            "tcbStatus": status,
        })
    };
    json!({
        "id": id,
        "version": 2,
        "issueDate": der::iso8601(from_s),
        "nextUpdate": der::iso8601(until_s),
        "tcbEvaluationDataNumber": 20,
        "miscselect": "00000000",
        "miscselectMask": "ffffffff",
        "attributes": "11".to_owned() + &"00".repeat(15),
        "attributesMask": "fb".to_owned() + &"ff".repeat(7) + &"00".repeat(8),
        "mrsigner": hex::encode(QE_SIGNER),
        "isvprodid": 2,
        "tcbLevels": [level(QE_SVN, "UpToDate"), level(4, "OutOfDate")],
    })
    .to_string()
}
