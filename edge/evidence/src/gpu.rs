//! GPUs of this machine, which make evidence for a nonce.

use cocoon_attest::gpu::GpuEvidence;

use crate::fault::EvidenceFault;

/// Longest report that a GPU gives, in bytes.
pub const REPORT_LIMIT: usize = 0x2000;

/// Longest certificate chain that a GPU gives, in bytes.
pub const CHAIN_LIMIT: usize = 0x1400;

/// The GPU of this machine.
///
/// Calls block, for up to seconds: the GPU's own security processor signs.
pub trait GpuProvider: Send + Sync {
    /// Has the GPU vouch for itself. The nonce is drawn for this one call; whoever calls judges
    /// the answer with [`cocoon_attest::gpu::check`] before the work begins.
    ///
    /// # Errors
    /// There is no GPU, it is not in confidential mode, or its driver failed: do not serve a
    /// model on it.
    fn evidence(&self, nonce: [u8; 32]) -> Result<GpuEvidence, EvidenceFault>;
}
