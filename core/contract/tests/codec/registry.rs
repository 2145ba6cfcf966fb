//! States of the root contract.

use std::collections::{BTreeMap, BTreeSet};

use cocoon_contract::Fault;
use cocoon_contract::address::Network;
use cocoon_contract::cell::Hash;
use cocoon_contract::code::Codes;
use cocoon_contract::params::Selector;
use cocoon_contract::pseudo::PseudoRoot;
use cocoon_contract::root::{KeyManager, ProxyEndpoint, RegisteredProxy, RootState};
use cocoon_units::{Nanoton, PublicKey};
use serde_json::Value;

use crate::vectors::{Vectors, address, assert_same, cell, hex32, text, u32_of};

fn hashes(value: &Value) -> BTreeSet<Hash> {
    value.as_array().expect("list").iter().map(|hash| Hash(hex32(hash))).collect()
}

fn root(v: &Vectors, entry: &Value, codes: Codes, params: &str) -> RootState {
    let proxies = entry["registered_proxies"].as_object().expect("map");
    let registered_proxies: BTreeMap<u32, RegisteredProxy> = proxies
        .iter()
        .map(|(seqno, entry)| {
            let text = text(entry).as_bytes().to_vec();
            (seqno.parse().expect("seqno"), RegisteredProxy { kind: false, text })
        })
        .collect();
    RootState {
        owner: address(&entry["owner"]),
        version: u32_of(&entry["version"]),
        proxy_hashes: hashes(&entry["proxy_hashes"]),
        registered_proxies,
        last_proxy_seqno: u32_of(&entry["last_proxy_seqno"]),
        worker_hashes: hashes(&entry["worker_hashes"]),
        model_hashes: hashes(&entry["model_hashes"]),
        network: Network { params: v.params(params), codes },
        key_manager: None,
    }
}

#[test]
fn root_states() {
    let v = Vectors::load();
    for entry in v.0["root_state"].as_array().expect("list") {
        let params = text(&entry["params"]).split(' ').nth(1).expect("params name");
        let set = params.split('/').nth(1).expect("set");
        let expected = root(&v, entry, v.codes(set), params);
        assert_same(&expected.data_cell().expect("data"), &entry["data_cell"]);
        assert_same(&expected.cell().expect("state"), &entry["state"]);
        let parsed = RootState::parse(&cell(&entry["state"])).expect("parse");
        assert_eq!(parsed, expected);
        assert_eq!(parsed.endpoints().count(), expected.registered_proxies.len());
        for name in entry["model_names"].as_array().into_iter().flatten() {
            let hash = cocoon_units::ModelName::new(text(name)).expect("name").hash();
            assert!(parsed.model_hashes.contains(&Hash(hash)));
        }
    }
}

#[test]
fn the_registry_of_a_root_with_deployed_codes_is_the_typical_one() {
    let v = Vectors::load();
    let entry = &v.0["real_addresses"]["root_state_v3b"];
    let typical = root(&v, &v.0["root_state"][0], Codes::default(), "sample_v3/flat");
    assert_same(&typical.data_cell().expect("data"), &entry["data_cell"]);
}

#[test]
fn a_root_of_a_newer_structure_is_named_as_such() {
    let v = Vectors::load();
    let mut state = root(&v, &v.0["root_state"][2], Codes::default(), "sample_v3/flat");
    state.network.params.struct_version = 5;
    let newer = Fault::StructVersion { found: 5, newest: 4 };
    assert_eq!(state.cell(), Err(newer.clone()));
    assert_eq!(state.network.params.id(Selector::Root, &Codes::default()), Err(newer));
}

#[test]
fn the_key_manager_comes_with_structure_version_4() {
    let v = Vectors::load();
    let mut state = root(&v, &v.0["root_state"][0], v.codes("flat"), "sample_v3/flat");
    state.network.params.struct_version = 4;
    let without = state.cell().expect("cell");
    assert!(matches!(RootState::parse(&without), Err(Fault::Layout { .. })));
    let address = RegisteredProxy { kind: false, text: b"203.0.113.20:9000".to_vec() };
    state.key_manager = Some(KeyManager {
        public_keys: BTreeMap::from([(Hash([1; 32]), (0, 7)), (Hash([2; 32]), (1, 8))]),
        public_key: PublicKey([3; 32]),
        image_hash: Hash([4; 32]),
        address,
    });
    assert_eq!(RootState::parse(&state.cell().expect("cell")), Ok(state.clone()));
    // The reference makes an older state unreadable, as it does for the live nodes.
    state.network.params.struct_version = 3;
    let older = RootState::parse(&state.cell().expect("cell"));
    assert!(matches!(older, Err(Fault::Leftover { .. })), "{older:?}");
}

#[test]
fn endpoints() {
    for (text, workers, clients) in [
        ("203.0.113.11:8888", "203.0.113.11:8888", "203.0.113.11:8888"),
        ("203.0.113.10:11001 203.0.113.10:11002", "203.0.113.10:11001", "203.0.113.10:11002"),
        ("[203.0.113.10:1] [203.0.113.10:2]", "203.0.113.10:1", "203.0.113.10:2"),
    ] {
        let endpoint = ProxyEndpoint::parse(text).expect(text);
        assert_eq!(endpoint.workers.to_string(), workers);
        assert_eq!(endpoint.clients.to_string(), clients);
        assert_eq!(ProxyEndpoint::parse(&endpoint.text()), Ok(endpoint));
    }
    for text in ["", "203.0.113.11", "[::1]:5", "1.2.3.4:99999", "a:1", "1.2.3.4:1  1.2.3.4:2"] {
        assert!(matches!(ProxyEndpoint::parse(text), Err(Fault::Endpoint { .. })), "{text}");
    }
    let newer = RegisteredProxy { kind: true, text: b"203.0.113.11:8888".to_vec() };
    assert!(newer.endpoint().is_err());
}

#[test]
fn a_pseudo_root_hashes_model_names_and_refuses_bad_endpoints() {
    let v = Vectors::load();
    let mut pseudo = PseudoRoot {
        proxy_hashes: BTreeSet::new(),
        worker_hashes: BTreeSet::new(),
        model_hashes: BTreeSet::new(),
        model_types: vec!["name@commit:hash".to_owned()],
        registered_proxies: BTreeMap::from([(1, "127.0.0.1:1 127.0.0.1:2".to_owned())]),
        last_proxy_seqno: 1,
        version: 3,
        params_version: 1,
        price_per_token: Nanoton(2),
        worker_fee_per_token: Nanoton(1),
        proxy_code_hex: String::new(),
        worker_code_hex: "00".to_owned(),
        client_code_hex: String::new(),
        owner: address(&v.0["inputs"]["proxy_owner"]["raw"]),
    };
    assert!(matches!(pseudo.root_state(), Err(Fault::Boc { .. })));
    pseudo.worker_code_hex.clear();
    let state = pseudo.root_state().expect("state");
    let name = cocoon_units::ModelName::new("name").expect("name").hash();
    assert_eq!(state.model_hashes, BTreeSet::from([Hash(name)]));
    assert_eq!(RootState::parse(&state.cell().expect("cell")), Ok(state));
    pseudo.registered_proxies.insert(2, "nowhere".to_owned());
    assert!(matches!(pseudo.root_state(), Err(Fault::Endpoint { .. })));
}
