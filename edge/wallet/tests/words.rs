//! Words and addresses as TON's own libraries make them (`testdata/wallet/mnemonics.json`).

use cocoon_units::{Address, PublicKey};
use cocoon_wallet::{Mnemonic, Wallet, WalletKind, WordsFault};
use serde_json::Value;

fn vectors() -> Value {
    let text = include_str!("../../../testdata/wallet/mnemonics.json");
    serde_json::from_str(text).expect("vectors are JSON")
}

fn words(value: &Value) -> &str {
    value.as_str().expect("words")
}

#[test]
fn keys_and_addresses_are_those_of_ton_libraries() {
    let vectors = vectors();
    let wallets = vectors["wallets"].as_array().expect("list");
    assert_eq!(wallets.len(), 8);
    for entry in wallets {
        let mnemonic = Mnemonic::parse(words(&entry["words"])).expect("valid words");
        let key = mnemonic.key();
        assert_eq!(hex::encode(key.to_bytes()), words(&entry["secret_key"]));
        let public_key = PublicKey(key.verifying_key().to_bytes());
        assert_eq!(hex::encode(public_key.0), words(&entry["public_key"]));
        for (name, kind) in [
            ("v3r2", WalletKind::V3R2),
            ("v4r2", WalletKind::V4R2),
            ("v5r1", WalletKind::V5R1 { network_id: -239 }),
            ("v5r1_testnet", WalletKind::V5R1 { network_id: -3 }),
        ] {
            let address = Wallet { kind, public_key }.address().expect("address");
            assert_eq!(address.to_raw(), words(&entry[name]), "{name}");
        }
    }
}

#[test]
fn a_person_may_type_words_in_any_case_and_spacing() {
    let vectors = vectors();
    let text = words(&vectors["wallets"][0]["words"]);
    let typed = format!("  {}\n", text.to_uppercase().replace(' ', " \t\n"));
    assert_eq!(Mnemonic::parse(&typed).expect("the same words").words(), text);
}

#[test]
fn wrong_words_are_named_by_their_place() {
    let vectors = vectors();
    let good = words(&vectors["wallets"][0]["words"]);
    let replaced = good.replacen("small", "smoll", 1);
    assert_eq!(Mnemonic::parse(&replaced).unwrap_err(), WordsFault::Unknown { position: 3 });
    assert!(!Mnemonic::parse(&replaced).unwrap_err().to_string().contains("smoll"));
    let short = good.split(' ').take(23).collect::<Vec<_>>().join(" ");
    assert_eq!(Mnemonic::parse(&short).unwrap_err(), WordsFault::Count { found: 23 });
    let swapped = words(&vectors["swapped"]["words"]);
    assert_eq!(Mnemonic::parse(swapped).unwrap_err(), WordsFault::Mismatch);
    let protected = words(&vectors["with_password"]);
    assert_eq!(Mnemonic::parse(protected).unwrap_err(), WordsFault::NeedPassword);
    assert_eq!(Mnemonic::parse("").unwrap_err(), WordsFault::Count { found: 0 });
}

#[test]
fn words_that_are_drawn_are_words_that_are_read() {
    use rand::RngCore as _;
    let mut random = rand::rngs::OsRng;
    let drawn = Mnemonic::generate(|bytes| random.fill_bytes(bytes));
    let read = Mnemonic::parse(drawn.words()).expect("valid words");
    assert_eq!(read.key().to_bytes(), drawn.key().to_bytes());
    assert!(!format!("{drawn:?}").contains(drawn.words().split(' ').next().expect("a word")));
    assert!(Address::parse("").is_err());
}
