//! The makers' services, or caches that speak like them.
//!
//! Intel: Provisioning Certification Service, version 4, also spoken by PCCS. AMD: Key
//! Distribution Service (57230, chapter 4).

use cocoon_attest::snp::SnpProduct;
use cocoon_attest::{Collateral, CollateralNeed, PckIssuer, SnpCollateral, TdxCollateral};
use dcap_qvl::QuoteCollateralV3;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::CollateralSource;
use super::http::{HttpAnswer, HttpGet};
use crate::fault::EvidenceFault;

/// Intel's own service.
pub const INTEL_PCS_URL: &str = "https://api.trustedservices.intel.com";

/// AMD's own service.
pub const AMD_KDS_URL: &str = "https://kdsintf.amd.com";

/// Fetches from services of the makers.
#[derive(Clone, Debug)]
pub struct MakerServices<H> {
    http: H,
    intel_url: String,
    amd_url: String,
}

impl<H: HttpGet> MakerServices<H> {
    /// Returns a source that asks `intel_url` (PCS or a PCCS) and `amd_url` (KDS or a cache
    /// of it), each without a path.
    pub fn new(http: H, intel_url: impl Into<String>, amd_url: impl Into<String>) -> Self {
        Self { http, intel_url: intel_url.into(), amd_url: amd_url.into() }
    }

    async fn tdx(
        &self,
        fmspc: &[u8; 6],
        issuer: PckIssuer,
        now_ms: u64,
    ) -> Result<TdxCollateral, EvidenceFault> {
        let base = self.intel_url.trim_end_matches('/');
        let ca = match issuer {
            PckIssuer::Platform => "platform",
            PckIssuer::Processor => "processor",
        };
        let pck =
            self.ask(format!("{base}/sgx/certification/v4/pckcrl?ca={ca}&encoding=der")).await?;
        let pck_crl_issuer_chain = pck.chain("sgx-pck-crl-issuer-chain")?;
        let root = self.ask(format!("{base}/sgx/certification/v4/rootcacrl")).await?;
        let fmspc = hex::encode(fmspc);
        let tcb = self.ask(format!("{base}/tdx/certification/v4/tcb?fmspc={fmspc}")).await?;
        let tcb_info_issuer_chain = tcb.chain("tcb-info-issuer-chain")?;
        let (tcb_info, tcb_info_signature) =
            tcb.signed(|signed: SignedTcbInfo| (signed.tcb_info, signed.signature))?;
        let qe = self.ask(format!("{base}/tdx/certification/v4/qe/identity")).await?;
        let qe_identity_issuer_chain = qe.chain("sgx-enclave-identity-issuer-chain")?;
        let (qe_identity, qe_identity_signature) =
            qe.signed(|signed: SignedQeIdentity| (signed.enclave_identity, signed.signature))?;
        let dcap = QuoteCollateralV3 {
            pck_crl_issuer_chain,
            root_ca_crl: root.der(),
            pck_crl: pck.der(),
            tcb_info_issuer_chain,
            tcb_info,
            tcb_info_signature,
            qe_identity_issuer_chain,
            qe_identity,
            qe_identity_signature,
            pck_certificate_chain: None,
        };
        Ok(TdxCollateral { dcap, fetched_ms: now_ms })
    }

    async fn snp(&self, product: SnpProduct, now_ms: u64) -> Result<SnpCollateral, EvidenceFault> {
        let base = format!("{}/vcek/v1/{}", self.amd_url.trim_end_matches('/'), product.name());
        let chain = self.ask(format!("{base}/cert_chain")).await?;
        let crl = self.ask(format!("{base}/crl")).await?.der();
        let [ask, ark] = chain.certificates()?;
        Ok(SnpCollateral { product, ark, ask, crl, fetched_ms: now_ms })
    }

    async fn ask(&self, url: String) -> Result<Document, EvidenceFault> {
        let answer = self.http.get(&url).await?;
        if answer.status != 200 {
            let detail = format!("status {}", answer.status);
            return Err(EvidenceFault::Service { url, detail });
        }
        Ok(Document { url, answer })
    }
}

impl<H: HttpGet> CollateralSource for MakerServices<H> {
    async fn fetch(&self, need: &CollateralNeed, now_ms: u64) -> Result<Collateral, EvidenceFault> {
        let mut collateral = Collateral::default();
        match need {
            CollateralNeed::Nothing => {}
            CollateralNeed::Tdx { fmspc, issuer } => {
                collateral.tdx = Some(self.tdx(fmspc, *issuer, now_ms).await?);
            }
            CollateralNeed::Snp { product } => {
                collateral.snp = Some(self.snp(*product, now_ms).await?);
            }
        }
        Ok(collateral)
    }
}

/// The signature covers the very bytes of the member, so they are kept raw.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SignedTcbInfo {
    tcb_info: Box<RawValue>,
    signature: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SignedQeIdentity {
    enclave_identity: Box<RawValue>,
    signature: String,
}

/// An answer with the address it came from.
struct Document {
    url: String,
    answer: HttpAnswer,
}

impl Document {
    /// Returns a chain from a header, where it stands percent-encoded.
    fn chain(&self, header: &str) -> Result<String, EvidenceFault> {
        // PCCS of older days said `SGX-TCB-Info-Issuer-Chain`.
        let value = self
            .answer
            .header(header)
            .or_else(|| self.answer.header(&format!("sgx-{header}")))
            .ok_or_else(|| self.fault(format!("the header {header} is missing")))?;
        percent_decoded(value).ok_or_else(|| self.fault(format!("the header {header} is no text")))
    }

    /// Returns DER; PCCS gives revocation lists in hex.
    fn der(&self) -> Vec<u8> {
        let body = &self.answer.body;
        let text = body.trim_ascii();
        if text.first().is_some_and(u8::is_ascii_hexdigit) {
            hex::decode(text).unwrap_or_else(|_| body.clone())
        } else {
            body.clone()
        }
    }

    /// Returns a signed member with its signature.
    fn signed<T: for<'de> Deserialize<'de>>(
        &self,
        parts: impl Fn(T) -> (Box<RawValue>, String),
    ) -> Result<(String, Vec<u8>), EvidenceFault> {
        let read: T = serde_json::from_slice(&self.answer.body)
            .map_err(|error| self.fault(error.to_string()))?;
        let (raw, signature) = parts(read);
        let signature =
            hex::decode(signature).map_err(|_| self.fault("the signature is no hex".to_owned()))?;
        Ok((raw.get().to_owned(), signature))
    }

    /// Returns exactly two certificates of a PEM body, in their order.
    fn certificates(&self) -> Result<[Vec<u8>; 2], EvidenceFault> {
        use base64::Engine as _;
        let text = String::from_utf8_lossy(&self.answer.body);
        let blocks: Option<Vec<Vec<u8>>> = text
            .split("-----BEGIN CERTIFICATE-----")
            .skip(1)
            .map(|block| {
                let (body, _) = block.split_once("-----END CERTIFICATE-----")?;
                let body: String = body.split_whitespace().collect();
                base64::engine::general_purpose::STANDARD.decode(body).ok()
            })
            .collect();
        blocks
            .and_then(|blocks| blocks.try_into().ok())
            .ok_or_else(|| self.fault("not two certificates".to_owned()))
    }

    fn fault(&self, detail: String) -> EvidenceFault {
        EvidenceFault::Service { url: self.url.clone(), detail }
    }
}

/// Undoes percent-encoding; nothing when the result is no text.
fn percent_decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first == b'%' {
            let (digits, tail) = rest.split_at_checked(2)?;
            out.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = tail;
        } else {
            out.push(*first);
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::percent_decoded;

    #[test]
    fn percent_encoding_is_undone() {
        assert_eq!(percent_decoded("a%0Ab%20c").as_deref(), Some("a\nb c"));
        assert_eq!(percent_decoded("%zz"), None);
        assert_eq!(percent_decoded("%4"), None);
        assert_eq!(percent_decoded("%ff"), None);
    }
}
