//! Make, fund, send, look back.

use crate::desk::{Desk, WORDS};
use serde_json::Value;

/// A friend's account, the form for wallets.
pub(crate) const FRIEND: &str = "UQDMgD2BZL896AUJvGWwRjVgyw0bI1ttLsGQAdmAx03KVvZA";
const FRIEND_RAW: &str = "0:cc803d8164bf3de80509bc65b0463560cb0d1b235b6d2ec19001d980c74dca56";

#[test]
fn a_person_tries_it_for_free() {
    let desk = Desk::new();
    desk.wallet("main", 0, 100);
    desk.snapshot("wallet-show", &desk.run(&["wallet", "show"]).out);

    let send = ["wallet", "send", FRIEND, "1.5", "--comment", "for the tea"];
    let tried = desk.run(&[&send[..], &["--dry-run"]].concat());
    desk.snapshot("wallet-send-dry-run", &tried.out);
    let balance = || desk.json(&["wallet", "show", "main"])["balance_nanoton"].as_u64();
    assert_eq!(balance(), Some(100_000_000_000), "a dry run moves nothing");

    let expected = desk.json(&[&send[..], &["--dry-run"]].concat());
    let sent = desk.json(&[&send[..], &["--yes"]].concat());
    assert_eq!(sent["outcome"]["accounts"], expected["outcome"]["accounts"]);
    assert_eq!(sent["outcome"]["fees_in_all_nanoton"], expected["outcome"]["fees_in_all_nanoton"]);
    let after = sent["outcome"]["accounts"][0]["after_nanoton"].as_u64();
    assert_eq!(balance(), after);
    let fees = sent["outcome"]["fees_in_all_nanoton"].as_u64().expect("fees");
    assert_eq!(after, Some(100_000_000_000 - 1_500_000_000 - fees), "not a nanoton is lost");

    // The wallet is deployed now: a second order carries no code.
    desk.json(&["wallet", "send", FRIEND, "20 nanoton", "--yes"]);
    let history = desk.json(&["wallet", "history"]);
    let transactions = history["transactions"].as_array().expect("list");
    assert_eq!(transactions.len(), 3);
    assert_eq!(transactions[0]["sent"][0]["value_nanoton"], 20);
    assert_eq!(transactions[1]["sent"][0]["what"], "comment \"for the tea\"");
    assert_eq!(transactions[2]["received"]["value_nanoton"], 100_000_000_000_u64);

    let friend = desk.json(&["chain", "explore", FRIEND]);
    assert_eq!(friend["coins_nanoton"], 1_500_000_020);
    assert_eq!(friend["raw"], FRIEND_RAW);
    let all = desk.json(&["chain", "explore"]);
    assert_eq!(all["accounts_in_all"], 2);
    let own = all["accounts"]
        .as_array()
        .expect("list")
        .iter()
        .find(|account| account["contract"] == "cocoon wallet");
    assert!(own.is_some(), "{all}");
}

#[test]
fn everything_can_be_sent_and_the_receipt_says_so() {
    let desk = Desk::new();
    desk.wallet("main", 1, 5);
    let sent = desk.json(&["wallet", "send", FRIEND, "all", "--yes"]);
    assert_eq!(sent["outcome"]["accounts"][0]["after_nanoton"], 0);
    let fees = sent["outcome"]["fees_in_all_nanoton"].as_u64().expect("fees");
    let got = sent["outcome"]["accounts"][1]["after_nanoton"].as_u64();
    assert_eq!(got, Some(5_000_000_000 - fees));
}

#[test]
fn a_deposit_is_waited_for() {
    let desk = Desk::new();
    desk.wallet("main", 0, 0);
    let shown = desk.json(&["wallet", "receive", "--no-wait", "--amount", "2"]);
    let link = shown["link"].as_str().expect("link");
    assert!(
        link.starts_with("ton://transfer/UQ") && link.ends_with("?amount=2000000000"),
        "{link}"
    );
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| desk.json(&["wallet", "receive", "--amount", "2"]));
        // Half of it is not enough; the second half ends the wait, whenever it began.
        for _ in 0..50 {
            desk.json(&["chain", "faucet", "main", "1"]);
            if waiting.is_finished() {
                break;
            }
        }
        let deposit = waiting.join().expect("waited")["deposit"].clone();
        assert!(deposit["received_nanoton"].as_u64() >= Some(2_000_000_000), "{deposit}");
    });
}

#[test]
fn words_are_shown_only_when_asked_for() {
    let desk = Desk::new();
    let vectors: Value = serde_json::from_str(WORDS).expect("JSON");
    let words = vectors["wallets"][0]["words"].as_str().expect("words");
    let key = vectors["wallets"][0]["secret_key"].as_str().expect("key");
    desk.wallet("main", 0, 100);
    let mut said = String::new();
    for arguments in [
        &["wallet", "show"][..],
        &["wallet", "show", "--json"],
        &["wallet", "send", FRIEND, "1", "--yes"],
        &["wallet", "history", "--json"],
        &["chain", "explore", "--json"],
    ] {
        let answer = desk.run(arguments);
        said.push_str(&answer.out);
        said.push_str(&answer.err);
    }
    let file = desk.path(".local/share/cocoon/wallets/main.wallet.json");
    said.push_str(&std::fs::read_to_string(file).expect("wallet file"));
    for secret in [words, key, "correct horse", &words[..30]] {
        assert!(!said.contains(secret));
    }
    assert_eq!(desk.run(&["wallet", "export"]).out.trim(), words);
    assert_eq!(desk.run(&["wallet", "export", "--key"]).out.trim(), key);
    // The key alone makes the same wallet, without words.
    let file = desk.path("node.key");
    std::fs::write(&file, key).expect("file");
    let again = desk.json(&["wallet", "import", "node", "--key-file", &desk.text(&file)]);
    let first = desk.json(&["wallet", "show", "main", "--offline"]);
    assert_eq!(again["address"], first["address"]);
    desk.run(&["wallet", "export", "node"]).mistake("made from a key");
    assert_eq!(desk.run(&["wallet", "export", "node", "--key"]).out.trim(), key);
}

#[test]
fn new_words_are_drawn_and_come_back() {
    let desk = Desk::new();
    let made = desk.json(&["wallet", "new", "fresh", "--contract", "v4r2"]);
    let words = desk.run(&["wallet", "export", "fresh"]).out;
    assert_eq!(words.split_whitespace().count(), 24);
    let file = desk.path("words");
    std::fs::write(&file, words).expect("file");
    let again = desk.json(&[
        "wallet",
        "import",
        "again",
        "--contract",
        "v4r2",
        "--words-file",
        &desk.text(&file),
    ]);
    assert_eq!(made["address"], again["address"]);
}
