//! Winding an old contract down while messages get lost.

use crate::stage::{Stage, identity, pseudo_root, request, root};
use cocoon_contract::params::Selector;
use cocoon_contract::state::{Phase, ProxyState, WorkerState};
use cocoon_ledger::{Books, OldBooks, Record};
use cocoon_role_proxy::{OldSight, WindDown, WindStep};
use cocoon_units::{Address, Tokens};
use std::sync::Arc;

const UNLOCK_S: u64 = 2_000;

/// Books of an instance at which one client used 44 tokens of one worker.
fn old_books() -> OldBooks {
    let mut stage = Stage::new();
    let worker = stage.worker(30, 4, 4);
    let conn = stage.client(20, 4);
    stage.send(conn, &request(1));
    let id = stage.run_query(worker);
    stage.serve(worker, id, 44);
    let next = Arc::new(pseudo_root(2, 4).root_state().unwrap());
    stage.proxy.root_changed(next, stage.now, &mut stage.out).unwrap();
    stage.perform();
    // Without a chain there is nothing to wind down, which is written down at once.
    let mut books = Books::new();
    let closed = |record: &&Record| matches!(record, Record::OldClosed { .. });
    for record in stage.journal.iter().filter(|record| !closed(record)) {
        books.apply(record).unwrap();
    }
    books.old().next().unwrap().1.clone()
}

/// Winds down where the first `lost` payments to the worker get lost; what was sent, and who is left.
/// The client never deployed its contract.
fn winds_down(mut lost: u32) -> (Vec<&'static str>, Vec<Address>) {
    let (identity, root) = (identity(), root());
    let network = &root.network;
    let params = network.params.cell(Selector::Leaf, &network.codes).unwrap();
    let key = identity.public_key();
    let (owner, at_root) = (identity.owner, identity.root);
    let mut machine = WindDown::new(identity, Arc::new(root.clone()), &old_books()).unwrap();
    let contract = machine.contract();
    let (mut phase, mut is_paid, mut time_s) = (Phase::Normal, false, 1_000);
    let mut sent = Vec::new();
    for query_id in 0..100 {
        match machine.step().clone() {
            WindStep::Look(at) => {
                let data = if at == contract {
                    let unlock_s = UNLOCK_S.try_into().unwrap();
                    let state = ProxyState::initial(owner, key, at_root);
                    Some(ProxyState { phase, unlock_s, ..state }.cell(params.clone()).unwrap())
                } else if is_paid {
                    let state = WorkerState::initial(owner, contract, key);
                    let state = WorkerState { phase: Phase::Closed, tokens: Tokens(44), ..state };
                    Some(state.cell(params.clone()).unwrap())
                } else {
                    None
                };
                machine.seen(at, OldSight { data: data.as_ref(), time_s }, query_id);
            }
            WindStep::Send { what, .. } => {
                sent.push(what);
                match what {
                    "start to close" => phase = Phase::Closing,
                    "complete close" => phase = Phase::Closed,
                    _ if lost > 0 => lost -= 1,
                    _ => is_paid = true,
                }
                machine.done();
            }
            WindStep::Wait { until_s } => {
                assert_eq!((until_s, phase), (UNLOCK_S, Phase::Closing));
                time_s = until_s;
                sent.push("wait");
                machine.done();
            }
            WindStep::Done { left } => return (sent, left),
        }
    }
    panic!("no end: {sent:?}");
}

#[test]
fn who_could_not_be_paid_at_first_is_paid_before_the_contract_closes() {
    const PAY: &str = "pay a worker the rest";
    let plain = ["start to close", PAY, "wait", "complete close"];
    assert_eq!(winds_down(0), (plain.to_vec(), vec![]));
    let (sent, left) = winds_down(3);
    assert_eq!(sent, ["start to close", PAY, PAY, PAY, "wait", PAY, "complete close"]);
    assert_eq!(left, []);
    let (sent, left) = winds_down(50);
    assert_eq!(sent.iter().filter(|what| **what == PAY).count(), 6, "{sent:?}");
    assert_eq!((sent.last(), left.len()), (Some(&"complete close"), 1));
}
