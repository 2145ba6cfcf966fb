//! Is this evidence acceptable? Quotes, reports, collateral, policy, verdicts.
//!
//! No clock, no randomness, no file, no socket: the evidence, the collateral, the policy and
//! the time go in, and a [`Verdict`] with one finding for each claim comes out.

mod binding;
mod bundle;
mod cache;
mod chain;
pub mod channel;
pub mod codec;
mod collateral;
mod digest;
mod draft;
mod endorsement;
mod evidence;
#[cfg(feature = "dangerous-fake-evidence")]
pub mod fake;
mod fault;
pub mod fuzz;
pub mod gpu;
mod image;
mod measurement;
mod policy;
pub mod report;
mod roots;
pub mod runtime;
pub mod sgx;
mod signature;
mod site;
pub mod snp;
pub mod tdx;
mod text;
mod verdict;
mod verifier;
pub mod vtpm;

pub use binding::certificate_report_data;
pub use bundle::{EvidenceBundle, PeerVerdicts};
pub use cache::VerdictCache;
pub use collateral::{
    Collateral, CollateralDates, CollateralNeed, PckIssuer, SnpCollateral, TdxCollateral,
};
pub use digest::{Digest, Digest32, Digest48};
pub use endorsement::{
    ENDORSEMENT_LIMIT, ENDORSEMENT_TAG, ENDORSEMENT_TEXT_LIMIT, Endorsement, EndorsementFileFault,
    NamedOwner, SignedEndorsement,
};
pub use evidence::{
    BOOT_LOG_LIMIT, Binding, EVENT_LOG_LIMIT, ExtensionKind, ExtensionUse, OID_PREFIX,
    PeerEvidence, QUOTE_LIMIT, VCEK_LIMIT,
};
pub use fault::{BadEvidence, CannotCheck, EndorsementFault, ExtensionFault, PolicyFault};
pub use image::{ImagePart, ImageReading};
pub use measurement::{Measurement, TdMeasurement};
pub use policy::{Policy, PolicyMode, RegisteredPlatform};
pub use roots::TrustRoots;
pub use verdict::{Claim, ClaimKind, Finding, Outcome, PlatformId, Source, Verdict};
pub use verifier::{Verifier, verify};
