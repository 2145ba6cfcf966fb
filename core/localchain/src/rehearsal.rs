//! What a message would do, tried on copies of accounts as they stand on some chain.
//!
//! The caller brings the accounts: whoever runs a rehearsal asks the chain for each account that
//! [`Rehearsal::step`] needs, so that the same code serves the local chain and the real one.

use std::collections::{BTreeMap, HashMap};

use cocoon_units::{Address, UnixSeconds};
use sha2::{Digest as _, Sha256};
use tycho_executor::{Executor, ExecutorParams};
use tycho_types::cell::{Cell, HashBytes};
use tycho_types::models::{MsgInfo, ShardAccount, StdAddr};
use tycho_vm::BehaviourModifiers;

use crate::arrival::{basechain_account, message_info};
use crate::collate::no_account;
use crate::fault::Doing as _;
use crate::genesis::{Genesis, Network};
use crate::{Fault, Refusal};

/// Most transactions of one rehearsal: a flow of this network takes fewer than twenty.
const TRANSACTIONS_MAX: usize = 256;

/// What to do next.
#[derive(Clone, Debug)]
pub enum Act {
    /// Give this account with [`Rehearsal::know`] (or say that it does not exist), then go on.
    Needs(Address),
    /// A message ran.
    Played(Box<Played>),
    /// Nothing is left to run.
    Done,
}

/// One transaction that would be made.
#[derive(Clone, Debug)]
pub struct Played {
    /// On which account.
    pub account: Address,
    /// The transaction's cell.
    pub transaction: Cell,
    /// The account after it.
    pub after: ShardAccount,
}

/// Messages run one after the other on copies of accounts, with mainnet's fees; nothing of it
/// happens anywhere.
pub struct Rehearsal {
    network: Network,
    params: ExecutorParams,
    accounts: HashMap<HashBytes, ShardAccount>,
    next_lts: HashMap<HashBytes, u64>,
    /// By logical time of creation, then by order of arrival: as a chain delivers them.
    waiting: BTreeMap<(u64, u64), Cell>,
    arrived: u64,
    played: usize,
    ignores_signature: bool,
}

impl Rehearsal {
    /// A rehearsal at a time, in a block that begins at logical time `lt`.
    ///
    /// With `ignores_signature` the signature of external messages is taken as good, so that
    /// nothing need be signed to be tried.
    ///
    /// # Errors
    /// [`Fault::Config`] when the embedded configuration is damaged: a bug of the build.
    pub fn new(now: UnixSeconds, lt: u64, ignores_signature: bool) -> Result<Self, Fault> {
        let now_ms = now.0.saturating_mul(1000);
        let network = Genesis::new([0; 32], now_ms).network()?;
        let params = ExecutorParams {
            rand_seed: HashBytes(Sha256::digest(b"cocoon rehearsal").into()),
            block_unixtime: u32::try_from(now.0).unwrap_or(u32::MAX),
            block_lt: lt,
            vm_modifiers: BehaviourModifiers::default(),
            // As TON does; the executor's defaults are those of another network.
            disable_delete_frozen_accounts: true,
            charge_action_fees_on_fail: true,
            strict_extra_currency: true,
            ..ExecutorParams::default()
        };
        Ok(Self {
            network,
            params,
            accounts: HashMap::new(),
            next_lts: HashMap::new(),
            waiting: BTreeMap::new(),
            arrived: 0,
            played: 0,
            ignores_signature,
        })
    }

    /// Brings an account as it stands; `None` for one that does not exist.
    ///
    /// # Errors
    /// [`Fault::Cells`]: a bug of ours.
    pub fn know(&mut self, address: Address, state: Option<ShardAccount>) -> Result<(), Fault> {
        let state = state.map_or_else(no_account, Ok)?;
        self.accounts.insert(HashBytes(address.hash), state);
        Ok(())
    }

    /// The account as the rehearsal left it, when it was brought.
    #[must_use]
    pub fn account(&self, address: Address) -> Option<&ShardAccount> {
        self.accounts.get(&HashBytes(address.hash))
    }

    /// Puts a message in front of its destination: an external one, or one that somebody sends.
    ///
    /// # Errors
    /// [`Refusal`] when it is no message, or goes to another workchain.
    pub fn put(&mut self, message: Cell) -> Result<(), Refusal> {
        destination(&message_info(&message)?)?;
        let created_lt = match message_info(&message)? {
            MsgInfo::Int(info) => info.created_lt,
            _ => 0,
        };
        self.arrived += 1;
        self.waiting.insert((created_lt, self.arrived), message);
        Ok(())
    }

    /// Runs one message, or says what is missing for it.
    ///
    /// # Errors
    /// [`Refusal`] when an external message is not accepted, or when messages make messages
    /// without end.
    pub fn step(&mut self) -> Result<Act, Refusal> {
        let Some((&place, message)) = self.waiting.first_key_value() else {
            return Ok(Act::Done);
        };
        let info = message_info(message)?;
        let account = destination(&info)?;
        let address = Address::new(0, account.0);
        let Some(before) = self.accounts.get(&account) else {
            return Ok(Act::Needs(address));
        };
        if self.played >= TRANSACTIONS_MAX {
            let reason = format!("more than {TRANSACTIONS_MAX} transactions follow from it");
            return Err(Refusal::NotAccepted(reason));
        }
        let refuse = |error: String| Refusal::NotAccepted(error);
        let is_external = matches!(info, MsgInfo::ExtIn(_));
        self.params.vm_modifiers.chksig_always_succeed = is_external && self.ignores_signature;
        let begun_lt = self.params.block_lt.saturating_add(1);
        let min_lt = self.next_lts.get(&account).copied().unwrap_or(begun_lt);
        let output = Executor::new(&self.params, &self.network.parsed)
            .with_min_lt(min_lt)
            .begin_ordinary(&StdAddr::new(0, account), is_external, message.clone(), before)
            .map_err(|error| refuse(error.to_string()))?
            .commit()
            .map_err(|error| refuse(format!("{error:#}")))?;
        self.waiting.remove(&place);
        self.played += 1;
        self.next_lts.insert(account, output.transaction_meta.next_lt);
        self.accounts.insert(account, output.new_state.clone());
        for message in &output.transaction_meta.out_msgs {
            let cell = message.inner().clone();
            // Messages to outside and to other workchains end here.
            if message_info(&cell).is_ok_and(|info| matches!(info, MsgInfo::Int(_))) {
                let _ = self.put(cell);
            }
        }
        let transaction = output.transaction.inner().clone();
        Ok(Act::Played(Box::new(Played { account: address, transaction, after: output.new_state })))
    }
}

fn destination(info: &MsgInfo) -> Result<HashBytes, Refusal> {
    match info {
        MsgInfo::Int(info) => basechain_account(&info.dst),
        MsgInfo::ExtIn(info) => basechain_account(&info.dst),
        MsgInfo::ExtOut(_) => Err(Refusal::NotExternal("an outbound message".to_owned())),
    }
}

/// A shard's record of an account from the parts that every server gives. What it cannot say -
/// since when storage is paid, how many cells there are - is taken as "now" and computed.
///
/// # Errors
/// [`Fault::Cells`] when code or data are too deep.
pub fn assume_account(
    address: Address,
    balance_nanoton: u128,
    state: tycho_types::models::AccountState,
    last_trans_lt: u64,
    now: UnixSeconds,
) -> Result<ShardAccount, Fault> {
    use tycho_types::cell::{CellBuilder, CellTreeStats, Lazy};
    use tycho_types::models::{
        Account, CurrencyCollection, IntAddr, OptionalAccount, StorageInfo, StorageUsed,
    };
    use tycho_types::num::{Tokens, VarUint56};
    let mut account = Account {
        address: IntAddr::Std(StdAddr::new(address.workchain, HashBytes(address.hash))),
        storage_stat: StorageInfo {
            used: StorageUsed::default(),
            storage_extra: Default::default(),
            last_paid: u32::try_from(now.0).unwrap_or(u32::MAX),
            due_payment: None,
        },
        last_trans_lt,
        balance: CurrencyCollection::from(Tokens::new(balance_nanoton)),
        state,
    };
    let doing = "building an account";
    let body = CellBuilder::build_from(OptionalAccount(Some(account.clone()))).doing(doing)?;
    let CellTreeStats { bit_count, cell_count } =
        body.compute_unique_stats(1 << 20).unwrap_or_default();
    account.storage_stat.used =
        StorageUsed { cells: VarUint56::new(cell_count), bits: VarUint56::new(bit_count) };
    Ok(ShardAccount {
        account: Lazy::new(&OptionalAccount(Some(account))).doing(doing)?,
        last_trans_hash: HashBytes::ZERO,
        last_trans_lt,
    })
}
