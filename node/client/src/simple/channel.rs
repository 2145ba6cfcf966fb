//! The money of a program: its wallet, and its contract at each proxy.
//!
//! What is asked for here is carried out by the same machine that a gateway's operator commands: it
//! is written into the journal first, each message leaves the wallet at most once, and a program
//! that dies in between goes on at its next start.

use cocoon_gateway::{MoneyAct, MoneyOrder, MoneyRefusal, TopUp};
use cocoon_units::{Address, Tokens};
use std::fmt;

use super::Client;
use crate::contract_view::{ContractView, WalletView};
use crate::money_plan::MoneyPlan;

/// The channel with one proxy: our contract there, by which requests are paid.
#[derive(Clone)]
pub struct Channel {
    client: Client,
    named: Address,
}

/// How a channel stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelState {
    /// The proxy contract.
    pub proxy: Address,
    /// Our contract.
    pub contract: Address,
    /// The tokens that passed; none where the proxy was never met in this form.
    pub tokens: Option<ChannelTokens>,
    /// The money on chain; none where there is no chain, or before the first look at it.
    pub money: Option<ContractView>,
}

/// Adjusted tokens since the contract was made, by who says so. They agree when all is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelTokens {
    /// Counted here.
    pub own: Tokens,
    /// The most that the proxy ever told.
    pub proxy: Tokens,
    /// What the proxy wrote down.
    pub durable: Tokens,
    /// What the proxy signed for the chain.
    pub signed: Tokens,
}

/// One line for people; no secret.
impl fmt::Display for ChannelState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "proxy {}:", self.proxy.to_raw())?;
        if let Some(tokens) = self.tokens {
            write!(f, " {} tokens counted here, {} by it", tokens.own.0, tokens.proxy.0)?;
        }
        if let Some(money) = &self.money {
            write!(f, "; contract {} {}", self.contract.to_raw(), money.standing.word())?;
            if let Some(held) = money.on_chain {
                write!(f, ", {} there, {} of it the stake", held.balance, held.stake)?;
            }
            write!(f, "; {}", money.doing)?;
        }
        Ok(())
    }
}

impl Client {
    /// The wallet that pays; none where there is no chain. Coins for it are sent to its address.
    #[must_use]
    pub fn wallet(&self) -> Option<WalletView> {
        self.network.shared.lock().funds.wallet.clone()
    }

    /// The channel with each proxy, in a stable order.
    #[must_use]
    pub fn channels(&self) -> Vec<ChannelState> {
        let state = self.network.shared.lock();
        let mut money = state.funds.contracts.clone();
        let mut found = Vec::new();
        for (proxy, channel) in state.channels.channels() {
            let contract = channel.own_contract;
            let at = money.iter().position(|view| view.contract == contract);
            let books = &channel.books;
            let tokens = ChannelTokens {
                own: books.own(),
                proxy: books.max(),
                durable: books.durable(),
                signed: books.signed(),
            };
            let money = at.map(|at| money.swap_remove(at));
            found.push(ChannelState { proxy: *proxy, contract, tokens: Some(tokens), money });
        }
        drop(state);
        // Contracts of earlier parameters, which are wound down.
        found.extend(money.into_iter().map(|view| ChannelState {
            proxy: view.proxy,
            contract: view.contract,
            tokens: None,
            money: Some(view),
        }));
        found.sort_by_key(|channel| (channel.proxy, channel.contract));
        found
    }

    /// The channel at a proxy contract, or of a contract of ours. It may be one that is not known
    /// yet: then its methods refuse.
    #[must_use]
    pub fn channel(&self, contract: Address) -> Channel {
        Channel { client: self.clone(), named: contract }
    }
}

impl Channel {
    /// How it stands, as of the last look at the chain; none when this program has no contract of
    /// this name.
    #[must_use]
    pub fn state(&self) -> Option<ChannelState> {
        let is_it = |state: &ChannelState| [state.contract, state.proxy].contains(&self.named);
        self.client.channels().into_iter().find(is_it)
    }

    /// Adds to the balance. `TopUp::Until` names the total that shall have been paid in: asked for
    /// twice, also over a crash, it happens once; `TopUp::By` happens as often as it is asked for.
    ///
    /// # Errors
    /// As of [`Self::order`].
    pub async fn top_up(&self, how: TopUp) -> Result<MoneyPlan, MoneyRefusal> {
        self.order(MoneyAct::TopUp(how)).await
    }

    /// Submits the proxy's signed total now, instead of when it has grown large.
    ///
    /// # Errors
    /// As of [`Self::order`].
    pub async fn charge(&self) -> Result<MoneyPlan, MoneyRefusal> {
        self.order(MoneyAct::Charge).await
    }

    /// Takes back what exceeds the stake; the contract stays in use.
    ///
    /// # Errors
    /// As of [`Self::order`].
    pub async fn withdraw(&self) -> Result<MoneyPlan, MoneyRefusal> {
        self.order(MoneyAct::Withdraw).await
    }

    /// Takes everything back and closes, for good: this program does not come back to the proxy with
    /// the network's parameters as they are. Without the proxy's hand it takes the network's delay, in
    /// which a program must run now and then.
    ///
    /// # Errors
    /// As of [`Self::order`].
    pub async fn close(&self) -> Result<MoneyPlan, MoneyRefusal> {
        self.order(MoneyAct::Close).await
    }

    /// Says what an order would cost and bring; nothing is done.
    ///
    /// # Errors
    /// As of [`Self::order`].
    pub async fn preview(&self, act: MoneyAct) -> Result<MoneyPlan, MoneyRefusal> {
        self.ask(act, true).await
    }

    /// Has something done. It is in the journal when this returns; [`Self::settled`] waits until it
    /// stands on chain.
    ///
    /// # Errors
    /// [`MoneyRefusal`]: nothing was begun. `Unknown`: no such contract here; see
    /// [`Client::channels`]. `Refused`: the sentence says what to change first. `NotNow`: the chain
    /// is away or the connection ends; ask again.
    pub async fn order(&self, act: MoneyAct) -> Result<MoneyPlan, MoneyRefusal> {
        self.ask(act, false).await
    }

    async fn ask(&self, act: MoneyAct, is_dry_run: bool) -> Result<MoneyPlan, MoneyRefusal> {
        self.client.network.demand(MoneyOrder { act, contract: self.named, is_dry_run }).await
    }

    /// Waits until what was asked for stands on chain, and says how it ended. A close may take the
    /// network's delay; put a deadline around it (`tokio::time::timeout`) where that is too long:
    /// stopping to wait changes nothing of what is done.
    ///
    /// # Errors
    /// [`MoneyRefusal`]. `Refused`: it was given up; the sentence says what a person must do first.
    /// `Unknown`: there is no such contract here. `NotNow`: the connection ends; the next start goes
    /// on.
    pub async fn settled(&self) -> Result<ContractView, MoneyRefusal> {
        let shared = &self.client.network.shared;
        let mut looks = shared.looked.subscribe();
        loop {
            let is_open = shared.lock().funds.is_open;
            let Some(view) = self.state().and_then(|state| state.money) else {
                let text = format!("there is no contract at {}", self.named.to_raw());
                return Err(MoneyRefusal::Unknown(text));
            };
            if view.is_settled() {
                return match view.last_wish.as_ref().filter(|end| end.is_given_up) {
                    Some(end) => Err(MoneyRefusal::Refused(end.words.clone())),
                    None => Ok(view),
                };
            }
            if !is_open || looks.changed().await.is_err() {
                return Err(MoneyRefusal::NotNow("the connection ends".to_owned()));
            }
        }
    }
}
