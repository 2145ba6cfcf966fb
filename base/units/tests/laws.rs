//! Laws of the values.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use cocoon_units::{
    Address, AddressFault, AddressForm, AmountFault, Coefficient, ImageHash, ModelName, Multiplier,
    Nanoton, PriceTable, ProtoVersion, PublicKey, RequestId, Secret, SecretBytes, Tokens, Usage,
    adjust, reserve_tokens, reserve_tokens_worst_case,
};
use proptest::prelude::*;

fn coefficient() -> impl Strategy<Value = Coefficient> {
    (0i64..=999_999_999).prop_map(Coefficient::clamped)
}

fn table() -> impl Strategy<Value = PriceTable> {
    (any::<[u32; 4]>(), any::<(u32, u32)>()).prop_map(|(m, (price, fee))| PriceTable {
        price_per_token: Nanoton(u64::from(price)),
        worker_fee_per_token: Nanoton(u64::from(fee.min(price))),
        prompt: Multiplier(m[0] % 1_000_000),
        cached: Multiplier(m[1] % 1_000_000),
        completion: Multiplier(m[2] % 1_000_000),
        reasoning: Multiplier(m[3] % 1_000_000),
    })
}

proptest! {
    #[test]
    fn amounts_read_what_they_wrote(nano: u64) {
        let amount = Nanoton(nano);
        prop_assert_eq!(Nanoton::parse(&amount.to_string()), Ok(amount));
        prop_assert_eq!(Nanoton::parse(&format!("{nano} nanoton")), Ok(amount));
    }

    #[test]
    fn any_text_is_read_without_a_panic(text: String) {
        let _ = Nanoton::parse(&text);
        let _ = Address::parse(&text);
        let _ = ImageHash::parse(&text);
        let _ = PublicKey::parse(&text);
        let _ = RequestId::parse(&text);
        let _ = ModelName::new(text.as_str()).map(|model| (model.base().len(), model.hash()));
    }

    #[test]
    fn near_addresses_are_read_without_a_panic(text in "[A-Za-z0-9+/_=:-]{40,70}") {
        let _ = Address::parse(&text);
    }

    #[test]
    fn addresses_read_what_they_wrote(
        workchain: i8, hash: [u8; 32], bounceable: bool, testnet: bool, url_safe: bool,
    ) {
        let address = Address::new(workchain, hash);
        let text = address.to_friendly(AddressForm { bounceable, testnet, url_safe });
        let (again, form) = Address::parse_with_form(&text).unwrap();
        let form = form.unwrap();
        prop_assert_eq!(again, address);
        prop_assert_eq!((form.bounceable, form.testnet), (bounceable, testnet));
        prop_assert_eq!(Address::parse(&address.to_raw()), Ok(address));
    }

    #[test]
    fn one_wrong_character_is_noticed(hash: [u8; 32], at in 0usize..48, other in "[A-Za-z0-9_-]") {
        let text = Address::new(0, hash).to_string();
        let mut wrong = text.clone();
        wrong.replace_range(at..=at, &other);
        prop_assume!(wrong != text);
        prop_assert!(Address::parse(&wrong).is_err());
    }

    #[test]
    fn usage_is_a_maximum(a: [u64; 4], b: [u64; 4]) {
        let usage = |n: [u64; 4]| Usage { prompt: n[0], cached: n[1], completion: n[2], reasoning: n[3] };
        let merged = usage(a).merge_max(usage(b));
        prop_assert_eq!(merged, usage(b).merge_max(usage(a)));
        prop_assert_eq!(merged.merge_max(usage(a)), merged);
    }

    #[test]
    fn adjusting_never_falls(raw: u64, more: u64, c in coefficient(), m: u32) {
        let less = raw.min(more);
        prop_assert!(adjust(less, c, Multiplier(m)) <= adjust(raw.max(more), c, Multiplier(m)));
        prop_assert!(adjust(raw, c, Multiplier(m)) <= Tokens::MAX);
    }

    #[test]
    fn adjusted_usage_is_consistent(n: [u64; 4], c in coefficient(), table in table()) {
        let usage = Usage { prompt: n[0], cached: n[1], completion: n[2], reasoning: n[3] };
        let adjusted = usage.adjusted(c, &table);
        prop_assert!(adjusted.is_consistent());
        prop_assert!(adjusted.total <= Tokens::MAX);
    }

    #[test]
    fn the_worst_case_is_reserved(
        query_len in 0u64..1 << 24, max_tokens in 0u64..1 << 20,
        parts: [f64; 4], cap in 0i64..10_000_000, below in 0i64..10_000_000, table in table(),
    ) {
        // Any split of at most this many tokens, at any coefficient up to the cap.
        let share = |n: u64, part: f64| {
            let part = if part.is_finite() { part.abs().fract() } else { 0.5 };
            (n as f64 * part) as u64
        };
        let prompt = query_len - share(query_len, parts[0]);
        let completion = max_tokens - share(max_tokens, parts[2]);
        let usage = Usage {
            prompt,
            cached: share(prompt, parts[1]),
            completion,
            reasoning: share(completion, parts[3]),
        };
        let cap_coefficient = Coefficient::clamped(cap);
        let reserved = reserve_tokens_worst_case(max_tokens, query_len, cap_coefficient, &table);
        let used = usage.adjusted(Coefficient::clamped(below.min(cap)), &table);
        prop_assert!(used.total <= reserved, "{used:?} {reserved:?}");
        prop_assert!(reserve_tokens(max_tokens, query_len, cap_coefficient) <= reserved);
    }

    #[test]
    fn nothing_reserved_panics(max_tokens: u64, query_len: u64, c in coefficient(), table in table()) {
        let worst = reserve_tokens_worst_case(max_tokens, query_len, c, &table);
        prop_assert!(worst <= Tokens::MAX);
    }

    #[test]
    fn money_is_conserved(table in table(), tokens in 0u64..1 << 31) {
        let tokens = Tokens(tokens);
        let parts = table.worker_gets(tokens).unwrap().checked_add(table.proxy_keeps(tokens).unwrap());
        prop_assert_eq!(parts, table.client_pays(tokens));
    }

    #[test]
    fn wire_tokens_stay_in_range(value: i64, tokens: u64) {
        prop_assert_eq!(Tokens::from_wire(value).is_some(), value >= 0);
        prop_assert_eq!(Tokens(tokens).to_wire() as u64, tokens.min(Tokens::MAX.0));
    }

    #[test]
    fn the_chosen_version_suits_both(own: (i8, i8), peer: (i8, i8)) {
        let range = |r: (i8, i8)| (ProtoVersion(r.0.into()), ProtoVersion(r.1.into()));
        let (own, peer) = (range(own), range(peer));
        let inside = |v: ProtoVersion, r: (ProtoVersion, ProtoVersion)| r.0 <= v && v <= r.1;
        match ProtoVersion::choose(own, peer) {
            Some(version) => prop_assert!(inside(version, own) && inside(version, peer)),
            None => {
                let top = own.1.min(peer.1);
                prop_assert!(!(inside(top, own) && inside(top, peer)));
            }
        }
    }
}

#[test]
fn amounts_have_several_forms() {
    let forms =
        ["1.5 TON", "1.5", "1.50 ton", "1500000000 nanoton", "1_500_000_000nano", " 1.5TON "];
    for form in forms {
        assert_eq!(Nanoton::parse(form), Ok(Nanoton(1_500_000_000)), "{form}");
    }
    assert_eq!(Nanoton::parse("1.0000000001"), Err(AmountFault::TooFine));
    assert_eq!(Nanoton::parse("18446744074"), Err(AmountFault::TooLarge));
    for text in ["", ".", "TON", "-1", "1,5", "1.5.5", "0x10", "1e9", "١"] {
        assert_eq!(Nanoton::parse(text), Err(AmountFault::NotANumber), "{text}");
    }
    assert_eq!(Nanoton(1).to_string(), "0.000000001 TON");
    assert_eq!(Nanoton(0).to_string(), "0 TON");
}

#[test]
fn prices_of_zero_buy_a_fixed_number() {
    assert_eq!(Nanoton(100).buys(Nanoton(0)), Tokens(1_000_000_000_000));
    assert_eq!(Nanoton(100).buys(Nanoton(3)), Tokens(33));
}

#[test]
fn wrong_addresses_say_why() {
    let text = Address::new(0, [7; 32]).to_string();
    assert!(matches!(Address::parse(&text[1..]), Err(AddressFault::Length { length: 47 })));
    assert!(matches!(Address::parse("0:12"), Err(AddressFault::Length { length: 4 })));
    assert!(matches!(Address::parse("1000:12"), Err(AddressFault::Workchain)));
    let mixed = format!("{}+_", &text[..46]);
    assert!(matches!(Address::parse(&mixed), Err(AddressFault::Alphabet)));
}

#[test]
fn secrets_are_not_shown() {
    let secret = Secret::new(b"hunter2".to_vec());
    let shown = format!("{secret:?} {:?}", SecretBytes::from(b"hunter2".to_vec()));
    assert!(!shown.contains("hunter2") && !shown.contains("104"), "{shown}");
}
