//! What hands see: accounts as the chain shows them, from the model.

use cocoon_contract::address;
use cocoon_contract::address::ProxyIdentity;
use cocoon_contract::cell::{Cell, Hash};
use cocoon_contract::state::{ClientConst, ClientState, Phase, ProxyState, WorkerState};
use cocoon_ledger::ClientStatus;
use cocoon_settle::Seen;
use cocoon_units::{Address, Nanoton, Tokens};

use super::After;
use crate::contracts::EPOCH_MS;
use crate::liar::account;
use crate::world::World;

/// Coins that every account has for its storage.
const STORAGE: Nanoton = Nanoton(250_000_000);

/// Unix seconds of the chain.
pub(super) fn unix_s(ms: u64) -> u64 {
    (EPOCH_MS + ms) / 1_000
}

/// The world's time at a second of the chain.
pub(super) fn world_ms(unix_s: u64) -> u64 {
    (unix_s * 1_000).saturating_sub(EPOCH_MS)
}

fn short(unix_s: u64) -> u32 {
    u32::try_from(unix_s).unwrap_or(u32::MAX)
}

impl World {
    /// Who a proxy is, as contracts know it.
    pub(super) fn proxy_identity(p: u8) -> ProxyIdentity {
        let identity = crate::proxy::identity(p);
        let public_key = identity.public_key();
        ProxyIdentity { owner: identity.owner, public_key, root: identity.root }
    }

    pub(super) fn proxy_contract(&self, p: u8) -> Option<Address> {
        address::proxy(&Self::proxy_identity(p), &self.root.network).ok()
    }

    pub(super) fn worker_contract(&self, w: u8, p: u8) -> Option<Address> {
        let identity = Self::proxy_identity(p);
        let proxy = self.proxy_contract(p)?;
        let owner = crate::worker::owner(w);
        address::worker(owner, proxy, identity.public_key, &self.root.network).ok()
    }

    fn proxy_state(&self, p: u8) -> ProxyState {
        let identity = Self::proxy_identity(p);
        let model = &self.chain.contracts[usize::from(p)];
        ProxyState {
            owner: identity.owner,
            public_key: identity.public_key,
            root: identity.root,
            phase: model.phase,
            balance: Nanoton(model.earned),
            stake: Nanoton(model.stake),
            unlock_s: short(model.unlock_s),
        }
    }

    fn client_state(&self, c: u8, p: u8) -> Option<ClientState> {
        let identity = Self::proxy_identity(p);
        let owner = crate::client::owner(c);
        let model = self.chain.contracts[usize::from(p)].clients.get(&account(owner))?;
        let constants =
            ClientConst { owner, proxy: self.proxy_contract(p)?, public_key: identity.public_key };
        Some(ClientState {
            phase: match model.status {
                ClientStatus::Unknown | ClientStatus::Normal => Phase::Normal,
                ClientStatus::Closing => Phase::Closing,
                ClientStatus::Closed => Phase::Closed,
            },
            balance: Nanoton(model.balance),
            stake: Nanoton(model.stake),
            tokens_used: Tokens(model.used),
            unlock_s: short(model.unlock_s),
            secret_hash: Hash::default(),
            constants,
        })
    }

    fn worker_state(&self, w: u8, p: u8) -> Option<WorkerState> {
        let id = account(crate::worker::owner(w));
        let model = &self.chain.contracts[usize::from(p)];
        let tokens = Tokens(*model.workers.get(&id)?);
        let is_closed = model.closed_workers.contains(&id);
        Some(WorkerState {
            owner: crate::worker::owner(w),
            proxy: self.proxy_contract(p)?,
            public_key: Self::proxy_identity(p).public_key,
            phase: if is_closed { Phase::Closed } else { Phase::Normal },
            tokens,
        })
    }

    fn seen<T>(&self, p: u8, state: Option<T>) -> Seen<T> {
        match state {
            Some(state) => {
                let last_lt = self.chain.contracts[usize::from(p)].last_lt;
                Seen::Here { state, balance: STORAGE, last_lt }
            }
            None => Seen::Absent { balance: Nanoton::ZERO },
        }
    }

    pub(super) fn seen_proxy(&self, p: u8) -> Seen<ProxyState> {
        self.seen(p, Some(self.proxy_state(p)))
    }

    pub(super) fn seen_client(&self, c: u8, p: u8) -> Seen<ClientState> {
        self.seen(p, self.client_state(c, p))
    }

    pub(super) fn seen_worker(&self, w: u8, p: u8) -> Seen<WorkerState> {
        self.seen(p, self.worker_state(w, p))
    }

    /// The data of any contract of a proxy.
    pub(super) fn data_of(&self, after: &After, p: u8, at: Address) -> Option<Cell> {
        let params = after.params.clone();
        if self.proxy_contract(p) == Some(at) {
            return self.proxy_state(p).cell(params).ok();
        }
        let client = (0..self.plan.clients).find(|c| self.client_contract(p, *c) == Some(at));
        if let Some(c) = client {
            return self.client_state(c, p)?.cell(params).ok();
        }
        let worker = (0..self.plan.workers).find(|w| self.worker_contract(*w, p) == Some(at));
        self.worker_state(worker?, p)?.cell(params).ok()
    }
}
