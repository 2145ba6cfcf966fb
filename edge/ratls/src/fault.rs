//! What can go wrong before a connection is trusted, sorted by who is guilty.

use std::time::Duration;

use thiserror::Error;

use cocoon_attest::ExtensionFault;
use cocoon_wire::PowFault;

/// A peer's certificate breaks the rules of protocol notes 2.4 and 2.5: refuse the peer.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CertificateFault {
    /// The bytes are not a certificate.
    #[error("the certificate cannot be read at its {0}")]
    Malformed(&'static str),
    /// More bytes than any honest certificate has.
    #[error("the certificate is {len} bytes long, at most {limit} are accepted", limit = crate::CERTIFICATE_LIMIT)]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// More extensions than any honest certificate has.
    #[error("the certificate carries more than {limit} extensions")]
    TooManyExtensions {
        /// The limit.
        limit: usize,
    },
    /// An extension occurs twice.
    #[error("the certificate carries the extension {oid} twice")]
    DuplicateExtension {
        /// Its object identifier.
        oid: String,
    },
    /// An evidence extension breaks its own rules.
    #[error(transparent)]
    Evidence(#[from] ExtensionFault),
    /// The peer sent a chain instead of one certificate.
    #[error("the peer sent {certificates} certificates, exactly one is accepted")]
    Chain {
        /// How many it sent.
        certificates: usize,
    },
    /// The key is of another kind.
    #[error("the certificate's key is not an Ed25519 key")]
    NotEd25519,
    /// The validity has not begun.
    #[error(
        "the certificate is valid from {not_before_unix_s}, it is {now_unix_s} (Unix seconds); check both clocks"
    )]
    NotYetValid {
        /// Start of the validity, Unix seconds.
        not_before_unix_s: i64,
        /// Our clock, Unix seconds.
        now_unix_s: u64,
    },
    /// The validity is over.
    #[error(
        "the certificate was valid until {not_after_unix_s}, it is {now_unix_s} (Unix seconds); the peer must renew it"
    )]
    Expired {
        /// End of the validity, Unix seconds.
        not_after_unix_s: i64,
        /// Our clock, Unix seconds.
        now_unix_s: u64,
    },
    /// Somebody else issued the certificate.
    #[error("the certificate is not self-issued: its subject differs from its issuer")]
    NotSelfIssued,
    /// The certificate says that it is not for this use.
    #[error("the certificate's key usage lacks {wanted}")]
    WrongPurpose {
        /// The missing usage.
        wanted: &'static str,
    },
    /// A critical extension that nobody here understands.
    #[error("the certificate carries the unknown critical extension {oid}")]
    UnknownCritical {
        /// Its object identifier.
        oid: String,
    },
    /// TDX and SEV evidence in one certificate.
    #[error("the certificate carries TDX and SEV evidence together")]
    TwoPlatforms,
    /// The DNS name asked for is not there.
    #[error("the certificate does not carry the DNS name {wanted}")]
    WrongName {
        /// The name asked for.
        wanted: String,
    },
}

/// The policy did not admit the peer.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PolicyRefusal {
    /// The peer is guilty: its evidence is missing, wrong or not on the list.
    #[error("the policy {policy} refuses the peer: {reason}")]
    Refused {
        /// Name of the policy.
        policy: String,
        /// Why, in words.
        reason: String,
    },
    /// Nobody is guilty: something needed for the decision is missing here. Fetch it and
    /// connect again.
    #[error("the policy {policy} cannot decide now: {reason}")]
    CannotDecide {
        /// Name of the policy.
        policy: String,
        /// What is missing.
        reason: String,
    },
}

/// The proof of work before TLS failed (protocol notes 2.2).
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum WorkFault {
    /// The peer's message is none, or demands more than we are willing to do.
    #[error(transparent)]
    Message(#[from] PowFault),
    /// The connecting peer did not do the work.
    #[error("the peer's nonce does not solve the challenge of {difficulty} bits")]
    Unsolved {
        /// Bits demanded.
        difficulty: u8,
    },
}

/// Why a connection did not come to be trusted.
#[derive(Debug, Error)]
pub enum Fault {
    /// The peer failed the proof of work. Close; count against its address.
    #[error(transparent)]
    Work(#[from] WorkFault),
    /// The peer's certificate breaks the rules. Close; trying again will not help until the
    /// peer renews it.
    #[error(transparent)]
    Certificate(#[from] CertificateFault),
    /// The policy did not admit the peer.
    #[error(transparent)]
    Policy(#[from] PolicyRefusal),
    /// The TLS handshake failed: the peer speaks another TLS, or refused our certificate.
    #[error("the TLS handshake failed: {0}")]
    Tls(rustls::Error),
    /// The peer did not finish in time. Close; count against its address.
    #[error("the peer did not finish {stage} within {} ms", limit.as_millis())]
    TooSlow {
        /// What it was expected to finish.
        stage: &'static str,
        /// Time it was given.
        limit: Duration,
    },
    /// The peer went away.
    #[error("the peer closed the connection during {stage}")]
    PeerGone {
        /// What was going on.
        stage: &'static str,
    },
    /// Our key or certificate cannot be used. Fix the configuration.
    #[error("our {what} cannot be used: {detail}")]
    Credentials {
        /// Key or certificate.
        what: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// The operating system failed us. Try again later.
    #[error("{stage}: {source}")]
    Io {
        /// What was going on.
        stage: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The TLS library broke its own promise; a fault of ours. Report it.
    #[error("internal: {0}")]
    Internal(&'static str),
}

impl Fault {
    /// Whether the peer is to blame, so that callers may count against its address.
    #[must_use]
    pub fn is_peers(&self) -> bool {
        match self {
            Self::Work(_) | Self::Certificate(_) | Self::TooSlow { .. } | Self::Tls(_) => true,
            Self::Policy(refusal) => matches!(refusal, PolicyRefusal::Refused { .. }),
            Self::PeerGone { .. } => true,
            Self::Credentials { .. } | Self::Io { .. } | Self::Internal(_) => false,
        }
    }
}
