//! Who plays in a script: addresses of the roles, their keys and initial states.

use std::collections::BTreeMap;

use cocoon_contract::address::{self, Network, ProxyIdentity, StateInit};
use cocoon_contract::cell::Cell;
use cocoon_contract::code::{self, Codes};
use cocoon_contract::params::Params;
use cocoon_contract::root::RootState;
use cocoon_contract::state::ClientConst;
use cocoon_units::{Address, Multiplier, Nanoton, PublicKey};
use ed25519_dalek::SigningKey;

/// The parameters of the recorded steps.
pub(crate) fn params() -> Params {
    Params {
        struct_version: 3,
        params_version: 7,
        unique_id: 17,
        is_test: false,
        price_per_token: Nanoton(20),
        worker_fee_per_token: Nanoton(19),
        prompt_multiplier: Multiplier(10_000),
        cached_multiplier: Multiplier(1_000),
        completion_multiplier: Multiplier(80_000),
        reasoning_multiplier: Multiplier(80_000),
        proxy_delay_s: 172_800,
        client_delay_s: 86_400,
        min_proxy_stake: Nanoton::TON,
        min_client_stake: Nanoton(15_000_000_000),
    }
}

/// Addresses, keys and initial states of one network with our contracts.
#[derive(Clone)]
pub(crate) struct Cast {
    pub(crate) network: Network,
    pub(crate) proxy_key: SigningKey,
    pub(crate) wallet_key: SigningKey,
    addresses: BTreeMap<&'static str, Address>,
    inits: BTreeMap<&'static str, StateInit>,
}

impl Cast {
    pub(crate) fn new(params: Params) -> Self {
        let network = Network { params, codes: Codes::ours().expect("compiled contracts") };
        let mut seed = [0; 32];
        seed[31] = 1;
        let proxy_key = SigningKey::from_bytes(&seed);
        seed[31] = 3;
        let wallet_key = SigningKey::from_bytes(&seed);
        let people = [
            ("proxy_owner", 0x11),
            ("worker_owner", 0x22),
            ("wallet_owner", 0x44),
            ("root_owner", 0x55),
            ("other_owner", 0x66),
            ("other", 0x99),
        ];
        let addresses =
            people.map(|(name, byte)| (name, Address::new(0, [byte; 32]))).into_iter().collect();
        let mut cast = Self { network, proxy_key, wallet_key, addresses, inits: BTreeMap::new() };
        cast.cast_contracts();
        cast
    }

    fn cast_contracts(&mut self) {
        let key = self.public_key();
        let wallet_key = PublicKey(self.wallet_key.verifying_key().to_bytes());
        let wallet_code = code::wallet().expect("compiled").into();
        let wallet = |owner: &str| {
            let owner = self.addresses[owner];
            address::wallet_init(owner, wallet_key, &wallet_code).expect("init")
        };
        let (wallet, wallet2) = (wallet("wallet_owner"), wallet("other_owner"));
        self.add("wallet", wallet);
        self.add("wallet2", wallet2);
        let root = Address::new(0, [0xa7; 32]);
        let identity = ProxyIdentity { owner: self.at("proxy_owner"), public_key: key, root };
        self.add("proxy", address::proxy_init(&identity, &self.network).expect("init"));
        let (owner, proxy) = (self.at("worker_owner"), self.at("proxy"));
        let worker = address::worker_init(owner, proxy, key, &self.network);
        self.add("worker", worker.expect("init"));
        let constants = ClientConst { owner: self.at("wallet"), proxy, public_key: key };
        self.add("client", address::client_init(&constants, &self.network).expect("init"));
    }

    /// Adds a root contract with this state.
    pub(crate) fn add_root(&mut self, state: &RootState) {
        let code = code::root().expect("compiled");
        let data = state.cell().expect("root state");
        self.add("root", StateInit { code, data });
    }

    pub(crate) fn add(&mut self, role: &'static str, init: StateInit) {
        self.addresses.insert(role, init.address());
        self.inits.insert(role, init);
    }

    pub(crate) fn public_key(&self) -> PublicKey {
        PublicKey(self.proxy_key.verifying_key().to_bytes())
    }

    pub(crate) fn at(&self, role: &str) -> Address {
        *self.addresses.get(role).unwrap_or_else(|| panic!("no role {role}"))
    }

    pub(crate) fn init(&self, role: &str) -> StateInit {
        self.inits.get(role).unwrap_or_else(|| panic!("{role} is no contract")).clone()
    }

    /// The name of an address.
    pub(crate) fn role(&self, address: Address) -> String {
        let found = self.addresses.iter().find(|(_, a)| **a == address);
        found.map_or_else(|| address.to_raw(), |(role, _)| (*role).to_owned())
    }
}

/// A cell that stands for a code of this name.
pub(crate) fn named_code(name: &str) -> Cell {
    let mut builder = tycho_types::cell::CellBuilder::new();
    builder.store_raw(name.as_bytes(), (name.len() * 8) as u16).expect("fits");
    builder.build().expect("code")
}
