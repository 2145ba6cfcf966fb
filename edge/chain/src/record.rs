//! A transaction as nodes see it, also an aborted one.

use cocoon_units::{Address, Nanoton, UnixSeconds};
use tycho_types::cell::{Cell, CellBuilder};
use tycho_types::error::Error;
use tycho_types::models::{ComputePhase, IntAddr, Message, MsgInfo, Transaction, TxInfo};

use crate::account::{TransactionId, nanoton};

/// A message that a transaction took in or sent out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageRecord {
    /// Who sent it; `None` for a message from outside.
    pub source: Option<Address>,
    /// Who gets it; `None` for a message to outside.
    pub destination: Option<Address>,
    /// Coins it carries.
    pub value: Nanoton,
    /// Forwarding fee that it still carries.
    pub fwd_fee: Nanoton,
    /// Whether it comes back when the destination fails.
    pub bounce: bool,
    /// Whether it came back.
    pub bounced: bool,
    /// Logical time of its creation.
    pub created_lt: u64,
    /// Its body, as a cell of its own.
    pub body: Cell,
    /// The whole message.
    pub cell: Cell,
}

/// A transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionRecord {
    /// The account, on the workchain asked for.
    pub account: Address,
    /// Its own name.
    pub id: TransactionId,
    /// The name of the one before it; `None` for the first.
    pub previous: Option<TransactionId>,
    /// When it happened.
    pub time: UnixSeconds,
    /// Whether it had no effect (but fees) because a phase failed.
    pub is_aborted: bool,
    /// The contract's exit code; `None` when no code ran.
    pub exit_code: Option<i32>,
    /// All fees it cost, except those its messages carry on.
    pub fees: Nanoton,
    /// Storage fee, part of `fees`.
    pub storage_fee: Nanoton,
    /// The message that caused it.
    pub in_msg: Option<MessageRecord>,
    /// The messages it sent, in order.
    pub out_msgs: Vec<MessageRecord>,
    /// The whole transaction.
    pub cell: Cell,
}

impl TransactionRecord {
    /// Reads a transaction of an account on `workchain`.
    ///
    /// # Errors
    /// When the cells are no transaction: whoever gave them is broken or lies.
    pub fn from_cell(cell: Cell, workchain: i8) -> Result<Self, Error> {
        let transaction = cell.parse::<Transaction>()?;
        let id = TransactionId { lt: transaction.lt, hash: cell.repr_hash().0 };
        let previous = (transaction.prev_trans_lt != 0).then_some(TransactionId {
            lt: transaction.prev_trans_lt,
            hash: transaction.prev_trans_hash.0,
        });
        let (is_aborted, compute, storage_fee) = match transaction.load_info()? {
            TxInfo::Ordinary(info) => {
                let fee = info.storage_phase.map(|phase| phase.storage_fees_collected);
                (info.aborted, Some(info.compute_phase), fee)
            }
            TxInfo::TickTock(info) => {
                let fee = info.storage_phase.storage_fees_collected;
                (info.aborted, Some(info.compute_phase), Some(fee))
            }
        };
        let exit_code = match compute {
            Some(ComputePhase::Executed(phase)) => Some(phase.exit_code),
            _ => None,
        };
        let mut out_msgs = Vec::new();
        for entry in transaction.out_msgs.values() {
            out_msgs.push(MessageRecord::from_cell(entry?)?);
        }
        let in_msg = transaction.in_msg.clone().map(MessageRecord::from_cell).transpose()?;
        Ok(Self {
            account: Address::new(workchain, transaction.account.0),
            id,
            previous,
            time: UnixSeconds(u64::from(transaction.now)),
            is_aborted,
            exit_code,
            fees: nanoton(transaction.total_fees.tokens),
            storage_fee: storage_fee.map_or(Nanoton::ZERO, nanoton),
            in_msg,
            out_msgs,
            cell,
        })
    }
}

impl MessageRecord {
    /// Reads a message.
    ///
    /// # Errors
    /// When the cells are no message.
    pub fn from_cell(cell: Cell) -> Result<Self, Error> {
        let message = cell.parse::<Message<'_>>()?;
        let body = CellBuilder::build_from(message.body)?;
        let mut record = Self {
            source: None,
            destination: None,
            value: Nanoton::ZERO,
            fwd_fee: Nanoton::ZERO,
            bounce: false,
            bounced: false,
            created_lt: 0,
            body,
            cell: cell.clone(),
        };
        match message.info {
            MsgInfo::Int(info) => {
                record.source = address(&info.src);
                record.destination = address(&info.dst);
                record.value = nanoton(info.value.tokens);
                record.fwd_fee = nanoton(info.fwd_fee);
                record.bounce = info.bounce;
                record.bounced = info.bounced;
                record.created_lt = info.created_lt;
            }
            MsgInfo::ExtIn(info) => record.destination = address(&info.dst),
            MsgInfo::ExtOut(info) => {
                record.source = address(&info.src);
                record.created_lt = info.created_lt;
            }
        }
        Ok(record)
    }
}

/// Standard addresses without anycast; nodes know no others.
pub(crate) fn address(address: &IntAddr) -> Option<Address> {
    match address {
        IntAddr::Std(address) if address.anycast.is_none() => {
            Some(Address::new(address.workchain, address.address.0))
        }
        _ => None,
    }
}
