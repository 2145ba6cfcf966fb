//! Readable scenarios: what a chain does, one at a time.

// A broken scenario shall panic.
#![allow(clippy::unwrap_used)]

mod relay;

use cocoon_localchain::{
    Act, Genesis, Input, LocalChain, Refusal, Rehearsal, StackEntry, Trouble, method_id,
};
use cocoon_units::{Address, Nanoton, UnixSeconds};
use relay::{PAY_FEES, address, order, transfer};
use tycho_types::boc::Boc;
use tycho_types::cell::HashBytes;
use tycho_types::models::{
    AccountStatus, Block, ShardIdent, ShardStateUnsplit, TxInfo, ValidatorSet,
};

const BEGIN_MS: u64 = 1_760_000_000_000;
const BEAT_MS: u64 = 400;

fn begin() -> LocalChain {
    LocalChain::new(&Genesis::new([1; 32], BEGIN_MS)).unwrap()
}

/// One more beat of 0.4 s; returns how many transactions it held.
fn beat(chain: &mut LocalChain) -> usize {
    let now_ms = chain.last_ms() + BEAT_MS;
    chain.tick(now_ms).unwrap().unwrap().transactions.len()
}

/// A contract `number` with `ton` TON on it, deployed.
fn deployed(chain: &mut LocalChain, number: u32, ton: u64) {
    chain.mint(address(number), Nanoton(ton * 1_000_000_000)).unwrap();
    beat(chain);
    let message = transfer(address(number), 1, false);
    chain.submit(&order(number, message, PAY_FEES, 0, true)).unwrap();
    beat(chain);
    let account = chain.account(address(number)).unwrap().load_account().unwrap().unwrap();
    assert_eq!(account.state.status(), AccountStatus::Active);
}

fn balance(chain: &LocalChain, address: Address) -> u128 {
    let account = chain.account(address).and_then(|state| state.load_account().unwrap());
    account.map_or(0, |account| account.balance.tokens.into_inner())
}

#[test]
fn faucet_gives_and_everything_is_linked() {
    let mut chain = begin();
    deployed(&mut chain, 1, 10);
    let friend = Address::new(0, [9; 32]);
    chain.submit(&order(1, transfer(friend, 2_000_000_000, false), PAY_FEES, 7, false)).unwrap();
    // The message is delivered in the block that creates it.
    assert_eq!(beat(&mut chain), 2);
    assert_eq!(balance(&chain, friend), 2_000_000_000);

    let entries: Vec<_> = chain.transactions(address(1), u64::MAX).collect();
    assert!(entries.len() >= 4, "{}", entries.len());
    let account = chain.account(address(1)).unwrap();
    assert_eq!((account.last_trans_lt, account.last_trans_hash), (entries[0].lt, entries[0].hash));
    for pair in entries.windows(2) {
        let newer = pair[0].transaction.load().unwrap();
        assert_eq!((newer.prev_trans_lt, newer.prev_trans_hash), (pair[1].lt, pair[1].hash));
    }
    let first = entries.last().unwrap().transaction.load().unwrap();
    assert_eq!((first.prev_trans_lt, first.prev_trans_hash), (0, HashBytes::ZERO));
    let coins = chain.coins();
    assert_eq!(coins.minted, 10_000_000_000);
    assert_eq!(coins.minted, coins.held + coins.fees);
}

#[test]
fn bounces_come_back() {
    let mut chain = begin();
    deployed(&mut chain, 1, 10);
    let nobody = Address::new(0, [9; 32]);
    let before = balance(&chain, address(1));
    chain.submit(&order(1, transfer(nobody, 1_000_000_000, true), PAY_FEES, 7, false)).unwrap();
    assert_eq!(beat(&mut chain), 3);
    let after = balance(&chain, address(1));
    assert!(before - after < 10_000_000, "only fees are gone: {before} {after}");
    assert_eq!(balance(&chain, nobody), 0);
}

#[test]
fn what_is_rehearsed_is_what_happens() {
    let mut chain = begin();
    deployed(&mut chain, 1, 10);
    deployed(&mut chain, 2, 3);
    let nobody = Address::new(0, [9; 32]);
    for (salt, to, value, bounce) in [
        (1, address(2), 1_234_567_890, true),
        (2, nobody, 500_000_000, true),
        (3, nobody, 7, false),
    ] {
        let message = order(1, transfer(to, value, bounce), PAY_FEES, salt, false);
        let due = UnixSeconds((chain.last_ms() + BEAT_MS) / 1000);
        let mut rehearsal =
            Rehearsal::new(due, chain.shard_head().end_lt + 1_000_000, false).unwrap();
        rehearsal.put(Boc::decode(&message).unwrap()).unwrap();
        let mut played = 0;
        loop {
            match rehearsal.step().unwrap() {
                Act::Needs(account) => {
                    rehearsal.know(account, chain.account(account).cloned()).unwrap();
                }
                Act::Played(_) => played += 1,
                Act::Done => break,
            }
        }
        chain.submit(&message).unwrap();
        assert_eq!(beat(&mut chain), played);
        for account in [address(1), to] {
            let expected =
                rehearsal.account(account).and_then(|state| state.load_account().unwrap());
            let expected = expected.map_or(0, |account| account.balance.tokens.into_inner());
            assert_eq!(balance(&chain, account), expected, "{account} after order {salt}");
        }
    }
    let mut rehearsal = Rehearsal::new(UnixSeconds(BEGIN_MS / 1000), 1, false).unwrap();
    let stranger = order(5, transfer(nobody, 1, false), PAY_FEES, 0, false);
    rehearsal.put(Boc::decode(&stranger).unwrap()).unwrap();
    assert!(matches!(rehearsal.step(), Ok(Act::Needs(_))));
    rehearsal.know(address(5), None).unwrap();
    assert!(matches!(rehearsal.step(), Err(Refusal::NotAccepted(_))));
}

#[test]
fn refusals_leave_no_trace() {
    let mut chain = begin();
    deployed(&mut chain, 1, 5);
    let before = chain.snapshot().unwrap();
    let good = order(1, transfer(address(2), 5, false), PAY_FEES, 3, false);
    assert!(matches!(chain.submit(b"nonsense"), Err(Refusal::NotABag(_))));
    assert!(matches!(chain.submit(&vec![0; 70_000]), Err(Refusal::TooLarge { .. })));
    let internal = chain.transactions(address(1), u64::MAX).last().unwrap();
    let internal = internal.transaction.load().unwrap().in_msg.unwrap();
    let internal = tycho_types::boc::Boc::encode(internal);
    assert!(matches!(chain.submit(&internal), Err(Refusal::NotExternal(_))));
    // The contract refuses modes above 100 before it accepts.
    let refused = chain.submit(&order(1, transfer(address(2), 0, false), 128, 1, false));
    assert!(matches!(refused, Err(Refusal::NotAccepted(_))), "{refused:?}");
    let nobody = order(2, transfer(address(1), 5, false), PAY_FEES, 3, true);
    assert!(matches!(chain.submit(&nobody), Err(Refusal::NotAccepted(_))));
    assert!(matches!(chain.mint(address(1), Nanoton::ZERO), Err(Refusal::Faucet { .. })));
    let master = Address::new(-1, [1; 32]);
    assert_eq!(chain.mint(master, Nanoton::TON), Err(Refusal::Workchain(-1)));
    assert_eq!(chain.snapshot().unwrap(), before);
    chain.submit(&good).unwrap();
    assert_eq!(chain.submit(&good), Err(Refusal::Duplicate));
}

#[test]
fn full_blocks_leave_the_rest_to_the_queue() {
    let mut genesis = Genesis::new([1; 32], BEGIN_MS);
    genesis.limits.block_transactions = 2;
    genesis.limits.waiting_messages = 4;
    let mut chain = LocalChain::new(&genesis).unwrap();
    deployed(&mut chain, 1, 10);
    beat(&mut chain);
    let friend = Address::new(0, [9; 32]);
    for salt in 0..4 {
        let message = transfer(friend, 1_000_000_000, false);
        chain.submit(&order(1, message, PAY_FEES, 10 + salt, false)).unwrap();
    }
    let more = order(1, transfer(friend, 1, false), PAY_FEES, 99, false);
    assert!(matches!(chain.submit(&more), Err(Refusal::QueueFull { waiting: 4, limit: 4 })));
    assert_eq!(beat(&mut chain), 2);
    let (externals, _, queued) = chain.waiting();
    assert_eq!((externals, queued), (2, 2));
    let coins = chain.coins();
    assert!(coins.waiting >= 2_000_000_000);
    assert_eq!(coins.minted, coins.held + coins.waiting + coins.fees);
    let restored = LocalChain::restore(&chain.snapshot().unwrap()).unwrap();
    assert_eq!(restored.waiting(), chain.waiting());
    for _ in 0..3 {
        assert_eq!(beat(&mut chain), 2);
    }
    assert_eq!(beat(&mut chain), 0);
    assert_eq!(balance(&chain, friend), 4_000_000_000);
    assert_eq!(chain.waiting(), (0, 0, 0));
}

#[test]
fn get_methods_answer() {
    let mut chain = begin();
    deployed(&mut chain, 1, 5);
    assert_eq!((method_id("seqno"), method_id("get_public_key")), (85_143, 78_748));
    let stack = [StackEntry::Int(5.into()), StackEntry::Tuple(vec![StackEntry::Null])];
    let output = chain.run_getter(address(1), method_id("seqno"), &stack).unwrap();
    assert_eq!(output.exit_code, 0);
    assert_eq!(output.stack[..2], stack);
    assert_eq!(output.stack[2], StackEntry::Int(85_144.into()));
    assert!(chain.run_getter(address(2), method_id("seqno"), &[]).is_none());
}

#[test]
fn trouble_on_demand() {
    let mut chain = begin();
    deployed(&mut chain, 1, 5);
    let seqno = chain.master_head().id.seqno;
    let now_ms = chain.last_ms() + BEAT_MS;

    chain.set_trouble(Trouble { standing_still: true, ..Trouble::default() });
    assert!(chain.tick(now_ms).unwrap().is_none());
    chain.set_trouble(Trouble { late_ms: 5_000, ..Trouble::default() });
    assert!(chain.tick(now_ms).unwrap().is_none());
    assert_eq!(chain.tick(now_ms + 5_000).unwrap().unwrap().seqno(), seqno + 1);

    chain.set_trouble(Trouble { lose_externals: 1, ..Trouble::default() });
    let message = transfer(address(2), 1_000_000, false);
    chain.submit(&order(1, message.clone(), PAY_FEES, 1, false)).unwrap();
    assert_eq!(beat(&mut chain), 0, "the first one is lost");
    chain.submit(&order(1, message, PAY_FEES, 1, false)).unwrap();
    assert_eq!(beat(&mut chain), 2, "the second one is not");
    assert!(chain.tick(0).is_err(), "time does not run backwards");
}

#[test]
fn blocks_are_blocks_of_ton() {
    let mut chain = begin();
    deployed(&mut chain, 1, 5);
    let head = chain.sealed(chain.master_head().id.seqno).unwrap().clone();
    let before = chain.sealed(head.seqno() - 1).unwrap().clone();
    for (block, previous) in [(&head.shard, &before.shard), (&head.master, &before.master)] {
        let boc = block.to_boc();
        assert_eq!(tycho_types::boc::Boc::file_hash(&boc), block.id.file_hash);
        let root = tycho_types::boc::Boc::decode(&boc).unwrap();
        assert_eq!(*root.repr_hash(), block.id.root_hash);
        let content = root.parse::<Block>().unwrap();
        let info = content.load_info().unwrap();
        let tycho_types::models::PrevBlockRef::Single(prev) = info.load_prev_ref().unwrap() else {
            panic!("one shard has one previous block");
        };
        assert_eq!(prev.as_block_id(info.shard), previous.id);
        let update = content.load_state_update().unwrap();
        assert_eq!(update.old_hash, *previous.state.repr_hash());
        let applied = update.apply(&previous.state).unwrap();
        assert_eq!(applied.repr_hash(), block.state.repr_hash());
        assert!(content.load_value_flow().unwrap().validate().unwrap());
    }
    let state = head.master.state.parse::<ShardStateUnsplit>().unwrap();
    let custom = state.load_custom().unwrap().unwrap();
    let (shard, description) = custom.shards.iter().next().unwrap().unwrap();
    assert_eq!(description.as_block_id(shard), head.shard.id);
    assert_eq!(custom.global_balance.tokens.into_inner(), chain.coins().minted);
    assert_eq!(chain.master_id(0).unwrap(), chain.zero_states().1.id);
    assert_eq!(chain.block(ShardIdent::MASTERCHAIN, 1).unwrap().id, chain.master_id(1).unwrap());
}

#[test]
fn signatures_check_against_the_configuration() {
    let mut chain = begin();
    beat(&mut chain);
    let id = chain.master_head().id;
    let (_, signature) = chain.sign_block(&id);
    let set: ValidatorSet = chain.config().params.get_current_validator_set().unwrap();
    let data = Block::build_data_for_sign(&id);
    let signature = tycho_types::models::Signature(signature);
    assert!(set.list[0].verify_signature(&data, &signature));
    assert!(!set.list[0].verify_signature(&data[1..], &signature));
}

#[test]
fn a_trial_changes_nothing() {
    let mut chain = begin();
    deployed(&mut chain, 1, 5);
    let before = chain.snapshot().unwrap();
    let boc = order(1, transfer(address(2), 1_000_000, false), PAY_FEES, 1, false);
    let message = tycho_types::boc::Boc::decode(&boc).unwrap();
    let trial = chain.try_message(&message, true).unwrap();
    let transaction = trial.transaction.load().unwrap();
    assert!(matches!(transaction.load_info().unwrap(), TxInfo::Ordinary(_)));
    assert_eq!(transaction.out_msg_count.into_inner(), 1);
    assert_eq!(chain.snapshot().unwrap(), before);
}

#[test]
fn old_things_are_forgotten() {
    let mut genesis = Genesis::new([1; 32], BEGIN_MS);
    genesis.limits.kept_blocks = 3;
    genesis.limits.kept_transactions = 4;
    let mut chain = LocalChain::new(&genesis).unwrap();
    for _ in 0..5 {
        chain.mint(address(1), Nanoton::TON).unwrap();
        beat(&mut chain);
    }
    assert!(chain.sealed(1).is_some(), "the key block is kept for ever");
    assert!(chain.sealed(3).is_none());
    assert!(chain.sealed(4).is_some());
    assert_eq!(chain.transactions(address(1), u64::MAX).count(), 4);
    assert!(chain.master_id(2).is_some(), "identities are kept for ever");
    let bytes = chain.snapshot().unwrap();
    let restored = LocalChain::restore(&bytes).unwrap();
    assert_eq!(restored.transactions(address(1), u64::MAX).count(), 4);
    assert!(restored.sealed(1).is_some() && restored.sealed(3).is_none());
    assert_eq!(restored.snapshot().unwrap(), bytes);
}

#[test]
fn full_blocks_are_forgotten_sooner() {
    let mut genesis = Genesis::new([1; 32], BEGIN_MS);
    genesis.limits.kept_transactions = 10;
    let mut chain = LocalChain::new(&genesis).unwrap();
    for _ in 0..4 {
        for number in 0..6 {
            chain.mint(address(number), Nanoton::TON).unwrap();
        }
        beat(&mut chain);
    }
    let head = chain.master_head().id.seqno;
    assert!(chain.sealed(head).is_some() && chain.sealed(head - 1).is_none());
    let bytes = chain.snapshot().unwrap();
    assert_eq!(LocalChain::restore(&bytes).unwrap().snapshot().unwrap(), bytes);
}

#[test]
fn inputs_have_bytes() {
    let inputs = [
        Input::External(vec![1, 2, 3]),
        Input::Faucet { to: address(1), amount: Nanoton(5) },
        Input::Tick { now_ms: 7 },
        Input::Trouble(Trouble { standing_still: true, late_ms: 8, lose_externals: 9 }),
    ];
    for input in inputs {
        assert_eq!(Input::from_bytes(&input.to_bytes()).unwrap(), input);
    }
}
