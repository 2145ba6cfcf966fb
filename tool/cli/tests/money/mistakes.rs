//! A user's mistake is one sentence and exit code 2.

use crate::desk::Desk;
use crate::wallets::FRIEND;

#[test]
fn about_wallets() {
    let desk = Desk::new();
    desk.run(&["wallet", "show"]).mistake("there is no wallet yet");
    desk.run(&["wallet", "send", FRIEND, "1", "--yes"]).mistake("there is no wallet \"main\"");
    desk.wallet("main", 0, 0);
    desk.run(&["wallet", "new", "main"]).mistake("exists already");
    desk.run(&["wallet", "new", "a/b"]).mistake("no name for a wallet");
    std::fs::write(desk.path("short"), "tiny\n").expect("file");
    let short = desk.text(&desk.path("short"));
    desk.run(&["wallet", "new", "x", "--passphrase-file", &short]).mistake("shorter than 8");
    std::fs::write(desk.path("other"), "another passphrase\n").expect("file");
    let other = desk.text(&desk.path("other"));
    desk.run(&["wallet", "export", "--passphrase-file", &other]).mistake("wrong passphrase");
    desk.run(&["wallet", "export", "--passphrase-file", "/nowhere"]).mistake("No such file");
    std::fs::write(desk.path("words"), "abandon ".repeat(23) + "abandonn").expect("file");
    let words = desk.text(&desk.path("words"));
    let import = |file: &str| desk.run(&["wallet", "import", "y", "--words-file", file]);
    import(&words).mistake("word 24 is not one of the 2048");
    std::fs::write(desk.path("words"), "abandon ".repeat(24)).expect("file");
    import(&words).mistake("do not belong together");
    std::fs::write(desk.path("words"), "abandon").expect("file");
    import(&words).mistake("1 words, a wallet has 24");
}

#[test]
fn about_nodes_everything_that_is_missing_at_once() {
    let desk = Desk::new();
    let says = |role: &str, set: &[&str], says: &str| {
        let mut words = vec![role];
        set.iter().for_each(|setting| words.extend(["--set", setting]));
        desk.run(&words).mistake(says);
    };
    says("worker", &[], "not set yet: owner (TON address that earnings are paid to), model (");
    says("worker", &[], "chain.kind (mainnet, testnet or local; or network_file:");
    says("worker", &["owner=x", "model=m", "chain.kind=mainnet"], "not set yet: root (address");
    says("proxy", &[], "not set yet: owner (TON address that the proxy earns for), chain.kind (");
    says("gateway", &[], "not set yet: network.owner (TON address that unused coins");
    says("gateway", &["network.network_file=n", "network.root=r"], "network.wallet (");
    says(
        "gateway",
        &["network.network_file=n", "network.root=r", "network.wallet=w"],
        "network.wallet: ",
    );
    says("key-manager", &[], "not set yet: chain.kind (");
    says("key-manager", &["chain.kind=testnet"], "not set yet: root (");
}

#[test]
fn about_coins_and_addresses() {
    let desk = Desk::new();
    desk.wallet("main", 0, 0);
    let send = |to: &str, amount: &str| desk.run(&["wallet", "send", to, amount, "--yes"]);
    send(FRIEND, "1").mistake("is empty: fund it first");
    desk.json(&["chain", "faucet", "main", "1"]);
    desk.until(|| desk.json(&["wallet", "show"])["balance_nanoton"] == 1_000_000_000);
    send(FRIEND, "0.1").mistake("acts only from 2 TON on");
    desk.json(&["chain", "faucet", "main", "3"]);
    desk.until(|| desk.json(&["wallet", "show"])["balance_nanoton"] == 4_000_000_000_u64);
    send(FRIEND, "5").mistake("holds 4 TON, not enough for 5 TON");
    send(FRIEND, "lots").mistake("lots");
    send(FRIEND, "0").mistake("nothing to send");
    send("UQnonsense", "1").mistake("UQnonsense");
    let wrong = FRIEND.replace("VvZA", "VvZB");
    send(&wrong, "1").mistake("checksum");
    // The form of contracts, and there is no contract.
    send("EQDMgD2BZL896AUJvGWwRjVgyw0bI1ttLsGQAdmAx03KVquF", "1").mistake(FRIEND);
    let masterchain = format!("-1:{}", "11".repeat(32));
    desk.run(&["wallet", "send", "--yes", "--", &masterchain, "1"]).mistake("workchain -1");
    let testnet = "0QDMgD2BZL896AUJvGWwRjVgyw0bI1ttLsGQAdmAx03KVk3K";
    desk.run(&["wallet", "send", testnet, "1", "--chain", "mainnet"]).mistake("test network");
    desk.run(&["wallet", "send", FRIEND, "1"]).mistake("say --yes");
    desk.run(&["chain", "faucet", "main", "99999999"]).mistake("faucet gives");
}

#[test]
fn about_chains() {
    let desk = Desk::new();
    desk.wallet("main", 0, 0);
    let nowhere = "http://127.0.0.1:9";
    desk.run(&["wallet", "history", "--chain", nowhere]).mistake("Start a chain: cocoon chain");
    desk.run(&["chain", "explore", "--chain", "/no/such/file"]).mistake("give local, mainnet");
    desk.run(&["chain", "explore", "--chain", "mainnet"]).mistake("give an ADDRESS");
    desk.run(&["chain", "faucet", FRIEND, "1", "--chain", "testnet"]).mistake("only a local chain");
    desk.run(&["chain", "advance", "soon"]).mistake("soon is no time");
    let root = ["--root", FRIEND];
    desk.run(&[&["root", "show"][..], &root].concat()).mistake("is no root contract");
    // The standard wallets' code is not part of this program.
    desk.json(&["wallet", "new", "v4", "--contract", "v4r2"]);
    desk.json(&["chain", "faucet", "v4", "1"]);
    desk.until(|| desk.json(&["wallet", "show", "v4"])["balance_nanoton"] == 1_000_000_000);
    desk.run(&["wallet", "send", FRIEND, "0.1", "--wallet", "v4", "--yes"])
        .mistake("feb5ff6820e2ff0d9483e7e0d62c817d846789fb4ae580c878866d959dabd5c0");
}
