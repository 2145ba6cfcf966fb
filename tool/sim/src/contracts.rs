//! The contracts themselves, on the real virtual machine, beside their model: every message that
//! the model takes in a block is sent to them from real wallets, and the two must agree.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use cocoon_contract::address::{self, Network, ProxyIdentity, StateInit};
use cocoon_contract::boc;
use cocoon_contract::cell::{Cell, Hash};
use cocoon_contract::message::{
    Body, ClientAction, ClientRequest, ProxyAction, ProxyRequest, SaveState,
};
use cocoon_contract::state::{ClientConst, ClientState, Phase, ProxyState, WorkerState};
use cocoon_contract::wallet::{CocoonOrder, Layout, Outgoing, external};
use cocoon_ledger::ClientStatus;
use cocoon_localchain::{Genesis, LocalChain};
use cocoon_units::{Address, Nanoton, PublicKey};
use ed25519_dalek::SigningKey;

use crate::chain::{DEPOSIT, PROXY_STAKE};
use crate::pool::ClientContract;
use crate::world::PRICE;

/// When the chain begins, milliseconds since 1970; the world's time is added.
pub(crate) const EPOCH_MS: u64 = 1_800_000_000_000;
/// What every wallet gets from the faucet.
const FUNDS: Nanoton = Nanoton(1_000_000_000_000);
/// What goes along with a message for its fees, as nodes attach it.
const GAS: u64 = 700_000_000;
/// What a proxy's account keeps of its gas money (`contracts/src/money.tolk`).
const MIN_BALANCE: u64 = 10_000_000;
/// What storage may take of an account between two messages.
const STORAGE_DUST: u64 = 100_000;
/// Blocks until every message has found its end.
const BLOCKS_MAX: usize = 40;

/// Whose wallet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purse {
    Proxy(u8),
    Client(u8),
}

/// The key of a wallet.
fn key(purse: Purse) -> SigningKey {
    let seed = match purse {
        Purse::Proxy(p) => 0x60 + p,
        Purse::Client(c) => 0x20 + c,
    };
    SigningKey::from_bytes(&[seed; 32])
}

fn wallet(purse: Purse) -> Option<StateInit> {
    let key = PublicKey(key(purse).verifying_key().to_bytes());
    let code = cocoon_contract::code::wallet().ok()?.into();
    address::wallet_init(Address::new(0, key.0), key, &code).ok()
}

/// The address of a wallet, which is known before it is deployed.
pub(crate) fn wallet_address(purse: Purse) -> Address {
    static ALL: LazyLock<BTreeMap<Purse, Address>> = LazyLock::new(|| {
        let all = (0..8).flat_map(|n| [Purse::Proxy(n), Purse::Client(n)]);
        all.filter_map(|purse| Some((purse, wallet(purse)?.address()))).collect()
    });
    // The code is part of the program, and worlds are smaller than that.
    ALL.get(&purse).copied().unwrap_or(Address::new(0, [0; 32]))
}

/// What went wrong: a difference, or a machine that refused.
pub(crate) type Checked<T> = Result<T, String>;

/// The contracts of one world.
pub(crate) struct Contracts {
    chain: LocalChain,
    network: Network,
    proxies: Vec<ProxyIdentity>,
    seqnos: BTreeMap<Purse, u32>,
    query_id: u64,
    /// Messages sent to them.
    pub(crate) messages: u64,
}

fn told<T, E: std::fmt::Display>(what: &str, result: Result<T, E>) -> Checked<T> {
    result.map_err(|fault| format!("{what}: {fault}"))
}

impl Contracts {
    /// A chain with funded wallets and a proxy contract for each proxy.
    pub(crate) fn new(network: Network, proxies: Vec<ProxyIdentity>) -> Checked<Self> {
        let genesis = Genesis::new([7; 32], EPOCH_MS);
        let chain = told("genesis", LocalChain::new(&genesis))?;
        let seqnos = BTreeMap::new();
        let mut all = Self { chain, network, proxies, seqnos, query_id: 0, messages: 0 };
        for number in 0..8 {
            for purse in [Purse::Proxy(number), Purse::Client(number)] {
                told("faucet", all.chain.mint(wallet_address(purse), FUNDS))?;
            }
        }
        all.settle(EPOCH_MS)?;
        for p in 0..all.proxies.len() {
            let init = told("proxy", address::proxy_init(&all.proxies[p], &all.network))?;
            let p = u8::try_from(p).unwrap_or(u8::MAX);
            let contract = init.address();
            all.send(Purse::Proxy(p), 0, &[Outgoing::deploy(init, Nanoton(GAS))])?;
            let action = ProxyAction::IncreaseStake { amount: Nanoton(PROXY_STAKE) };
            let excess = wallet_address(Purse::Proxy(p));
            let body = told("stake", ProxyRequest { query_id: 1, action, excess }.cell())?;
            let stake = Outgoing::to_contract(contract, Nanoton(PROXY_STAKE + GAS), body);
            all.send(Purse::Proxy(p), 0, &[stake])?;
        }
        Ok(all)
    }

    /// A client deploys its contract, pays in and shows a nonce.
    pub(crate) fn register(&mut self, p: u8, c: u8, nonce: u64, now_ms: u64) -> Checked<()> {
        let to = self.client(p, c)?;
        if self.data(to).is_none() {
            let init = told("client", address::client_init(&self.constants(p, c)?, &self.network))?;
            let deploy = Outgoing::deploy(init, Nanoton(GAS));
            self.send(Purse::Client(c), now_ms, &[deploy])?;
            self.top_up(p, c, DEPOSIT, now_ms)?;
        }
        self.ask(p, c, ClientAction::Register { nonce }, 0, now_ms)
    }

    /// A client pays in.
    pub(crate) fn top_up(&mut self, p: u8, c: u8, amount: u64, now_ms: u64) -> Checked<()> {
        self.ask(p, c, ClientAction::TopUp { amount: Nanoton(amount) }, amount, now_ms)
    }

    /// A client asks for its money.
    pub(crate) fn close(&mut self, p: u8, c: u8, now_ms: u64) -> Checked<()> {
        self.ask(p, c, ClientAction::RequestRefund, 0, now_ms)
    }

    /// Somebody hands in a payment signed, or not, by the proxy.
    pub(crate) fn hand_in(
        &mut self,
        from: Purse,
        to: Address,
        body: &[u8],
        now_ms: u64,
    ) -> Checked<()> {
        let body = told("payment", boc::decode(body, boc::Limits::MESSAGE))?;
        self.send(from, now_ms, &[Outgoing::to_contract(to, Nanoton(GAS), body)])
    }

    /// A worker is paid; its contract is deployed before.
    pub(crate) fn pay_out(
        &mut self,
        p: u8,
        owner: Address,
        body: &[u8],
        now_ms: u64,
    ) -> Checked<()> {
        let proxy = self.proxy(p)?;
        let public_key = self.proxies[usize::from(p)].public_key;
        let init = address::worker_init(owner, proxy, public_key, &self.network);
        let init = told("worker", init)?;
        let to = init.address();
        if self.data(to).is_none() {
            let deploy = Outgoing::deploy(init, Nanoton(GAS));
            self.send(Purse::Proxy(p), now_ms, &[deploy])?;
        }
        self.hand_in(Purse::Proxy(p), to, body, now_ms)
    }

    /// A proxy commits its state.
    pub(crate) fn commit(
        &mut self,
        p: u8,
        seqno: u32,
        session: [u8; 32],
        now_ms: u64,
    ) -> Checked<()> {
        self.query_id += 1;
        let seqno = told("seqno", i32::try_from(seqno))?;
        let save = SaveState { query_id: self.query_id, seqno, session_hash: Hash(session) };
        let body = told("commit", Body::SaveState(save).cell())?;
        let to = self.proxy(p)?;
        self.send(Purse::Proxy(p), now_ms, &[Outgoing::to_contract(to, Nanoton(1), body)])
    }

    /// Compares a client's contract with its model.
    pub(crate) fn compare_client(&self, p: u8, c: u8, model: &ClientContract) -> Checked<()> {
        let at = self.client(p, c)?;
        let state = self.data(at).ok_or_else(|| format!("client {c} has no contract"))?;
        let (state, _) = told("client's state", ClientState::parse(&state))?;
        let status = match state.phase {
            Phase::Normal => ClientStatus::Normal,
            Phase::Closing => ClientStatus::Closing,
            Phase::Closed => ClientStatus::Closed,
        };
        let real = (status, state.balance.0, state.stake.0, state.tokens_used.0);
        let told = (model.status, model.balance, model.stake, model.used);
        let is_same = real == told;
        is_same.then_some(()).ok_or_else(|| {
            format!("client {c} at proxy {p}: the contract says {real:?}, its model {told:?}")
        })
    }

    /// Compares what a worker was paid.
    pub(crate) fn compare_worker(&self, p: u8, owner: Address, model: u64) -> Checked<()> {
        let key = self.proxies[usize::from(p)].public_key;
        let at = told("worker", address::worker(owner, self.proxy(p)?, key, &self.network))?;
        let state = self.data(at).ok_or("a worker has no contract")?;
        let (state, _) = told("worker's state", WorkerState::parse(&state))?;
        let (real, told) = (state.tokens.0, model);
        let is_same = real == told;
        is_same.then_some(()).ok_or_else(|| {
            format!("worker at proxy {p}: the contract paid {real} tokens, its model {told}")
        })
    }

    /// What a proxy's contract has: its share of every token that a worker was paid for, what is
    /// charged and not yet paid out, and what its clients have left.
    pub(crate) fn check_coins(
        &self,
        p: u8,
        model: &crate::pool::Contracts,
        (paid, charged, left): (u64, u64, u64),
    ) -> Checked<()> {
        let at = self.proxy(p)?;
        let state = self.data(at).ok_or("a proxy has no contract")?;
        let (state, _) = told("proxy's state", ProxyState::parse(&state))?;
        let own = state.balance.0 + state.stake.0;
        let his = if model.phase == Phase::Closed { 0 } else { model.of_owner() };
        // What lay there for storage and gas is used before the owner's part.
        let spared = if model.lent > 0 && his > 0 { model.lent.min(GAS) } else { 0 };
        // Storage took of the spare gas money after the model had looked.
        let dust = if model.spared > 0 && his > 0 { STORAGE_DUST } else { 0 };
        if !(his.saturating_sub(dust)..=his + spared).contains(&own) {
            return Err(format!("proxy {p} owns {own} for {paid} tokens, not {his}"));
        }
        let account = self.chain.account(at).and_then(|account| account.load_account().ok()?);
        let coins = account.map_or(0, |account| account.balance.tokens.into_inner());
        // Workers may be paid before the clients are charged; deposits lend the difference.
        let owed =
            i128::from(own + left) + (i128::from(charged) - i128::from(paid)) * i128::from(PRICE);
        if i128::try_from(coins).unwrap_or(i128::MAX) < owed {
            return Err(format!("proxy {p} has {coins}, owes {owed}"));
        }
        Ok(())
    }

    /// Gas money on a proxy's account beyond what it keeps, when clients are owed `pool`.
    pub(crate) fn spare(&self, p: u8, pool: u64) -> u64 {
        let Ok(at) = self.proxy(p) else { return 0 };
        let Some((state, _)) = self.data(at).and_then(|data| ProxyState::parse(&data).ok()) else {
            return 0;
        };
        let account = self.chain.account(at).and_then(|account| account.load_account().ok()?);
        let coins = account.map_or(0, |account| account.balance.tokens.into_inner());
        let kept = u128::from(MIN_BALANCE + state.balance.0 + state.stake.0 + pool);
        u64::try_from(coins.saturating_sub(kept)).unwrap_or(u64::MAX)
    }

    /// The address of a proxy's contract.
    fn proxy(&self, p: u8) -> Checked<Address> {
        told("proxy", address::proxy(&self.proxies[usize::from(p)], &self.network))
    }

    fn constants(&self, p: u8, c: u8) -> Checked<ClientConst> {
        let public_key = self.proxies[usize::from(p)].public_key;
        let owner = wallet_address(Purse::Client(c));
        Ok(ClientConst { owner, proxy: self.proxy(p)?, public_key })
    }

    /// The address of a client's contract.
    pub(crate) fn client(&self, p: u8, c: u8) -> Checked<Address> {
        told("client", address::client(&self.constants(p, c)?, &self.network))
    }

    fn ask(&mut self, p: u8, c: u8, action: ClientAction, amount: u64, now_ms: u64) -> Checked<()> {
        self.query_id += 1;
        let excess = wallet_address(Purse::Client(c));
        let request = ClientRequest { query_id: self.query_id, action, excess };
        let body = told("request", Body::Client(request).cell())?;
        let message = Outgoing::to_contract(self.client(p, c)?, Nanoton(amount + GAS), body);
        self.send(Purse::Client(c), now_ms, &[message])
    }

    pub(crate) fn send(&mut self, from: Purse, now_ms: u64, messages: &[Outgoing]) -> Checked<()> {
        let now_ms = (EPOCH_MS + now_ms).max(self.chain.last_ms() + 1);
        let seqno = self.seqnos.entry(from).or_default();
        let valid_until_s = u32::try_from(now_ms / 1_000 + 600).unwrap_or(u32::MAX);
        let order = told("order", CocoonOrder::new(*seqno, valid_until_s, messages))?;
        let body = told("order", order.sign(&key(from)))?;
        let init = wallet(from).ok_or("the wallet's code is missing")?;
        let deploys = (*seqno == 0).then_some(&init);
        *seqno += 1;
        let message = external(&init.address(), deploys, &body, Layout::References);
        let message = boc::encode(&told("external message", message)?);
        // Messages that come now must not see a clock that stands.
        told("clock", self.chain.tick(now_ms).map(|_| ()))?;
        told("wallet", self.chain.submit(&message).map(|_| ()))?;
        self.messages += messages.len() as u64;
        self.settle(now_ms)
    }

    /// Makes blocks until nothing is on its way.
    fn settle(&mut self, now_ms: u64) -> Checked<()> {
        for block in 1..=BLOCKS_MAX as u64 {
            told("block", self.chain.tick(now_ms + block).map(|_| ()))?;
            if self.chain.waiting() == (0, 0, 0) {
                return Ok(());
            }
        }
        Err(format!("{:?} messages go on for ever", self.chain.waiting()))
    }

    fn data(&self, address: Address) -> Option<Cell> {
        let account = self.chain.account(address)?.load_account().ok()??;
        match account.state {
            tycho_types::models::AccountState::Active(state) => state.data,
            _ => None,
        }
    }
}
