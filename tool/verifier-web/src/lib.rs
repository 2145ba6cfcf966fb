//! The verifier for browsers.
//!
//! The same code as `cocoon verify --offline` and `cocoon receipt verify`, behind six C functions
//! that any WebAssembly host can call. A host asks one question with one instance:
//!
//! 1. [`cocoon_input`] for each input, and writes its bytes to the address that comes back;
//! 2. [`cocoon_verify_bundle`] or [`cocoon_verify_receipt`];
//! 3. reads [`cocoon_output_len`] bytes at [`cocoon_output`], and drops the instance.
//!
//! There is no clock, no randomness, no network: what is judged and by which rules comes in, an
//! answer comes out. `page/verifier.ts` is such a host.

mod desk;
pub mod question;
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
mod random;

pub use desk::{
    cocoon_input, cocoon_interface, cocoon_output, cocoon_output_len, cocoon_verify_bundle,
    cocoon_verify_receipt,
};
