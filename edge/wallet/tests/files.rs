//! Files: what is sealed opens with its passphrase only, nothing is overwritten, damage is found.

use cocoon_units::{Address, Secret};
use cocoon_wallet::{
    FileFault, KeySource, Mnemonic, SealCost, Wallet, WalletDir, WalletFile, WalletKind, fuzz,
};
use proptest::prelude::*;

/// Cheap, so that tests are fast; people get the default.
const CHEAP: SealCost = SealCost { memory_kib: 64, passes: 1 };

fn seed() -> KeySource {
    KeySource::Seed(Secret::new([7; 32]))
}

fn secret(text: &str) -> Secret<String> {
    Secret::new(text.to_owned())
}

fn kinds() -> Vec<WalletKind> {
    let cocoon = Wallet::cocoon(Address::new(0, [4; 32]), seed().public_key()).expect("our code");
    vec![
        WalletKind::V3R2,
        WalletKind::V4R2,
        WalletKind::V5R1 { network_id: -239 },
        WalletKind::V5R1 { network_id: -3 },
        cocoon.kind,
    ]
}

#[test]
fn every_kind_is_written_read_and_opened() {
    for kind in kinds() {
        let file = WalletFile::seal(kind, &seed(), &secret("open"), CHEAP, ([1; 16], [2; 24]))
            .expect("sealed");
        let read = WalletFile::parse(file.to_json().as_bytes()).expect("read");
        assert_eq!(read.wallet(), file.wallet());
        let key = read.unlock(&secret("open")).expect("the same passphrase").key();
        assert_eq!(key.to_bytes(), [7; 32]);
        assert!(matches!(read.unlock(&secret("Open")), Err(FileFault::Passphrase)));
        assert!(!file.to_json().contains(&hex::encode([7; 32])));
    }
}

#[test]
fn a_changed_owner_does_not_open() {
    let kind = kinds().pop().expect("cocoon");
    let file = WalletFile::seal(kind, &seed(), &secret("open"), CHEAP, ([1; 16], [2; 24]))
        .expect("sealed");
    let other = Wallet::cocoon(Address::new(0, [5; 32]), seed().public_key()).expect("our code");
    let text = file
        .to_json()
        .replace(&Address::new(0, [4; 32]).to_raw(), &Address::new(0, [5; 32]).to_raw())
        .replace(
            &file.wallet().address().expect("address").to_raw(),
            &other.address().expect("address").to_raw(),
        );
    let changed = WalletFile::parse(text.as_bytes()).expect("consistent");
    assert!(matches!(changed.unlock(&secret("open")), Err(FileFault::Passphrase)));
}

#[test]
fn a_changed_address_is_found_without_the_passphrase() {
    let file =
        WalletFile::seal(WalletKind::V4R2, &seed(), &secret("open"), CHEAP, ([1; 16], [2; 24]))
            .expect("sealed");
    let theirs = Address::new(0, [9; 32]).to_raw();
    let ours = file.wallet().address().expect("address").to_raw();
    let text = file.to_json().replace(&ours, &theirs);
    assert!(matches!(WalletFile::parse(text.as_bytes()), Err(FileFault::Damaged { .. })));
}

#[test]
fn a_directory_keeps_wallets_and_never_overwrites_one() {
    let home = tempfile::tempdir().expect("directory");
    let dir = WalletDir::new(home.path().join("wallets"));
    assert_eq!(dir.names().expect("none yet"), Vec::<String>::new());
    assert!(matches!(dir.load("main"), Err(FileFault::Absent { .. })));
    let seal = || {
        WalletFile::seal(WalletKind::V4R2, &seed(), &secret("p"), CHEAP, ([1; 16], [2; 24]))
            .expect("sealed")
    };
    let path = dir.create("main", &seal()).expect("written");
    assert!(matches!(dir.create("main", &seal()), Err(FileFault::Exists { .. })));
    assert_eq!(dir.names().expect("one"), ["main"]);
    assert_eq!(dir.load("main").expect("read").wallet(), seal().wallet());
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&path.metadata().expect("metadata").permissions());
    assert_eq!(mode & 0o777, 0o600);
    for name in ["", "../main", "a/b", ".hidden", &"x".repeat(41)] {
        assert!(matches!(dir.load(name), Err(FileFault::Name { .. })), "{name:?}");
    }
    let code = cocoon_contract::code::wallet().expect("code");
    let id = cocoon_contract::cell::CellId::of(&code);
    assert_eq!(dir.code(id), None);
    dir.keep_code(&code).expect("kept");
    dir.keep_code(&code).expect("kept already");
    assert_eq!(dir.code(id), Some(code));
}

#[test]
fn words_come_back_as_words() {
    let text = include_str!("../../../testdata/wallet/mnemonics.json");
    let vectors: serde_json::Value = serde_json::from_str(text).expect("JSON");
    let words = vectors["wallets"][1]["words"].as_str().expect("words");
    let source = KeySource::Words(Mnemonic::parse(words).expect("valid"));
    let file = WalletFile::seal(WalletKind::V4R2, &source, &secret("p"), CHEAP, ([1; 16], [2; 24]))
        .expect("sealed");
    let KeySource::Words(again) = file.unlock(&secret("p")).expect("opened") else {
        panic!("a bare key came back");
    };
    assert_eq!(again.words(), words);
}

proptest! {
    #[test]
    fn readers_take_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        fuzz::bytes(&bytes);
    }

    #[test]
    fn readers_take_any_change_of_a_good_file(at in 0usize..900, byte in any::<u8>()) {
        let file = WalletFile::seal(WalletKind::V4R2, &seed(), &secret("p"), CHEAP, ([1; 16], [2; 24]))
            .expect("sealed");
        let mut bytes = file.to_json().into_bytes();
        let length = bytes.len();
        bytes[at % length] = byte;
        fuzz::bytes(&bytes);
    }
}
