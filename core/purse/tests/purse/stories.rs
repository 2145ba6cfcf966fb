//! Readable scenarios, one at a time.

use cocoon_contract::code;
use cocoon_contract::wallet::Outgoing;
use cocoon_localchain::Trouble;
use cocoon_purse::{Label, Note, Order, OrderFault, Outcome, Purse, PurseFault, Settings, Wallet};
use cocoon_units::{Address, Nanoton};
use ed25519_dalek::SigningKey;

use crate::stage::{Stage, TON, order};

#[test]
fn the_wallet_deploys_itself_and_sends_four_at_once() {
    let mut stage = Stage::new();
    stage.fund(10 * TON);
    for label in 1..=6 {
        assert_eq!(stage.purse.order(order(label, 9, TON / 2)), Ok(true));
    }
    assert_eq!(stage.purse.order(order(3, 9, TON / 2)), Ok(false), "one label is one order");
    stage.settle();
    assert!(stage.notes.contains(&Note::Deploying));
    for label in 1..=6 {
        assert_eq!(stage.received(9, label), 1);
        let outcomes = &stage.outcomes[&label];
        assert!(matches!(outcomes[0], Outcome::Sent { .. }), "{outcomes:?}");
        // A plain account runs no code.
        assert!(matches!(outcomes[1], Outcome::Arrived { exit_code: None, .. }), "{outcomes:?}");
    }
    assert_eq!(stage.sends, 2, "six messages are two batches");
    assert!(stage.balance(Address::new(0, [9; 32])) > 3 * TON - TON / 100);
}

#[test]
fn a_funded_wallet_deploys_itself_without_an_order() {
    let mut stage = Stage::new();
    stage.fund(3 * TON);
    stage.settle();
    stage.block(400);
    stage.look();
    let status = stage.purse.status();
    assert_eq!(status.standing, Some(cocoon_purse::WalletStanding::Active));
}

#[test]
fn a_contracts_verdict_is_reported() {
    let mut stage = Stage::new();
    stage.fund(20 * TON);
    stage.settle();
    // The wallet itself as a receiver: it refuses a stranger's text with its code 1040.
    let stranger = Stage::with(
        Wallet::cocoon(
            Address::new(0, [5; 32]),
            SigningKey::from_bytes(&[8; 32]),
            &code::wallet().unwrap().into(),
        )
        .unwrap(),
    );
    let init = cocoon_contract::address::wallet_init(
        Address::new(0, [5; 32]),
        cocoon_units::PublicKey(SigningKey::from_bytes(&[8; 32]).verifying_key().to_bytes()),
        &code::wallet().unwrap().into(),
    )
    .unwrap();
    let deploy = Order { label: Label(1), message: Outgoing::deploy(init, Nanoton(TON)) };
    let text = cocoon_contract::message::Body::Text(cocoon_contract::message::TextCommand::Block);
    let to = stranger.wallet.address();
    let message = Outgoing::to_contract(to, Nanoton(TON / 10), text.cell().unwrap());
    stage.purse.order(deploy).unwrap();
    stage.purse.order(Order { label: Label(2), message }).unwrap();
    stage.settle();
    assert!(stage.outcomes[&1][1].is_success(), "{:?}", stage.outcomes[&1]);
    let refused = &stage.outcomes[&2][1];
    assert!(matches!(refused, Outcome::Arrived { exit_code: Some(1040), is_aborted: true, .. }));
    assert!(!refused.is_success());
}

#[test]
fn an_order_that_cannot_be_paid_waits_and_says_so() {
    let mut stage = Stage::new();
    stage.fund(5 * TON);
    stage.purse.order(order(1, 9, 30 * TON)).unwrap();
    stage.purse.order(order(2, 9, TON)).unwrap();
    for _ in 0..5 {
        stage.look();
        stage.block(400);
    }
    assert_eq!(stage.received(9, 2), 1, "a large order does not hold up a small one");
    assert_eq!(stage.received(9, 1), 0);
    let lacking = stage.purse.status().lacking.unwrap();
    assert_eq!((lacking.label, lacking.needs), (Label(1), Nanoton(30_060_000_000)));
    let said = stage.notes.iter().filter(|note| matches!(note, Note::Lacking(_))).count();
    assert_eq!(said, 1);
    assert!(lacking.to_string().contains("fund 0:"), "{lacking}");
    stage.fund(30 * TON);
    stage.settle();
    assert_eq!(stage.received(9, 1), 1);
    assert!(stage.notes.contains(&Note::Funded));
}

#[test]
fn a_lost_message_is_sent_again_and_counts_once() {
    let mut stage = Stage::new();
    stage.fund(10 * TON);
    stage.settle();
    stage.chain.set_trouble(Trouble { lose_externals: 3, ..Trouble::default() });
    let before = stage.sends;
    stage.purse.order(order(1, 9, TON)).unwrap();
    stage.settle();
    assert_eq!(stage.received(9, 1), 1);
    assert!(stage.sends - before >= 4, "{}", stage.sends);
}

#[test]
fn a_signature_that_ran_out_is_renewed_at_the_same_number() {
    let mut stage = Stage::new();
    stage.fund(10 * TON);
    stage.settle();
    stage.chain.set_trouble(Trouble { lose_externals: u32::MAX, ..Trouble::default() });
    stage.purse.order(order(1, 9, TON)).unwrap();
    for _ in 0..200 {
        stage.look();
        stage.block(2_000);
    }
    assert_eq!(stage.received(9, 1), 0);
    assert!(stage.notes.iter().any(|note| matches!(note, Note::SignedAnew { seqno: 1 })));
    stage.chain.set_trouble(Trouble::default());
    stage.settle();
    assert_eq!(stage.received(9, 1), 1);
}

#[test]
fn a_restart_remembers_what_is_on_its_way() {
    let mut stage = Stage::new();
    stage.fund(10 * TON);
    stage.settle();
    stage.purse.order(order(1, 9, TON)).unwrap();
    assert!(stage.look());
    // Signed, kept and sent; the process dies, the block comes.
    stage.restart();
    stage.block(400);
    assert!(stage.purse.labels().any(|label| label == Label(1)));
    assert_eq!(stage.purse.order(order(1, 9, TON)), Ok(false));
    stage.settle();
    assert_eq!(stage.received(9, 1), 1);
    assert!(stage.outcomes[&1].last().unwrap().is_final());
}

#[test]
fn nothing_is_sent_before_it_is_kept() {
    let mut stage = Stage::new();
    stage.fund(10 * TON);
    stage.settle();
    stage.purse.order(order(1, 9, TON)).unwrap();
    // Dies before the file is written.
    stage.dies_after = Some(0);
    let sends = stage.sends;
    assert!(!stage.look());
    assert_eq!(stage.sends, sends);
    stage.restart();
    assert_eq!(stage.purse.order(order(1, 9, TON)), Ok(true), "nothing of it is known");
    stage.settle();
    assert_eq!(stage.received(9, 1), 1);
}

#[test]
fn a_stranger_with_the_key_is_noticed_and_nothing_is_lost() {
    let mut stage = Stage::new();
    stage.fund(10 * TON);
    stage.settle();
    let mut other = Purse::open(stage.wallet.clone(), Settings::default(), None).unwrap();
    std::mem::swap(&mut stage.purse, &mut other);
    // The other program signs at the number that ours signs at too; the chain takes the first.
    stage.purse.order(order(100, 9, TON)).unwrap();
    stage.look();
    std::mem::swap(&mut stage.purse, &mut other);
    stage.purse.order(order(1, 9, TON)).unwrap();
    stage.look();
    stage.settle();
    assert!(stage.notes.iter().any(|note| matches!(note, Note::Stranger { .. })));
    assert_eq!((stage.received(9, 100), stage.received(9, 1)), (1, 1));
}

#[test]
fn a_blocked_wallet_says_so() {
    let mut stage = Stage::new();
    stage.fund(10 * TON);
    stage.settle();
    let address = stage.wallet.address();
    // As if the owner had blocked it: the same wallet with the status bit set.
    let mut blocked = Purse::open(stage.wallet.clone(), Settings::default(), None).unwrap();
    let mut state = cocoon_contract::state::WalletState::initial(
        Address::new(0, [0x44; 32]),
        cocoon_units::PublicKey(SigningKey::from_bytes(&[3; 32]).verifying_key().to_bytes()),
    );
    state.is_blocked = true;
    let sighting = cocoon_purse::Sighting {
        standing: cocoon_purse::WalletStanding::Active,
        balance: Nanoton(10 * TON),
        data: Some(state.cell().unwrap()),
        last_lt: 1,
        time_s: 1,
    };
    let mut acts = Vec::new();
    blocked.order(order(1, 9, TON)).unwrap();
    blocked.observed(sighting, &[], 0, &mut acts);
    assert_eq!(acts, [cocoon_purse::Act::Note(Note::Blocked)]);
    assert_eq!(blocked.address(), address);
}

#[test]
fn limits_and_foreign_files_are_refused() {
    let mut stage = Stage::new();
    let settings = Settings { queue_max: 2, ..Settings::default() };
    stage.purse = Purse::open(stage.wallet.clone(), settings, None).unwrap();
    stage.purse.order(order(1, 9, TON)).unwrap();
    stage.purse.order(order(2, 9, TON)).unwrap();
    assert_eq!(stage.purse.order(order(3, 9, TON)), Err(OrderFault::Full { waiting: 2 }));
    assert!(stage.purse.cancel(Label(2)));
    assert!(!stage.purse.cancel(Label(2)));
    stage.fund(10 * TON);
    stage.look();
    let file = stage.file.clone().unwrap();
    let other = Wallet::cocoon(
        Address::new(0, [5; 32]),
        SigningKey::from_bytes(&[8; 32]),
        &code::wallet().unwrap().into(),
    )
    .unwrap();
    let refused = Purse::open(other, Settings::default(), Some(&file)).err();
    assert!(matches!(refused, Some(PurseFault::OtherWallet { .. })));
    let damaged = Purse::open(stage.wallet.clone(), Settings::default(), Some(&file[..20])).err();
    assert!(matches!(damaged, Some(PurseFault::Kept(_))));
}

#[test]
fn a_history_that_is_gone_is_said() {
    let mut stage = Stage::new();
    stage.fund(10 * TON);
    stage.settle();
    stage.purse.order(order(1, 9, TON)).unwrap();
    stage.look();
    let mut acts = Vec::new();
    stage.purse.history_lost(&mut acts);
    assert!(matches!(
        &acts[0],
        cocoon_purse::Act::Report(report) if matches!(report.outcome, Outcome::Unknown { .. })
    ));
}
