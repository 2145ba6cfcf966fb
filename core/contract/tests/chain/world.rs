//! Accounts, a queue of messages and a clock on the real virtual machine: enough of a chain to
//! run contracts against each other.

use std::collections::{BTreeMap, VecDeque};

use cocoon_contract::address::StateInit;
use cocoon_contract::cell::Cell;
use cocoon_units::{Address, Nanoton};
use tycho_executor::{Executor, ExecutorInspector, ExecutorParams, ParsedConfig, TxError};
use tycho_types::boc::Boc;
use tycho_types::cell::{CellBuilder, CellFamily as _, CellSlice, CellSliceRange, HashBytes, Lazy};
use tycho_types::dict::Dict;
use tycho_types::models::{
    Account, AccountState, BlockchainConfig, BlockchainConfigParams, ComputePhase,
    ComputePhaseSkipReason, IntAddr, IntMsgInfo, MessageExtraFlags, MsgInfo, OptionalAccount,
    OrdinaryTxInfo, OutAction, OutActionsRevIter, OwnedMessage, RelaxedMsgInfo, ShardAccount,
    StdAddr, TxInfo,
};

use crate::record::Record;

/// How the compute phase of a transaction ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    Code(i32),
    NoGas,
    NoState,
}

/// A message as the sender's contract made it.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) to: Address,
    pub(crate) value: Nanoton,
    pub(crate) mode: u8,
    pub(crate) bounce: bool,
    pub(crate) has_init: bool,
    pub(crate) body: Cell,
    /// Made by the chain because the transaction failed.
    pub(crate) is_bounce: bool,
}

/// One transaction.
#[derive(Clone, Debug)]
pub(crate) struct Tx {
    pub(crate) to: Address,
    /// `None` for an external message.
    pub(crate) from: Option<Address>,
    pub(crate) body: Cell,
    pub(crate) value: Nanoton,
    pub(crate) exit: Exit,
    pub(crate) action_code: Option<i32>,
    pub(crate) out: Vec<Sent>,
    pub(crate) gas: u64,
    pub(crate) fees: Nanoton,
    /// Storage fee taken from the account.
    pub(crate) storage: Nanoton,
}

/// A message put in from outside.
pub(crate) struct Inbound {
    pub(crate) from: Address,
    pub(crate) to: Address,
    pub(crate) value: Nanoton,
    pub(crate) bounce: bool,
    pub(crate) state_init: Option<StateInit>,
    pub(crate) body: Cell,
}

impl Inbound {
    pub(crate) fn new(from: Address, to: Address, value: Nanoton, body: Cell) -> Self {
        Self { from, to, value, bounce: true, state_init: None, body }
    }
}

#[derive(Clone)]
pub(crate) struct World {
    /// What happened, for the referee on the other machine.
    pub(crate) record: Record,
    config: std::rc::Rc<(ParsedConfig, BlockchainConfigParams)>,
    accounts: BTreeMap<Address, ShardAccount>,
    lt: u64,
    pub(crate) now_s: u32,
}

impl World {
    pub(crate) fn new(now_s: u32) -> Self {
        let boc = include_bytes!("../../../../testdata/contract/config-slim.boc");
        let mut params = BlockchainConfigParams::from_raw(Boc::decode(boc).expect("config"));
        let workchains = params.get_raw_cell(12).expect("readable").expect("workchains");
        params.set_raw(12, older_workchains(&workchains)).expect("set");
        let address = HashBytes([0x55; 32]);
        let config = BlockchainConfig { address, params: params.clone() };
        let parsed = ParsedConfig::parse(config, now_s).expect("fees and limits");
        let config = std::rc::Rc::new((parsed, params));
        let record = Record::new();
        Self { record, config, accounts: BTreeMap::new(), lt: 1_000_000, now_s }
    }

    /// Puts coins on an account that is not deployed.
    pub(crate) fn fund(&mut self, to: Address, value: Nanoton) {
        let mut account = Account {
            address: IntAddr::Std(std_addr(to)),
            storage_stat: Default::default(),
            last_trans_lt: 0,
            balance: tokens(value).into(),
            state: AccountState::Uninit,
        };
        account.storage_stat.last_paid = self.now_s;
        let account = Lazy::new(&OptionalAccount(Some(account))).expect("account");
        let state = ShardAccount { account, last_trans_hash: HashBytes::ZERO, last_trans_lt: 0 };
        self.accounts.insert(to, state);
        self.record.fund(to, value);
    }

    /// Removes an account, as if it had never been deployed.
    pub(crate) fn forget(&mut self, address: Address) {
        self.accounts.remove(&address);
        self.record.forget(address);
    }

    pub(crate) fn account(&self, address: Address) -> Option<Account> {
        self.accounts.get(&address)?.load_account().expect("account")
    }

    pub(crate) fn balance(&self, address: Address) -> Nanoton {
        let balance = self.account(address).map(|account| account.balance.tokens.into_inner());
        Nanoton(u64::try_from(balance.unwrap_or(0)).expect("fits"))
    }

    /// The data of a deployed contract.
    pub(crate) fn data(&self, address: Address) -> Option<Cell> {
        match self.account(address)?.state {
            AccountState::Active(state) => state.data,
            _ => None,
        }
    }

    /// The code of a deployed contract.
    pub(crate) fn code(&self, address: Address) -> Option<Cell> {
        match self.account(address)?.state {
            AccountState::Active(state) => state.code,
            _ => None,
        }
    }

    /// Answers a get-method that returns numbers only.
    pub(crate) fn getter(&self, address: Address, method: &str) -> Vec<String> {
        let caller = tycho_vm::VmCaller {
            libraries: Dict::new(),
            behaviour_modifiers: Default::default(),
            config: self.config.1.clone(),
        };
        let account = self.account(address).expect("deployed");
        let mut args = tycho_vm::VmGetterArgs::default();
        args.now = self.now_s;
        let output = caller.call_getter_ext(&account, method, Vec::new(), &args, None);
        let output = output.expect("getter");
        assert!(output.success, "{method}: exit code {}", output.exit_code);
        let number = |value: &tycho_vm::RcStackValue| {
            value.as_int().map_or_else(|| "slice".to_owned(), ToString::to_string)
        };
        output.stack.iter().map(number).collect()
    }

    /// Delivers an internal message and everything that follows from it.
    pub(crate) fn internal(&mut self, message: &Inbound) -> Vec<Tx> {
        let cell = self.internal_cell(message);
        let transactions = self.run(VecDeque::from([cell.clone()]));
        self.record_step(&cell, &Ok(&transactions));
        transactions
    }

    /// Delivers an external message; the exit code when the contract does not accept it.
    pub(crate) fn external(&mut self, to: Address, message: Cell) -> Result<Vec<Tx>, i32> {
        let first = match self.execute(to, message.clone()) {
            Ok(first) => first,
            Err(code) => {
                self.record_step(&message, &Err(code));
                return Err(code);
            }
        };
        let mut transactions = vec![first.0];
        transactions.extend(self.run(first.1.into()));
        self.record_step(&message, &Ok(&transactions));
        Ok(transactions)
    }

    fn record_step(&mut self, message: &Cell, outcome: &Result<&Vec<Tx>, i32>) {
        let accounts: Vec<_> = outcome
            .iter()
            .flat_map(|txs| txs.iter())
            .map(|tx| (tx.to, self.balance(tx.to), self.data(tx.to)))
            .collect();
        self.record.step(self.now_s, message, outcome, &accounts);
    }

    fn internal_cell(&mut self, message: &Inbound) -> Cell {
        self.lt += 1000;
        let init = message.state_init.as_ref().map(|init| tycho_types::models::StateInit {
            code: Some(init.code.clone()),
            data: Some(init.data.clone()),
            ..Default::default()
        });
        let info = MsgInfo::Int(IntMsgInfo {
            ihr_disabled: true,
            bounce: message.bounce,
            bounced: false,
            src: IntAddr::Std(std_addr(message.from)),
            dst: IntAddr::Std(std_addr(message.to)),
            value: tokens(message.value).into(),
            extra_flags: MessageExtraFlags::empty(),
            fwd_fee: tokens(Nanoton(400_000)),
            created_lt: self.lt,
            created_at: self.now_s,
        });
        let body = (CellSliceRange::full(&message.body), message.body.clone());
        let message = OwnedMessage { info, init, body, layout: None };
        CellBuilder::build_from(message).expect("message")
    }

    fn run(&mut self, mut queue: VecDeque<Cell>) -> Vec<Tx> {
        let mut transactions = Vec::new();
        while let Some(message) = queue.pop_front() {
            assert!(transactions.len() < 1000, "messages without end");
            let to = receiver(&message);
            let (tx, out) = self.execute(to, message).expect("internal messages always run");
            transactions.push(tx);
            queue.extend(out);
        }
        transactions
    }

    fn execute(&mut self, to: Address, message: Cell) -> Result<(Tx, Vec<Cell>), i32> {
        let config = self.config.clone();
        let params = ExecutorParams {
            block_unixtime: self.now_s,
            block_lt: self.lt,
            disable_delete_frozen_accounts: true,
            charge_action_fees_on_fail: true,
            strict_extra_currency: true,
            ..Default::default()
        };
        let parsed: OwnedMessage = message.parse().expect("message");
        let is_external = matches!(parsed.info, MsgInfo::ExtIn(_));
        let state = self.accounts.get(&to).cloned().unwrap_or_else(empty_account);
        let mut inspector = ExecutorInspector::default();
        let executor = Executor::new(&params, &config.0).with_min_lt(self.lt);
        let begun = executor.begin_ordinary_ext(
            &std_addr(to),
            is_external,
            &message,
            &state,
            Some(&mut inspector),
        );
        let output = match begun {
            Ok(transaction) => transaction.commit().expect("commit"),
            Err(TxError::Skipped) => return Err(inspector.exit_code.unwrap_or(i32::MIN)),
            Err(TxError::Fatal(error)) => panic!("{error:#}"),
        };
        let transaction = output.transaction.load().expect("transaction");
        let TxInfo::Ordinary(info) = transaction.info.load().expect("info") else {
            panic!("an ordinary transaction")
        };
        let messages: Vec<Cell> =
            output.transaction_meta.out_msgs.iter().map(|m| m.inner().clone()).collect();
        let tx = describe(to, &parsed, &info, &inspector, &messages);
        let fees = u64::try_from(transaction.total_fees.tokens.into_inner()).expect("fits");
        self.accounts.insert(to, output.new_state);
        self.lt = output.transaction_meta.next_lt.max(self.lt + 1000);
        Ok((Tx { fees: Nanoton(fees), ..tx }, messages))
    }
}

fn describe(
    to: Address,
    message: &OwnedMessage,
    info: &OrdinaryTxInfo,
    inspector: &ExecutorInspector<'_>,
    messages: &[Cell],
) -> Tx {
    let (exit, gas) = match &info.compute_phase {
        ComputePhase::Executed(phase) => (Exit::Code(phase.exit_code), phase.gas_used.into_inner()),
        ComputePhase::Skipped(phase) => match phase.reason {
            ComputePhaseSkipReason::NoGas => (Exit::NoGas, 0),
            _ => (Exit::NoState, 0),
        },
    };
    let (from, value) = match &message.info {
        MsgInfo::Int(info) => (Some(units_addr(&info.src)), amount(info.value.tokens)),
        _ => (None, Nanoton::ZERO),
    };
    let is_done = info.action_phase.as_ref().is_some_and(|phase| phase.success);
    let mut out = Vec::new();
    if is_done && let Some(actions) = &inspector.actions {
        out = sent(actions);
    }
    if info.bounce_phase.is_some() {
        out.extend(messages.last().map(bounced));
    }
    let skipped = info.action_phase.as_ref().map_or(0, |phase| usize::from(phase.skipped_actions));
    if skipped > 0 {
        keep_made(&mut out, messages);
    }
    assert_eq!(out.len(), messages.len(), "every action made its message");
    let body = rest(CellSlice::apply(&message.body).expect("body"));
    let action_code = info.action_phase.as_ref().map(|phase| phase.result_code);
    let fees = Nanoton::ZERO;
    let storage = info
        .storage_phase
        .as_ref()
        .map_or(Nanoton::ZERO, |phase| amount(phase.storage_fees_collected));
    Tx { to, from, body, value, exit, action_code, out, gas, fees, storage }
}

/// The messages of an action list, oldest first.
fn sent(actions: &Cell) -> Vec<Sent> {
    let mut out: Vec<Sent> = OutActionsRevIter::new(actions.as_slice().expect("list"))
        .map(|action| action.expect("action"))
        .filter_map(|action| match action {
            OutAction::SendMsg { mode, out_msg } => {
                let message = out_msg.load().expect("message");
                let RelaxedMsgInfo::Int(info) = &message.info else {
                    panic!("an internal message")
                };
                Some(Sent {
                    to: units_addr(&info.dst),
                    value: amount(info.value.tokens),
                    mode: mode.bits(),
                    bounce: info.bounce,
                    has_init: message.init.is_some(),
                    body: rest(CellSlice::apply(&message.body).expect("body")),
                    is_bounce: false,
                })
            }
            _ => None,
        })
        .collect();
    out.reverse();
    out
}

/// Drops what the chain skipped: an action stays when a message to its receiver with its body
/// was made.
fn keep_made(out: &mut Vec<Sent>, messages: &[Cell]) {
    let mut made: Vec<(Address, Cell)> = messages
        .iter()
        .map(|message| {
            let sent = bounced(message);
            (sent.to, sent.body)
        })
        .collect();
    out.retain(|sent| {
        let found = made.iter().position(|(to, body)| *to == sent.to && *body == sent.body);
        found.map(|index| made.remove(index)).is_some()
    });
}

fn bounced(message: &Cell) -> Sent {
    let message: OwnedMessage = message.parse().expect("message");
    let MsgInfo::Int(info) = &message.info else { panic!("an internal message") };
    Sent {
        to: units_addr(&info.dst),
        value: amount(info.value.tokens),
        mode: 0,
        bounce: info.bounce,
        has_init: false,
        body: rest(CellSlice::apply(&message.body).expect("body")),
        is_bounce: true,
    }
}

fn rest(slice: CellSlice<'_>) -> Cell {
    let mut builder = CellBuilder::new();
    builder.store_slice(slice).expect("fits");
    builder.build().expect("body")
}

fn receiver(message: &Cell) -> Address {
    let message: OwnedMessage = message.parse().expect("message");
    match &message.info {
        MsgInfo::Int(info) => units_addr(&info.dst),
        _ => panic!("an internal message"),
    }
}

fn empty_account() -> ShardAccount {
    let account = Lazy::new(&OptionalAccount(None)).expect("account");
    ShardAccount { account, last_trans_hash: HashBytes::ZERO, last_trans_lt: 0 }
}

fn std_addr(address: Address) -> StdAddr {
    StdAddr::new(address.workchain, HashBytes(address.hash))
}

fn units_addr(address: &IntAddr) -> Address {
    let IntAddr::Std(address) = address else { panic!("a standard address") };
    Address::new(address.workchain, address.address.0)
}

fn tokens(value: Nanoton) -> tycho_types::num::Tokens {
    tycho_types::num::Tokens::new(u128::from(value.0))
}

fn amount(value: tycho_types::num::Tokens) -> Nanoton {
    Nanoton(u64::try_from(value.into_inner()).expect("fits"))
}

/// The executor reads only the older form of workchain descriptions; the newer one (tag a7) adds
/// fields at its end, so replacing the tag is enough.
fn older_workchains(cell: &Cell) -> Cell {
    let dict: Dict<i32, CellSlice<'_>> = cell.parse().expect("workchains");
    let mut result = Dict::<i32, Cell>::new();
    let mut values = Vec::new();
    for entry in dict.iter() {
        let (id, mut value) = entry.expect("workchain");
        assert_eq!(value.load_u8().expect("tag"), 0xa7);
        let mut builder = CellBuilder::new();
        builder.store_u8(0xa6).expect("fits");
        builder.store_slice(value).expect("fits");
        values.push((id, builder.build().expect("workchain")));
    }
    let mut inline = Dict::<i32, CellSlice<'_>>::from_raw(result.root().clone());
    for (id, value) in &values {
        inline.set(*id, value.as_slice().expect("ordinary")).expect("set");
    }
    result = Dict::from_raw(inline.into_root());
    let mut builder = CellBuilder::new();
    tycho_types::cell::Store::store_into(&result, &mut builder, Cell::empty_context())
        .expect("fits");
    builder.build().expect("workchains")
}
