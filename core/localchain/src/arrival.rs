//! What comes in between two blocks, and how it is read.

use std::collections::{HashSet, VecDeque};

use cocoon_units::Nanoton;
use tycho_types::cell::{Cell, CellBuilder, HashBytes};
use tycho_types::models::{IntAddr, IntMsgInfo, MsgInfo, OwnedMessage, StdAddr};
use tycho_types::num::Tokens;

use crate::collate::Collation;
use crate::fault::Doing as _;
use crate::queue::Transit;
use crate::{Fault, Refusal};

/// What came in since the last block.
#[derive(Default)]
pub(crate) struct Waiting {
    pub(crate) externals: VecDeque<(HashBytes, Cell)>,
    pub(crate) hashes: HashSet<HashBytes>,
    pub(crate) faucet: VecDeque<(HashBytes, Nanoton)>,
}

impl Waiting {
    /// Forgets what the block took.
    pub(crate) fn done(&mut self, externals: usize, faucet: usize) {
        for (_, cell) in self.externals.drain(..externals.min(self.externals.len())) {
            self.hashes.remove(cell.repr_hash());
        }
        self.faucet.drain(..faucet.min(self.faucet.len()));
    }
}

/// Returns how many orders were delivered and their sum in nanoton.
pub(crate) fn deliver_faucet(
    collation: &mut Collation<'_>,
    orders: &VecDeque<(HashBytes, Nanoton)>,
    first_lt: u64,
    now: u32,
) -> Result<(usize, u128), Fault> {
    let mut minted = 0_u128;
    for (done, (account, amount)) in orders.iter().enumerate() {
        let lt = first_lt.saturating_add(u64::try_from(done).unwrap_or(u64::MAX));
        let transit = faucet_message(*account, *amount, lt, now)?;
        if !collation.deliver_minted(&transit)? {
            return Ok((done, minted));
        }
        minted = minted.saturating_add(u128::from(amount.0));
    }
    Ok((orders.len(), minted))
}

/// New coins come from the masterchain's zero address, as on TON.
fn faucet_message(
    account: HashBytes,
    amount: Nanoton,
    created_lt: u64,
    created_at: u32,
) -> Result<Transit, Fault> {
    let info = IntMsgInfo {
        src: IntAddr::Std(StdAddr::new(-1, HashBytes::ZERO)),
        dst: IntAddr::Std(StdAddr::new(0, account)),
        value: Tokens::new(u128::from(amount.0)).into(),
        created_lt,
        created_at,
        ..IntMsgInfo::default()
    };
    let message = OwnedMessage {
        info: MsgInfo::Int(info.clone()),
        init: None,
        body: Default::default(),
        layout: None,
    };
    let cell = CellBuilder::build_from(&message).doing("building a faucet message")?;
    Transit::from_info(cell, info, None).ok_or_else(|| Fault::Executor {
        message: account.to_string(),
        reason: "the faucet's message has no destination".to_owned(),
    })
}

pub(crate) fn message_info(cell: &Cell) -> Result<MsgInfo, Refusal> {
    let message = cell
        .parse::<OwnedMessage>()
        .map_err(|error| Refusal::NotExternal(format!("not a message: {error}")))?;
    Ok(message.info)
}

pub(crate) fn destination(cell: &Cell) -> Result<HashBytes, Refusal> {
    match message_info(cell)? {
        MsgInfo::ExtIn(info) => basechain_account(&info.dst),
        MsgInfo::Int(_) => Err(Refusal::NotExternal("an internal message".to_owned())),
        MsgInfo::ExtOut(_) => Err(Refusal::NotExternal("an outbound message".to_owned())),
    }
}

pub(crate) fn basechain_account(address: &IntAddr) -> Result<HashBytes, Refusal> {
    match address {
        IntAddr::Std(address) if address.anycast.is_some() => {
            Err(Refusal::NotExternal("the destination is an anycast address".to_owned()))
        }
        IntAddr::Std(address) if address.workchain == 0 => Ok(address.address),
        IntAddr::Std(address) => Err(Refusal::Workchain(i32::from(address.workchain))),
        IntAddr::Var(address) => Err(Refusal::Workchain(address.workchain)),
    }
}
