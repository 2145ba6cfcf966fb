//! Payments around the session (protocol notes, wire 3.9).

use cocoon_channel::{ChannelFault, ChannelRecord, Command};
use cocoon_contract::payment::{PaymentKind, SignedPayment};
use cocoon_role_worker::Fault;
use cocoon_units::{Address, Tokens};
use cocoon_wire::proxy::WorkerRequestPayment;
use cocoon_wire::tl::{self, Blob, Text};
use cocoon_wire::worker;

use crate::scene::{NOW, REQUEST, Scene, SignedPaymentOf};

fn booked(scene: &mut Scene, payment: Option<&[u8]>, durable: i64, max: i64) -> Result<(), Fault> {
    let signed_payment =
        payment.map_or(SignedPaymentOf::Empty, |b| SignedPaymentOf::Signed(Blob(b)));
    let turn = scene.message(tl::encode(&WorkerRequestPayment {
        request_id: REQUEST,
        signed_payment,
        db_tokens: durable,
        max_tokens: max,
        request_tokens: 7,
        request_client_owner: Text::from("UQ"),
    }))?;
    assert!(turn.send.is_empty());
    Ok(())
}

#[test]
fn a_signed_payment_is_kept_and_journaled() {
    let mut scene = Scene::ready(4);
    let payment = scene.payment(40);
    booked(&mut scene, Some(&payment), 50, 60).unwrap();
    let (_, contract, _) = scene.proxy();
    let channel = scene.channels.channel(contract).unwrap();
    assert_eq!(channel.payment.as_deref(), Some(payment.as_slice()));
    let books = &channel.books;
    assert_eq!(
        (books.signed(), books.durable(), books.max()),
        (Tokens(40), Tokens(50), Tokens(60))
    );
    let snapshot = scene.channels.snapshot();
    assert!(matches!(snapshot.first(), Some(ChannelRecord::Pinned { .. })));
}

#[test]
fn totals_that_fall_end_the_connection() {
    for (durable, max) in [(49, 60), (50, 59)] {
        let mut scene = Scene::ready(4);
        booked(&mut scene, None, 50, 60).unwrap();
        let fault = booked(&mut scene, None, durable, max).unwrap_err();
        assert!(matches!(fault, Fault::Channel(ChannelFault::Books(_))));
    }
    let fault = booked(&mut Scene::ready(4), None, -1, 5).unwrap_err();
    assert!(matches!(fault, Fault::Channel(ChannelFault::Identity { what: "token counter", .. })));
    let fault = booked(&mut Scene::ready(4), None, 6, 5).unwrap_err();
    assert!(matches!(fault, Fault::Channel(ChannelFault::Books(_))));
}

#[test]
fn payments_for_others_or_of_others_are_refused() {
    let scene = Scene::ready(4);
    let (_, contract, own) = scene.proxy();
    let stranger = ed25519_dalek::SigningKey::from_bytes(&[9; 32]);
    let made = |kind, target, key| {
        SignedPayment::sign(kind, 1, Tokens(4), target, contract, key).unwrap().to_boc().unwrap()
    };
    let payout = PaymentKind::WorkerPayout;
    for payment in [
        made(payout, own, &stranger),
        made(payout, Address::new(0, [77; 32]), &scene.key),
        made(PaymentKind::ClientCharge, own, &scene.key),
        b"no cells at all".to_vec(),
    ] {
        let mut scene = Scene::ready(4);
        let fault = booked(&mut scene, Some(&payment), 5, 5).unwrap_err();
        assert!(matches!(fault, Fault::Channel(ChannelFault::Payment(_))), "{fault:?}");
        assert_eq!(scene.channels.channel(contract).unwrap().payment, None);
    }
}

#[test]
fn the_state_is_asked_for_in_time_and_old_answers_are_ignored() {
    let mut scene = Scene::ready(4);
    booked(&mut scene, None, 50, 60).unwrap();
    assert!(scene.session.tick(NOW + 14_999).send.is_empty());
    let turn = scene.session.tick(NOW + 15_000);
    scene.sent::<worker::UpdatePaymentStatus>(&turn, |_| {});
    assert!(scene.session.tick(NOW + 40_000).send.is_empty(), "one question at a time");
    let late = worker::PaymentStatus { db_tokens: 1, max_tokens: 2, ..Default::default() };
    let turn = scene.answer(&tl::encode(&late)).unwrap();
    assert!(turn.records.is_empty(), "an answer that was late");
    let turn = scene.session.tick(NOW + 40_000);
    scene.sent::<worker::UpdatePaymentStatus>(&turn, |_| {});
    // Not answered in time: asked again.
    scene.session.failed(&mut scene.channels, scene.asked, 652, "timeout").unwrap();
    let [Command::Query { .. }] = scene.session.tick(NOW + 80_000).send.as_slice() else {
        panic!("not asked again")
    };
}

#[test]
fn a_clock_set_back_does_not_silence_the_question() {
    let mut scene = Scene::ready(4);
    assert_eq!(scene.session.tick(NOW - 3_600_000).send.len(), 1);
}
