//! Channels by hand, for all three roles: what a dry run says is what happens.

use cocoon_contract::payment::{PaymentKind, SignedPayment};
use cocoon_units::{Address, Tokens};
use ed25519_dalek::SigningKey;
use serde_json::Value;

use crate::desk::{Desk, WORDS};

const TON: u64 = 1_000_000_000;

/// A network with one proxy, whose owner is the wallet "operator".
struct Town {
    desk: Desk,
    proxy: String,
    key: SigningKey,
}

impl Town {
    fn new() -> Self {
        let desk = Desk::new();
        desk.wallet("operator", 1, 50);
        let arguments = ["root", "new", "--delay-s", "0", "--min-client-stake", "2", "--yes"];
        let made = desk.json(&[&arguments[..], &["--wallet", "operator"]].concat());
        let root = made["new_root"].as_str().expect("root").to_owned();
        let vectors: Value = serde_json::from_str(WORDS).expect("JSON");
        let mut secret = [0; 32];
        let text = vectors["wallets"][2]["secret_key"].as_str().expect("key");
        hex::decode_to_slice(text, &mut secret).expect("hex");
        let key = SigningKey::from_bytes(&secret);
        let public_key = hex::encode(key.verifying_key().to_bytes());
        let open = ["channel", "open", &root, "--proxy-key", &public_key, "--yes"];
        let opened = desk.json(&[&open[..], &["--wallet", "operator"]].concat());
        let proxy = opened["contract"].as_str().expect("proxy").to_owned();
        assert_eq!(opened["contract_now"]["stake_nanoton"], 0);
        Self { desk, proxy, key }
    }

    fn operator(&self, arguments: &[&str]) -> Value {
        let (what, more) = arguments.split_first().expect("what");
        let mut all = vec!["channel", what, self.proxy.as_str()];
        all.extend(more);
        all.extend(["--role", "proxy", "--wallet", "operator", "--yes"]);
        self.desk.json(&all)
    }

    /// Tries as a client, then does it; the dry run must have told the outcome to the nanoton.
    fn client(&self, arguments: &[&str]) -> Value {
        let (what, more) = arguments.split_first().expect("what");
        let mut all = vec!["channel", what, self.proxy.as_str()];
        all.extend(more);
        let tried = self.desk.json(&[&all[..], &["--dry-run"]].concat());
        let done = self.desk.json(&[&all[..], &["--yes"]].concat());
        let outcomes = |report: &Value| -> Vec<Value> {
            let steps = report["steps"].as_array().expect("steps");
            steps.iter().map(|step| step["outcome"]["accounts"].clone()).collect()
        };
        assert!(!outcomes(&done).is_empty(), "{done}");
        assert_eq!(outcomes(&tried), outcomes(&done));
        assert_eq!(tried["contract_now"], done["contract_now"]);
        done
    }

    fn coins(&self, wallet: &str) -> u64 {
        self.desk.json(&["wallet", "show", wallet])["balance_nanoton"].as_u64().expect("coins")
    }
}

#[test]
fn a_client_pays_in_takes_out_and_leaves() {
    let town = Town::new();
    let desk = &town.desk;
    desk.wallet("main", 0, 100);
    let open = ["channel", "open", &town.proxy, "--deposit", "10", "--yes"];
    desk.run(&open).mistake("the proxy's stake is 0 TON, asked for are 1 TON");
    town.operator(&["topup", "5"]);
    desk.run(&["channel", "open", &town.proxy, "--deposit", "1", "--yes"]).mistake("least stake");
    desk.run(&["channel", "open", &town.proxy, "--deposit", "200", "--yes"]).mistake("send ");

    let opened = town.client(&["open", "--deposit", "10"]);
    assert_eq!(opened["steps"].as_array().map(Vec::len), Some(2), "deployed, paid in");
    assert_eq!(opened["contract_now"]["balance_nanoton"], 10 * TON);
    let again = desk.json(&["channel", "open", &town.proxy, "--deposit", "10", "--yes"]);
    assert_eq!(again["steps"].as_array().map(Vec::len), Some(0), "asking twice pays once");

    let more = town.client(&["topup", "3"]);
    assert_eq!(more["contract_now"]["balance_nanoton"], 13 * TON);
    // An interrupted top-up goes on to the total it was to reach, whatever is typed now.
    let contract = more["contract"].as_str().expect("contract").to_owned();
    let note = format!(".local/share/cocoon/wallets/main.topup-{}.json", &contract[2..18]);
    std::fs::write(desk.path(&note), r#"{"paid_in_nanoton":14000000000}"#).expect("note");
    let resumed = desk.run(&["channel", "topup", &contract, "5", "--yes", "--json"]);
    assert_eq!(resumed.json()["contract_now"]["balance_nanoton"], 14 * TON);
    assert!(resumed.err.contains("going on with a top-up"), "{}", resumed.err);
    assert!(!desk.path(&note).exists());

    let before = town.coins("main");
    let out = town.client(&["withdraw"]);
    assert_eq!(out["contract_now"]["balance_nanoton"], 2 * TON);
    let fees = out["steps"][0]["outcome"]["fees_in_all_nanoton"].as_u64().expect("fees");
    let gained = town.coins("main") - before;
    assert!(gained <= 12 * TON && gained + fees + 1_000 >= 12 * TON, "{gained}, fees {fees}");

    let listed = desk.json(&["channel", "list"]);
    assert_eq!(listed["channels"].as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(listed["channels"][0]["role"], "client");
    assert_eq!(listed["channels"][0]["contract"], contract.as_str());

    desk.run(&["channel", "close", &contract, "--yes", "--wallet", "operator"])
        .mistake("belongs to");
    let asked = town.client(&["close"]);
    assert_eq!(asked["contract_now"]["phase"], "closing");
    assert!(asked["next"].as_str().is_some_and(|next| next.starts_with("2 TON come back after")));
    desk.wait(86_400 + 10);
    let closed = town.client(&["close"]);
    assert_eq!(closed["next"], "closed, everything came back");
    assert_eq!(closed["contract_now"]["balance_nanoton"], 0);
    // Only fees are gone, whoever holds the rest.
    assert!(town.coins("main") > 99 * TON + TON / 2, "{}", town.coins("main"));
    let state = desk.json(&["chain", "state"]);
    let coins = |name: &str| state["coins"][name].as_str().and_then(|text| text.parse().ok());
    let (minted, held, fees): (Option<u64>, Option<u64>, Option<u64>) =
        (coins("minted"), coins("held"), coins("fees"));
    assert_eq!(minted, held.zip(fees).map(|(held, fees)| held + fees));
}

#[test]
fn a_worker_collects_and_a_proxy_takes_its_part() {
    let town = Town::new();
    let desk = &town.desk;
    desk.wallet("main", 0, 30);
    desk.wallet("earnings", 3, 5);
    town.operator(&["topup", "5"]);
    town.client(&["open", "--deposit", "10"]);
    let worker = |arguments: &[&str]| {
        let (what, more) = arguments.split_first().expect("what");
        let mut all = vec!["channel", what, town.proxy.as_str(), "--role", "worker"];
        all.extend(more);
        all.extend(["--wallet", "earnings", "--yes", "--json"]);
        desk.run(&all)
    };
    let status = worker(&["status"]).json();
    let contract = Address::parse(status["contract"].as_str().expect("contract")).expect("address");
    worker(&["withdraw"]).mistake("that was exported with --payment FILE");
    let nobody = Address::new(0, [0; 32]);
    let sign = |tokens, key: &SigningKey| {
        let kind = PaymentKind::WorkerPayout;
        let payment = SignedPayment::sign(kind, 1, Tokens(tokens), contract, nobody, key);
        let file = desk.path("payment.boc");
        std::fs::write(&file, payment.and_then(|payment| payment.to_boc()).expect("payment"))
            .expect("file");
        desk.text(&file)
    };
    let forged = sign(10_000_000, &SigningKey::from_bytes(&[9; 32]));
    worker(&["withdraw", "--payment", &forged]).mistake("signature");
    let file = sign(10_000_000, &town.key);
    let paid = worker(&["withdraw", "--payment", &file]).json();
    assert_eq!(paid["steps"].as_array().map(Vec::len), Some(2), "deployed, paid out");
    assert_eq!(paid["contract_now"]["tokens_paid"], 10_000_000);
    let spent = 5 * TON + 190_000_000 - town.coins("earnings");
    assert!((250_000_000..320_000_000).contains(&spent), "deployment and fees: {spent}");
    let again = worker(&["withdraw", "--payment", &file]).json();
    assert_eq!(again["next"], "nothing to collect with this payment");

    // The stake is filled already, so the proxy's part can leave: one nanoton of each token.
    let before = town.coins("operator");
    let out = town.operator(&["withdraw"]);
    assert_eq!(out["before"]["earned_nanoton"], 10_000_000);
    assert_eq!(out["contract_now"]["earned_nanoton"], 0);
    assert!(town.coins("operator") > before, "fees are less than the earnings");
}

#[test]
fn a_proxy_closes_after_its_delay() {
    let town = Town::new();
    town.operator(&["topup", "5"]);
    let started = town.operator(&["close"]);
    assert_eq!(started["contract_now"]["phase"], "closing");
    let early = town.operator(&["close"]);
    assert_eq!(early["steps"].as_array().map(Vec::len), Some(0));
    town.desk.wait(172_800 + 1);
    let before = town.coins("operator");
    let closed = town.operator(&["close"]);
    assert_eq!(closed["contract_now"]["phase"], "closed");
    assert!(town.coins("operator") > before + 5 * TON - TON / 10);
    town.desk.wallet("main", 0, 30);
    town.desk
        .run(&["channel", "open", &town.proxy, "--yes"])
        .mistake("the proxy contract is closing: no deposit");
}
