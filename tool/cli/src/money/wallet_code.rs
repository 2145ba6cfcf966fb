//! The code of a standard wallet, for its first order. Codes of others are not part of this program
//! (docs/decisions/0021-wallet-codes.md); a code is known by its hash, so it may come from anybody.

use anyhow::Result;
use cocoon_chain::Chain;
use cocoon_contract::boc;
use cocoon_contract::cell::{Cell, CellId};
use cocoon_units::Address;
use std::collections::{BTreeSet, VecDeque};
use std::path::Path;

use super::access::explain;
use crate::mistake;

/// Accounts looked at, transactions of each, and how far from the wallet.
const ACCOUNTS_MAX: usize = 48;
const TRANSACTIONS_MAX: usize = 24;
const HOPS_MAX: u32 = 2;

/// Looks for the code at the accounts that have dealt with `wallet`, and with those: whoever
/// funded it has a wallet, too. `None` when none of the nearest has it.
pub(super) async fn nearby(
    chain: &dyn Chain,
    wallet: Address,
    id: CellId,
) -> Option<(Cell, Address)> {
    let mut known = BTreeSet::from([wallet]);
    let mut waiting = VecDeque::from([(wallet, 0)]);
    while let Some((address, hops)) = waiting.pop_front() {
        // What cannot be read is passed by: the code may be at the next one.
        if let Ok(account) = chain.account(address, None).await
            && let Some(code) = account.code.filter(|code| CellId::of(code) == id)
        {
            return Some((code, address));
        }
        if hops == HOPS_MAX || known.len() >= ACCOUNTS_MAX {
            continue;
        }
        let Ok(recent) = chain.recent_transactions(address, TRANSACTIONS_MAX).await else {
            continue;
        };
        let came = recent.iter().filter_map(|record| record.in_msg.as_ref()?.source);
        let left =
            recent.iter().flat_map(|record| &record.out_msgs).filter_map(|out| out.destination);
        for met in came.chain(left) {
            if known.len() < ACCOUNTS_MAX && known.insert(met) {
                waiting.push_back((met, hops + 1));
            }
        }
    }
    None
}

/// The code of an account, or of a file (bag of cells).
pub(super) async fn named(chain: &dyn Chain, path: &Path) -> Result<Cell> {
    if let Some(address) = path.to_str().and_then(|text| Address::parse(text).ok()) {
        let account = chain.account(address, None).await.map_err(explain)?;
        return account.code.ok_or_else(|| mistake(format_args!("{address} has no code")));
    }
    let bytes = std::fs::read(path)
        .map_err(|fault| mistake(format_args!("{}: {fault}", path.display())))?;
    boc::decode(&bytes, boc::Limits::STATE)
        .map_err(|fault| mistake(format_args!("{}: {fault}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cocoon_chain::{LocalNode, NodeConfig};
    use cocoon_contract::code;
    use cocoon_contract::wallet::Outgoing;
    use cocoon_host::Stop;
    use cocoon_host::chain::{PurseHand, node_wallet, open_purse};
    use cocoon_purse::{Label, Order, Settings};
    use cocoon_units::{Nanoton, Secret};
    use std::sync::Arc;
    use std::time::Duration;

    #[tokio::test]
    async fn the_code_is_found_at_whoever_funded_the_wallet() {
        let dir = tempfile::tempdir().unwrap();
        let config = NodeConfig { beat_ms: 5, ..NodeConfig::in_memory([4; 32]) };
        let node = LocalNode::open(&config).unwrap();
        let funder = node_wallet(Address::new(0, [7; 32]), &Secret::new([3; 32])).unwrap();
        let (fresh, at) = (Address::new(0, [5; 32]), funder.address());
        let chain: Arc<dyn Chain> = Arc::new(node.clone());
        let id = CellId::of(&code::wallet().unwrap());
        assert!(nearby(chain.as_ref(), fresh, id).await.is_none(), "nobody has dealt with it");
        node.faucet(at, Nanoton(10_000_000_000)).unwrap().unwrap();
        let file = dir.path().join("purse");
        let purse = open_purse(funder, Settings::default(), &file).unwrap();
        let poll = Duration::from_millis(10);
        let (hand, mut reports) =
            PurseHand::start(Arc::clone(&chain), purse, file, poll, Stop::new());
        let value = Nanoton(1_000_000_000);
        let message = Outgoing { to: fresh, value, bounce: false, state_init: None, body: None };
        hand.order(Order { label: Label(1), message });
        while !reports.recv().await.unwrap().outcome.is_final() {}
        let (code, found) = nearby(chain.as_ref(), fresh, id).await.expect("found");
        assert_eq!((CellId::of(&code), found), (id, at));
    }
}
