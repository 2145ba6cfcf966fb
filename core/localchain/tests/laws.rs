//! Laws that hold for every sequence of inputs.

// A broken scenario shall panic.
#![allow(clippy::unwrap_used)]

mod relay;

use cocoon_localchain::{Genesis, Input, LocalChain, Trouble};
use cocoon_units::{Address, Nanoton};
use proptest::prelude::*;
use relay::{PAY_FEES, address, order, transfer};

const BEGIN_MS: u64 = 1_760_000_000_000;

/// What somebody does, in terms small enough to shrink.
#[derive(Clone, Debug)]
enum Deed {
    Faucet { to: u32, nanoton: u64 },
    Send { from: u32, to: u32, nanoton: u64, mode: u8, bounce: bool, deploy: bool },
    Strand { from: u32, nanoton: u64 },
    Tick { after_ms: u64 },
    Trouble(Trouble),
}

fn deed() -> impl Strategy<Value = Deed> {
    let party = 0_u32..4;
    let amount = prop_oneof![1_u64..1000, 1_000_000_u64..20_000_000_000];
    let mode =
        prop_oneof![Just(0_u8), Just(1), Just(2), Just(3), Just(64), Just(32 + 1), 0_u8..=255];
    prop_oneof![
        2 => (party.clone(), amount.clone()).prop_map(|(to, nanoton)| Deed::Faucet { to, nanoton }),
        6 => (party.clone(), 0_u32..6, amount.clone(), mode, any::<bool>(), any::<bool>()).prop_map(
            |(from, to, nanoton, mode, bounce, deploy)| {
                Deed::Send { from, to, nanoton, mode, bounce, deploy }
            }
        ),
        1 => (party, amount).prop_map(|(from, nanoton)| Deed::Strand { from, nanoton }),
        6 => (0_u64..100_000_000).prop_map(|after_ms| Deed::Tick { after_ms }),
        1 => (any::<bool>(), 0_u64..3_000, 0_u32..3).prop_map(
            |(standing_still, late_ms, lose_externals)| {
                Deed::Trouble(Trouble { standing_still, late_ms, lose_externals })
            }
        ),
    ]
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    // Every chain begins with coins, or most sequences would do nothing.
    prop::collection::vec(deed(), 1..40).prop_map(|mut deeds| {
        for to in 0..3 {
            deeds.insert(0, Deed::Faucet { to, nanoton: 50_000_000_000 });
        }
        deeds.insert(3, Deed::Tick { after_ms: 400 });
        deeds
    })
}

fn input(deed: &Deed, now_ms: &mut u64, salt: u64) -> Input {
    match deed {
        Deed::Faucet { to, nanoton } => {
            Input::Faucet { to: address(*to), amount: Nanoton(*nanoton) }
        }
        Deed::Send { from, to, nanoton, mode, bounce, deploy } => {
            let message = transfer(address(*to), *nanoton, *bounce);
            Input::External(order(*from, message, *mode, salt, *deploy))
        }
        Deed::Strand { from, nanoton } => {
            let message = transfer(Address::new(-1, [7; 32]), *nanoton, false);
            Input::External(order(*from, message, PAY_FEES, salt, true))
        }
        Deed::Tick { after_ms } => {
            *now_ms += after_ms;
            Input::Tick { now_ms: *now_ms }
        }
        Deed::Trouble(trouble) => Input::Trouble(*trouble),
    }
}

fn begin() -> LocalChain {
    let mut genesis = Genesis::new([3; 32], BEGIN_MS);
    genesis.limits.block_transactions = 5;
    LocalChain::new(&genesis).unwrap()
}

fn play(chain: &mut LocalChain, deeds: &[Deed], now_ms: &mut u64, first_salt: u64) {
    for (salt, deed) in (first_salt..).zip(deeds) {
        // Refusals are part of the play; faults are not.
        let _refused = chain.apply(&input(deed, now_ms, salt)).unwrap();
        let coins = chain.coins();
        let somewhere = coins.held + coins.waiting + coins.fees + coins.burned + coins.stranded;
        assert_eq!(coins.minted, somewhere, "{deed:?} {coins:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn coins_are_conserved_and_runs_repeat(deeds in deeds()) {
        let (mut one, mut two) = (begin(), begin());
        play(&mut one, &deeds, &mut BEGIN_MS.clone(), 0);
        play(&mut two, &deeds, &mut BEGIN_MS.clone(), 0);
        prop_assert_eq!(one.master_head().id, two.master_head().id);
        prop_assert_eq!(one.snapshot().unwrap(), two.snapshot().unwrap());
    }

    #[test]
    fn a_snapshot_is_the_whole_chain(deeds in deeds(), cut in 0_usize..40) {
        let cut = cut.min(deeds.len());
        let mut now_ms = BEGIN_MS;
        let mut original = begin();
        play(&mut original, &deeds[..cut], &mut now_ms, 0);
        let bytes = original.snapshot().unwrap();
        let mut restored = LocalChain::restore(&bytes).unwrap();
        prop_assert_eq!(&restored.snapshot().unwrap(), &bytes);
        let mut later_ms = now_ms;
        play(&mut original, &deeds[cut..], &mut now_ms, 100);
        play(&mut restored, &deeds[cut..], &mut later_ms, 100);
        prop_assert_eq!(original.snapshot().unwrap(), restored.snapshot().unwrap());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut chain = begin();
        prop_assert!(chain.submit(&bytes).is_err());
        prop_assert!(LocalChain::restore(&bytes).is_err());
        if let Ok(input) = Input::from_bytes(&bytes) {
            let _outcome = chain.apply(&input);
        }
    }

    #[test]
    fn damaged_snapshots_never_panic(at in any::<prop::sample::Index>(), flip in 1_u8..) {
        let mut chain = begin();
        chain.mint(address(1), Nanoton::TON).unwrap();
        chain.tick(BEGIN_MS + 400).unwrap();
        let mut bytes = chain.snapshot().unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(mut chain) = LocalChain::restore(&bytes) {
            let _outcome = chain.tick(u64::MAX);
        }
    }
}

#[test]
fn bounces_of_an_account_that_is_not_there_are_all_counted() {
    let deeds = vec![
        Deed::Faucet { to: 2, nanoton: 50_000_000_000 },
        Deed::Faucet { to: 1, nanoton: 50_000_000_000 },
        Deed::Faucet { to: 0, nanoton: 50_000_000_000 },
        Deed::Tick { after_ms: 400 },
        Deed::Send { from: 1, to: 5, nanoton: 1_136_400, mode: 0, bounce: true, deploy: true },
        Deed::Send { from: 0, to: 5, nanoton: 1_000_000, mode: 0, bounce: true, deploy: true },
        Deed::Tick { after_ms: 0 },
    ];
    let mut chain = begin();
    play(&mut chain, &deeds, &mut BEGIN_MS.clone(), 0);
}
