//! The machine: inputs in, blocks out.

use std::collections::HashMap;

use cocoon_units::{Address, Nanoton};
use sha2::{Digest as _, Sha256};
use tycho_executor::{Executor, ExecutorParams};
use tycho_types::boc::Boc;
use tycho_types::cell::{Cell, HashBytes, Lazy};
use tycho_types::models::{
    Account, BlockId, CurrencyCollection, MsgInfo, ShardAccount, ShardIdent, StdAddr, Transaction,
};
use tycho_types::num::Tokens;
use tycho_vm::BehaviourModifiers;

use crate::arrival::{Waiting, basechain_account, deliver_faucet, destination, message_info};
use crate::block::{
    MasterBooks, Moment, SealedBlock, ShardBooks, ShardReport, seal_master, seal_shard, zero_states,
};
use crate::collate::{Collation, no_account};
use crate::genesis::{Genesis, Network};
use crate::getter::{GetterOutput, StackEntry, run_getter};
use crate::history::{Entry, History, Sealed};
use crate::input::{Input, Trouble};
use crate::{Fault, Refusal};

/// Logical time of a block starts at a multiple of this, as on TON.
const LT_ALIGN: u64 = 1_000_000;

/// Coins that came into being and where they are, in nanoton. The law of the chain:
/// `minted = held + waiting + fees + burned + stranded`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coins {
    /// Made by the faucet.
    pub minted: u128,
    /// On accounts.
    pub held: u128,
    /// In messages that wait in the shard's queue, with their forwarding fees.
    pub waiting: u128,
    /// Collected as fees.
    pub fees: u128,
    /// Destroyed by contracts that asked for it.
    pub burned: u128,
    /// Sent to a workchain that this chain does not run: lost, and counted.
    pub stranded: u128,
}

/// What an input led to.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// An external message waits for the next block; its hash.
    Taken(HashBytes),
    /// The faucet's coins arrive with the next block.
    Ordered,
    /// A block was made.
    Sealed(Box<Sealed>),
    /// The clock struck and no block was made, as the switched-on trouble demands.
    Idle,
    /// The switches are set.
    Switched,
}

/// A message tried out on the current state; nothing of it happened.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The transaction that would be made.
    pub transaction: Lazy<Transaction>,
    /// The account after it.
    pub after: ShardAccount,
}

/// A TON network of one shard, one masterchain and one validator.
///
/// ```
/// use cocoon_localchain::{Genesis, LocalChain};
/// use cocoon_units::{Address, Nanoton};
///
/// let mut chain = LocalChain::new(&Genesis::new([7; 32], 1_700_000_000_000))?;
/// let alice = Address::new(0, [1; 32]);
/// chain.mint(alice, Nanoton::TON)?;
/// chain.tick(1_700_000_000_400)?;
/// assert_eq!(chain.coins().held, 1_000_000_000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct LocalChain {
    pub(crate) genesis: Genesis,
    pub(crate) network: Network,
    pub(crate) shard: SealedBlock,
    pub(crate) master: SealedBlock,
    pub(crate) shard_books: ShardBooks,
    pub(crate) master_books: MasterBooks,
    pub(crate) accounts: HashMap<HashBytes, ShardAccount>,
    pub(crate) waiting: Waiting,
    pub(crate) history: History,
    pub(crate) trouble: Trouble,
    pub(crate) coins: Coins,
    pub(crate) last_ms: u64,
}

impl LocalChain {
    /// A chain that has made its first block, which is its key block.
    ///
    /// # Errors
    /// [`Fault::Config`] when the given configuration is unusable.
    pub fn new(genesis: &Genesis) -> Result<Self, Fault> {
        let network = genesis.network()?;
        let gen_utime = seconds(genesis.now_ms);
        let (shard, master, shard_books, master_books) = zero_states(&network, gen_utime)?;
        let limits = &genesis.limits;
        let zero = (shard.clone(), master.clone());
        let mut chain = Self {
            genesis: genesis.clone(),
            network,
            history: History::new(zero, limits.kept_blocks, limits.kept_transactions),
            shard,
            master,
            shard_books,
            master_books,
            accounts: HashMap::new(),
            waiting: Waiting::default(),
            trouble: Trouble::default(),
            coins: Coins::default(),
            last_ms: genesis.now_ms,
        };
        chain.seal_next(genesis.now_ms)?;
        Ok(chain)
    }

    /// Applies one input; see the methods below for each kind.
    ///
    /// # Errors
    /// [`Fault`] when the chain itself cannot go on. A refused message is `Ok(Err(_))`: it is
    /// the sender's trouble and leaves no trace.
    pub fn apply(&mut self, input: &Input) -> Result<Result<Outcome, Refusal>, Fault> {
        Ok(match input {
            Input::External(boc) => self.submit(boc).map(Outcome::Taken),
            Input::Faucet { to, amount } => self.mint(*to, *amount).map(|()| Outcome::Ordered),
            Input::Tick { now_ms } => Ok(match self.tick(*now_ms)? {
                Some(sealed) => Outcome::Sealed(Box::new(sealed.clone())),
                None => Outcome::Idle,
            }),
            Input::Trouble(trouble) => {
                self.trouble = *trouble;
                Ok(Outcome::Switched)
            }
        })
    }

    /// Takes an external message (a bag of cells) if its contract accepts it in the current
    /// state; it is processed by the next block. Returns the hash of its cell.
    ///
    /// # Errors
    /// [`Refusal`]; nothing changed.
    pub fn submit(&mut self, boc: &[u8]) -> Result<HashBytes, Refusal> {
        let limits = &self.network.parsed.size_limits;
        let limit = usize::try_from(limits.max_ext_msg_size).unwrap_or(usize::MAX);
        if boc.len() > limit {
            return Err(Refusal::TooLarge { size: boc.len(), limit });
        }
        let cell = Boc::decode(boc).map_err(|error| Refusal::NotABag(error.to_string()))?;
        let (depth, limit) = (cell.repr_depth(), limits.max_ext_msg_depth);
        if depth > limit {
            return Err(Refusal::TooDeep { depth, limit });
        }
        let account = destination(&cell)?;
        let hash = *cell.repr_hash();
        if self.waiting.hashes.contains(&hash) {
            return Err(Refusal::Duplicate);
        }
        self.check_room()?;
        self.check_accepted(account, &cell)?;
        if self.trouble.lose_externals > 0 {
            self.trouble.lose_externals -= 1;
            return Ok(hash);
        }
        self.waiting.hashes.insert(hash);
        self.waiting.externals.push_back((account, cell));
        Ok(hash)
    }

    /// Orders coins from the faucet: the next block delivers them in a message from the
    /// masterchain's zero address, from which new coins come on TON.
    ///
    /// # Errors
    /// [`Refusal`]; nothing changed.
    pub fn mint(&mut self, to: Address, amount: Nanoton) -> Result<(), Refusal> {
        if to.workchain != 0 {
            return Err(Refusal::Workchain(i32::from(to.workchain)));
        }
        let limit_nanoton = self.genesis.limits.faucet_nanoton;
        if amount == Nanoton::ZERO || amount.0 > limit_nanoton {
            return Err(Refusal::Faucet { asked_nanoton: amount.0, limit_nanoton });
        }
        self.check_room()?;
        self.waiting.faucet.push_back((HashBytes(to.hash), amount));
        Ok(())
    }

    /// Lets the block clock strike. Makes one block of the shard and one of the masterchain,
    /// unless trouble that was switched on forbids it.
    ///
    /// # Errors
    /// [`Fault::Clock`] when time runs backwards; other faults are bugs.
    pub fn tick(&mut self, now_ms: u64) -> Result<Option<&Sealed>, Fault> {
        if now_ms < self.last_ms {
            return Err(Fault::Clock { now_ms, last_ms: self.last_ms });
        }
        let due_ms = self.last_ms.saturating_add(self.trouble.late_ms);
        if self.trouble.standing_still || now_ms < due_ms {
            return Ok(None);
        }
        self.seal_next(now_ms)?;
        Ok(self.history.last())
    }

    /// Switches failures on or off.
    pub fn set_trouble(&mut self, trouble: Trouble) {
        self.trouble = trouble;
    }

    /// The failures that are switched on.
    #[must_use]
    pub fn trouble(&self) -> Trouble {
        self.trouble
    }

    /// The account as the last block left it; `None` when it does not exist.
    #[must_use]
    pub fn account(&self, address: Address) -> Option<&ShardAccount> {
        if address.workchain != 0 {
            return None;
        }
        self.accounts.get(&HashBytes(address.hash))
    }

    /// All accounts, in no order.
    pub fn accounts(&self) -> impl Iterator<Item = (Address, &ShardAccount)> {
        self.accounts.iter().map(|(hash, state)| (Address::new(0, hash.0), state))
    }

    /// Transactions of an account, newest first, at or before logical time `lt`.
    pub fn transactions(&self, address: Address, lt: u64) -> impl Iterator<Item = &Entry> {
        let account = HashBytes(address.hash);
        self.history.transactions(account, lt).filter(move |_| address.workchain == 0)
    }

    /// Runs a get-method in the current state; `None` as in [`run_getter`].
    #[must_use]
    pub fn run_getter(
        &self,
        address: Address,
        method: u32,
        stack: &[StackEntry],
    ) -> Option<GetterOutput> {
        let account: Account = self.account(address)?.load_account().ok()??;
        let config = &self.network.published.params;
        run_getter(config, &account, self.shard.gen_utime, method, stack)
    }

    /// Runs a message (external or internal) on its destination's current state and shows what
    /// would happen. With `ignore_signatures` every signature is taken as good, so that fees can
    /// be estimated before anything is signed.
    ///
    /// # Errors
    /// [`Refusal`] when the message would not be accepted.
    pub fn try_message(&self, message: &Cell, ignore_signatures: bool) -> Result<Trial, Refusal> {
        let info = message_info(message)?;
        let (account, is_external) = match &info {
            MsgInfo::Int(info) => (basechain_account(&info.dst)?, false),
            _ => (destination(message)?, true),
        };
        let refuse = |error: String| Refusal::NotAccepted(error);
        let absent = no_account().map_err(|fault| refuse(fault.to_string()))?;
        let before = self.accounts.get(&account).unwrap_or(&absent);
        let mut params = self.params(self.moment(self.last_ms, 0));
        params.vm_modifiers.chksig_always_succeed = ignore_signatures;
        let output = Executor::new(&params, &self.network.parsed)
            .with_min_lt(params.block_lt)
            .begin_ordinary(&StdAddr::new(0, account), is_external, message.clone(), before)
            .map_err(|error| refuse(error.to_string()))?
            .commit()
            .map_err(|error| refuse(format!("{error:#}")))?;
        Ok(Trial { transaction: output.transaction, after: output.new_state })
    }

    /// Where all coins are.
    #[must_use]
    pub fn coins(&self) -> Coins {
        Coins {
            held: self.shard_books.accounts.root_extra().balance.tokens.into_inner(),
            waiting: self.shard_books.queue.value_nanoton(),
            fees: self.shard_books.fees.tokens.into_inner(),
            ..self.coins
        }
    }

    /// What the chain was born with.
    #[must_use]
    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// The configuration as it stands in masterchain blocks.
    #[must_use]
    pub fn config(&self) -> &tycho_types::models::BlockchainConfig {
        &self.network.published
    }

    /// The last block of workchain 0.
    #[must_use]
    pub fn shard_head(&self) -> &SealedBlock {
        &self.shard
    }

    /// The last block of the masterchain.
    #[must_use]
    pub fn master_head(&self) -> &SealedBlock {
        &self.master
    }

    /// Time of the last block, milliseconds since 1970.
    #[must_use]
    pub fn last_ms(&self) -> u64 {
        self.last_ms
    }

    /// Messages that wait for the next block: external ones, faucet orders, queued internal ones.
    #[must_use]
    pub fn waiting(&self) -> (usize, usize, usize) {
        let waiting = &self.waiting;
        (waiting.externals.len(), waiting.faucet.len(), self.shard_books.queue.len())
    }

    /// The states before the first blocks: of the shard, of the masterchain.
    #[must_use]
    pub fn zero_states(&self) -> (&SealedBlock, &SealedBlock) {
        let (shard, master) = self.history.zero();
        (shard, master)
    }

    /// A kept block by shard and number.
    #[must_use]
    pub fn block(&self, shard: ShardIdent, seqno: u32) -> Option<&SealedBlock> {
        self.history.block(shard, seqno)
    }

    /// A kept block by its whole identity.
    #[must_use]
    pub fn block_by_id(&self, id: &BlockId) -> Option<&SealedBlock> {
        self.history.block_by_id(id)
    }

    /// A kept beat by number.
    #[must_use]
    pub fn sealed(&self, seqno: u32) -> Option<&Sealed> {
        self.history.sealed(seqno)
    }

    /// The first kept beat that `is_late_enough`; the test must be false before and true after
    /// some point in time.
    pub fn first_sealed(&self, is_late_enough: impl Fn(&Sealed) -> bool) -> Option<&Sealed> {
        self.history.first_sealed(is_late_enough)
    }

    /// Identity of any masterchain block since the first, kept or not.
    #[must_use]
    pub fn master_id(&self, seqno: u32) -> Option<BlockId> {
        if seqno == self.master.id.seqno {
            return Some(self.master.id);
        }
        let (_, entry) = self.master_books.previous.get(seqno).ok()??;
        Some(entry.block_ref.as_block_id(ShardIdent::MASTERCHAIN))
    }

    /// The validator's signature under a masterchain block: its short node id, the signature.
    #[must_use]
    pub fn sign_block(&self, id: &BlockId) -> ([u8; 32], [u8; 64]) {
        let validator = &self.network.validator;
        (validator.node_id_short(), validator.sign(id))
    }

    fn check_room(&self) -> Result<(), Refusal> {
        let waiting = self.waiting.externals.len().saturating_add(self.waiting.faucet.len());
        let limit = usize::try_from(self.genesis.limits.waiting_messages).unwrap_or(usize::MAX);
        if waiting >= limit {
            return Err(Refusal::QueueFull { waiting, limit });
        }
        Ok(())
    }

    fn check_accepted(&self, account: HashBytes, message: &Cell) -> Result<(), Refusal> {
        let refuse = |error: String| Refusal::NotAccepted(error);
        let state = self
            .accounts
            .get(&account)
            .ok_or_else(|| refuse("there is no such account".to_owned()))?;
        let params = self.params(self.moment(self.last_ms, 0));
        Executor::new(&params, &self.network.parsed)
            .with_min_lt(params.block_lt)
            .check_ordinary(&StdAddr::new(0, account), message.clone(), state)
            .map_err(|error| refuse(error.to_string()))
    }

    /// The next block's place in time; `faucet_orders` logical times are kept free before it.
    fn moment(&self, now_ms: u64, faucet_orders: usize) -> Moment {
        let seqno = self.master.id.seqno.saturating_add(1);
        let orders = u64::try_from(faucet_orders).unwrap_or(u64::MAX);
        let end_lt = self.shard.end_lt.max(self.master.end_lt).saturating_add(orders);
        let start_lt = (end_lt / LT_ALIGN).saturating_add(1).saturating_mul(LT_ALIGN);
        let mut hasher = Sha256::new();
        hasher.update(b"cocoon local chain: block seed");
        hasher.update(self.genesis.seed);
        hasher.update(seqno.to_be_bytes());
        Moment {
            seqno,
            gen_utime: seconds(now_ms),
            start_lt,
            rand_seed: HashBytes(hasher.finalize().into()),
        }
    }

    fn params(&self, moment: Moment) -> ExecutorParams {
        ExecutorParams {
            rand_seed: moment.rand_seed,
            block_unixtime: moment.gen_utime,
            block_lt: moment.start_lt,
            prev_mc_block_id: Some(self.master.id),
            vm_modifiers: BehaviourModifiers::default(),
            // As TON does; the executor's defaults are those of another network.
            disable_delete_frozen_accounts: true,
            charge_action_fees_on_fail: true,
            strict_extra_currency: true,
            ..ExecutorParams::default()
        }
    }

    fn seal_next(&mut self, now_ms: u64) -> Result<(), Fault> {
        let moment = self.moment(now_ms, self.waiting.faucet.len());
        let params = self.params(moment);
        let mut collation = Collation::new(
            &self.network,
            &params,
            &self.accounts,
            self.genesis.limits.block_transactions,
        );
        collation.deliver_queue(&self.shard_books.queue)?;
        let first_lt = self.shard.end_lt.max(self.master.end_lt);
        let (faucet_done, minted) =
            deliver_faucet(&mut collation, &self.waiting.faucet, first_lt, moment.gen_utime)?;
        let mut externals_done = 0;
        for (account, cell) in &self.waiting.externals {
            if !collation.deliver_external(*account, cell)? {
                break;
            }
            externals_done += 1;
        }
        collation.deliver_fresh()?;

        let executed = std::mem::take(&mut collation.executed);
        let (burned, stranded) = (collation.burned, collation.stranded);
        let dropped = (collation.skipped, collation.undeliverable);
        let touched: Vec<_> = collation
            .touched
            .iter()
            .map(|(account, touched)| (*account, touched.exists.then(|| touched.state.clone())))
            .collect();
        // On copies, so that a fault leaves the chain as it was.
        let mut shard_books = self.shard_books.clone();
        let mut master_books = self.master_books.clone();
        let (shard, fees) = seal_shard(
            &self.network,
            &mut shard_books,
            &self.shard,
            &self.master,
            moment,
            collation,
        )?;
        let minted_value = CurrencyCollection::from(Tokens::new(minted));
        let report = ShardReport { block: &shard, fees, minted: minted_value, burned };
        let master = seal_master(&self.network, &mut master_books, &self.master, moment, &report)?;

        (self.shard_books, self.master_books) = (shard_books, master_books);
        self.waiting.done(externals_done, faucet_done);
        self.coins.minted = self.coins.minted.saturating_add(minted);
        self.coins.burned = self.coins.burned.saturating_add(burned.into_inner());
        self.coins.stranded = self.coins.stranded.saturating_add(stranded);
        self.write_accounts(touched);
        self.remember(&shard, &master, executed, dropped);
        self.last_ms = now_ms;
        self.shard = shard;
        self.master = master;
        Ok(())
    }

    fn write_accounts(&mut self, touched: Vec<(HashBytes, Option<ShardAccount>)>) {
        for (account, state) in touched {
            match state {
                Some(state) => self.accounts.insert(account, state),
                None => self.accounts.remove(&account),
            };
        }
    }

    fn remember(
        &mut self,
        shard: &SealedBlock,
        master: &SealedBlock,
        executed: Vec<(HashBytes, u64, Lazy<Transaction>)>,
        (skipped, undeliverable): (u32, u32),
    ) {
        let transactions = executed.iter().map(|(account, lt, _)| (*account, *lt)).collect();
        for (account, lt, transaction) in executed {
            let hash = *transaction.repr_hash();
            let block_seqno = shard.id.seqno;
            self.history.push_transaction(Entry { account, lt, hash, block_seqno, transaction });
        }
        self.history.push_block(Sealed {
            shard: shard.clone(),
            master: master.clone(),
            transactions,
            skipped,
            undeliverable,
        });
    }
}

fn seconds(now_ms: u64) -> u32 {
    u32::try_from(now_ms / 1000).unwrap_or(u32::MAX)
}
