//! Founds the local network's money: a treasury, a root contract, coins for every node's wallet.
//! A second start finds them there and changes what differs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use cocoon_chain::{AccountStatus, Chain};
use cocoon_contract::address::{Network, StateInit};
use cocoon_contract::cell::Hash;
use cocoon_contract::code::{self, Codes};
use cocoon_contract::message::{Body, RootAction, RootRequest};
use cocoon_contract::params::Params;
use cocoon_contract::root::{RegisteredProxy, RootState};
use cocoon_contract::wallet::Outgoing;
use cocoon_host::chain::{PurseHand, Reports, node_wallet, open_purse, read_root};
use cocoon_host::{Stop, clock, keys};
use cocoon_purse::{Label, Order, Outcome, Settings};
use cocoon_units::{Address, Multiplier, Nanoton};

use super::plan::Plan;
use crate::http_get::Http;

const TON: Nanoton = Nanoton::TON;
/// What a wallet gets when it has less than half of it: coins of the faucet, worth nothing.
const PURSE_COINS: Nanoton = Nanoton(1_000 * TON.0);
/// Sent along with a change of the root; the unused value comes back.
const ROOT_VALUE: Nanoton = Nanoton(100_000_000);
/// Longest wait for the local chain to take one step.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);
/// How often the chain is looked at while the network starts.
const POLL: Duration = Duration::from_millis(10);
/// Between two blocks while the network starts.
const HURRY: Duration = Duration::from_millis(25);

/// Delays and stakes of the local network, short enough to be watched.
const PROXY_DELAY_S: u32 = 120;
const CLIENT_DELAY_S: u32 = 60;

/// The network's registry, as this start wants it.
pub(crate) struct Wanted {
    pub(crate) price_per_token: Nanoton,
    pub(crate) worker_fee_per_token: Nanoton,
    pub(crate) proxy_image: Hash,
    pub(crate) worker_image: Hash,
    pub(crate) model: Hash,
    /// Where workers and clients come in.
    pub(crate) endpoint: String,
}

/// Makes blocks as fast as they are of use, until it is dropped: a start waits for several.
pub(crate) struct Hurry(tokio::task::JoinHandle<()>);

impl Hurry {
    pub(crate) fn chain(plan: &Plan, http: &Http) -> Self {
        let url = format!("{}/control/tick?ms={}", plan.chain(), HURRY.as_millis());
        let http = http.clone();
        Self(tokio::spawn(async move {
            loop {
                // A block that fails to come is made by the chain's own clock.
                let _ = http.get(&url, STEP_TIMEOUT).await;
                tokio::time::sleep(HURRY).await;
            }
        }))
    }
}

impl Drop for Hurry {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Gives every wallet coins and brings the root contract up to date; its address.
pub(crate) async fn found(plan: &Plan, http: &Http, wanted: &Wanted) -> Result<Address> {
    let chain: Arc<dyn Chain> =
        plan.chain_config().open()?.context("the local network has a chain")?;
    let key = keys::load_or_make(&plan.key("treasury"))?;
    let wallet = node_wallet(plan.address("treasury-owner")?, &key)?;
    let mut fed = plan.wallets()?;
    fed.push(wallet.address());
    for address in fed {
        feed(plan, http, chain.as_ref(), address).await?;
    }
    let file = plan.data_dir.join("node/treasury");
    let purse = open_purse(wallet, Settings::default(), &file)?;
    let stop = Stop::new();
    let (hand, reports) = PurseHand::start(Arc::clone(&chain), purse, file, POLL, stop.clone());
    let mut treasury = Treasury { hand, reports };
    let root = bring_up(plan, chain.as_ref(), &mut treasury, wanted).await;
    stop.now();
    root
}

struct Treasury {
    hand: PurseHand,
    reports: Reports,
}

impl Treasury {
    /// Sends messages and waits until each is taken.
    async fn send(&mut self, messages: Vec<Outgoing>) -> Result<()> {
        let mut open = BTreeSet::new();
        for message in messages {
            let label = Label(u64::from_be_bytes(clock::random()));
            open.insert(label);
            self.hand.order(Order { label, message });
        }
        let all = async {
            while !open.is_empty() {
                let report = self.reports.recv().await.context("the treasury's purse ended")?;
                if !report.outcome.is_final() || !open.remove(&report.label) {
                    continue;
                }
                if !Outcome::is_success(&report.outcome) {
                    bail!("the local root contract refused: {:?}", report.outcome);
                }
            }
            Ok(())
        };
        let in_time = tokio::time::timeout(STEP_TIMEOUT, all).await;
        in_time.context("the local chain does not take the treasury's messages")?
    }
}

async fn feed(plan: &Plan, http: &Http, chain: &dyn Chain, address: Address) -> Result<()> {
    let has = chain.account(address, None).await?.balance;
    if has >= Nanoton(PURSE_COINS.0 / 2) {
        return Ok(());
    }
    let (address, amount) = (address.to_raw(), PURSE_COINS.0);
    let url = format!("{}/faucet?address={address}&amount={amount}", plan.chain());
    match http.get(&url, STEP_TIMEOUT).await? {
        (200, _) => Ok(()),
        (status, body) => bail!("the faucet says {status}: {}", String::from_utf8_lossy(&body)),
    }
}

/// Deploys the root contract, or changes what differs in the one that is there.
async fn bring_up(
    plan: &Plan,
    chain: &dyn Chain,
    treasury: &mut Treasury,
    wanted: &Wanted,
) -> Result<Address> {
    let file = plan.data_dir.join("keys/root.address");
    if let Ok(text) = std::fs::read_to_string(&file) {
        let root = Address::parse(text.trim()).context("keys/root.address holds no address")?;
        if chain.account(root, None).await?.status == AccountStatus::Active {
            let now = read_root(chain, root, true).await?;
            let messages = changes(&now, wanted)?
                .into_iter()
                .map(|action| {
                    let body = Body::Root(RootRequest { query_id: 0, action }).cell()?;
                    Ok(Outgoing::to_contract(root, ROOT_VALUE, body))
                })
                .collect::<Result<Vec<_>>>()?;
            treasury.send(messages).await?;
            return Ok(root);
        }
    }
    let data = first_state(treasury.hand.address(), wanted)?.cell()?;
    let init = StateInit { code: code::root()?, data };
    let root = init.address();
    treasury.send(vec![Outgoing::deploy(init, TON)]).await?;
    std::fs::write(&file, root.to_raw()).with_context(|| format!("cannot write {file:?}"))?;
    Ok(root)
}

fn first_state(owner: Address, wanted: &Wanted) -> Result<RootState> {
    let params = Params {
        struct_version: 3,
        params_version: 1,
        unique_id: 17,
        is_test: true,
        price_per_token: wanted.price_per_token,
        worker_fee_per_token: wanted.worker_fee_per_token,
        prompt_multiplier: Multiplier::ONE,
        cached_multiplier: Multiplier::ONE,
        completion_multiplier: Multiplier::ONE,
        reasoning_multiplier: Multiplier::ONE,
        proxy_delay_s: PROXY_DELAY_S,
        client_delay_s: CLIENT_DELAY_S,
        min_proxy_stake: TON,
        min_client_stake: TON,
    };
    Ok(RootState {
        owner,
        version: 1,
        proxy_hashes: BTreeSet::from([wanted.proxy_image]),
        registered_proxies: [(1, wanted.entry())].into(),
        last_proxy_seqno: 1,
        worker_hashes: BTreeSet::from([wanted.worker_image]),
        model_hashes: BTreeSet::from([wanted.model]),
        network: Network { params, codes: Codes::ours()? },
        key_manager: None,
    })
}

impl Wanted {
    fn entry(&self) -> RegisteredProxy {
        RegisteredProxy { kind: false, text: self.endpoint.clone().into_bytes() }
    }
}

/// What makes the registry that is there the wanted one.
fn changes(now: &RootState, wanted: &Wanted) -> Result<Vec<RootAction>> {
    let mut actions = Vec::new();
    if !now.proxy_hashes.contains(&wanted.proxy_image) {
        actions.push(RootAction::AddProxyType(wanted.proxy_image));
    }
    if !now.worker_hashes.contains(&wanted.worker_image) {
        actions.push(RootAction::AddWorkerType(wanted.worker_image));
    }
    let gone = now.model_hashes.iter().filter(|model| **model != wanted.model);
    actions.extend(gone.map(|model| RootAction::DelModelType(*model)));
    if !now.model_hashes.contains(&wanted.model) {
        actions.push(RootAction::AddModelType(wanted.model));
    }
    let entry = wanted.entry();
    match now.registered_proxies.get(&1) {
        Some(known) if *known == entry => {}
        Some(_) => actions.push(RootAction::UpdateProxy { seqno: 1, entry }),
        None => bail!("the local root contract lost its proxy: start with --fresh"),
    }
    let params = &now.network.params;
    let (price_per_token, worker_fee_per_token) =
        (wanted.price_per_token, wanted.worker_fee_per_token);
    let prices = (params.price_per_token, params.worker_fee_per_token);
    if prices != (price_per_token, worker_fee_per_token) {
        actions.push(RootAction::ChangePrice { price_per_token, worker_fee_per_token });
    }
    Ok(actions)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(endpoint: &str, price: u64) -> Wanted {
        Wanted {
            price_per_token: Nanoton(price),
            worker_fee_per_token: Nanoton(price * 95 / 100),
            proxy_image: Hash([1; 32]),
            worker_image: Hash([2; 32]),
            model: Hash([3; 32]),
            endpoint: endpoint.to_owned(),
        }
    }

    #[test]
    fn a_second_start_changes_what_differs() {
        let first = wanted("127.0.0.1:1 127.0.0.1:2", 20);
        let state = first_state(Address::new(0, [9; 32]), &first).unwrap();
        assert_eq!(changes(&state, &first).unwrap(), []);
        let second = Wanted { model: Hash([4; 32]), ..wanted("127.0.0.1:3 127.0.0.1:4", 30) };
        let entry = second.entry();
        let price_per_token = Nanoton(30);
        let worker_fee_per_token = Nanoton(28);
        assert_eq!(
            changes(&state, &second).unwrap(),
            [
                RootAction::DelModelType(Hash([3; 32])),
                RootAction::AddModelType(Hash([4; 32])),
                RootAction::UpdateProxy { seqno: 1, entry },
                RootAction::ChangePrice { price_per_token, worker_fee_per_token },
            ]
        );
    }
}
