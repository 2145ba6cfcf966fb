//! A small network on the machine: one proxy, several clients and workers, all deployed.

use cocoon_contract::address::{self, ProxyIdentity};
use cocoon_contract::cell::{Cell, Hash};
use cocoon_contract::message::{
    Body, ClientAction, ClientRequest, ProxyAction, ProxyRequest, TextCommand, WorkerRegister,
};
use cocoon_contract::params::Params;
use cocoon_contract::payment::{CloseKind, PaymentKind, SignedClose, SignedPayment};
use cocoon_contract::state::{ClientConst, ClientState, ProxyState, WorkerState};
use cocoon_units::{Address, Nanoton, Tokens};

use crate::cast::Cast;
use crate::world::{Exit, Inbound, Tx, World};

/// The gas money a request carries.
pub(crate) const GAS: Nanoton = Nanoton(700_000_000);

/// Seconds in a day.
pub(crate) const DAY_S: u32 = 86_400;

#[derive(Clone)]
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) cast: Cast,
    pub(crate) proxy: Address,
    pub(crate) proxy_owner: Address,
    pub(crate) clients: Vec<Address>,
    pub(crate) workers: Vec<Address>,
    query_id: u64,
}

/// Owner of client number `n`.
pub(crate) fn client_owner(n: usize) -> Address {
    Address::new(0, [0xc0 + n as u8; 32])
}

/// Owner of worker number `n`.
pub(crate) fn worker_owner(n: usize) -> Address {
    Address::new(0, [0xd0 + n as u8; 32])
}

/// Somebody without rights.
pub(crate) const STRANGER: Address = Address::new(0, [0x99; 32]);

impl Stage {
    pub(crate) fn new(params: Params, clients: usize, workers: usize) -> Self {
        let cast = Cast::new(params);
        let mut stage = Self {
            world: World::new(1_700_000_000),
            proxy: cast.at("proxy"),
            proxy_owner: cast.at("proxy_owner"),
            cast,
            clients: Vec::new(),
            workers: Vec::new(),
            query_id: 1,
        };
        let network = stage.cast.network.clone();
        let (key, proxy) = (stage.cast.public_key(), stage.proxy);
        let root = Address::new(0, [0xa7; 32]);
        let identity = ProxyIdentity { owner: stage.proxy_owner, public_key: key, root };
        let init = address::proxy_init(&identity, &network).expect("init");
        assert_eq!(init.address(), proxy);
        stage.deploy(init, Nanoton(300_000_000));
        for n in 0..clients {
            let constants = ClientConst { owner: client_owner(n), proxy, public_key: key };
            let init = address::client_init(&constants, &network).expect("init");
            let client = stage.deploy(init, Nanoton(800_000_000));
            stage.clients.push(client);
        }
        for n in 0..workers {
            let init = address::worker_init(worker_owner(n), proxy, key, &network);
            let worker = stage.deploy(init.expect("init"), Nanoton(300_000_000));
            stage.workers.push(worker);
        }
        stage
    }

    fn deploy(&mut self, init: address::StateInit, value: Nanoton) -> Address {
        let to = init.address();
        let txs = self.world.internal(&Inbound {
            from: STRANGER,
            to,
            value,
            bounce: false,
            state_init: Some(init),
            body: Cell::default(),
        });
        assert_eq!(txs[0].exit, Exit::Code(0));
        to
    }

    pub(crate) fn next_query(&mut self) -> u64 {
        self.query_id += 1;
        self.query_id
    }

    pub(crate) fn send(
        &mut self,
        from: Address,
        to: Address,
        value: Nanoton,
        body: &Body,
    ) -> Vec<Tx> {
        self.send_cell(from, to, value, body.cell().expect("body"))
    }

    pub(crate) fn send_cell(
        &mut self,
        from: Address,
        to: Address,
        value: Nanoton,
        body: Cell,
    ) -> Vec<Tx> {
        self.world.internal(&Inbound::new(from, to, value, body))
    }

    /// A request to a client contract from its owner, with its gas money and the amount it brings.
    pub(crate) fn client(&mut self, n: usize, action: ClientAction) -> Vec<Tx> {
        self.client_from(client_owner(n), n, action)
    }

    pub(crate) fn client_from(&mut self, from: Address, n: usize, action: ClientAction) -> Vec<Tx> {
        let amount = match action {
            ClientAction::TopUp { amount }
            | ClientAction::ChangeSecretHashAndTopUp { amount, .. } => amount,
            _ => Nanoton::ZERO,
        };
        let value = GAS.saturating_add(amount);
        let query_id = self.next_query();
        let body = Body::Client(ClientRequest { query_id, action, excess: from });
        self.send(from, self.clients[n], value, &body)
    }

    pub(crate) fn top_up(&mut self, n: usize, amount: Nanoton) -> Vec<Tx> {
        self.client(n, ClientAction::TopUp { amount })
    }

    pub(crate) fn proxy_from(&mut self, from: Address, action: ProxyAction) -> Vec<Tx> {
        let amount = match action {
            ProxyAction::IncreaseStake { amount } => amount,
            _ => Nanoton::ZERO,
        };
        let query_id = self.next_query();
        let body = Body::Proxy(ProxyRequest { query_id, action, excess: from });
        self.send(from, self.proxy, GAS.saturating_add(amount), &body)
    }

    pub(crate) fn payment(
        &mut self,
        kind: PaymentKind,
        target: Address,
        tokens: u64,
    ) -> SignedPayment {
        let (query_id, key) = (self.next_query(), self.cast.proxy_key.clone());
        let tokens = Tokens(tokens);
        SignedPayment::sign(kind, query_id, tokens, target, STRANGER, &key).expect("sign")
    }

    /// Signs a payment for the right contract and submits it as a stranger.
    pub(crate) fn submit(&mut self, kind: PaymentKind, n: usize, tokens: u64) -> Vec<Tx> {
        let target = match kind {
            PaymentKind::ClientCharge | PaymentKind::ClientGrantRefund => self.clients[n],
            PaymentKind::WorkerPayout | PaymentKind::WorkerLastPayout => self.workers[n],
        };
        let body = Body::Payment(self.payment(kind, target, tokens));
        self.send(STRANGER, target, GAS, &body)
    }

    pub(crate) fn close(&mut self, kind: CloseKind) -> Vec<Tx> {
        let (query_id, key) = (self.next_query(), self.cast.proxy_key.clone());
        let close = SignedClose::sign(kind, query_id, self.proxy, STRANGER, &key).expect("sign");
        self.send(STRANGER, self.proxy, GAS, &Body::Close(close))
    }

    pub(crate) fn text(&mut self, from: Address, command: TextCommand) -> Vec<Tx> {
        self.send(from, self.proxy, GAS, &Body::Text(command))
    }

    pub(crate) fn register_worker(&mut self, from: Address, n: usize) -> Vec<Tx> {
        let query_id = self.next_query();
        let body = Body::WorkerRegister(WorkerRegister { query_id, excess: from });
        self.send(from, self.workers[n], GAS, &body)
    }

    /// What the proxy contract paid to `to`.
    pub(crate) fn paid(&self, txs: &[Tx], to: Address) -> u64 {
        let by_proxy = payouts_of(txs, to).filter(|tx| tx.from == Some(self.proxy));
        by_proxy.map(|tx| tx.value.0).sum()
    }

    pub(crate) fn proxy_state(&self) -> ProxyState {
        ProxyState::parse(&self.world.data(self.proxy).expect("deployed")).expect("proxy").0
    }

    pub(crate) fn client_state(&self, n: usize) -> ClientState {
        let data = self.world.data(self.clients[n]).expect("deployed");
        ClientState::parse(&data).expect("client").0
    }

    pub(crate) fn worker_state(&self, n: usize) -> WorkerState {
        let data = self.world.data(self.workers[n]).expect("deployed");
        WorkerState::parse(&data).expect("worker").0
    }
}

/// The exit code at the contract that the message itself speaks to.
pub(crate) fn exit(txs: &[Tx]) -> i32 {
    match txs[0].exit {
        Exit::Code(code) => code,
        other => panic!("did not run: {other:?}"),
    }
}

/// What went to `to` as payouts of anybody.
pub(crate) fn payouts(txs: &[Tx], to: Address) -> u64 {
    payouts_of(txs, to).map(|tx| tx.value.0).sum()
}

fn payouts_of(txs: &[Tx], to: Address) -> impl Iterator<Item = &Tx> {
    let is_payout =
        move |tx: &&Tx| tx.to == to && matches!(Body::parse(&tx.body), Ok(Body::Payout { .. }));
    txs.iter().filter(is_payout)
}

/// SHA-256 of some secret.
pub(crate) const SECRET: Hash = Hash([0x5e; 32]);
