//! The evidence of a peer, as its certificate and the frames after the handshake carry it.
//!
//! Walking the DER of a certificate is the work of the TLS edge; it hands every
//! extension it meets to [`PeerEvidence::take_extension`], which decides what counts.

use serde::{Deserialize, Serialize};

use sha2::{Digest as _, Sha256};

use crate::channel::Statement;
use crate::digest::Digest32;
use crate::fault::ExtensionFault;
use crate::gpu::GpuEvidence;
use crate::report::ReportStatement;
use crate::verdict::Source;

/// Content bytes of the DER object identifier 1.3.6.1.4.1.12345.
///
/// Every extension of the protocol is this prefix and one arc below 128, so one more byte
/// (protocol notes 2.4).
pub const OID_PREFIX: [u8; 7] = [0x2b, 0x06, 0x01, 0x04, 0x01, 0xe0, 0x39];

/// Longest quote a certificate may carry, in bytes (protocol notes 2.5, step 4).
pub const QUOTE_LIMIT: usize = 32 * 1024;

/// Longest VCEK certificate a peer may send, in bytes of PEM.
pub const VCEK_LIMIT: usize = 16 * 1024;

/// Longest event log accepted, in bytes.
pub const EVENT_LOG_LIMIT: usize = 64 * 1024;

/// Longest boot log accepted, in bytes without padding; machines of 2026 have some 20 to 60 KiB.
pub const BOOT_LOG_LIMIT: usize = 128 * 1024;

/// The extensions of the protocol (protocol notes 2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExtensionKind {
    /// `.1`: a TDX quote.
    TdxQuote,
    /// `.2`: the user claims, 32 bytes of the Ed25519 public key.
    UserClaims,
    /// `.100`: SEV report data, 64 bytes.
    SevReportData,
    /// `.101`: SEV-SNP attestation report, 1184 bytes.
    SevReport,
    /// `.102`: VCEK certificate, PEM.
    SevVcek,
}

impl ExtensionKind {
    /// All kinds in ascending order of their arc.
    pub const ALL: [Self; 5] =
        [Self::TdxQuote, Self::UserClaims, Self::SevReportData, Self::SevReport, Self::SevVcek];

    /// Returns the kind named by the content bytes of a DER object identifier (no tag, no
    /// length), or nothing when it is not one of the protocol's.
    #[must_use]
    pub fn from_oid(content: &[u8]) -> Option<Self> {
        let arc = content.strip_prefix(&OID_PREFIX)?;
        Self::ALL.into_iter().find(|kind| arc == [kind.arc()])
    }

    /// Returns the content bytes of the DER object identifier.
    #[must_use]
    pub const fn oid(self) -> [u8; 8] {
        let [a, b, c, d, e, f, g] = OID_PREFIX;
        [a, b, c, d, e, f, g, self.arc()]
    }

    /// Returns the last arc of the identifier.
    #[must_use]
    pub const fn arc(self) -> u8 {
        match self {
            Self::TdxQuote => 1,
            Self::UserClaims => 2,
            Self::SevReportData => 100,
            Self::SevReport => 101,
            Self::SevVcek => 102,
        }
    }

    /// Largest content in bytes; anything longer is refused unread.
    #[must_use]
    pub const fn limit(self) -> usize {
        match self {
            Self::TdxQuote => QUOTE_LIMIT,
            Self::UserClaims => 32,
            Self::SevReportData => 64,
            Self::SevReport => 1184,
            Self::SevVcek => VCEK_LIMIT,
        }
    }
}

/// What became of an extension handed to [`PeerEvidence::take_extension`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtensionUse {
    /// It is one of the protocol's, critical, and was kept.
    Kept(ExtensionKind),
    /// It is one of the protocol's but not critical, which the protocol counts as no
    /// attestation (protocol notes 2.5, step 3). It was remembered only as a flaw.
    NotCritical(ExtensionKind),
    /// It is none of the protocol's; the certificate rules of the edge decide about it.
    Foreign,
}

/// What the TDX or SEV report of this evidence is expected to be bound to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Binding {
    /// `report_data` = SHA-512 of the Ed25519 key of the certificate (protocol notes 2.4).
    /// Says nothing about freshness.
    #[default]
    CertificateKey,
    /// `report_data` = SHA-512 of a channel statement. The statement here is the one **this**
    /// side built from what it knows, never one the peer sent.
    Channel(Box<Statement>),
    /// `report_data` = SHA-512 of the statement of a report, built with the nonce of **this**
    /// side ([`crate::report::Report::statement`]).
    Report(Box<ReportStatement>),
}

/// What a statement names that other claims are compared with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stated {
    pub(crate) source: Source,
    pub(crate) report_data: [u8; 64],
    pub(crate) network_id: i32,
    pub(crate) root_contract: Digest32,
    pub(crate) own_id: Digest32,
    pub(crate) image: Digest32,
    pub(crate) model: Digest32,
    pub(crate) gpu: Digest32,
    pub(crate) not_after_s: u64,
}

impl Binding {
    /// Returns what the statement names; nothing for a certificate, which has none.
    pub(crate) fn stated(&self) -> Option<Stated> {
        match self {
            Self::CertificateKey => None,
            Self::Channel(statement) => Some(Stated {
                source: Source::ChannelStatement,
                report_data: statement.report_data(),
                network_id: statement.network_id,
                root_contract: statement.root_contract,
                own_id: statement.own_id,
                image: statement.image,
                model: statement.model,
                gpu: statement.gpu,
                not_after_s: statement.not_after_s,
            }),
            Self::Report(statement) => Some(Stated {
                source: Source::Report,
                report_data: statement.report_data(),
                network_id: statement.network_id,
                root_contract: statement.root_contract,
                own_id: statement.own_id,
                image: statement.image,
                model: statement.model,
                gpu: statement.gpu,
                not_after_s: statement.not_after_s,
            }),
        }
    }
}

/// Everything a peer offers to prove what it is.
///
/// Built by the TLS edge from the certificate ([`PeerEvidence::new`], then
/// [`PeerEvidence::take_extension`] for each extension), or by the channel handshake.
/// Can be saved and verified again years later, at its own date.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerEvidence {
    /// Raw Ed25519 key of the certificate; its possession is proved by the TLS handshake.
    pub public_key: [u8; 32],
    /// TDX quote, raw (`.1`).
    #[serde(default, with = "crate::text::optional")]
    pub tdx_quote: Option<Vec<u8>>,
    /// User claims (`.2`).
    #[serde(default, with = "crate::text::optional")]
    pub user_claims: Option<Vec<u8>>,
    /// SEV report data (`.100`).
    #[serde(default, with = "crate::text::optional")]
    pub sev_report_data: Option<Vec<u8>>,
    /// SEV-SNP report (`.101`).
    #[serde(default, with = "crate::text::optional")]
    pub sev_report: Option<Vec<u8>>,
    /// VCEK certificate in PEM (`.102`).
    #[serde(default, with = "crate::text::optional")]
    pub sev_vcek_pem: Option<Vec<u8>>,
    /// Protocol extensions that were present but not critical.
    #[serde(default)]
    pub not_critical: Vec<ExtensionKind>,
    /// What the report data must be.
    #[serde(default)]
    pub binding: Binding,
    /// GPU evidence, offered after the handshake only.
    #[serde(default)]
    pub gpu: Option<GpuEvidence>,
    /// Nonce that this side drew for the GPU; nothing when the evidence is the one of boot.
    #[serde(default)]
    pub gpu_nonce: Option<[u8; 32]>,
    /// Runtime event log in the text form of the guest (one event per line), offered after
    /// the handshake only; replayed against RTMR3.
    #[serde(default, with = "crate::text::optional")]
    pub event_log: Option<Vec<u8>>,
    /// Runtime data of Azure's paravisor, which the report data name in place of the statement;
    /// offered after the handshake only. See [`crate::runtime`].
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::text::optional")]
    pub runtime_data: Option<Vec<u8>>,
    /// The firmware's boot log of a TDX guest, without padding; offered after the handshake only,
    /// replayed against RTMR0 to RTMR2. See [`crate::tdx::BootLog`].
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::text::optional")]
    pub boot_log: Option<Vec<u8>>,
    /// Endorsement by the machine's owner, offered after the handshake only. See
    /// [`crate::SignedEndorsement`].
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::text::optional")]
    pub endorsement: Option<Vec<u8>>,
    /// The registers of the vTPM beside a paravisor, as [`crate::vtpm::VtpmQuote::encode`] writes them;
    /// offered after the handshake only.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::text::optional")]
    pub vtpm: Option<Vec<u8>>,
}

impl PeerEvidence {
    /// Returns evidence that claims nothing but an Ed25519 key.
    #[must_use]
    pub fn new(public_key: [u8; 32]) -> Self {
        Self { public_key, ..Self::default() }
    }

    /// Takes one extension of the certificate: `oid` is the content of its DER object
    /// identifier, `value` the content of its `extnValue`.
    ///
    /// # Errors
    /// A second occurrence of one kind (critical or not) and content above the limit of its
    /// kind are faults of the peer: the caller must refuse the certificate.
    pub fn take_extension(
        &mut self,
        oid: &[u8],
        critical: bool,
        value: &[u8],
    ) -> Result<ExtensionUse, ExtensionFault> {
        let Some(kind) = ExtensionKind::from_oid(oid) else {
            return Ok(ExtensionUse::Foreign);
        };
        if self.slot(kind).is_some() || self.not_critical.contains(&kind) {
            return Err(ExtensionFault::Duplicate { kind });
        }
        if value.len() > kind.limit() {
            return Err(ExtensionFault::TooLong { kind, len: value.len(), limit: kind.limit() });
        }
        if !critical {
            self.not_critical.push(kind);
            return Ok(ExtensionUse::NotCritical(kind));
        }
        *self.slot(kind) = Some(value.to_vec());
        Ok(ExtensionUse::Kept(kind))
    }

    /// Says whether a critical TDX extension is present.
    #[must_use]
    pub fn claims_tdx(&self) -> bool {
        self.tdx_quote.is_some() || self.user_claims.is_some()
    }

    /// Says whether a critical SEV extension is present.
    #[must_use]
    pub fn claims_sev(&self) -> bool {
        self.sev_report_data.is_some() || self.sev_report.is_some() || self.sev_vcek_pem.is_some()
    }

    /// Returns SHA-256 over everything offered, the key and what it is bound to: two
    /// offers with the same digest get the same verdict.
    #[must_use]
    pub fn digest(&self) -> Digest32 {
        let mut hasher = Sha256::new();
        let mut part = |bytes: Option<&[u8]>| {
            let len = bytes.map_or(u64::MAX, |bytes| bytes.len() as u64);
            hasher.update(len.to_be_bytes());
            hasher.update(bytes.unwrap_or_default());
        };
        part(Some(&self.public_key));
        part(self.tdx_quote.as_deref());
        part(self.user_claims.as_deref());
        part(self.sev_report_data.as_deref());
        part(self.sev_report.as_deref());
        part(self.sev_vcek_pem.as_deref());
        let loose: Vec<u8> = self.not_critical.iter().map(|kind| kind.arc()).collect();
        part(Some(&loose));
        match &self.binding {
            Binding::CertificateKey => part(None),
            Binding::Channel(statement) => part(Some(&statement.encode())),
            Binding::Report(statement) => part(Some(&statement.encode())),
        }
        part(self.gpu.as_ref().map(|gpu| gpu.digest().0).as_ref().map(<[u8; 32]>::as_slice));
        part(self.gpu_nonce.as_ref().map(<[u8; 32]>::as_slice));
        part(self.event_log.as_deref());
        part(self.runtime_data.as_deref());
        part(self.boot_log.as_deref());
        part(self.endorsement.as_deref());
        part(self.vtpm.as_deref());
        Digest32::from(<[u8; 32]>::from(hasher.finalize()))
    }

    fn slot(&mut self, kind: ExtensionKind) -> &mut Option<Vec<u8>> {
        match kind {
            ExtensionKind::TdxQuote => &mut self.tdx_quote,
            ExtensionKind::UserClaims => &mut self.user_claims,
            ExtensionKind::SevReportData => &mut self.sev_report_data,
            ExtensionKind::SevReport => &mut self.sev_report,
            ExtensionKind::SevVcek => &mut self.sev_vcek_pem,
        }
    }
}
