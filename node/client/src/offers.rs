//! What can be asked for: the proxies' lists, with prices.

use cocoon_gateway::ModelOffer;
use cocoon_gateway::upstream::WorkerOffer;
use cocoon_role_client::ModelWorkers;
use cocoon_units::{Coefficient, Nanoton, PriceTable, adjust};
use std::collections::BTreeMap;

/// Tokens that prices are quoted for.
const QUOTED_TOKENS: u64 = 1_000_000;

/// One list of all proxies' models, in the order of their names. Models that nobody serves now are
/// left out. `tee_kind` is what all machines of this network are: the lists do not tell.
pub(crate) fn merge<'a>(
    lists: impl Iterator<Item = &'a [ModelWorkers]>,
    prices: &PriceTable,
    tee_kind: &str,
) -> Vec<ModelOffer> {
    let mut models: BTreeMap<&str, Vec<WorkerOffer>> = BTreeMap::new();
    for model in lists.flatten() {
        models.entry(&model.name).or_default().extend(model.workers.iter().map(|worker| {
            WorkerOffer {
                coefficient: Coefficient::clamped(worker.coefficient.into()),
                running: u32::try_from(worker.running).unwrap_or(0),
                max_running: u32::try_from(worker.running_max).unwrap_or(0),
                tee_kind: (!tee_kind.is_empty()).then(|| tee_kind.to_owned()),
            }
        }));
    }
    models
        .into_iter()
        .filter(|(_, workers)| !workers.is_empty())
        .map(|(name, mut workers)| {
            workers.sort_by_key(|worker| worker.coefficient.milli());
            let cheapest = workers.first().map_or(Coefficient::ONE, |worker| worker.coefficient);
            ModelOffer {
                id: name.to_owned(),
                price_in_per_million: price(cheapest, prices, prices.prompt),
                price_out_per_million: price(cheapest, prices, prices.completion),
                workers,
                ..ModelOffer::default()
            }
        })
        .collect()
}

fn price(
    coefficient: Coefficient,
    prices: &PriceTable,
    multiplier: cocoon_units::Multiplier,
) -> Option<Nanoton> {
    prices.client_pays(adjust(QUOTED_TOKENS, coefficient, multiplier))
}
