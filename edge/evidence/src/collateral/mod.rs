//! Collateral: fetched, kept as long as its own dates allow, refused when stale.

mod disk;
mod http;
mod service;
mod store;

use std::future::Future;
use std::sync::Arc;

use cocoon_attest::{Collateral, CollateralNeed};

use crate::fault::EvidenceFault;

pub use disk::KeptOnDisk;
pub use http::{ANSWER_LIMIT, HttpAnswer, HttpGet, WebHttp};
pub use service::{AMD_KDS_URL, INTEL_PCS_URL, MakerServices};
pub use store::{CollateralStore, StoreLimits};

/// Where collateral comes from.
pub trait CollateralSource: Send + Sync {
    /// Fetches what `need` names, anew.
    ///
    /// # Errors
    /// The source cannot be reached or gives something else; try again later. Nothing may be
    /// concluded about the peer.
    fn fetch(
        &self,
        need: &CollateralNeed,
        now_ms: u64,
    ) -> impl Future<Output = Result<Collateral, EvidenceFault>> + Send;
}

impl<S: CollateralSource> CollateralSource for Arc<S> {
    async fn fetch(&self, need: &CollateralNeed, now_ms: u64) -> Result<Collateral, EvidenceFault> {
        S::fetch(self, need, now_ms).await
    }
}
