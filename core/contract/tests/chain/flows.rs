//! Plays every step of `flows.json` against our contracts. What differs from the live contracts
//! must be listed in `differences.json`, with its reason, and nothing else may differ.

use std::collections::{BTreeMap, BTreeSet};

use cocoon_contract::address::Network;
use cocoon_contract::cell::Cell;
use cocoon_contract::code::Codes;
use cocoon_contract::message::Body;
use cocoon_contract::root::RootState;
use cocoon_units::Nanoton;
use serde_json::{Value, json};

use crate::cast::{self, Cast, named_code};
use crate::report::{self, Names};
use crate::script::{self, text};
use crate::world::{Tx, World};

const FILE: &str = "differences.json";

fn testdata(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/contract").join(name)
}

pub(crate) fn load(name: &str) -> Value {
    let text = std::fs::read_to_string(testdata(name)).expect("test data");
    serde_json::from_str(&text).expect("JSON")
}

/// Where a step went otherwise than the live contracts: pointer, theirs, ours.
type Difference = (String, Value, Value);

fn compare(at: &str, live: &Value, ours: &Value, found: &mut Vec<Difference>) {
    match (live, ours) {
        (Value::Object(live), Value::Object(ours)) => {
            let keys: BTreeSet<&String> = live.keys().chain(ours.keys()).collect();
            for key in keys {
                if key.starts_with("indicative") {
                    continue;
                }
                let (live, ours) = (live.get(key), ours.get(key));
                let null = Value::Null;
                let at = format!("{at}/{key}");
                compare(&at, live.unwrap_or(&null), ours.unwrap_or(&null), found);
            }
        }
        (Value::Array(live), Value::Array(ours)) => {
            for index in 0..live.len().max(ours.len()) {
                let (live, ours) = (live.get(index), ours.get(index));
                let null = Value::Null;
                let at = format!("{at}/{index}");
                compare(&at, live.unwrap_or(&null), ours.unwrap_or(&null), found);
            }
        }
        _ if live == ours => {}
        _ => found.push((at.to_owned(), live.clone(), ours.clone())),
    }
}

fn observe(world: &mut World, cast: &Cast, step: &Value) -> Value {
    let trigger = &step["trigger"];
    let states = |world: &World| -> Value {
        let roles = step["state_after"].as_object().expect("states").keys();
        roles.map(|role| (role.clone(), report::state(world, cast, role))).collect()
    };
    if trigger["kind"] == "get_method" {
        let values = world.getter(cast.at("root"), text(&trigger["method"]));
        let result = cur_params(&values, &step["expected"]["result"]);
        return json!({
            "expected": { "result": result }, "transactions": [], "state_after": states(world),
        });
    }
    let names = Names::of(cast, trigger);
    match script::play(world, cast, trigger) {
        Err(code) => json!({
            "expected": { "accepted": false, "exit_code": code },
            "transactions": [], "state_after": states(world),
        }),
        Ok(transactions) => {
            let told: Vec<Value> = without_spare(cast, transactions)
                .iter()
                // The owner of the root is a person of whom the recording does not speak.
                .filter(|tx| !matches!(cast.role(tx.to).as_str(), "root_owner" | "other"))
                .map(|tx| report::transaction(&names, cast, tx))
                .collect();
            // The exit code at each contract that the trigger itself speaks to.
            let sender =
                if trigger["kind"] == "internal" { &trigger["sender"] } else { &trigger["to"] };
            let count = step["expected"]["exit_codes"].as_array().map_or(0, Vec::len);
            let codes: Vec<Value> = told
                .iter()
                .filter(|tx| tx["from"] == *sender)
                .take(count)
                .map(|tx| json!({ "at": tx["to"], "exit_code": tx["exit_code"] }))
                .collect();
            json!({
                "expected": { "accepted": true, "exit_codes": codes },
                "transactions": told, "state_after": states(world),
            })
        }
    }
}

/// Leaves out the one message that ours send besides those of the live contracts, and what it
/// leads to: gas money going home when a client or worker contract closes
/// (contracts/DIFFERENCES.md, tested in `attacks`).
fn without_spare(cast: &Cast, mut transactions: Vec<Tx>) -> Vec<Tx> {
    let is_leaf = |address| matches!(cast.role(address).as_str(), "client" | "worker");
    let is_payout = |body: &Cell| matches!(Body::parse(body), Ok(Body::Payout { .. }));
    transactions.retain(|tx| !(tx.from.is_some_and(is_leaf) && is_payout(&tx.body)));
    for tx in transactions.iter_mut().filter(|tx| is_leaf(tx.to)) {
        tx.out.retain(|sent| !is_payout(&sent.body));
    }
    transactions
}

/// Result of `get_cur_params`, first to last (protocol notes 6.3).
fn cur_params(values: &[String], expected: &Value) -> Value {
    const NAMES: [&str; 14] = [
        "params_version",
        "unique_id",
        "is_test",
        "price_per_token",
        "worker_fee_per_token",
        "cached_mult",
        "reasoning_mult",
        "proxy_delay_before_close",
        "client_delay_before_close",
        "min_proxy_stake",
        "min_client_stake",
        "proxy_code_hash",
        "worker_code_hash",
        "client_code_hash",
    ];
    assert_eq!(values.len(), NAMES.len());
    // The recording ran with the deployed codes, this run with cells that stand for them.
    let real = &load("vectors.json")["real_codes"];
    let codes: BTreeMap<String, &str> = ["proxy_v3a", "worker_v3", "client_v3a"]
        .map(|name| {
            (decimal(&named_code(name).repr_hash().0), script::text(&real[name]["code_hash"]))
        })
        .into();
    let named = NAMES.iter().zip(values).map(|(name, value)| {
        let value = codes.get(value).map_or_else(|| json!(value), |code| json!(code));
        ((*name).to_owned(), value)
    });
    let all: Value = named.collect();
    let keys = expected.as_object().expect("result").keys();
    keys.map(|key| (key.clone(), all[key.as_str()].clone())).collect()
}

fn decimal(hash: &[u8; 32]) -> String {
    let mut digits = vec![0u8];
    for byte in hash {
        let mut carry = u32::from(*byte);
        for digit in &mut digits {
            let value = u32::from(*digit) * 256 + carry;
            *digit = (value % 10) as u8;
            carry = value / 10;
        }
        while carry > 0 {
            digits.push((carry % 10) as u8);
            carry /= 10;
        }
    }
    digits.iter().rev().map(|digit| char::from(b'0' + digit)).collect()
}

pub(crate) fn stage(flow: &Value) -> (World, Cast) {
    let mut world = World::new(u32::try_from(script::number(&flow["start_time"])).expect("time"));
    let mut cast = Cast::new(cast::params());
    if let Some(balance) = flow["initial"].get("wallet_balance") {
        world.fund(cast.at("wallet"), Nanoton(script::number(balance)));
    }
    if let Some(data) = flow["initial"].get("root_data") {
        let code = |key: &str| Some(named_code(text(&data["params"][key])).into());
        let codes = Codes {
            proxy: code("proxy_code"),
            worker: code("worker_code"),
            client: code("client_code"),
        };
        cast.add_root(&RootState {
            owner: cast.at("root_owner"),
            version: 0,
            proxy_hashes: BTreeSet::new(),
            registered_proxies: BTreeMap::new(),
            last_proxy_seqno: 0,
            worker_hashes: BTreeSet::new(),
            model_hashes: BTreeSet::new(),
            network: Network { params: cast::params(), codes },
            key_manager: None,
        });
    }
    (world, cast)
}

/// All differences, by step.
fn play_all() -> BTreeMap<String, Vec<Difference>> {
    let flows = load("flows.json");
    let mut differences = BTreeMap::new();
    let mut steps = 0;
    for flow in flows["flows"].as_array().expect("flows") {
        let (mut world, cast) = stage(flow);
        // The triggers of v3a are those of v3b; the referee needs them once.
        match flow["revision"] == "v3a" {
            true => world.record.discard(),
            false => world.record.rename(&format!("flow-{}", text(&flow["name"]))),
        }
        let mut after: BTreeMap<String, World> = BTreeMap::new();
        for step in flow["steps"].as_array().expect("steps") {
            if let Some(from) = step["starts_from"].as_str() {
                world = after[from].clone();
                if flow["revision"] != "v3a" {
                    world.record.rename(&format!("flow-{}", text(&step["id"])));
                }
            }
            for trigger in step["setup"].as_array().into_iter().flatten() {
                script::play(&mut world, &cast, trigger).expect("set-up is accepted");
            }
            let ours = observe(&mut world, &cast, step);
            let mut found = Vec::new();
            for part in ["expected", "transactions", "state_after"] {
                compare(&format!("/{part}"), &step[part], &ours[part], &mut found);
            }
            let id = text(&step["id"]).to_owned();
            after.insert(id.clone(), world.clone());
            if !found.is_empty() {
                differences.insert(id, found);
            }
            steps += 1;
        }
    }
    assert_eq!(steps, 122, "every recorded step was played");
    differences
}

#[test]
fn every_step_goes_as_recorded_or_as_listed() {
    let found = play_all();
    if std::env::var_os("CONTRACT_FLOWS").is_some_and(|value| value == "write") {
        write(&found);
    }
    let listed = load(FILE);
    let reasons = listed["reasons"].as_object().expect("reasons");
    let mut unlisted = Vec::new();
    let mut seen = 0;
    for (step, differences) in &found {
        for (at, live, ours) in differences {
            let entry = &listed["steps"][step.as_str()][at.as_str()];
            let matches = entry["live"] == *live && entry["ours"] == *ours;
            let reason = entry["reason"].as_str().unwrap_or("");
            if !matches || !reasons.contains_key(reason) {
                unlisted.push(format!("{step} {at}: live {live}, ours {ours}"));
            }
            seen += 1;
        }
    }
    assert!(unlisted.is_empty(), "not listed with a reason:\n{}", unlisted.join("\n"));
    let all: usize = listed["steps"]
        .as_object()
        .expect("steps")
        .values()
        .map(|step| step.as_object().expect("differences").len())
        .sum();
    assert_eq!(all, seen, "{FILE} lists differences that are gone");
}

/// Writes what was found; reasons that stand in the file stay.
fn write(found: &BTreeMap<String, Vec<Difference>>) {
    let old = if testdata(FILE).exists() { load(FILE) } else { json!({ "reasons": {} }) };
    let mut steps = serde_json::Map::new();
    for (step, differences) in found {
        let mut entries = serde_json::Map::new();
        for (at, live, ours) in differences {
            let reason = old["steps"][step.as_str()][at.as_str()]["reason"].as_str().unwrap_or("?");
            entries.insert(at.clone(), json!({ "live": live, "ours": ours, "reason": reason }));
        }
        steps.insert(step.clone(), Value::Object(entries));
    }
    let file = json!({ "reasons": old["reasons"], "steps": steps });
    let text = serde_json::to_string_pretty(&file).expect("JSON");
    std::fs::write(testdata(FILE), text + "\n").expect("write");
}
