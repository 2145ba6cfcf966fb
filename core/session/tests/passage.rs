//! What passes around the attested handshake.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use bytes::Bytes;
use cocoon_session::{Arrival, Event, Fault, Passage};
use cocoon_units::Role;
use cocoon_wire::cocoon::{self, ATTESTED_CHANNEL, Attest, CancelQuery, Introduce, Introduced};
use cocoon_wire::key_manager::GetWorkerPrivateKeys;
use cocoon_wire::tl::{Blob, encode};
use cocoon_wire::{client, worker};

fn asked() -> Bytes {
    encode(&client::ConnectToProxy::default()).into()
}

fn answered() -> Bytes {
    encode(&worker::ConnectedToProxy::default()).into()
}

fn with_bit(data: &Bytes) -> Bytes {
    let mut data = data.to_vec();
    cocoon::announce(&mut data, ATTESTED_CHANNEL);
    data.into()
}

fn attest() -> Event {
    Event::Message(encode(&Attest { data: Blob(b"hello") }).into())
}

fn message() -> Event {
    Event::Message(encode(&CancelQuery::default()).into())
}

#[test]
fn both_sides_begin_after_the_introductions_and_nothing_passes_before_the_end() {
    let (mut dialling, mut dialled) = (Passage::new(true), Passage::new(false));
    let query = dialling.asks(asked());
    assert_eq!(query, with_bit(&asked()));
    let event = Event::Query { id: 1, data: query };
    assert_eq!(dialled.arrives(event.clone()), Arrival::Pass(event));
    // An answer to something else begins nothing.
    let other: Bytes = encode(&CancelQuery::default()).into();
    assert_eq!(dialled.answers(other.clone()), (other, false));
    let (answer, begins) = dialled.answers(answered());
    assert_eq!((&answer, begins, dialled.is_closed()), (&with_bit(&answered()), true, true));
    let event = Event::Answer { id: 1, data: answer };
    assert_eq!(dialling.arrives(event.clone()), Arrival::Begin(event));
    for side in [&mut dialling, &mut dialled] {
        assert!(side.is_closed());
        assert_eq!(side.arrives(attest()), Arrival::Attest(Bytes::from_static(b"hello")));
        assert_eq!(side.arrives(message()), Arrival::Early(message()));
        let closed = Event::Closed(Fault::PeerClosed);
        assert_eq!(side.arrives(closed.clone()), Arrival::Pass(closed));
        side.stands();
        assert!(!side.is_closed());
        assert_eq!(side.arrives(message()), Arrival::Pass(message()));
        // Evidence is renewed later.
        assert_eq!(side.arrives(attest()), Arrival::Attest(Bytes::from_static(b"hello")));
    }
}

#[test]
fn a_peer_without_the_addition_is_told_apart_and_never_sees_it() {
    let mut dialling = Passage::new(true);
    let event = Event::Answer { id: 1, data: answered() };
    assert_eq!(dialling.arrives(event.clone()), Arrival::Without(event));
    let mut dialled = Passage::new(false);
    let event = Event::Query { id: 1, data: asked() };
    assert_eq!(dialled.arrives(event.clone()), Arrival::Without(event));
    let (_, begins) = dialled.answers(answered());
    assert!(!begins);
    for mut side in [dialling, dialled, Passage::new(true)] {
        assert!(!side.is_closed());
        assert_eq!(side.arrives(attest()), Arrival::Misplaced);
    }
}

#[test]
fn the_first_introduction_counts() {
    let mut dialled = Passage::new(false);
    let able = Event::Query { id: 1, data: with_bit(&asked()) };
    let stripped = Event::Query { id: 2, data: asked() };
    assert_eq!(dialled.arrives(able.clone()), Arrival::Pass(able.clone()));
    assert_eq!(dialled.arrives(stripped.clone()), Arrival::Pass(stripped.clone()));
    assert!(dialled.answers(answered()).1);
    let mut dialled = Passage::new(false);
    assert_eq!(dialled.arrives(stripped.clone()), Arrival::Without(stripped));
    assert_eq!(dialled.arrives(able.clone()), Arrival::Pass(able));
    assert!(!dialled.answers(answered()).1);
}

#[test]
fn an_introduction_to_a_key_manager_begins_the_handshake_too() {
    let introduce: Bytes = encode(&Introduce::as_role(Role::Worker)).into();
    let (mut dialling, mut dialled) = (Passage::new(true), Passage::new(false));
    let event = Event::Query { id: 1, data: dialling.asks(introduce.clone()) };
    assert_eq!(dialled.arrives(event.clone()), Arrival::Pass(event));
    assert_eq!(dialled.role(), Some(Role::Worker));
    // Whoever does not wait for the handshake asks for keys too early.
    let ask: Bytes = encode(&GetWorkerPrivateKeys { proto_version: 0 }).into();
    assert_eq!(dialling.asks(ask.clone()), ask, "a question is no introduction");
    let early = Event::Query { id: 2, data: ask.clone() };
    assert_eq!(dialled.clone().arrives(early.clone()), Arrival::Early(early.clone()));
    let (answer, begins) = dialled.answers(encode(&Introduced::default()).into());
    assert!(begins);
    assert_eq!(dialled.arrives(early.clone()), Arrival::Early(early.clone()));
    let event = Event::Answer { id: 1, data: answer };
    assert_eq!(dialling.arrives(event.clone()), Arrival::Begin(event));
    // One that asks without a word before has no additions.
    let mut dialled = Passage::new(false);
    assert_eq!(dialled.arrives(early.clone()), Arrival::Without(early.clone()));
    assert_eq!(dialled.role(), Some(Role::Worker));
    assert_eq!(dialled.arrives(early.clone()), Arrival::Pass(early));
}

#[test]
fn only_an_introduction_that_may_be_unknown_may_fail() {
    let failed = Event::QueryFailed { id: 1, code: 601, message: "unknown query magic".to_owned() };
    let mut to_reference = Passage::new(true);
    let _ = to_reference.asks(encode(&Introduce::as_role(Role::Proxy)).into());
    assert_eq!(to_reference.arrives(failed.clone()), Arrival::Without(failed.clone()));
    let mut to_proxy = Passage::new(true);
    let _ = to_proxy.asks(asked());
    assert_eq!(to_proxy.arrives(failed.clone()), Arrival::Pass(failed));
}

#[test]
fn a_peer_that_introduces_itself_as_the_other_side_does_not_avoid_the_handshake() {
    for introduction in [asked(), encode(&Introduce::as_role(Role::Proxy)).into()] {
        let mut dialling = Passage::new(true);
        let odd = Event::Query { id: 7, data: with_bit(&introduction) };
        assert_eq!(dialling.arrives(odd.clone()), Arrival::Pass(odd));
        let able = Event::Answer { id: 1, data: with_bit(&answered()) };
        assert_eq!(dialling.clone().arrives(able.clone()), Arrival::Begin(able));
        let unable = Event::Answer { id: 1, data: answered() };
        assert_eq!(dialling.arrives(unable.clone()), Arrival::Without(unable));
    }
    let mut dialled = Passage::new(false);
    let odd = Event::Answer { id: 7, data: with_bit(&answered()) };
    assert_eq!(dialled.arrives(odd.clone()), Arrival::Pass(odd));
    let unable = Event::Query { id: 1, data: asked() };
    assert_eq!(dialled.arrives(unable.clone()), Arrival::Without(unable));
}
