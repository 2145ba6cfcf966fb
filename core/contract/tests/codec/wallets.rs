//! Orders of wallets, and prices.

use cocoon_contract::address::{self, Network, ProxyIdentity, StateInit};
use cocoon_contract::cell::{Cell, CellId, Hash};
use cocoon_contract::code::Code;
use cocoon_contract::state::ClientConst;
use cocoon_contract::wallet::{
    CocoonOrder, Layout, Outgoing, StandardOrder, StandardWallet, WALLET_ID_V3_V4, WalletVersion,
    external, wallet_id_v5,
};
use cocoon_units::{PublicKey, Tokens};
use serde_json::Value;

use crate::messages::{body, outgoing};
use crate::vectors::{self, Vectors, assert_same, hex32, public_key, text, u32_of, u64_of};

/// State and body that a message of a vector names.
fn parts(v: &Vectors, m: &Value) -> (Option<StateInit>, Option<Cell>) {
    let state_init = m["state_init"].as_str().map(|name| client_init(v, name));
    let body = m["body"].as_str().map(|name| {
        let name = name.strip_prefix("message_bodies ").expect("name");
        body(&v.0["message_bodies"][name]["fields"]).cell().expect("body")
    });
    (state_init, body)
}

fn client_init(v: &Vectors, name: &str) -> StateInit {
    let set = name.split(' ').nth(1).expect("set");
    let all = v.0["addresses"]["sets"].as_array().expect("list");
    let inputs = &all.iter().find(|s| s["name"] == set).expect("set")["inputs"];
    let network =
        Network { params: v.params(set), codes: v.codes(set.split('/').nth(1).expect("codes")) };
    let public_key = public_key(&inputs["proxy_public_key"]);
    let identity = ProxyIdentity {
        owner: vectors::address(&inputs["proxy_owner"]),
        public_key,
        root: vectors::address(&inputs["root_address"]),
    };
    let proxy = address::proxy(&identity, &network).expect("proxy");
    let owner = vectors::address(&inputs["client_owner_is_wallet"]);
    address::client_init(&ClientConst { owner, proxy, public_key }, &network).expect("init")
}

#[test]
fn orders_of_the_cocoon_wallet() {
    let v = Vectors::load();
    let key = v.signing_key("wallet");
    for x in v.0["wallet_external"].as_array().expect("list") {
        let mut messages: Vec<Outgoing> = Vec::new();
        for m in x["messages"].as_array().expect("list") {
            let (state_init, body) = parts(&v, m);
            let message = outgoing(m, state_init, body);
            assert_same(&message.cell(Layout::References).expect("cell"), &m["cell"]);
            assert_eq!(u64::from(message.mode()), u64_of(&m["mode"]));
            messages.push(message);
        }
        let order = CocoonOrder::new(u32_of(&x["seqno"]), u32_of(&x["valid_until"]), &messages);
        let order = order.expect("order");
        assert_same(&order.unsigned().expect("unsigned"), &x["unsigned"]);
        let body = order.sign(&key).expect("sign");
        assert_same(&body, &x["body"]);
        let (read, signature) = CocoonOrder::parse(&body).expect("parse");
        assert_eq!(read, order);
        assert_eq!(hex::encode(signature), text(&x["signature_hex"]));
        let to = vectors::address(&x["wallet"]);
        let plain = external(&to, None, &body, Layout::References).expect("external");
        assert_same(&plain, &x["external_without_state_init"]);
        if let Some(expected) = x.get("external_with_state_init") {
            let set = text(&x["name"]).rsplit(" / ").next().expect("set");
            let inputs = &v.0["addresses"]["wallet"][set]["inputs"];
            let init = address::wallet_init(
                vectors::address(&inputs["owner"]),
                public_key(&inputs["public_key"]),
                &v.wallet_code(set),
            );
            let first = external(&to, Some(&init.expect("init")), &body, Layout::References);
            assert_same(&first.expect("external"), expected);
        }
    }
    let five = vec![(0, Cell::default()); 5];
    let order = CocoonOrder { subwallet: 0, valid_until_s: 1, seqno: 0, messages: five };
    assert!(order.sign(&key).is_err());
}

fn standard(entry: &Value) -> (StandardWallet, Code) {
    let (version, wallet_id) = match text(&entry["name"]) {
        "v3r2" => (WalletVersion::V3R2, WALLET_ID_V3_V4),
        "v4r2" => (WalletVersion::V4R2, WALLET_ID_V3_V4),
        _ => {
            let network = entry["wallet_id"]["network_global_id"].as_i64().expect("network");
            let id = wallet_id_v5(i32::try_from(network).expect("network fits"));
            assert_eq!(id, u32_of(&entry["wallet_id_int32"]));
            (WalletVersion::V5R1, id)
        }
    };
    let depth = u16::try_from(u64_of(&entry["code"]["code_depth"])).expect("depth");
    let code = CellId { hash: Hash(hex32(&entry["code"]["code_hash"])), depth };
    let public_key: PublicKey = public_key(&entry["public_key"]);
    (StandardWallet { version, wallet_id, public_key }, Code::from_id(code))
}

#[test]
fn orders_of_standard_wallets() {
    let v = Vectors::load();
    let key = v.signing_key("wallet");
    for entry in v.0["standard_wallets"]["wallets"].as_array().expect("list") {
        let (wallet, code) = standard(entry);
        assert_same(&wallet.initial_data().expect("data"), &entry["data"]);
        let to = wallet.address(&code).expect("address");
        assert_eq!(to.to_raw(), text(&entry["address"]["raw"]));
        for t in entry["transfers"].as_array().expect("list") {
            let mode = u8::try_from(u64_of(&t["send_mode"])).expect("mode");
            let messages = t["messages"].as_array().expect("list").iter().map(|m| {
                let (state_init, body) = parts(&v, m);
                let cell = outgoing(m, state_init, body).cell(Layout::Compact).expect("cell");
                assert_same(&cell, &m["cell"]);
                (mode, cell)
            });
            let order = StandardOrder {
                valid_until_s: u32_of(&t["valid_until"]),
                seqno: u32_of(&t["seqno"]),
                messages: messages.collect(),
            };
            assert_same(&order.unsigned(&wallet).expect("unsigned"), &t["unsigned"]);
            let body = order.sign(&wallet, &key).expect("sign");
            assert_same(&body, &t["body"]);
            let plain = external(&to, None, &body, Layout::Compact).expect("external");
            assert_same(&plain, &t["external_without_state_init"]);
        }
    }
}

#[test]
fn prices_are_those_of_the_vectors() {
    use cocoon_units::{Coefficient, Multiplier, adjust};
    let v = Vectors::load();
    for list in ["adjust", "where_double_differs_from_exact"] {
        for a in v.0["pricing"][list].as_array().expect("list") {
            let coefficient = a["coefficient"].as_i64().expect("coefficient");
            let found = adjust(
                u64_of(&a["tokens"]),
                Coefficient::new(coefficient).expect("range"),
                Multiplier(u32_of(&a["multiplier"])),
            );
            assert_eq!(found, Tokens(u64_of(&a["result"])), "{a}");
        }
    }
}
