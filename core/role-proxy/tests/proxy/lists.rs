//! Images and models that the root lists no more, or again, while workers of them are here.

use cocoon_role_proxy::{ConnId, Settings, Side};
use cocoon_units::ImageHash;
use cocoon_wire::{client, proxy, tl, worker};

use crate::stage::{Got, Stage, account, head, last, owner_text, request, settings, worker_hello};

const MODEL: &str = "qwen@abc:00";
const GONE: &str = "the root no longer lists this worker's image";

fn strict() -> Stage {
    let mut stage = Stage::with(Settings { check_hashes: true, ..settings() });
    stage.list(&[8, 9], &[MODEL]);
    stage
}

/// A worker of this image.
fn worker(stage: &mut Stage, owner: u8, image: u8) -> ConnId {
    stage.image = Some(ImageHash([image; 32]));
    stage.worker(owner, 4, 1)
}

#[test]
fn workers_whose_image_is_taken_off_lose_their_connections_and_requests_go_to_others() {
    let mut stage = strict();
    // The list is long enough to move a request more often than it may be moved.
    let gone: Vec<ConnId> = (30..35).map(|owner| worker(&mut stage, owner, 8)).collect();
    let conn = stage.client(20, 4);
    stage.send(conn, &request(1));
    let first = *gone.iter().find(|worker| stage.got(**worker).is_some()).expect("one has it");
    let stays = worker(&mut stage, 40, 9);
    stage.list(&[9], &[MODEL]);
    for left in &gone {
        assert_eq!(stage.all(*left), [Got::Closed(GONE.into())], "{first:?}");
    }
    let id = stage.run_query(stays);
    assert_eq!(stage.got(conn), None, "the client noticed nothing");
    stage.serve(stays, id, 44);
    assert_eq!(stage.all(conn).len(), 4);
    assert_eq!(stage.books().worker(account(40)).unwrap().counters().max().0, 44);
    assert_eq!(stage.books().totals().spent, 44, "once");

    // Whoever comes back is told why not, until the image is listed again.
    let back = stage.open(Side::Workers, Some(ImageHash([8; 32])));
    stage.ask(back, &worker_hello(&owner_text(30), 4));
    let told = stage.all(back);
    let refused = |got: &Got| matches!(got, Got::Failed(_, 621, text) if text.starts_with("invalid worker image"));
    assert!(told.iter().any(refused), "{told:?}");
    stage.list(&[8, 9], &[MODEL]);
    worker(&mut stage, 30, 8);
}

#[test]
fn an_answer_that_had_begun_ends_with_one_error_and_costs_nothing() {
    let mut stage = strict();
    let gone = worker(&mut stage, 30, 8);
    let conn = stage.client(20, 4);
    stage.send(conn, &request(1));
    let id = stage.run_query(gone);
    stage.send(gone, &head(id));
    stage.message(conn);
    stage.list(&[9], &[MODEL]);
    let data = stage.message(conn);
    let error: client::QueryAnswerErrorEx<'_> = tl::decode(&data).unwrap();
    let text = "connection to the worker was lost in the middle of the answer";
    assert_eq!((error.error_code, error.error.to_string()), (601, text.to_owned()));
    let data = stage.message(conn);
    let paid: proxy::ClientRequestPayment<'_> = tl::decode(&data).unwrap();
    assert_eq!((paid.max_tokens, paid.request_tokens), (0, 0));
    assert_eq!(stage.got(conn), None);
    stage.send(gone, &last(id, 44));
    assert!(stage.proxy.is_idle());
    assert_eq!(stage.books().totals().spent, 0);
}

#[test]
fn images_are_nothing_where_they_are_not_looked_at() {
    let mut stage = Stage::new();
    let worker = worker(&mut stage, 30, 8);
    let nameless = stage.open(Side::Workers, None);
    stage.ask(nameless, &worker_hello(&owner_text(31), 4));
    stage.answer(nameless);
    stage.list(&[], &[]);
    assert_eq!((stage.got(worker), stage.got(nameless)), (None, None));
}

#[test]
fn a_model_that_is_taken_off_gets_nothing_new_and_is_served_again_when_it_is_listed() {
    let mut stage = strict();
    let busy = worker(&mut stage, 30, 9);
    let conn = stage.client(20, 4);
    stage.send(conn, &request(1));
    let id = stage.run_query(busy);
    // One is still in its handshake.
    let owner = owner_text(31);
    let late = stage.open(Side::Workers, Some(ImageHash([9; 32])));
    stage.ask(late, &worker_hello(&owner, 4));
    stage.answer(late);
    stage.ask(late, &worker::CompareBalanceWithProxy::default());
    stage.answer(late);

    stage.list(&[9], &[]);
    stage.ask(late, &worker::ProxyHandshakeComplete { is_disabled: false });
    stage.answer(late);
    stage.serve(busy, id, 44);
    assert_eq!(stage.all(conn).len(), 4, "what ran ends well");
    stage.all(busy);
    for (number, worker) in [(2, busy), (3, late)] {
        stage.send(worker, &worker::EnabledDisabled { disabled: 0 });
        stage.send(conn, &request(number));
        assert_eq!((stage.got(busy), stage.got(late)), (None, None));
    }
    stage.all(conn);

    stage.list(&[9], &[MODEL]);
    stage.send(conn, &request(4));
    stage.send(conn, &request(5));
    stage.run_query(busy);
    stage.run_query(late);
    // Who wants nothing gets nothing, listed or not.
    stage.all(busy);
    stage.send(busy, &worker::EnabledDisabled { disabled: 1 });
    stage.list(&[8, 9], &[MODEL]);
    stage.wait(1_000);
    assert_eq!(stage.got(busy), None);
}
