//! What clients learn about workers (protocol notes 3.4).

use std::sync::Arc;

use cocoon_schedule::{ModelOffers, WorkerOffer};
use cocoon_wire::client::{WorkerInstanceV2, WorkerType, WorkerTypeV2, WorkerTypes, WorkerTypesV2};
use cocoon_wire::tl::{Extensions, Text};

use crate::outbox::{ConnId, Now, Outbox};
use crate::proxy::Proxy;

impl Proxy {
    /// `client.getWorkerTypesV2`: per model the enabled connections, cheapest first; models that
    /// lost their workers stay listed.
    pub(crate) fn list_workers(&mut self, conn: ConnId, query: i64, now: Now, out: &mut Outbox) {
        let models: Vec<ModelOffers> = self.pool.models(now.ms).collect();
        let instance = |offer: &WorkerOffer| WorkerInstanceV2 {
            extensions: Extensions::NONE,
            coefficient: int(offer.coefficient),
            active_requests: int(offer.running),
            max_active_requests: int(offer.running_max),
        };
        let types = models.iter().map(|offers| WorkerTypeV2 {
            name: name(&offers.model),
            workers: offers.workers.iter().filter(|o| o.enabled).map(instance).collect(),
        });
        let types = WorkerTypesV2 { types: types.collect() };
        out.answer(conn, query, &types);
    }

    /// `client.getWorkerTypes`, with the reference's arithmetic: the largest number there is
    /// belongs to every list, so the maximum is always that.
    pub(crate) fn list_workers_old(
        &mut self,
        conn: ConnId,
        query: i64,
        now: Now,
        out: &mut Outbox,
    ) {
        let models: Vec<ModelOffers> = self.pool.models(now.ms).collect();
        let types = models.iter().map(|offers| {
            let enabled = offers.workers.iter().filter(|offer| offer.enabled);
            let mut prices: Vec<i32> = enabled.map(|offer| int(offer.coefficient)).collect();
            prices.push(i32::MAX);
            prices.sort_unstable();
            WorkerType {
                name: name(&offers.model),
                active_workers: i32::try_from(offers.workers.len()).unwrap_or(i32::MAX),
                coefficient_min: prices.first().copied().unwrap_or(i32::MAX),
                coefficient_bucket50: prices.get(prices.len() / 2).copied().unwrap_or(i32::MAX),
                coefficient_max: i32::MAX,
            }
        });
        let types = WorkerTypes { types: types.collect() };
        out.answer(conn, query, &types);
    }
}

fn int(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

fn name(model: &Arc<str>) -> Text<'_> {
    Text::from(&**model)
}
