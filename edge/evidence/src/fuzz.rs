//! Entry points for fuzzers: what devices, the host and services of others answer, as arbitrary bytes.
//!
//! Each function returns normally for every input or panics on a broken law.

use std::future::Future;
use std::pin::pin;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use cocoon_attest::snp::SnpProduct;
use cocoon_attest::{CollateralNeed, PckIssuer};

use crate::collateral::{CollateralSource as _, HttpAnswer, HttpGet, MakerServices};
use crate::fault::EvidenceFault;
use crate::linux;

/// Any answer of the host: its quoting service, the certificate table beside a SEV-SNP report, the
/// table of the boot log.
///
/// # Panics
/// When a quote is longer than the answer that holds it.
pub fn host(data: &[u8]) {
    if let Ok(quote) = linux::quote_in(data) {
        assert!(!quote.is_empty() && quote.len() < data.len(), "a quote of {} bytes", quote.len());
    }
    let _ = linux::area_len(data);
    if let Some(vcek) = linux::vcek(data) {
        assert!(vcek.len() <= data.len());
    }
}

/// Any answers of Intel's and AMD's services, or of a cache that speaks like them: pieces behind
/// lengths of two bytes, the header of an answer and its body in turn.
pub fn services(data: &[u8]) {
    let needs = [
        CollateralNeed::Tdx { fmspc: [0; 6], issuer: PckIssuer::Platform },
        CollateralNeed::Snp { product: SnpProduct::Genoa },
    ];
    for need in needs {
        let services = MakerServices::new(Answers::new(data), "http://a", "http://b");
        let fetched = pin!(services.fetch(&need, 1));
        // The answers are there, so nothing is waited for.
        if let Poll::Ready(Ok(collateral)) = fetched.poll(&mut Context::from_waker(Waker::noop())) {
            let _ = collateral.dates(1_800_000_000);
        }
    }
}

/// What is left of the input, piece by piece.
struct Answers<'a>(Mutex<&'a [u8]>);

impl<'a> Answers<'a> {
    fn new(data: &'a [u8]) -> Self {
        Self(Mutex::new(data))
    }

    /// The next piece; empty at the end.
    fn next(&self) -> &'a [u8] {
        let mut rest = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (len, tail) = rest.split_first_chunk().unwrap_or((&[0; 2], &[]));
        let (piece, tail) =
            tail.split_at_checked(usize::from(u16::from_le_bytes(*len))).unwrap_or((tail, &[]));
        *rest = tail;
        piece
    }
}

impl HttpGet for Answers<'_> {
    async fn get(&self, _url: &str) -> Result<HttpAnswer, EvidenceFault> {
        let value = String::from_utf8_lossy(self.next()).into_owned();
        let names = [
            "sgx-pck-crl-issuer-chain",
            "sgx-tcb-info-issuer-chain",
            "sgx-enclave-identity-issuer-chain",
        ];
        let headers = names.map(|name| (name.to_owned(), value.clone())).to_vec();
        Ok(HttpAnswer { status: 200, headers, body: self.next().to_vec() })
    }
}

#[cfg(feature = "azure")]
pub use azure::{paravisor, vtpm};

#[cfg(feature = "azure")]
mod azure {
    use std::io;

    use cocoon_attest::Digest32;
    use cocoon_attest::vtpm::{QuoteInfo, REGISTERS, VtpmQuote};

    use super::Answers;
    use crate::azure::{
        AzureVtpm, HclReport, HclTee, SIGNING_KEY, TdQuotes, Tpm, quote_in, quote_registers,
    };
    use crate::fault::EvidenceFault;
    use crate::provider::{EvidenceProvider as _, QuoteSubject};

    /// Any report of Azure's paravisor, and any answer of the service that makes quotes there.
    ///
    /// # Panics
    /// When a report's parts are not where it has them.
    pub fn paravisor(data: &[u8]) {
        let _ = quote_in(data);
        if let Ok(report) = HclReport::read(data) {
            let len = match report.tee {
                HclTee::Snp => 1184,
                HclTee::Tdx => 1024,
            };
            assert_eq!(data.get(32..32 + len), Some(report.hardware.as_slice()));
            let text = data.get(1236..1236 + report.runtime_data.len());
            assert_eq!(text, Some(report.runtime_data.as_slice()));
        }
    }

    /// Any TPM: its answers are pieces behind lengths of two bytes.
    ///
    /// # Panics
    /// When a TPM that knows nothing of the question vouches for it, or registers are taken that it did
    /// not state or that no peer reads.
    pub fn vtpm(data: &[u8]) {
        if let Ok(quote) = quote_registers(&&Answers::new(data), SIGNING_KEY, &Digest32::ZERO) {
            let numbers = quote.registers.iter().map(|(number, _)| *number);
            assert!(numbers.eq(0..REGISTERS), "other registers than those asked for");
            let stated = QuoteInfo::read(&quote.attest).map(|info| info.register_digest);
            assert_eq!(stated, Ok(quote.register_digest().0.to_vec()));
            assert_eq!(VtpmQuote::decode(&quote.encode()), Ok(quote));
        }
        let tpm = Answers::new(data);
        let Ok(found) = AzureVtpm::with(&tpm, &tpm, |_| ()) else { return };
        let _ = found.measurement();
        let quoted = found.quote(QuoteSubject::CertificateKey(&[7; 32]));
        assert!(quoted.is_err(), "arbitrary bytes are about a key of ours");
    }

    impl Tpm for &Answers<'_> {
        fn transmit(&self, _command: &[u8]) -> io::Result<Vec<u8>> {
            Ok(self.next().to_vec())
        }
    }

    impl TdQuotes for &Answers<'_> {
        fn quote(&self, _td_report: &[u8]) -> Result<Vec<u8>, EvidenceFault> {
            Ok(self.next().to_vec())
        }
    }
}
