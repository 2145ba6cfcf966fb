//! The store in front of a source.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cocoon_attest::{CannotCheck, Collateral, CollateralNeed};

use super::CollateralSource;
use crate::fault::EvidenceFault;

/// Bounds of a store.
#[derive(Clone, Copy, Debug)]
pub struct StoreLimits {
    /// Most platforms kept. Strangers name platforms in evidence nobody has checked yet, so
    /// the oldest give way.
    pub platforms: usize,
    /// How long a failed fetch is not repeated for the same platform, in milliseconds.
    pub retry_ms: u64,
    /// From which part of its life collateral is renewed ahead of time, in percent.
    pub renew_percent: u64,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self { platforms: 256, retry_ms: 30_000, renew_percent: 50 }
    }
}

/// What is known about one platform.
#[derive(Default)]
struct Slot {
    collateral: Option<Arc<Collateral>>,
    failed: Option<(u64, String)>,
}

type SharedSlot = Arc<tokio::sync::Mutex<Slot>>;

/// Keeps collateral by platform. One fetch at a time for each platform; the others wait.
pub struct CollateralStore<S> {
    source: S,
    limits: StoreLimits,
    slots: Mutex<Slots>,
}

#[derive(Default)]
struct Slots {
    by_need: HashMap<CollateralNeed, (u64, SharedSlot)>,
    next_order: u64,
}

impl<S: CollateralSource> CollateralStore<S> {
    /// Returns an empty store.
    pub fn new(source: S, limits: StoreLimits) -> Self {
        Self { source, limits, slots: Mutex::new(Slots::default()) }
    }

    /// Returns collateral that counts at `now_ms` (Unix milliseconds), fetching it when
    /// there is none, when it is stale, or ahead of time. Never returns stale collateral.
    ///
    /// # Errors
    /// There is none and the source gives none: the verdict is then "cannot check now".
    pub async fn find(
        &self,
        need: &CollateralNeed,
        now_ms: u64,
    ) -> Result<Arc<Collateral>, EvidenceFault> {
        if *need == CollateralNeed::Nothing {
            return Ok(Arc::default());
        }
        let slot = self.slot(need);
        let mut slot = slot.lock().await;
        let kept = slot.collateral.clone().filter(|kept| kept.dates(now_ms / 1000).is_ok());
        if let Some(kept) = &kept
            && !self.to_be_renewed(kept, now_ms)
        {
            return Ok(Arc::clone(kept));
        }
        let recently = |at: u64| now_ms.saturating_sub(at) < self.limits.retry_ms;
        if let Some((_, detail)) = slot.failed.as_ref().filter(|(at, _)| recently(*at)) {
            let url = "the collateral service".to_owned();
            let detail = format!("{detail} (not asked again yet)");
            return kept.ok_or(EvidenceFault::Service { url, detail });
        }
        match self.fetch(need, now_ms).await {
            Ok(fresh) => {
                let fresh = Arc::new(fresh);
                *slot = Slot { collateral: Some(Arc::clone(&fresh)), failed: None };
                Ok(fresh)
            }
            Err(fault) => {
                slot.failed = Some((now_ms, fault.to_string()));
                kept.ok_or(fault)
            }
        }
    }

    /// Returns what is at hand and counts at `now_ms`, without waiting for anything.
    pub fn peek(&self, need: &CollateralNeed, now_ms: u64) -> Option<Arc<Collateral>> {
        if *need == CollateralNeed::Nothing {
            return Some(Arc::default());
        }
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = Arc::clone(&slots.by_need.get(need)?.1);
        drop(slots);
        let kept = slot.try_lock().ok()?.collateral.clone()?;
        kept.dates(now_ms / 1000).is_ok().then_some(kept)
    }

    /// The source behind the store.
    pub(super) fn source(&self) -> &S {
        &self.source
    }

    /// Puts in a snapshot, such as one shipped with an image.
    ///
    /// # Errors
    /// It does not count at `now_ms`: fetch instead.
    pub async fn put(
        &self,
        need: &CollateralNeed,
        snapshot: Collateral,
        now_ms: u64,
    ) -> Result<(), CannotCheck> {
        snapshot.dates(now_ms / 1000)?;
        let slot = self.slot(need);
        *slot.lock().await = Slot { collateral: Some(Arc::new(snapshot)), failed: None };
        Ok(())
    }

    /// Returns how many platforms are known.
    pub fn len(&self) -> usize {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).by_need.len()
    }

    /// Says whether no platform is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    async fn fetch(&self, need: &CollateralNeed, now_ms: u64) -> Result<Collateral, EvidenceFault> {
        let fresh = self.source.fetch(need, now_ms).await?;
        fresh.dates(now_ms / 1000)?;
        Ok(fresh)
    }

    fn to_be_renewed(&self, kept: &Collateral, now_ms: u64) -> bool {
        kept.dates(now_ms / 1000).is_ok_and(|dates| {
            let life_s = dates.next_update_s.saturating_sub(dates.issued_s);
            let spent_s = (now_ms / 1000).saturating_sub(dates.issued_s);
            spent_s.saturating_mul(100) > life_s.saturating_mul(self.limits.renew_percent)
        })
    }

    fn slot(&self, need: &CollateralNeed) -> SharedSlot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, slot)) = slots.by_need.get(need) {
            return Arc::clone(slot);
        }
        while slots.by_need.len() >= self.limits.platforms.max(1) {
            let oldest = slots.by_need.iter().min_by_key(|(_, (order, _))| *order);
            let Some(oldest) = oldest.map(|(need, _)| need.clone()) else { break };
            slots.by_need.remove(&oldest);
        }
        let order = slots.next_order;
        slots.next_order += 1;
        let slot = SharedSlot::default();
        slots.by_need.insert(need.clone(), (order, Arc::clone(&slot)));
        slot
    }
}
