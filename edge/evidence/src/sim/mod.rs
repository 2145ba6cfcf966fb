//! The simulated platform: a software TEE with its own roots.
//!
//! It makes quotes, reports, certificates, revocation lists and GPU evidence in the real
//! formats, so that the whole verification runs on any machine and only the trusted roots
//! differ. It protects nothing: whoever can read its process can forge everything.

mod boot;
mod der;
mod gpu;
mod key;
mod misbehave;
mod pki;
mod platform;
mod seal;
mod service;
mod snp;
mod tdx;
mod vtpm;
mod x509;

pub use gpu::SimulatedGpu;
pub use misbehave::Misbehave;
pub use pki::DevPki;
pub use platform::{SimulatedPlatform, SimulatedPlatformForm};
pub use seal::SimulatedEnclave;
pub use service::SimulatedService;
pub use vtpm::SimulatedVtpm;
pub(crate) use x509::pem_of;
