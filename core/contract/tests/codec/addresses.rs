//! Parameters, states and addresses.

use cocoon_contract::Fault;
use cocoon_contract::address::{self, Network, ProxyIdentity};
use cocoon_contract::cell::CellId;
use cocoon_contract::code::Codes;
use cocoon_contract::params::{Params, Selector};
use cocoon_contract::state::{ClientConst, ClientState, ProxyState, WalletState, WorkerState};
use serde_json::Value;

use crate::vectors::{self, Vectors, assert_same, cell, public_key, text};

#[test]
fn params_cells_of_every_structure_version() {
    let v = Vectors::load();
    for entry in v.0["params_cells"].as_array().expect("list") {
        let set = text(&entry["name"]).split('/').nth(1).expect("set");
        let (params, codes) = (vectors::params(&entry["fields"]), v.codes(set));
        for (selector, key) in [
            (Selector::Root, "root_params_sel7"),
            (Selector::Proxy, "proxy_params_sel6"),
            (Selector::Leaf, "worker_and_client_params_sel0"),
        ] {
            let built = params.cell(selector, &codes).expect("params");
            assert_same(&built, &entry[key]);
            assert_eq!(CellId::of(&built), params.id(selector, &codes).expect("id"));
            let (parsed, parsed_codes) = Params::parse(&cell(&entry[key])).expect("parse");
            assert_eq!(parsed, params);
            let has = |code: &Option<_>| code.is_some();
            assert_eq!(has(&parsed_codes.proxy), selector == Selector::Root);
            assert_eq!(has(&parsed_codes.worker), selector != Selector::Leaf);
            assert_eq!(has(&parsed_codes.client), selector != Selector::Leaf);
        }
    }
}

#[test]
fn a_newer_structure_is_named_as_such() {
    let v = Vectors::load();
    let mut params = v.params("sample_v3/flat");
    params.struct_version = 5;
    let newer = Fault::StructVersion { found: 5, newest: 4 };
    assert_eq!(params.id(Selector::Leaf, &Codes::default()), Err(newer.clone()));
    // Version 5 as it would stand on chain: the first byte decides.
    let mut bag = cocoon_contract::boc::encode(
        &v.params("sample_v3/flat").cell(Selector::Leaf, &Codes::default()).expect("cell"),
    );
    let at = bag.windows(5).position(|w| w == [3, 0, 0, 0, 7]).expect("first field");
    bag[at] = 5;
    let cell = cocoon_contract::boc::decode(&bag, cocoon_contract::boc::Limits::STATE);
    let fault = Params::parse(&cell.expect("no checksum")).expect_err("newer");
    assert_eq!(fault, Fault::StructVersion { found: 5, newest: 4 });
}

fn check_set(v: &Vectors, set: &Value, network: &Network, has_cells: bool) {
    let inputs = &set["inputs"];
    let key = public_key(&inputs["proxy_public_key"]);
    let identity = ProxyIdentity {
        owner: vectors::address(&inputs["proxy_owner"]),
        public_key: key,
        root: vectors::address(&inputs["root_address"]),
    };
    let worker_owner = vectors::address(&inputs["worker_owner"]);
    let proxy = address::proxy(&identity, network).expect("proxy");
    let worker = address::worker(worker_owner, proxy, key, network).expect("worker");
    let owner = vectors::address(&inputs["client_owner_is_wallet"]);
    let constants = ClientConst { owner, proxy, public_key: key };
    let client = address::client(&constants, network).expect("client");
    for (found, role) in [(proxy, "proxy"), (worker, "worker"), (client, "client")] {
        assert_eq!(found.to_raw(), text(&set[role]["address"]["raw"]), "{role} of {}", set["name"]);
    }
    // Data of worker and client holds no code, so its cells are given in every set.
    let (state, _) = WorkerState::parse(&cell(&set["worker"]["data"])).expect("worker data");
    assert_eq!(state, WorkerState::initial(worker_owner, proxy, key));
    let (state, params) = ClientState::parse(&cell(&set["client"]["data"])).expect("client data");
    let stake = network.params.min_client_stake;
    assert_eq!(state, ClientState::initial(constants.clone(), stake));
    assert_same(
        &params,
        &set["worker_and_client_params_sel0"].as_object().map_or_else(
            || {
                v.0["params_cells"]
                    .as_array()
                    .expect("list")
                    .iter()
                    .find(|p| p["name"] == set["name"])
                    .expect("params of the set")["worker_and_client_params_sel0"]
                    .clone()
            },
            |map| Value::Object(map.clone()),
        ),
    );
    if !has_cells {
        let refused = address::proxy_init(&identity, network);
        assert!(matches!(refused, Err(Fault::CodeIsHashOnly { .. })), "{refused:?}");
        return;
    }
    let (state, params) = ProxyState::parse(&cell(&set["proxy"]["data"])).expect("proxy data");
    assert_eq!(state, ProxyState::initial(identity.owner, key, identity.root));
    assert_eq!(Params::parse(&params).expect("params").0, network.params);
    let inits = [
        ("proxy", address::proxy_init(&identity, network)),
        ("worker", address::worker_init(worker_owner, proxy, key, network)),
        ("client", address::client_init(&constants, network)),
    ];
    for (role, init) in inits {
        let init = init.expect("state init");
        assert_same(&init.data, &set[role]["data"]);
        assert_same(&init.cell().expect("cell"), &set[role]["state_init"]);
        assert_eq!(init.address().to_raw(), text(&set[role]["address"]["raw"]));
    }
}

#[test]
fn addresses_with_placeholder_codes() {
    let v = Vectors::load();
    for set in v.0["addresses"]["sets"].as_array().expect("list") {
        let name = text(&set["name"]);
        let codes = v.codes(name.split('/').nth(1).expect("set"));
        let network = Network { params: v.params(name), codes };
        check_set(&v, set, &network, true);
        // The same from hash and depth alone.
        let bare = |code: &Option<cocoon_contract::code::Code>| {
            code.as_ref().map(|code| cocoon_contract::code::Code::from_id(code.id()))
        };
        let codes = Codes {
            proxy: bare(&network.codes.proxy),
            worker: bare(&network.codes.worker),
            client: bare(&network.codes.client),
        };
        check_set(&v, set, &Network { params: network.params, codes }, false);
    }
}

#[test]
fn addresses_with_deployed_codes() {
    let v = Vectors::load();
    for set in v.0["real_addresses"]["sets"].as_array().expect("list") {
        let code = |role: &str| Some(v.real_code(text(&set["inputs"]["codes"][role])));
        let codes = Codes { proxy: code("proxy"), worker: code("worker"), client: code("client") };
        let params = match text(&set["name"]) {
            "fake_ton_v1" => v.params("fake_ton_v1/flat"),
            _ => v.params("sample_v3/flat"),
        };
        for (selector, key) in
            [(Selector::Root, "root_params_sel7"), (Selector::Proxy, "proxy_params_sel6")]
        {
            let id = params.id(selector, &codes).expect("id");
            assert_eq!(id.hash.to_string(), text(&set[key]["hash"]));
        }
        check_set(&v, set, &Network { params, codes }, false);
    }
}

#[test]
fn addresses_of_the_cocoon_wallet() {
    let v = Vectors::load();
    let mut cases: Vec<(Value, _)> = ["flat", "nested"]
        .iter()
        .map(|set| (v.0["addresses"]["wallet"][set].clone(), v.wallet_code(set)))
        .collect();
    cases.push((v.0["real_addresses"]["wallet"].clone(), v.real_code("wallet")));
    for (entry, code) in cases {
        let owner = vectors::address(&entry["inputs"]["owner"]);
        let key = public_key(&entry["inputs"]["public_key"]);
        let found = address::wallet(owner, key, &code).expect("wallet");
        assert_eq!(found.to_raw(), text(&entry["address"]["raw"]));
        let state = WalletState::parse(&cell(&entry["data"])).expect("data");
        assert_eq!(state, WalletState::initial(owner, key));
        assert_same(&state.cell().expect("cell"), &entry["data"]);
        if code.cell().is_some() {
            let init = address::wallet_init(owner, key, &code).expect("init");
            assert_same(&init.cell().expect("cell"), &entry["state_init"]);
        }
    }
}

#[test]
fn the_network_without_a_chain_has_its_fixed_params() {
    let v = Vectors::load();
    let expected = v.params("fake_ton_v1/flat");
    let params = cocoon_contract::pseudo::PseudoRoot::params(
        expected.params_version,
        expected.price_per_token,
        expected.worker_fee_per_token,
    );
    assert_eq!(params, expected);
}
