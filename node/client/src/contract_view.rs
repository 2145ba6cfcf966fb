//! A client contract as the last look at the chain showed it, for status pages and programs.

use std::fmt;

use cocoon_contract::state::{ClientState, Phase};
use cocoon_settle::{Next, Seen, Step, Wish};
use cocoon_units::{Address, Nanoton, Tokens};
use serde_json::{Value, json};

/// What stands at the contract's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody has looked yet, or the chain does not answer.
    Unknown,
    /// Not on chain yet: it comes there with the first deposit.
    Absent,
    /// Something else is there: the contract ran out of coins, or is unreadable.
    Broken,
    /// In use.
    Normal,
    /// Asked to close; its delay runs.
    Closing,
    /// Closed for good.
    Closed,
}

impl Standing {
    fn of(seen: &Seen<ClientState>) -> Self {
        match seen {
            Seen::Here { state, .. } => match state.phase {
                Phase::Normal => Self::Normal,
                Phase::Closing => Self::Closing,
                Phase::Closed => Self::Closed,
            },
            Seen::Absent { .. } => Self::Absent,
            Seen::Broken { .. } => Self::Broken,
            Seen::Unknown => Self::Unknown,
        }
    }

    /// Its word on the status page.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Absent => "absent",
            Self::Broken => "broken",
            Self::Normal => "normal",
            Self::Closing => "closing",
            Self::Closed => "closed",
        }
    }
}

/// What the contract holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnChain {
    /// What is there for requests, the stake among it.
    pub balance: Nanoton,
    /// What stays behind at a withdrawal, and bounds what is used between charges.
    pub stake: Nanoton,
    /// Tokens charged since the contract was made.
    pub charged: Tokens,
    /// When everything may be taken back without the proxy, Unix seconds; 0: not asked for.
    pub unlock_s: u32,
}

/// What became of a wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WishEnd {
    /// The wish.
    pub wish: Wish,
    /// It was not carried out: only a person can go on, by what the words say.
    pub is_given_up: bool,
    /// How it ended, one sentence.
    pub words: String,
}

impl fmt::Display for WishEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let given_up = if self.is_given_up { "given up: " } else { "" };
        write!(f, "{}: {given_up}{}", self.wish, self.words)
    }
}

/// A contract, what is known of it, and what this node does about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContractView {
    /// Its address.
    pub contract: Address,
    /// The proxy contract that it belongs to.
    pub proxy: Address,
    /// What stands there.
    pub standing: Standing,
    /// What it holds, when it is there.
    pub on_chain: Option<OnChain>,
    /// What was ever paid in and not taken back.
    pub paid_in: Nanoton,
    /// The stake of the proxy contract, when that is there.
    pub proxy_stake: Option<Nanoton>,
    /// Everything is being taken back, for good.
    pub is_leaving: bool,
    /// What was asked for by hand and is not carried out yet.
    pub wished: Option<Wish>,
    /// What became of the last thing asked for by hand.
    pub last_wish: Option<WishEnd>,
    /// A message that is on its way to the chain.
    pub on_its_way: Option<Step>,
    /// What the node does or waits for, one sentence.
    pub doing: String,
    /// Nothing is left to do, unless wishes change.
    pub is_done: bool,
}

impl ContractView {
    /// True when nothing that was asked for by hand is under way any more.
    pub(crate) fn is_settled(&self) -> bool {
        self.wished.is_none() && (!self.is_leaving || self.is_done)
    }

    /// The contract on the status page (`/jsonstats`, member `money.contracts`).
    pub(crate) fn page(&self) -> Value {
        let held = self.on_chain;
        json!({
            "sc_address": self.contract.to_raw(),
            "proxy_sc_address": self.proxy.to_raw(),
            "state": self.standing.word(),
            "balance_nanoton": held.map(|held| held.balance.0),
            "stake_nanoton": held.map(|held| held.stake.0),
            "tokens_charged": held.map(|held| held.charged.0),
            "unlock_s": held.map(|held| held.unlock_s),
            "paid_in_nanoton": self.paid_in.0,
            "is_leaving": self.is_leaving,
            "wished": self.wished.map(|wish| wish.to_string()),
            "last_wish": self.last_wish.as_ref().map(WishEnd::to_string),
            "proxy_stake_nanoton": self.proxy_stake.map(|stake| stake.0),
            "on_its_way": self.on_its_way.map(|step| step.to_string()),
            "doing": self.doing,
        })
    }
}

/// What the chain showed of a contract.
pub(crate) fn held(seen: &Seen<ClientState>) -> (Standing, Option<OnChain>) {
    let on_chain = |state: &ClientState| OnChain {
        balance: state.balance,
        stake: state.stake,
        charged: state.tokens_used,
        unlock_s: state.unlock_s,
    };
    (Standing::of(seen), seen.state().map(on_chain))
}

/// How a wish ended by what comes next, in words: nothing is left to do, or only a person can go on.
pub(crate) fn end_of(wish: Wish, next: &Next, words: Option<String>) -> Option<WishEnd> {
    let words = words?;
    Some(WishEnd { wish, is_given_up: matches!(next, Next::Wait(_)), words })
}

/// The wallet that pays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalletView {
    /// Its address: send coins here.
    pub address: Address,
    /// What is on it; `None` before the first look.
    pub balance: Option<Nanoton>,
    /// What a message that waits lacks, one sentence.
    pub lacks: Option<String>,
}
