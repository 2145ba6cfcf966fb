//! A purse, its hand and a chain, driven by a test.

use std::collections::BTreeMap;

use cocoon_contract::cell::Hash;
use cocoon_contract::code;
use cocoon_contract::message::Body;
use cocoon_contract::wallet::Outgoing;
use cocoon_localchain::{Entry, Genesis, LocalChain};
use cocoon_purse::{
    Act, Delivery, Label, Note, Order, Outcome, Passed, Purse, Sent, Settings, Sighting, Wallet,
    WalletStanding,
};
use cocoon_units::{Address, Nanoton};
use ed25519_dalek::SigningKey;
use tycho_types::cell::{CellBuilder, CellSlice};
use tycho_types::models::{
    AccountState, ComputePhase, IntAddr, MsgInfo, OwnedMessage, ShardAccount, TxInfo,
};

pub(crate) const BEGIN_MS: u64 = 1_760_000_000_000;
pub(crate) const TON: u64 = 1_000_000_000;

pub(crate) fn cocoon_wallet() -> Wallet {
    let key = SigningKey::from_bytes(&[3; 32]);
    let owner = Address::new(0, [0x44; 32]);
    Wallet::cocoon(owner, key, &code::wallet().unwrap().into()).unwrap()
}

/// An order of `value` nanoTON to account number `to`, whose body carries the label.
pub(crate) fn order(label: u64, to: u8, value: u64) -> Order {
    let body = Body::Excesses { query_id: label }.cell().unwrap();
    let message = Outgoing {
        to: Address::new(0, [to; 32]),
        value: Nanoton(value),
        bounce: false,
        state_init: None,
        body: Some(body),
    };
    Order { label: Label(label), message }
}

/// The stage.
pub(crate) struct Stage {
    pub(crate) chain: LocalChain,
    pub(crate) wallet: Wallet,
    pub(crate) settings: Settings,
    pub(crate) purse: Purse,
    pub(crate) file: Option<Vec<u8>>,
    pub(crate) outcomes: BTreeMap<u64, Vec<Outcome>>,
    pub(crate) notes: Vec<Note>,
    pub(crate) sends: usize,
    after_lt: Option<u64>,
    /// Acts left before the process dies.
    pub(crate) dies_after: Option<usize>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::with(cocoon_wallet())
    }

    pub(crate) fn with(wallet: Wallet) -> Self {
        let settings = Settings { resend_every_ms: 1_000, ..Settings::default() };
        let purse = Purse::open(wallet.clone(), settings.clone(), None).unwrap();
        Self {
            chain: LocalChain::new(&Genesis::new([1; 32], BEGIN_MS)).unwrap(),
            wallet,
            settings,
            purse,
            file: None,
            outcomes: BTreeMap::new(),
            notes: Vec::new(),
            sends: 0,
            after_lt: None,
            dies_after: None,
        }
    }

    pub(crate) fn fund(&mut self, nanoton: u64) {
        self.chain.mint(self.wallet.address(), Nanoton(nanoton)).unwrap();
        self.block(400);
    }

    pub(crate) fn block(&mut self, ms: u64) {
        let now_ms = self.chain.last_ms() + ms;
        let _ = self.chain.tick(now_ms).unwrap();
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.chain.last_ms()
    }

    /// The process dies and starts again with what it kept.
    pub(crate) fn restart(&mut self) {
        self.purse =
            Purse::open(self.wallet.clone(), self.settings.clone(), self.file.as_deref()).unwrap();
        self.after_lt = self.purse.history_from_lt();
        self.dies_after = None;
    }

    /// Looks at the chain as the hand does. False when the process died.
    pub(crate) fn look(&mut self) -> bool {
        let address = self.wallet.address();
        let (sighting, last_lt) = sighting(&self.chain, address);
        let passed = match self.after_lt {
            None => Vec::new(),
            Some(after) => self.transactions(address, after).iter().map(passed).collect(),
        };
        self.after_lt = Some(last_lt);
        let mut acts = Vec::new();
        self.purse.observed(sighting, &passed, self.now_ms(), &mut acts);
        if !self.perform(acts) {
            return false;
        }
        for lookout in self.purse.lookouts() {
            let entries = self.transactions(lookout.account, lookout.after_lt);
            let found = entries.iter().find_map(|entry| arrival(entry, lookout.message));
            let last = entries.last().map_or(lookout.after_lt, |entry| entry.lt);
            let mut acts = Vec::new();
            let delivery = found.unwrap_or(Delivery::NotUpTo { lt: last });
            self.purse.looked(lookout.label, delivery, &mut acts);
            if !self.perform(acts) {
                return false;
            }
        }
        true
    }

    fn transactions(&self, address: Address, after_lt: u64) -> Vec<Entry> {
        let newest = self.chain.transactions(address, u64::MAX);
        let mut entries: Vec<_> = newest.take_while(|e| e.lt > after_lt).cloned().collect();
        entries.reverse();
        entries
    }

    fn perform(&mut self, acts: Vec<Act>) -> bool {
        for act in acts {
            if let Some(left) = &mut self.dies_after {
                if *left == 0 {
                    return false;
                }
                *left -= 1;
            }
            match act {
                Act::Keep(bytes) => self.file = Some(bytes),
                Act::Send(boc) => {
                    self.sends += 1;
                    // A duplicate or refused message leaves no trace.
                    let _ = self.chain.submit(&boc);
                }
                Act::Report(report) => {
                    self.outcomes.entry(report.label.0).or_default().push(report.outcome);
                }
                Act::Note(note) => self.notes.push(note),
            }
        }
        true
    }

    /// Blocks and looks until nothing waits and nothing is on its way.
    pub(crate) fn settle(&mut self) {
        for _ in 0..2_000 {
            assert!(self.look());
            if self.purse.is_idle() {
                return;
            }
            self.block(1_000);
        }
        panic!("never idle: {:?}, notes {:?}", self.purse.status(), self.notes);
    }

    /// How often account `to` got a message with this label.
    pub(crate) fn received(&self, to: u8, label: u64) -> usize {
        let body = Body::Excesses { query_id: label }.cell().unwrap();
        let body = *body.repr_hash();
        let is_it = |entry: &&Entry| {
            let message = entry.transaction.load().unwrap().in_msg.unwrap();
            let message: OwnedMessage = message.parse().unwrap();
            body_of(&message) == Hash(body.0)
        };
        self.chain.transactions(Address::new(0, [to; 32]), u64::MAX).filter(is_it).count()
    }

    pub(crate) fn balance(&self, address: Address) -> u64 {
        sighting(&self.chain, address).0.balance.0
    }
}

fn sighting(chain: &LocalChain, address: Address) -> (Sighting, u64) {
    let state: Option<&ShardAccount> = chain.account(address);
    let last_lt = state.map_or(0, |state| state.last_trans_lt);
    let account = state.and_then(|state| state.load_account().unwrap());
    let balance = account.as_ref().map_or(0, |account| account.balance.tokens.into_inner());
    let (standing, data) = match account.map(|account| account.state) {
        Some(AccountState::Active(init)) => (WalletStanding::Active, init.data),
        Some(AccountState::Frozen(_)) => (WalletStanding::Frozen, None),
        _ => (WalletStanding::Uninit, None),
    };
    let time_s = u64::from(chain.master_head().gen_utime);
    let balance = Nanoton(u64::try_from(balance).unwrap());
    (Sighting { standing, balance, data, last_lt, time_s }, last_lt)
}

fn passed(entry: &Entry) -> Passed {
    let transaction = entry.transaction.load().unwrap();
    let TxInfo::Ordinary(info) = transaction.load_info().unwrap() else { panic!("ordinary") };
    let exit_code = match &info.compute_phase {
        ComputePhase::Executed(phase) => Some(phase.exit_code),
        ComputePhase::Skipped(_) => None,
    };
    let in_msg: OwnedMessage = transaction.in_msg.clone().unwrap().parse().unwrap();
    let is_external = matches!(in_msg.info, MsgInfo::ExtIn(_));
    let sent = transaction.out_msgs.values().map(|cell| {
        let cell = cell.unwrap();
        let message: OwnedMessage = cell.parse().unwrap();
        let MsgInfo::Int(info) = &message.info else { panic!("internal") };
        let IntAddr::Std(to) = &info.dst else { panic!("standard") };
        Sent {
            message: Hash(cell.repr_hash().0),
            to: Address::new(to.workchain, to.address.0),
            body: body_of(&message),
        }
    });
    Passed {
        lt: entry.lt,
        external_body: is_external.then(|| body_of(&in_msg)),
        is_aborted: info.aborted,
        exit_code,
        sent: sent.collect(),
    }
}

fn arrival(entry: &Entry, message: Hash) -> Option<Delivery> {
    let transaction = entry.transaction.load().unwrap();
    let in_msg = transaction.in_msg.as_ref()?;
    if in_msg.repr_hash().0 != message.0 {
        return None;
    }
    let passed = passed(entry);
    let (exit_code, is_aborted) = (passed.exit_code, passed.is_aborted);
    Some(Delivery::Found { lt: entry.lt, exit_code, is_aborted })
}

fn body_of(message: &OwnedMessage) -> Hash {
    let mut builder = CellBuilder::new();
    builder.store_slice(CellSlice::apply(&message.body).unwrap()).unwrap();
    Hash(builder.build().unwrap().repr_hash().0)
}
