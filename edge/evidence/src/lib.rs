//! Evidence made and fetched: TEE devices, the simulated platform, collateral, sealed keys.
//!
//! [`EvidenceProvider`] is what a node asks for evidence about itself; [`QuoteSubject`] is
//! everything it can ask for.

#[cfg(feature = "azure")]
pub mod azure;
pub mod collateral;
#[cfg(feature = "dangerous-fake-evidence")]
pub mod fake;
mod fault;
pub mod fuzz;
pub mod gpu;
pub mod linux;
mod provider;
pub mod seal;
pub mod sim;

pub use fault::EvidenceFault;
pub use provider::{EvidenceProvider, QuoteSubject, TeeEvidence, TeeKind};
