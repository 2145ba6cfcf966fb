//! Gas and fees of every operation, written into `contracts/GAS.md`.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use cocoon_contract::message::{Body, ClientAction, ProxyAction};
use cocoon_contract::payment::{CloseKind, PaymentKind};
use cocoon_units::{Address, Nanoton};
use serde_json::Value;

use crate::cast;
use crate::flows;
use crate::script::{self, text};
use crate::stage::{DAY_S, GAS, SECRET, STRANGER, Stage, client_owner};
use crate::world::{Exit, Tx};

const HEAD: &str = "# Gas and fees

Made by `CONTRACT_GAS=write cargo test -p cocoon-contract --test chain gas`; the same test without
the variable fails when this file is out of date. Fees are those of mainnet's configuration at
masterchain block 52956904 (gas price 400 nanotons).

## Gas of each contract

The first successful run of each operation in the recorded steps; \"live\" is the third generation
on mainnet (revision v3b) in the same step.

| contract | operation | gas | gas, live | fees, TON |
|---|---|---|---|---|
";

const COSTS: &str = "
## What an operation costs its sender

Value sent, less amounts that moved and less what came back as unused value. Sent as internal
messages; a wallet's own transaction comes on top.

| operation | cost, TON |
|---|---|
";

fn ton(amount: i128) -> String {
    let sign = if amount < 0 { "-" } else { "" };
    let amount = amount.unsigned_abs();
    format!("{sign}{}.{:09}", amount / 1_000_000_000, amount % 1_000_000_000)
}

/// One row for each contract and operation of the recorded steps.
fn rows_of_flows(table: &mut String) {
    let flows = flows::load("flows.json");
    let mut seen = BTreeSet::new();
    for flow in flows["flows"].as_array().expect("flows") {
        if flow["revision"] == "v3a" {
            continue;
        }
        let (mut world, cast) = flows::stage(flow);
        world.record.discard();
        for step in flow["steps"].as_array().expect("steps") {
            if step["starts_from"].is_string() || step["trigger"]["kind"] == "get_method" {
                continue;
            }
            for trigger in step["setup"].as_array().into_iter().flatten() {
                script::play(&mut world, &cast, trigger).expect("set-up is accepted");
            }
            let Ok(txs) = script::play(&mut world, &cast, &step["trigger"]) else { continue };
            let live = step["transactions"].as_array().expect("transactions");
            for (tx, live) in txs.iter().zip(live) {
                row(table, &mut seen, tx, live, &cast.role(tx.to));
            }
        }
    }
}

fn row(
    table: &mut String,
    seen: &mut BTreeSet<(String, String)>,
    tx: &Tx,
    live: &Value,
    role: &str,
) {
    let mut name = text(&live["name"]).to_owned();
    if let Ok(Body::ClientNotice(notice)) = Body::parse(&tx.body) {
        // Notes without a payload do not run.
        let Some(payload) = notice.payload else { return };
        let kind = format!("{payload:?}");
        let kind = kind.split(' ').next().unwrap_or_default().to_owned();
        name = format!("{name}, {kind}");
    }
    let is_ours = tx.exit == Exit::Code(0) && live["exit_code"] == 0 && live["to"] == *role;
    if !is_ours || !seen.insert((role.to_owned(), name.clone())) {
        return;
    }
    let live_gas = &live["indicative"]["gas"];
    let fees = ton(i128::from(tx.fees.0));
    writeln!(table, "| {role} | {name} | {} | {live_gas} | {fees} |", tx.gas).expect("text");
}

/// What came back to `to` as unused value.
fn returned(txs: &[Tx], to: Address) -> u64 {
    let is_excess =
        |tx: &&Tx| tx.to == to && matches!(Body::parse(&tx.body), Ok(Body::Excesses { .. }));
    txs.iter().filter(is_excess).map(|tx| tx.value.0).sum()
}

/// One request: what it is called, who sends it, what it does.
type Cost = (&'static str, Address, Box<dyn Fn(&mut Stage) -> Vec<Tx>>);

fn costs() -> Vec<Cost> {
    let owner = client_owner(0);
    let client = |name, action: ClientAction| -> Cost {
        (name, owner, Box::new(move |s: &mut Stage| s.client(0, action)))
    };
    let submit = |name, kind, tokens| -> Cost {
        (name, STRANGER, Box::new(move |s: &mut Stage| s.submit(kind, 0, tokens)))
    };
    vec![
        client(
            "client: change secret hash",
            ClientAction::ChangeSecretHash { secret_hash: SECRET },
        ),
        client("client: register", ClientAction::Register { nonce: 7 }),
        client("client: top up", ClientAction::TopUp { amount: Nanoton(20_000_000_000) }),
        submit("client: charge", PaymentKind::ClientCharge, 100_000_000),
        submit("worker: payout", PaymentKind::WorkerPayout, 100_000_000),
        (
            "proxy: increase stake",
            STRANGER,
            Box::new(|s| {
                s.proxy_from(STRANGER, ProxyAction::IncreaseStake { amount: Nanoton::TON })
            }),
        ),
        ("proxy: payout", STRANGER, Box::new(|s| s.proxy_from(STRANGER, ProxyAction::Payout))),
        client("client: withdraw", ClientAction::Withdraw),
        client("client: request refund, first", ClientAction::RequestRefund),
        (
            "client: request refund, second",
            owner,
            Box::new(|s| {
                s.world.now_s += DAY_S + 1;
                s.client(0, ClientAction::RequestRefund)
            }),
        ),
        (
            "client: grant refund",
            STRANGER,
            Box::new(|s| s.submit(PaymentKind::ClientGrantRefund, 1, 0)),
        ),
        submit("worker: last payout", PaymentKind::WorkerLastPayout, 100_000_000),
        ("proxy: close", STRANGER, Box::new(|s| s.close(CloseKind::Request))),
        (
            "proxy: complete close",
            STRANGER,
            Box::new(|s| {
                s.world.now_s += 2 * DAY_S;
                s.close(CloseKind::Complete)
            }),
        ),
    ]
}

fn table() -> String {
    let mut table = HEAD.to_owned();
    rows_of_flows(&mut table);
    table += COSTS;
    let mut stage = Stage::new(cast::params(), 2, 1);
    stage.world.record.discard();
    for (name, sender, act) in costs() {
        let txs = act(&mut stage);
        assert_eq!(txs[0].exit, Exit::Code(0), "{name}");
        let cost = i128::from(GAS.0) - i128::from(returned(&txs, sender));
        writeln!(table, "| {name} | {} |", ton(cost)).expect("text");
    }
    table
}

#[test]
fn gas_table_is_up_to_date() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contracts/GAS.md");
    let table = table();
    if std::env::var_os("CONTRACT_GAS").is_some_and(|value| value == "write") {
        std::fs::write(&path, &table).expect("write");
    }
    let file = std::fs::read_to_string(&path).expect("contracts/GAS.md");
    assert!(file == table, "contracts/GAS.md is out of date: see its first lines");
}
