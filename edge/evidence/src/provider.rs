//! The one trait behind which every TEE stands.

use cocoon_attest::channel::{Offer, Statement};
use cocoon_attest::gpu::GpuEvidence;
use cocoon_attest::report::ReportStatement;
use cocoon_attest::{Binding, ExtensionKind, Measurement, PeerEvidence, certificate_report_data};

use crate::fault::EvidenceFault;

/// What a TEE may be asked to vouch for.
///
/// There is no variant for 64 bytes of a caller's choice, on purpose: a TEE that signs what
/// anybody asks signs the statement of an attacker, too.
#[derive(Clone, Copy, Debug)]
pub enum QuoteSubject<'a> {
    /// The Ed25519 key of a certificate (protocol notes 2.4).
    CertificateKey(&'a [u8; 32]),
    /// A statement over one connection.
    Channel(&'a Statement),
    /// A statement to a client behind a proxy, over the client's nonce.
    Report(&'a ReportStatement),
}

impl QuoteSubject<'_> {
    /// Returns the report data. Private to this crate: see [`QuoteSubject`].
    pub(crate) fn report_data(&self) -> [u8; 64] {
        match self {
            Self::CertificateKey(key) => certificate_report_data(key),
            Self::Channel(statement) => statement.report_data(),
            Self::Report(statement) => statement.report_data(),
        }
    }
}

/// Kinds of TEE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TeeKind {
    /// Intel TDX.
    Tdx,
    /// AMD SEV-SNP.
    Snp,
}

/// What a TEE gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TeeEvidence {
    /// TDX quote.
    pub tdx_quote: Option<Vec<u8>>,
    /// SEV-SNP report.
    pub sev_report: Option<Vec<u8>>,
    /// VCEK certificate in PEM.
    pub sev_vcek_pem: Option<Vec<u8>>,
    /// Runtime data of Azure's paravisor, which the report names in place of the subject.
    pub runtime_data: Option<Vec<u8>>,
    /// The registers of the vTPM beside the paravisor, signed for this report
    /// ([`cocoon_attest::vtpm::VtpmQuote::encode`]).
    pub vtpm: Option<Vec<u8>>,
}

impl TeeEvidence {
    /// Returns the extensions of a certificate over `public_key`, in the order of the
    /// protocol, all critical (protocol notes 2.4).
    #[must_use]
    pub fn certificate_extensions(&self, public_key: &[u8; 32]) -> Vec<(ExtensionKind, Vec<u8>)> {
        let mut list = Vec::new();
        if let Some(quote) = &self.tdx_quote {
            list.push((ExtensionKind::TdxQuote, quote.clone()));
            list.push((ExtensionKind::UserClaims, public_key.to_vec()));
        }
        if let Some(report) = &self.sev_report {
            let report_data = certificate_report_data(public_key);
            list.push((ExtensionKind::SevReportData, report_data.to_vec()));
            list.push((ExtensionKind::SevReport, report.clone()));
        }
        if let Some(vcek) = &self.sev_vcek_pem {
            list.push((ExtensionKind::SevVcek, vcek.clone()));
        }
        list
    }

    /// Returns what a peer sees that reads these extensions from a certificate.
    #[must_use]
    pub fn to_peer_evidence(&self, public_key: &[u8; 32]) -> PeerEvidence {
        let sev_report_data =
            self.sev_report.is_some().then(|| certificate_report_data(public_key).to_vec());
        PeerEvidence {
            user_claims: self.tdx_quote.is_some().then(|| public_key.to_vec()),
            tdx_quote: self.tdx_quote.clone(),
            sev_report_data,
            sev_report: self.sev_report.clone(),
            sev_vcek_pem: self.sev_vcek_pem.clone(),
            runtime_data: self.runtime_data.clone(),
            vtpm: self.vtpm.clone(),
            binding: Binding::CertificateKey,
            ..PeerEvidence::new(*public_key)
        }
    }
}

/// A TEE that vouches for this process.
///
/// Calls block, for as long as the platform takes (tens of milliseconds): run them off the
/// threads that serve connections.
pub trait EvidenceProvider: Send + Sync {
    /// Returns the kind of TEE.
    fn kind(&self) -> TeeKind;

    /// Has the TEE vouch for `subject`.
    ///
    /// # Errors
    /// The device or the quoting service failed; say so to the operator, and serve nobody
    /// who demands evidence.
    fn quote(&self, subject: QuoteSubject<'_>) -> Result<TeeEvidence, EvidenceFault>;

    /// Returns what the TEE measured about this guest now.
    ///
    /// # Errors
    /// Like [`EvidenceProvider::quote`].
    fn measurement(&self) -> Result<Measurement, EvidenceFault>;

    /// Returns the runtime event log, when the platform has one.
    fn event_log(&self) -> Option<Vec<u8>> {
        None
    }

    /// Returns the firmware's boot log without padding, when the platform hands one on.
    fn boot_log(&self) -> Option<Vec<u8>> {
        None
    }

    /// Returns the GPU evidence of boot, when there is a GPU.
    fn gpu(&self) -> Option<GpuEvidence> {
        None
    }

    /// Answers [`cocoon_attest::channel::Effect::Quote`]: everything a channel offer holds
    /// besides the announcement, which the handshake fills in.
    ///
    /// # Errors
    /// Like [`EvidenceProvider::quote`].
    fn offer(&self, statement: &Statement) -> Result<Offer, EvidenceFault> {
        let evidence = self.quote(QuoteSubject::Channel(statement))?;
        Ok(offer_of(self, evidence))
    }

    /// The same for a report: everything its offer holds besides the announcement.
    ///
    /// # Errors
    /// Like [`EvidenceProvider::quote`].
    fn report(&self, statement: &ReportStatement) -> Result<Offer, EvidenceFault> {
        let evidence = self.quote(QuoteSubject::Report(statement))?;
        Ok(offer_of(self, evidence))
    }
}

/// What is offered after a handshake: this evidence, and what the machine shows beside it.
fn offer_of<P: EvidenceProvider + ?Sized>(machine: &P, evidence: TeeEvidence) -> Offer {
    Offer {
        tdx_quote: evidence.tdx_quote,
        sev_report: evidence.sev_report,
        sev_vcek_pem: evidence.sev_vcek_pem,
        gpu: machine.gpu(),
        event_log: machine.event_log(),
        runtime_data: evidence.runtime_data,
        boot_log: machine.boot_log(),
        vtpm: evidence.vtpm,
        ..Offer::default()
    }
}
