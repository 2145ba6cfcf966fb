//! Whatever happens in whatever order, every life ends with all unspent coins back.

use cocoon_contract::payment::PaymentKind;
use cocoon_contract::state::Phase;
use cocoon_settle::{ClientPolicy, Done, Wish};
use cocoon_units::Nanoton;
use proptest::prelude::*;

use crate::stage::{Client, DAY_S, FUNDS, PRICE, Stage, TON};

#[derive(Clone, Debug)]
enum Event {
    /// Requests end: counted by both, and signed.
    Used(u64),
    /// The proxy counts without work.
    Lies(u64),
    /// The proxy charges what it counted.
    Charges,
    /// The proxy shows a total of before.
    ShowsOld(u64),
    /// The client's process dies.
    Restarts,
    Wishes(Wish),
    Waits(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let wish = prop_oneof![
        3 => Just(Wish::Use),
        1 => (15..60u64).prop_map(|ton| Wish::PaidIn(Nanoton(ton * TON))),
        1 => Just(Wish::Withdraw),
        1 => Just(Wish::Look),
    ];
    let event = prop_oneof![
        4 => (1..400_000_000u64).prop_map(Event::Used),
        1 => (1..900_000_000u64).prop_map(Event::Lies),
        2 => Just(Event::Charges),
        1 => (0..100_000_000u64).prop_map(Event::ShowsOld),
        1 => Just(Event::Restarts),
        2 => wish.prop_map(Event::Wishes),
        1 => (1..DAY_S).prop_map(Event::Waits),
    ];
    proptest::collection::vec(event, 1..14)
}

fn happen(stage: &mut Stage, client: &mut Client, event: &Event) {
    let sign = |stage: &mut Stage, client: &mut Client, tokens: u64| {
        client.payment = Some(stage.sign(PaymentKind::ClientCharge, client.contract(), tokens));
    };
    match event {
        Event::Used(tokens) => {
            client.own += tokens;
            client.counted += tokens;
            let counted = client.counted;
            sign(stage, client, counted);
        }
        Event::Lies(tokens) => {
            client.counted += tokens;
            let counted = client.counted;
            sign(stage, client, counted);
        }
        Event::Charges => {
            let counted = client.counted;
            let used = stage.seen_client(client.contract()).state().map(|state| state.tokens_used);
            if used.is_some_and(|used| used.0 < counted) {
                stage.proxy_submits(PaymentKind::ClientCharge, client.contract(), counted);
            }
        }
        Event::ShowsOld(tokens) => sign(stage, client, *tokens),
        Event::Restarts => client.restart(stage),
        Event::Wishes(wish) => client.wish = *wish,
        Event::Waits(seconds) => stage.wait(*seconds),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn records_are_read_from_any_bytes(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        cut in any::<proptest::sample::Index>(),
    ) {
        cocoon_settle::fuzz::record(&bytes);
        cocoon_settle::fuzz::record(&[&[0xff, b's'], bytes.as_slice()].concat());
        let stage = Stage::new(0);
        let client = Client::new(&stage, ClientPolicy::default());
        let mut damaged = client.journal[0].encode();
        let at = cut.index(damaged.len());
        damaged[at] ^= bytes.first().copied().unwrap_or(1);
        cocoon_settle::fuzz::record(&damaged);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_life_ends_with_all_unspent_coins_back(events in events(), grants in any::<bool>()) {
        let mut stage = Stage::new(5 * TON);
        let mut client = Client::new(&stage, ClientPolicy::default());
        client.settle(&mut stage);
        let mut charged = 0;
        for event in &events {
            happen(&mut stage, &mut client, event);
            client.settle(&mut stage);
            let state = client.state(&stage);
            // Totals on chain only grow, and never beyond what the proxy counted.
            prop_assert!(state.tokens_used.0 >= charged);
            prop_assert!(state.tokens_used.0 <= client.counted);
            charged = state.tokens_used.0;
        }
        client.wish = Wish::Leave;
        client.settle(&mut stage);
        if grants && client.state(&stage).phase == Phase::Closing {
            let (contract, counted) = (client.contract(), client.counted);
            stage.proxy_submits(PaymentKind::ClientGrantRefund, contract, counted);
        }
        prop_assert_eq!(client.finish(&mut stage), Done::Closed);
        let state = client.state(&stage);
        prop_assert_eq!(state.balance, Nanoton::ZERO);
        let spent = state.tokens_used.0 * PRICE;
        prop_assert_eq!(stage.paid_to(stage.client.address), client.deposited - spent);
        let back = stage.balance(stage.client.address) + stage.balance(client.contract());
        prop_assert!(FUNDS - spent - back <= client.stated_fees);
        let coins = stage.chain.coins();
        prop_assert_eq!(coins.minted, coins.held + coins.waiting + coins.fees);
    }
}
