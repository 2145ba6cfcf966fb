//! What can go wrong while evidence is made or fetched, sorted by who is guilty.

use std::path::PathBuf;

use cocoon_attest::BadEvidence;
use thiserror::Error;

/// Evidence could not be made, or collateral not fetched.
#[derive(Debug, Error)]
pub enum EvidenceFault {
    /// A file or a device of this machine failed. Check the kernel and the rights.
    #[error("{what} at {path}: {source}", path = .path.display())]
    Device {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The machine offers no TEE of a kind we know. Run in a TEE, or choose the simulated
    /// platform for tests.
    #[error("this machine offers {found}, which is no TEE known here")]
    NoTee {
        /// What was found.
        found: String,
    },
    /// Another process used the report entry at the same time, again and again.
    #[error("the report entry was changed by another process {attempts} times; stop it")]
    Contended {
        /// How often it was tried.
        attempts: u32,
    },
    /// A device gave bytes that are no evidence.
    #[error("this machine's own evidence is unusable: {0}")]
    Unusable(#[from] BadEvidence),
    /// The vTPM does not show its registers. Peers see none; everything else counts as it is.
    #[error("the vTPM's registers cannot be shown: {detail}")]
    Registers {
        /// What is wrong.
        detail: String,
    },
    /// The cryptographic library refused an operation of ours.
    #[error("the cryptographic library refused an operation")]
    Crypto,
    /// A file of the development PKI cannot be read. Delete its directory to make a new one.
    #[error("the development PKI at {path} cannot be read: {detail}", path = .path.display())]
    Pki {
        /// Its directory.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The quoting service of the host did not answer as it should.
    #[error("the host's quoting service: {detail}")]
    QuotingService {
        /// What is wrong.
        detail: String,
    },
    /// A service for collateral did not answer as it should. Try again later.
    #[error("{url}: {detail}")]
    Service {
        /// Address asked.
        url: String,
        /// What is wrong.
        detail: String,
    },
    /// Collateral was fetched, but it is stale or not trustworthy.
    #[error("fetched collateral is unusable: {0}")]
    Collateral(#[from] cocoon_attest::CannotCheck),
    /// The GPU of this machine shows nothing, or not as it should.
    #[error("the GPU: {detail}")]
    Gpu {
        /// What is wrong.
        detail: String,
    },
    /// The sealing enclave did not answer as it should.
    #[error("the sealing enclave: {detail}")]
    Seal {
        /// What is wrong.
        detail: String,
    },
}

/// Maps the library's wordless errors.
pub(crate) fn crypto<E>(_: E) -> EvidenceFault {
    EvidenceFault::Crypto
}
