//! One shard block in the making: messages run through the executor in the order TON gives them.

use std::collections::{BTreeMap, BinaryHeap, HashMap};

use tycho_executor::{Executor, ExecutorOutput, ExecutorParams};
use tycho_types::cell::{Cell, CellBuilder, HashBytes, Lazy};
use tycho_types::models::{
    CurrencyCollection, ImportFees, InMsg, InMsgExternal, InMsgFinal, IntMsgInfo, MsgInfo, OutMsg,
    OutMsgDequeueImmediate, OutMsgExternal, OutMsgImmediate, OutMsgNew, OwnedMessage, ShardAccount,
    StdAddr, Transaction,
};
use tycho_types::num::Tokens;

use crate::Fault;
use crate::fault::Doing as _;
use crate::genesis::Network;
use crate::queue::{Queue, Transit};

/// An account that changed in this block.
pub(crate) struct Touched {
    pub(crate) state: ShardAccount,
    pub(crate) hash_before: HashBytes,
    pub(crate) balance: CurrencyCollection,
    pub(crate) exists: bool,
    /// Where its next transaction may begin.
    next_lt: u64,
    pub(crate) transactions: Vec<(u64, CurrencyCollection, Lazy<Transaction>)>,
}

/// Everything that one block's messages caused.
pub(crate) struct Collation<'a> {
    network: &'a Network,
    params: &'a ExecutorParams,
    accounts: &'a HashMap<HashBytes, ShardAccount>,
    transactions_left: u32,
    fresh: BinaryHeap<Transit>,
    pub(crate) touched: BTreeMap<HashBytes, Touched>,
    /// Transactions in order of execution.
    pub(crate) executed: Vec<(HashBytes, u64, Lazy<Transaction>)>,
    pub(crate) in_msgs: BTreeMap<HashBytes, (ImportFees, InMsg)>,
    pub(crate) out_msgs: BTreeMap<HashBytes, (CurrencyCollection, OutMsg)>,
    /// Messages that go to the queue, because the block is full.
    pub(crate) queued: Vec<Transit>,
    /// Queue entries that were delivered.
    pub(crate) dequeued: Vec<Transit>,
    /// Coins sent to where this chain has no accounts, with their fees.
    pub(crate) stranded: u128,
    pub(crate) burned: Tokens,
    pub(crate) end_lt: u64,
    /// External messages that were not accepted after all.
    pub(crate) skipped: u32,
    /// Internal messages that the executor could not take.
    pub(crate) undeliverable: u32,
}

impl<'a> Collation<'a> {
    pub(crate) fn new(
        network: &'a Network,
        params: &'a ExecutorParams,
        accounts: &'a HashMap<HashBytes, ShardAccount>,
        transactions_max: u32,
    ) -> Self {
        Self {
            network,
            params,
            accounts,
            transactions_left: transactions_max,
            fresh: BinaryHeap::new(),
            touched: BTreeMap::new(),
            executed: Vec::new(),
            in_msgs: BTreeMap::new(),
            out_msgs: BTreeMap::new(),
            queued: Vec::new(),
            dequeued: Vec::new(),
            stranded: 0,
            burned: Tokens::ZERO,
            end_lt: params.block_lt,
            skipped: 0,
            undeliverable: 0,
        }
    }

    /// Delivers what earlier blocks left in the queue, as far as there is room.
    pub(crate) fn deliver_queue(&mut self, queue: &Queue) -> Result<(), Fault> {
        for transit in queue.iter() {
            if !self.take_room() {
                return Ok(());
            }
            let Some(transaction) = self.execute_internal(transit)? else {
                // It stays in the queue: coins that cannot be delivered are not destroyed.
                continue;
            };
            let envelope = transit.envelope().doing("wrapping a queued message")?;
            let import = InMsg::Final(InMsgFinal {
                in_msg_envelope: envelope.clone(),
                transaction,
                fwd_fee: transit.fwd_fee,
            });
            let reimport = Lazy::new(&import).doing("describing a queued message")?;
            let out = OutMsg::DequeueImmediate(OutMsgDequeueImmediate {
                out_msg_envelope: envelope,
                reimport,
            });
            self.import(transit, import, true)?;
            self.out_msgs.insert(transit.hash, (CurrencyCollection::ZERO, out));
            self.dequeued.push(transit.clone());
        }
        Ok(())
    }

    /// Delivers coins that the faucet made. Returns whether there was room.
    pub(crate) fn deliver_minted(&mut self, transit: &Transit) -> Result<bool, Fault> {
        if !self.take_room() {
            return Ok(false);
        }
        let transaction = self.execute_internal(transit)?.ok_or_else(|| Fault::Executor {
            message: transit.hash.to_string(),
            reason: "a faucet message was not taken".to_owned(),
        })?;
        let import = InMsg::Final(InMsgFinal {
            in_msg_envelope: transit.envelope().doing("wrapping a minted message")?,
            transaction,
            fwd_fee: Tokens::ZERO,
        });
        self.import(transit, import, true)?;
        Ok(true)
    }

    /// Runs an external message. Returns whether there was room.
    pub(crate) fn deliver_external(
        &mut self,
        account: HashBytes,
        message: &Cell,
    ) -> Result<bool, Fault> {
        if self.transactions_left == 0 || self.in_msgs.contains_key(message.repr_hash()) {
            return Ok(false);
        }
        let Some(transaction) = self.execute(account, message, true)? else {
            self.skipped = self.skipped.saturating_add(1);
            return Ok(true);
        };
        self.transactions_left -= 1;
        let import = InMsg::External(InMsgExternal {
            in_msg: Lazy::from_raw(message.clone()).doing("importing an external message")?,
            transaction,
        });
        self.in_msgs.insert(*message.repr_hash(), (ImportFees::default(), import));
        Ok(true)
    }

    /// Delivers the messages created in this very block until none is left or the block is
    /// full; the rest goes to the queue.
    pub(crate) fn deliver_fresh(&mut self) -> Result<(), Fault> {
        while let Some(transit) = self.fresh.pop() {
            let envelope = transit.envelope().doing("wrapping a new message")?;
            let origin = transit.origin.clone().ok_or_else(|| Fault::Executor {
                message: transit.hash.to_string(),
                reason: "created by no transaction".to_owned(),
            })?;
            let delivered = if self.take_room() { self.execute_internal(&transit)? } else { None };
            let Some(transaction) = delivered else {
                let out =
                    OutMsg::New(OutMsgNew { out_msg_envelope: envelope, transaction: origin });
                self.export(&transit, out)?;
                self.queued.push(transit);
                continue;
            };
            let import = InMsg::Immediate(InMsgFinal {
                in_msg_envelope: envelope.clone(),
                transaction,
                fwd_fee: transit.fwd_fee,
            });
            let out = OutMsg::Immediate(OutMsgImmediate {
                out_msg_envelope: envelope,
                transaction: origin,
                reimport: Lazy::new(&import).doing("describing an immediate message")?,
            });
            self.import(&transit, import, false)?;
            self.out_msgs.insert(transit.hash, (CurrencyCollection::ZERO, out));
        }
        Ok(())
    }

    fn take_room(&mut self) -> bool {
        let room = self.transactions_left > 0;
        self.transactions_left = self.transactions_left.saturating_sub(1);
        room
    }

    fn import(&mut self, transit: &Transit, import: InMsg, with_value: bool) -> Result<(), Fault> {
        let mut value_imported = CurrencyCollection::ZERO;
        if with_value {
            value_imported = transit.value.clone();
            value_imported
                .try_add_assign_tokens(transit.fwd_fee)
                .doing("adding a message's fee")?;
        }
        let fees = ImportFees { fees_collected: transit.fwd_fee, value_imported };
        self.in_msgs.insert(transit.hash, (fees, import));
        Ok(())
    }

    fn export(&mut self, transit: &Transit, out: OutMsg) -> Result<(), Fault> {
        let mut value = transit.value.clone();
        value.try_add_assign_tokens(transit.fwd_fee).doing("adding a message's fee")?;
        self.out_msgs.insert(transit.hash, (value, out));
        Ok(())
    }

    /// `None` when the executor cannot take the message at all; the chain goes on without it.
    fn execute_internal(&mut self, transit: &Transit) -> Result<Option<Lazy<Transaction>>, Fault> {
        let transaction = self.execute(transit.account, &transit.cell, false)?;
        if transaction.is_none() {
            self.undeliverable = self.undeliverable.saturating_add(1);
        }
        Ok(transaction)
    }

    /// Runs one message on one account; `None` when it is not accepted or cannot be imported.
    fn execute(
        &mut self,
        account: HashBytes,
        message: &Cell,
        is_external: bool,
    ) -> Result<Option<Lazy<Transaction>>, Fault> {
        let absent;
        // An account that does not exist keeps no time of its own, yet its transactions in this
        // block must follow each other.
        let block_lt = self.params.block_lt.saturating_add(1);
        let (before, min_lt) = match (self.touched.get(&account), self.accounts.get(&account)) {
            (Some(touched), _) => (&touched.state, block_lt.max(touched.next_lt)),
            (None, Some(state)) => (state, block_lt),
            (None, None) => {
                absent = no_account()?;
                (&absent, block_lt)
            }
        };
        let address = StdAddr::new(0, account);
        let output = Executor::new(self.params, &self.network.parsed)
            .with_min_lt(min_lt)
            .begin_ordinary(&address, is_external, message.clone(), before);
        let output = match output {
            Ok(uncommitted) => uncommitted.commit().map_err(|error| Fault::Executor {
                message: message.repr_hash().to_string(),
                reason: format!("{error:#}"),
            })?,
            Err(_) => return Ok(None),
        };
        let hash_before = *before.account.repr_hash();
        self.record(account, hash_before, output).map(Some)
    }

    fn record(
        &mut self,
        account: HashBytes,
        hash_before: HashBytes,
        output: ExecutorOutput,
    ) -> Result<Lazy<Transaction>, Fault> {
        let transaction = output.transaction;
        let lt = transaction.load().doing("reading a transaction")?.lt;
        for message in &output.transaction_meta.out_msgs {
            self.send(message, &transaction)?;
        }
        self.end_lt = self.end_lt.max(output.transaction_meta.next_lt);
        self.burned = self.burned.saturating_add(output.burned);
        let fees = CurrencyCollection::from(output.transaction_meta.total_fees);
        self.executed.push((account, lt, transaction.clone()));
        let touched = self.touched.entry(account).or_insert_with(|| Touched {
            state: output.new_state.clone(),
            hash_before,
            balance: CurrencyCollection::ZERO,
            exists: false,
            next_lt: 0,
            transactions: Vec::new(),
        });
        touched.next_lt = output.transaction_meta.next_lt;
        touched.state = output.new_state;
        touched.balance = output.new_state_meta.balance;
        touched.exists = output.new_state_meta.exists;
        touched.transactions.push((lt, fees, transaction.clone()));
        Ok(transaction)
    }

    fn send(
        &mut self,
        message: &Lazy<OwnedMessage>,
        origin: &Lazy<Transaction>,
    ) -> Result<(), Fault> {
        let cell = message.inner().clone();
        let info = message.load().doing("reading an outgoing message")?.info;
        let info: IntMsgInfo = match info {
            MsgInfo::Int(info) => info,
            _ => {
                let out = OutMsg::External(OutMsgExternal {
                    out_msg: message.clone(),
                    transaction: origin.clone(),
                });
                self.out_msgs.insert(*cell.repr_hash(), (CurrencyCollection::ZERO, out));
                return Ok(());
            }
        };
        let mut value = info.value.clone();
        let fwd_fee = info.fwd_fee;
        if let Some(transit) = Transit::from_info(cell.clone(), info, Some(origin.clone())) {
            self.fresh.push(transit);
            return Ok(());
        }
        value.try_add_assign_tokens(fwd_fee).doing("adding a message's fee")?;
        self.stranded = self.stranded.saturating_add(value.tokens.into_inner());
        let out = OutMsg::New(OutMsgNew {
            out_msg_envelope: crate::queue::envelope(&cell, fwd_fee).doing("wrapping a message")?,
            transaction: origin.clone(),
        });
        self.out_msgs.insert(*cell.repr_hash(), (value, out));
        Ok(())
    }
}

/// The state of an account that was never heard of.
pub(crate) fn no_account() -> Result<ShardAccount, Fault> {
    let cell = CellBuilder::build_from(false).doing("building an absent account")?;
    Ok(ShardAccount {
        account: Lazy::from_raw(cell).doing("building an absent account")?,
        last_trans_hash: HashBytes::ZERO,
        last_trans_lt: 0,
    })
}
