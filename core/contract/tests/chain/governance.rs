//! Root, timelock and wallet: who may change what, and when.

use std::collections::{BTreeMap, BTreeSet};

use cocoon_contract::cell::{Cell, Hash};
use cocoon_contract::code::{self, Code};
use cocoon_contract::message::{Body, RootAction, RootRequest, TextCommand};
use cocoon_contract::op::exit;
use cocoon_contract::root::{RegisteredProxy, RootState};
use cocoon_contract::root_change::{Allowed, RootChange};
use cocoon_contract::state::WalletState;
use cocoon_contract::timelock::{
    GRACE_S, Receiver, TimelockAction, TimelockRequest, TimelockState,
};
use cocoon_contract::wallet::{CocoonOrder, Outgoing, external};
use cocoon_units::{Address, Nanoton};

use crate::cast::{self, Cast, named_code};
use crate::record::EXTERNAL_LAYOUT;
use crate::stage::{DAY_S, GAS, STRANGER, exit as code_of};
use crate::world::{Exit, Inbound, Tx, World};

const ADMIN: Address = Address::new(0, [0x77; 32]);

struct Council {
    world: World,
    root: Address,
    timelock: Address,
}

impl Council {
    /// A root handed over to a timelock of two days.
    fn new() -> Self {
        let mut cast = Cast::new(cast::params());
        cast.add_root(&RootState {
            owner: ADMIN,
            version: 0,
            proxy_hashes: BTreeSet::new(),
            registered_proxies: BTreeMap::new(),
            last_proxy_seqno: 0,
            worker_hashes: BTreeSet::new(),
            model_hashes: BTreeSet::new(),
            network: cast.network.clone(),
            key_manager: None,
        });
        let (mut world, root) = (World::new(1_700_000_000), cast.at("root"));
        let code: Code = code::timelock().expect("compiled").into();
        let lock = TimelockState::initial(ADMIN, root, 2 * DAY_S);
        let init = lock.state_init(&code).expect("init");
        assert_eq!(init.address(), lock.address(&code).expect("address"));
        let timelock = init.address();
        for (to, init) in [(root, cast.init("root")), (timelock, init)] {
            let deploy = Inbound {
                from: ADMIN,
                to,
                value: Nanoton::TON,
                bounce: false,
                state_init: Some(init),
                body: Cell::default(),
            };
            assert_eq!(code_of(&world.internal(&deploy)), 0);
        }
        let mut council = Self { world, root, timelock };
        let txs = council.ask_root(ADMIN, RootAction::ChangeOwner(timelock));
        assert_eq!(code_of(&txs), 0);
        council
    }

    fn ask_root(&mut self, from: Address, action: RootAction) -> Vec<Tx> {
        let body = Body::Root(RootRequest { query_id: 0, action });
        self.world.internal(&Inbound::new(from, self.root, GAS, body.cell().expect("body")))
    }

    fn ask(&mut self, from: Address, action: TimelockAction) -> Vec<Tx> {
        let body = Body::Timelock(TimelockRequest { query_id: 9, action });
        self.world.internal(&Inbound::new(from, self.timelock, GAS, body.cell().expect("body")))
    }

    fn propose(&mut self, action: RootAction) -> Vec<Tx> {
        let body = RootRequest { query_id: 0, action }.cell().expect("body");
        self.ask(ADMIN, TimelockAction::Propose { receiver: Receiver::Root, body })
    }

    fn root_state(&self) -> RootState {
        RootState::parse(&self.world.data(self.root).expect("deployed")).expect("root")
    }

    fn lock_state(&self) -> TimelockState {
        TimelockState::parse(&self.world.data(self.timelock).expect("deployed")).expect("lock")
    }
}

fn price(price: u64, fee: u64) -> RootAction {
    RootAction::ChangePrice { price_per_token: Nanoton(price), worker_fee_per_token: Nanoton(fee) }
}

#[test]
fn a_change_waits_in_the_open_and_then_applies() {
    let mut c = Council::new();
    assert_eq!(code_of(&c.ask_root(ADMIN, price(1, 1))), exit::NOT_OWNER);
    assert_eq!(code_of(&c.propose(price(25, 20))), 0);
    let lock = c.lock_state();
    assert_eq!(lock.waiting[&0].due_s, c.world.now_s + 2 * DAY_S);
    let Ok(Body::Root(request)) = Body::parse(&lock.waiting[&0].body) else { panic!("readable") };
    assert_eq!(request.action, price(25, 20), "everybody can read what will change");
    assert_eq!(code_of(&c.ask(STRANGER, TimelockAction::Apply)), exit::LOCKED);
    c.world.now_s += 2 * DAY_S;
    let txs = c.ask(STRANGER, TimelockAction::Apply);
    assert!(txs.iter().all(|tx| tx.exit != Exit::Code(exit::NOT_OWNER)));
    let root = c.root_state();
    assert_eq!(root.network.params.price_per_token, Nanoton(25));
    assert_eq!(root.network.params.params_version, 8);
    assert_eq!(code_of(&c.ask(STRANGER, TimelockAction::Apply)), exit::NOTHING_WAITS);
}

#[test]
fn a_node_can_tell_whether_changes_wait() {
    let c = Council::new();
    let (code, data) = (c.world.code(c.timelock), c.world.data(c.timelock));
    let (code, data) = (code.expect("deployed"), data.expect("deployed"));
    let guarding = |root, code: &Cell, least_delay_s| {
        TimelockState::guarding(root, code, &data, least_delay_s)
    };
    assert_eq!(guarding(c.root, &code, 2 * DAY_S), Ok(c.lock_state()));
    assert!(guarding(c.root, &code, 2 * DAY_S + 1).is_err());
    assert!(guarding(STRANGER, &code, 0).is_err());
    assert!(guarding(c.root, &named_code("a wallet"), 0).is_err());
}

#[test]
fn changes_between_two_states_are_told() {
    let mut c = Council::new();
    let (lock, before) = (c.timelock, c.root_state());
    assert_eq!(before.changes(&before), []);
    c.ask_root(lock, RootAction::AddModelType(Hash([8; 32])));
    c.ask_root(lock, price(25, 20));
    let entry = RegisteredProxy { kind: false, text: b"203.0.113.11:8888".to_vec() };
    c.ask_root(lock, RootAction::RegisterProxy(entry.clone()));
    let after = c.root_state();
    let changes = before.changes(&after);
    let told: Vec<String> = changes.iter().map(ToString::to_string).collect();
    let model = format!("model {} is allowed", "08".repeat(32));
    let expected = [
        model.as_str(),
        "proxy 1: nothing becomes 203.0.113.11:8888",
        "parameters version: 7 becomes 8",
        "price per token: 0.00000002 TON becomes 0.000000025 TON",
        "worker fee per token: 0.000000019 TON becomes 0.00000002 TON",
    ];
    assert_eq!(told, expected);
    assert!(changes.iter().any(RootChange::moves_contracts));
    let back = after.changes(&before);
    assert_eq!(back[0], RootChange::Removed(Allowed::Model, Hash([8; 32])));
    assert_eq!(back[1], RootChange::Proxy { seqno: 1, old: Some(entry), new: None });
}

#[test]
fn changes_keep_their_order_and_can_be_withdrawn_or_forgotten() {
    let mut c = Council::new();
    c.propose(price(21, 1));
    c.world.now_s += 60;
    c.propose(price(22, 1));
    c.propose(price(23, 1));
    assert_eq!(code_of(&c.ask(STRANGER, TimelockAction::Cancel { id: 1 })), exit::NOT_OWNER);
    assert_eq!(code_of(&c.ask(ADMIN, TimelockAction::Cancel { id: 1 })), 0);
    assert_eq!(code_of(&c.ask(ADMIN, TimelockAction::Cancel { id: 1 })), exit::NOTHING_WAITS);
    c.world.now_s += 2 * DAY_S - 60;
    c.ask(STRANGER, TimelockAction::Apply);
    assert_eq!(c.root_state().network.params.price_per_token, Nanoton(21));
    assert_eq!(code_of(&c.ask(STRANGER, TimelockAction::Apply)), exit::LOCKED);
    // Nobody carried out the last one in time: it is void.
    c.world.now_s += 60 + GRACE_S + 1;
    assert_eq!(code_of(&c.ask(STRANGER, TimelockAction::Apply)), 0);
    assert_eq!(c.root_state().network.params.price_per_token, Nanoton(21));
    assert!(c.lock_state().waiting.is_empty());
}

#[test]
fn revocations_take_effect_at_once_and_nothing_else_does() {
    let mut c = Council::new();
    let hash = Hash([3; 32]);
    c.propose(RootAction::AddWorkerType(hash));
    c.world.now_s += 2 * DAY_S;
    c.ask(STRANGER, TimelockAction::Apply);
    assert!(c.root_state().worker_hashes.contains(&hash));
    let revoke = |action: RootAction| {
        let body = RootRequest { query_id: 0, action }.cell().expect("body");
        TimelockAction::Revoke { body }
    };
    for action in [price(1, 1), RootAction::AddWorkerType(hash), RootAction::Reset] {
        assert!(!action.is_revocation());
        assert_eq!(code_of(&c.ask(ADMIN, revoke(action))), exit::NOT_REVOCATION);
    }
    let action = RootAction::DelWorkerType(hash);
    assert!(action.is_revocation());
    assert_eq!(code_of(&c.ask(STRANGER, revoke(action.clone()))), exit::NOT_OWNER);
    assert_eq!(code_of(&c.ask(ADMIN, revoke(action))), 0);
    assert!(c.root_state().worker_hashes.is_empty());
}

#[test]
fn admin_and_delay_change_only_through_the_lock() {
    let mut c = Council::new();
    let configure = TimelockAction::Configure { admin: STRANGER, delay_s: 60 };
    assert_eq!(code_of(&c.ask(ADMIN, configure.clone())), exit::UNKNOWN_OP);
    let body = TimelockRequest { query_id: 0, action: configure }.cell().expect("body");
    let wrong = RootRequest { query_id: 0, action: RootAction::Reset }.cell().expect("body");
    let to_self = |body| TimelockAction::Propose { receiver: Receiver::Timelock, body };
    let txs = c.ask(ADMIN, to_self(wrong));
    assert_ne!(code_of(&txs), 0, "what cannot be read would block the queue");
    assert_eq!(code_of(&c.ask(ADMIN, to_self(body))), 0);
    c.world.now_s += 2 * DAY_S;
    assert_eq!(code_of(&c.ask(STRANGER, TimelockAction::Apply)), 0);
    let lock = c.lock_state();
    assert_eq!((lock.admin, lock.delay_s), (STRANGER, 60));
}

#[test]
fn the_root_refuses_what_makes_no_sense() {
    let mut c = Council::new();
    let lock = c.timelock;
    assert_eq!(code_of(&c.ask_root(lock, price(19, 20))), exit::FORMAT);
    let newer = RegisteredProxy { kind: true, text: b"x".to_vec() };
    assert_eq!(code_of(&c.ask_root(lock, RootAction::RegisterProxy(newer))), exit::FORMAT);
    let entry = RegisteredProxy { kind: false, text: b"203.0.113.11:8888".to_vec() };
    let update = RootAction::UpdateProxy { seqno: 1, entry: entry.clone() };
    assert_eq!(code_of(&c.ask_root(lock, update.clone())), exit::UNKNOWN_PROXY);
    assert_eq!(code_of(&c.ask_root(lock, RootAction::RegisterProxy(entry))), 0);
    assert_eq!(code_of(&c.ask_root(lock, update)), 0);
    assert_eq!(c.root_state().endpoints().count(), 1);
}

#[test]
fn the_root_can_be_upgraded() {
    let mut c = Council::new();
    let (lock, code) = (c.timelock, named_code("next root"));
    let mut next = c.root_state();
    next.network.params.prompt_multiplier.0 = 20_000;
    next.version = 99;
    let data = next.cell().expect("state");
    let root_code = code::root().expect("compiled");
    let full = RootAction::UpgradeFull { data, code: root_code };
    assert_eq!(code_of(&c.ask_root(lock, full)), 0);
    assert_eq!(c.root_state(), next);
    assert_eq!(code_of(&c.ask_root(lock, RootAction::Upgrade { code: code.clone() })), 0);
    assert_eq!(c.root_state().version, 99, "new code alone is no new version");
    assert_eq!(c.world.code(c.root), Some(code));
}

#[test]
fn a_message_the_wallet_cannot_pay_does_not_make_its_order_repeatable() {
    let cast = Cast::new(cast::params());
    let (mut world, wallet) = (World::new(1_700_000_000), cast.at("wallet"));
    world.fund(wallet, Nanoton(3_000_000_000));
    let too_much = Outgoing {
        to: STRANGER,
        value: Nanoton(500_000_000_000),
        bounce: false,
        state_init: None,
        body: None,
    };
    let affordable = Outgoing { value: Nanoton::TON, ..too_much.clone() };
    let order = CocoonOrder::new(0, world.now_s + 60, &[too_much, affordable]).expect("order");
    let body = order.sign(&cast.wallet_key).expect("sign");
    let message = external(&wallet, Some(&cast.init("wallet")), &body, EXTERNAL_LAYOUT);
    let message = message.expect("external");
    let txs = world.external(wallet, message.clone()).expect("accepted");
    assert_eq!(txs[0].out.len(), 1, "the one it can pay goes out");
    assert_eq!(world.external(wallet, message).err(), Some(exit::SEQNO));
    let state = WalletState::parse(&world.data(wallet).expect("deployed")).expect("wallet");
    assert_eq!(state.seqno, 1);
    // A stranger cannot block it.
    let block = Body::Text(TextCommand::Block).cell().expect("body");
    let txs = world.internal(&Inbound::new(STRANGER, wallet, GAS, block));
    assert_eq!(code_of(&txs), exit::WALLET_NOT_OWNER);
}

#[test]
fn the_wallet_refuses_other_keys_and_subwallets_and_unknown_orders() {
    let cast = Cast::new(cast::params());
    let (mut world, wallet) = (World::new(1_700_000_000), cast.at("wallet"));
    world.fund(wallet, Nanoton(3_000_000_000));
    let order = CocoonOrder {
        subwallet: 0,
        valid_until_s: world.now_s + 60,
        seqno: 0,
        messages: Vec::new(),
    };
    let init = cast.init("wallet");
    let send = |world: &mut World, order: &CocoonOrder, key| {
        let body = order.sign(key).expect("sign");
        let message = external(&wallet, Some(&init), &body, EXTERNAL_LAYOUT);
        world.external(wallet, message.expect("external")).map(|_| ())
    };
    let forged = send(&mut world, &order, &cast.proxy_key);
    assert_eq!(forged, Err(exit::WALLET_SIGNATURE));
    let other = CocoonOrder { subwallet: 1, ..order.clone() };
    let other = send(&mut world, &other, &cast.wallet_key);
    assert_eq!(other, Err(exit::SUBWALLET));
    assert_eq!(send(&mut world, &order, &cast.wallet_key), Ok(()));
    let owner = cast.at("wallet_owner");
    let close = Body::Text(TextCommand::Close).cell().expect("body");
    let txs = world.internal(&Inbound::new(owner, wallet, GAS, close));
    assert_eq!(code_of(&txs), exit::WALLET_UNKNOWN_TEXT);
    let apply = TimelockRequest { query_id: 0, action: TimelockAction::Apply };
    let body = apply.cell().expect("body");
    let txs = world.internal(&Inbound::new(owner, wallet, GAS, body));
    assert_eq!(code_of(&txs), exit::UNKNOWN_OP);
}
