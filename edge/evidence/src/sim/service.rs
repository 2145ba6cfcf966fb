//! The makers' services for simulated machines.

use cocoon_attest::Collateral;

use super::pki::DevPki;
use super::platform::SimulatedPlatform;
use super::x509::pem;
use crate::collateral::{HttpAnswer, HttpGet};
use crate::fault::EvidenceFault;

/// Answers like Intel's and AMD's services about one simulated machine, at one time.
#[derive(Debug)]
pub struct SimulatedService {
    collateral: Collateral,
    root_der: Vec<u8>,
}

impl SimulatedService {
    /// Returns a service with collateral issued at `now_s` (Unix seconds).
    ///
    /// # Errors
    /// The cryptographic library failed.
    pub fn new(
        pki: &DevPki,
        platform: &SimulatedPlatform,
        now_s: u64,
    ) -> Result<Self, EvidenceFault> {
        let collateral = platform.collateral(now_s)?;
        Ok(Self { collateral, root_der: pki.intel_root.der.clone() })
    }

    /// Answers a GET of this path and query.
    #[must_use]
    pub fn respond(&self, path: &str) -> HttpAnswer {
        self.intel(path)
            .or_else(|| self.amd(path))
            .unwrap_or_else(|| HttpAnswer { status: 404, ..HttpAnswer::default() })
    }

    fn intel(&self, path: &str) -> Option<HttpAnswer> {
        let dcap = &self.collateral.tdx.as_ref()?.dcap;
        let signed = |member: &str, text: &str, signature: &[u8]| {
            let signature = hex::encode(signature);
            format!("{{\"{member}\":{text},\"signature\":\"{signature}\"}}").into_bytes()
        };
        let (header, chain, body) = match path.split('?').next()? {
            "/sgx/certification/v4/pckcrl" => {
                ("sgx-pck-crl-issuer-chain", &dcap.pck_crl_issuer_chain, dcap.pck_crl.clone())
            }
            // PCCS gives this one in hex.
            "/sgx/certification/v4/rootcacrl" => {
                let root = pem(&[&self.root_der]);
                return Some(answer("x-root", &root, hex::encode(&dcap.root_ca_crl).into_bytes()));
            }
            "/tdx/certification/v4/tcb" => (
                "tcb-info-issuer-chain",
                &dcap.tcb_info_issuer_chain,
                signed("tcbInfo", &dcap.tcb_info, &dcap.tcb_info_signature),
            ),
            "/tdx/certification/v4/qe/identity" => (
                "sgx-enclave-identity-issuer-chain",
                &dcap.qe_identity_issuer_chain,
                signed("enclaveIdentity", &dcap.qe_identity, &dcap.qe_identity_signature),
            ),
            _ => return None,
        };
        Some(answer(header, chain, body))
    }

    fn amd(&self, path: &str) -> Option<HttpAnswer> {
        let snp = self.collateral.snp.as_ref()?;
        let rest = path.strip_prefix(&format!("/vcek/v1/{}/", snp.product.name()))?;
        match rest {
            "cert_chain" => {
                let body = pem(&[&snp.ask, &snp.ark]).into_bytes();
                Some(HttpAnswer { status: 200, headers: Vec::new(), body })
            }
            "crl" => Some(HttpAnswer { status: 200, headers: Vec::new(), body: snp.crl.clone() }),
            _ => None,
        }
    }
}

impl HttpGet for SimulatedService {
    async fn get(&self, url: &str) -> Result<HttpAnswer, EvidenceFault> {
        let path = url.split_once("://").map_or(url, |(_, rest)| rest);
        let path = path.find('/').and_then(|at| path.get(at..)).unwrap_or("/");
        Ok(self.respond(path))
    }
}

fn answer(header: &str, chain: &str, body: Vec<u8>) -> HttpAnswer {
    let encoded = chain.bytes().map(|byte| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    });
    HttpAnswer { status: 200, headers: vec![(header.to_owned(), encoded.collect())], body }
}
