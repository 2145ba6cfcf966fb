//! Collateral of real hardware, fetched beside the handshakes.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cocoon_attest::{Collateral, CollateralNeed, PeerEvidence};
use cocoon_evidence::collateral::{CollateralStore, MakerServices, StoreLimits, WebHttp};
use cocoon_host::clock;
use cocoon_ratls::CollateralSource;

/// Most platforms whose collateral is at hand.
const AT_HAND_MAX: usize = 256;
/// Most fetches at once; strangers name platforms.
const FETCHES_MAX: usize = 16;

/// What is at hand, and what is being fetched.
#[derive(Default)]
struct Shelf {
    ready: HashMap<CollateralNeed, Arc<Collateral>>,
    fetching: HashSet<CollateralNeed>,
}

/// Fetches what a peer's platform needs. The first peer of a platform cannot be judged yet; its
/// next attempt can.
pub(crate) struct Fetched {
    store: Arc<CollateralStore<MakerServices<WebHttp>>>,
    shelf: Arc<Mutex<Shelf>>,
}

impl Fetched {
    /// Fetches from the service at `url`.
    ///
    /// # Errors
    /// The cryptographic library failed.
    pub(crate) fn new(url: &str) -> Result<Self, String> {
        let http = WebHttp::new().map_err(|fault| fault.to_string())?;
        let services = MakerServices::new(http, url, url);
        let store = Arc::new(CollateralStore::new(services, StoreLimits::default()));
        Ok(Self { store, shelf: Arc::default() })
    }

    fn fetch(&self, need: &CollateralNeed) {
        {
            let mut shelf = lock(&self.shelf);
            if shelf.fetching.len() >= FETCHES_MAX || !shelf.fetching.insert(need.clone()) {
                return;
            }
        }
        let (store, shelf, need) = (Arc::clone(&self.store), Arc::clone(&self.shelf), need.clone());
        tokio::spawn(async move {
            let found = store.find(&need, clock::now_ms()).await;
            let mut shelf = lock(&shelf);
            shelf.fetching.remove(&need);
            match found {
                Ok(collateral) => {
                    if shelf.ready.len() >= AT_HAND_MAX {
                        shelf.ready.clear();
                    }
                    shelf.ready.insert(need, collateral);
                }
                Err(fault) => tracing::warn!(%fault, "collateral cannot be fetched"),
            }
        });
    }
}

fn lock(shelf: &Mutex<Shelf>) -> MutexGuard<'_, Shelf> {
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}

impl CollateralSource for Fetched {
    fn at_hand(&self, evidence: &PeerEvidence) -> Collateral {
        let Ok(need) = CollateralNeed::of(evidence) else { return Collateral::default() };
        if need == CollateralNeed::Nothing {
            return Collateral::default();
        }
        let ready = lock(&self.shelf).ready.get(&need).cloned();
        let counts = |kept: &Arc<Collateral>| kept.dates(clock::now_ms() / 1000).is_ok();
        let ready = ready.filter(counts);
        // The store knows when to ask again, and renews ahead of time.
        self.fetch(&need);
        ready.map(Arc::unwrap_or_clone).unwrap_or_default()
    }
}
