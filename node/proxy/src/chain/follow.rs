//! Following the own contract: deployed when it is missing, then every transaction once.

use std::sync::Arc;
use std::time::Duration;

use cocoon_chain::{AccountStatus, Chain, ChainFault, Follower, Step, TransactionRecord};
use cocoon_contract::address::StateInit;
use cocoon_contract::state::ProxyState;
use cocoon_contract::wallet::Outgoing;
use cocoon_host::chain::PurseHand;
use cocoon_purse::{Label, Order};
use cocoon_role_proxy::ContractTransaction;
use cocoon_units::{Address, Nanoton};
use tokio::sync::mpsc;

/// What a new proxy contract gets for its storage (protocol notes, chain 1.9).
const DEPLOY_VALUE: Nanoton = Nanoton(300_000_000);

/// What was seen of the contract.
pub(crate) enum ContractSeen {
    /// Transactions, and the state.
    Step {
        contract: Address,
        transactions: Vec<ContractTransaction>,
        /// All transactions up to this one are in this or an earlier step.
        reached_lt: u64,
        /// Whether everything up to the state is there.
        is_caught_up: bool,
        state: Box<ProxyState>,
        balance: Nanoton,
    },
    /// The history no longer reaches back to where the books stopped.
    Lost { contract: Address, after_lt: u64 },
}

/// Follows one contract.
pub(crate) struct Follow {
    pub(crate) chain: Arc<dyn Chain>,
    pub(crate) hand: PurseHand,
    pub(crate) init: StateInit,
    pub(crate) after_lt: u64,
    pub(crate) poll: Duration,
    pub(crate) events: mpsc::Sender<ContractSeen>,
}

impl Follow {
    pub(crate) async fn run(self) {
        let contract = self.init.address();
        self.deployed(contract).await;
        let (chain, poll) = (Arc::clone(&self.chain), self.poll);
        let mut follower = Follower::from_lt(chain, contract, self.after_lt, poll);
        let mut told: Option<(u64, Nanoton)> = None;
        loop {
            match follower.look().await {
                Ok(step) => {
                    let head = step.account.head.seqno;
                    let newest =
                        (step.account.last.map_or(0, |last| last.lt), step.account.balance);
                    let is_news = !step.transactions.is_empty() || told != Some(newest);
                    if is_news && let Some(event) = seen(contract, &step) {
                        let is_caught_up =
                            matches!(event, ContractSeen::Step { is_caught_up: true, .. });
                        if self.events.send(event).await.is_err() {
                            return;
                        }
                        told = is_caught_up.then_some(newest);
                        if !is_caught_up {
                            continue;
                        }
                    }
                    self.moved(head).await;
                }
                Err(ChainFault::Forgotten { after_lt, .. }) => {
                    let _ = self.events.send(ContractSeen::Lost { contract, after_lt }).await;
                    return;
                }
                // The line says that the chain is away.
                Err(_) => tokio::time::sleep(self.poll).await,
            }
        }
    }

    async fn moved(&self, head: u32) {
        let _either = tokio::time::timeout(self.poll, self.chain.moved_beyond(head)).await;
    }

    /// Waits until the contract is there, and has it deployed when it is not.
    async fn deployed(&self, contract: Address) {
        let [a, b, c, d, e, f, g, h, ..] = contract.hash;
        let label = Label(u64::from_be_bytes([a, b, c, d, e, f, g, h]));
        let mut is_ordered = false;
        loop {
            match self.chain.account(contract, None).await {
                Ok(account) if account.status == AccountStatus::Active => return,
                Ok(account) => {
                    if !is_ordered {
                        let contract = contract.to_raw();
                        tracing::info!(contract, "deploying the proxy contract");
                        is_ordered = true;
                    }
                    // The purse knows an order that is on its way by its label.
                    let message = Outgoing::deploy(self.init.clone(), DEPLOY_VALUE);
                    self.hand.order(Order { label, message });
                    self.moved(account.head.seqno).await;
                }
                Err(_) => tokio::time::sleep(self.poll).await,
            }
        }
    }
}

/// `None` when the account is not a proxy contract any more, which its code does not allow.
fn seen(contract: Address, step: &Step) -> Option<ContractSeen> {
    let (state, _) = ProxyState::parse(step.account.data.as_ref()?).ok()?;
    let newest_lt = step.account.last.map_or(0, |last| last.lt);
    let last_lt = step.transactions.last().map(|last| last.id.lt);
    let is_caught_up = last_lt.is_none_or(|last| last >= newest_lt);
    Some(ContractSeen::Step {
        contract,
        transactions: step.transactions.iter().filter_map(transaction).collect(),
        reached_lt: last_lt.unwrap_or(0),
        is_caught_up,
        state: Box::new(state),
        balance: step.account.balance,
    })
}

fn transaction(record: &TransactionRecord) -> Option<ContractTransaction> {
    let message = record.in_msg.as_ref()?;
    let sent =
        record.out_msgs.iter().filter_map(|sent| Some((sent.destination?, sent.body.clone())));
    Some(ContractTransaction {
        lt: record.id.lt,
        source: message.source,
        body: message.body.clone(),
        is_bounced: message.bounced,
        // Nothing ran when there is no exit code: a notice all the same.
        is_failed: record.is_aborted && record.exit_code.is_some(),
        sent: sent.collect(),
    })
}
