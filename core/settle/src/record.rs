//! What a node writes down before it sends a message.

use cocoon_contract::address::WORKCHAIN;
use cocoon_contract::code::Codes;
use cocoon_contract::params::{Params, Selector};
use cocoon_contract::state::{ClientState, WorkerState};
use cocoon_contract::{Fault, boc};
use cocoon_units::{Address, Nanoton, Tokens};
use serde::{Deserialize, Serialize};

use crate::{Seen, Step, Wish};

/// No other record of a node's journal begins like this.
const MARK: [u8; 2] = [0xff, b's'];

/// Which contract a site is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    /// A client contract.
    Client,
    /// A worker contract.
    Worker,
}

/// What must be known of a contract to go on with it after a restart, also when the network's
/// parameters have changed since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteRecord {
    /// Client or worker.
    pub side: Side,
    /// Account of the contract.
    pub contract: [u8; 32],
    /// Account of the proxy contract.
    pub proxy: [u8; 32],
    /// Workchain and account of the owner.
    pub owner: (i8, [u8; 32]),
    /// The parameters' cell without codes, as a bag of cells.
    pub params: Vec<u8>,
    /// What the proxy had counted before this node kept books of it.
    pub counted_before: Tokens,
    /// When it was opened here, Unix seconds.
    pub opened_s: u64,
}

impl SiteRecord {
    /// Of contract, proxy contract and owner with these parameters.
    pub(crate) fn new(
        side: Side,
        (contract, proxy, owner): (Address, Address, Address),
        params: &Params,
    ) -> Result<Self, Fault> {
        Ok(Self {
            side,
            contract: contract.hash,
            proxy: proxy.hash,
            owner: (owner.workchain, owner.hash),
            params: boc::encode(&params.cell(Selector::Leaf, &Codes::default())?),
            counted_before: Tokens::ZERO,
            opened_s: 0,
        })
    }

    /// Contract, proxy contract, owner, parameters.
    pub(crate) fn read(&self) -> Result<(Address, Address, Address, Params), Fault> {
        let cell = boc::decode(&self.params, boc::Limits::STATE)?;
        let (params, _) = Params::parse(&cell)?;
        let on_chain = |hash: [u8; 32]| Address::new(WORKCHAIN, hash);
        let owner = Address::new(self.owner.0, self.owner.1);
        Ok((on_chain(self.contract), on_chain(self.proxy), owner, params))
    }
}

/// What a contract showed before a message, to see its effect by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// Ever deposited and not taken back: balance and what was charged; nanoTON.
    pub paid_in: Nanoton,
    /// The contract's balance.
    pub balance: Nanoton,
    /// Tokens charged or paid out.
    pub tokens: Tokens,
    /// Logical time of its last transaction.
    pub last_lt: u64,
}

impl Before {
    /// Of a client contract with this price per token.
    #[must_use]
    pub fn client(seen: &Seen<ClientState>, price: Nanoton) -> Self {
        match seen {
            Seen::Here { state, last_lt, .. } => Self {
                paid_in: state.balance.saturating_add(price.saturating_mul(state.tokens_used)),
                balance: state.balance,
                tokens: state.tokens_used,
                last_lt: *last_lt,
            },
            _ => Self::default(),
        }
    }

    /// Of a worker contract.
    #[must_use]
    pub fn worker(seen: &Seen<WorkerState>) -> Self {
        match seen {
            Seen::Here { state, last_lt, .. } => {
                Self { tokens: state.tokens, last_lt: *last_lt, ..Self::default() }
            }
            _ => Self::default(),
        }
    }
}

/// A durable fact about contracts on chain, for the node's journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SettleRecord {
    /// A contract is used from now on.
    Opened(SiteRecord),
    /// A message is sent next; the record comes first.
    Sent {
        /// The contract.
        contract: [u8; 32],
        /// What it does.
        step: Step,
        /// The label it is ordered under.
        label: u64,
        /// What the contract showed before.
        before: Before,
    },
    /// The contract is to be wound down, whatever the configuration says.
    Leaving {
        /// The contract.
        contract: [u8; 32],
    },
    /// Nothing is left to do for a contract.
    Ended {
        /// The contract.
        contract: [u8; 32],
    },
    /// A state of the root was seen that is not believed yet.
    RootSeen {
        /// Hash of its cell.
        hash: [u8; 32],
        /// When, Unix seconds.
        at_s: u64,
    },
    /// A state of the root is believed.
    RootBelieved {
        /// Its cell, as a bag of cells.
        state: Vec<u8>,
    },
    /// What the operator wishes of a client contract besides its use; `None` when that is done or
    /// was given up.
    Wished {
        /// The contract.
        contract: [u8; 32],
        /// The wish.
        wish: Option<Wish>,
    },
}

impl SettleRecord {
    /// The record as bytes for the journal.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MARK.to_vec();
        bytes.extend(postcard::to_stdvec(self).unwrap_or_default());
        bytes
    }

    /// Reads a record; `None` when the bytes are none.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        match postcard::take_from_bytes(bytes.strip_prefix(&MARK)?) {
            Ok((record, [])) => Some(record),
            _ => None,
        }
    }
}
