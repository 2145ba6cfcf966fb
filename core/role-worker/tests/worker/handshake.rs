//! The handshake, all ways through it (protocol notes, wire 3.3 and 10.1).

use cocoon_channel::{ChannelFault, Command};
use cocoon_role_worker::Fault;
use cocoon_units::{PublicKey, Tokens};
use cocoon_wire::tl::{self, Blob, Text};
use cocoon_wire::worker;

use crate::scene::{Scene, SignedPaymentOf};

#[test]
fn every_version_of_a_proxy_is_taken_and_none_beyond() {
    for version in [None, Some(0), Some(1), Some(2), Some(3), Some(4)] {
        let mut scene = Scene::new();
        scene.hello(version).unwrap();
        assert_eq!(scene.session.version(), version.unwrap_or(0));
        assert!(!scene.session.is_ready());
    }
    for version in [-1, 5, i32::MAX] {
        assert_eq!(Scene::new().hello(Some(version)).unwrap_err(), Fault::Version(version));
    }
}

#[test]
fn a_proxy_in_another_mode_is_refused() {
    for mode in [None, Some(false)] {
        let met = Scene::new().hello_with(|hello| hello.params.is_test = mode);
        assert_eq!(met.unwrap_err(), Fault::TestMode { own: true });
    }
}

#[test]
fn addresses_that_do_not_derive_are_refused() {
    let is_identity = |met: Result<_, Fault>, property: &str| match met.unwrap_err() {
        Fault::Channel(ChannelFault::Identity { what, .. }) => assert_eq!(what, property),
        other => panic!("{other:?}"),
    };
    let other: &str = cocoon_units::Address::new(0, [99; 32]).to_string().leak();
    let met = Scene::new().hello_with(|h| h.params.proxy_sc_address = Text::from(other));
    is_identity(met, "proxy contract");
    let met = Scene::new().hello_with(|h| h.worker_sc_address = Text::from(other));
    is_identity(met, "our contract");
    let met = Scene::new().hello_with(|h| h.params.proxy_owner_address = Text::from(other));
    is_identity(met, "proxy contract");
    let met = Scene::new().hello_with(|h| h.params.proxy_public_key = PublicKey([1; 32]));
    is_identity(met, "proxy contract");
    let met = Scene::new().hello_with(|h| h.worker_sc_address = Text::from("nonsense"));
    assert!(matches!(met.unwrap_err(), Fault::Channel(ChannelFault::Address(_))));
}

#[test]
fn the_claim_is_what_the_worker_knows() {
    let mut scene = Scene::ready(4);
    let payment = scene.payment(10);
    scene.asked = ask_payment(&mut scene);
    let status = worker::PaymentStatus {
        signed_payment: SignedPaymentOf::Signed(Blob(&payment)),
        db_tokens: 20,
        max_tokens: 30,
    };
    let turn = scene.answer(&tl::encode(&status)).unwrap();
    assert_eq!(turn.records.len(), 1);

    let mut scene = Scene::again(scene.channels);
    let turn = scene.hello(Some(4)).unwrap();
    scene.sent::<worker::CompareBalanceWithProxy>(&turn, |claim| {
        let claimed =
            (claim.tokens_committed_to_blockchain, claim.tokens_committed_to_db, claim.max_tokens);
        assert_eq!(claimed, (10, 20, 30));
    });
    // A proxy that knows less and says nothing of it contradicts what it told.
    let met = scene.compared(SignedPaymentOf::Empty, 20, 29, 0);
    assert!(matches!(met.unwrap_err(), Fault::Channel(ChannelFault::Books(_))));
}

fn ask_payment(scene: &mut Scene) -> i64 {
    let turn = scene.session.tick(crate::scene::NOW + 15_000);
    scene.sent::<worker::UpdatePaymentStatus>(&turn, |_| {});
    scene.asked
}

/// A worker that was told 30 meets a proxy that knows 5.
fn behind() -> Scene {
    let mut scene = Scene::ready(4);
    scene.asked = ask_payment(&mut scene);
    let told = worker::PaymentStatus { db_tokens: 20, max_tokens: 30, ..Default::default() };
    scene.answer(&tl::encode(&told)).unwrap();
    let mut scene = Scene::again(scene.channels);
    scene.hello(Some(4)).unwrap();
    scene.asked += 1;
    let turn = scene.compared(SignedPaymentOf::Empty, 5, 5, 1).unwrap();
    scene.sent::<worker::ExtendedCompareBalanceWithProxy<'_>>(&turn, |extended| {
        assert_eq!(extended.tokens_committed_to_db, 5);
    });
    scene
}

#[test]
fn a_proxy_behind_may_finish_and_the_loss_is_written_off() {
    let mut scene = behind();
    let data = tl::encode(&worker::ExtendedCompareBalanceWithProxyResult { error_code: 0 });
    let turn = scene.answer(&data).unwrap();
    scene.sent::<worker::ProxyHandshakeComplete>(&turn, |_| {});
    let turn = scene.completed();
    assert_eq!(turn.records.len(), 1, "the write-off is journaled");
    let (_, contract, _) = scene.proxy();
    assert_eq!(scene.channels.channel(contract).unwrap().books.max(), Tokens(5));
}

#[test]
fn the_reference_dead_end_is_left_at_the_next_contact() {
    for by_failure in [true, false] {
        let mut scene = behind();
        if by_failure {
            let failed = scene.session.failed(&mut scene.channels, scene.asked, 0, "Wrong");
            assert!(matches!(failed.unwrap_err(), Fault::Refused { .. }));
        } else {
            scene.session.closed(&mut scene.channels);
        }
        let mut scene = Scene::again(scene.channels);
        let turn = scene.hello(Some(4)).unwrap();
        assert_eq!(turn.records.len(), 1, "the write-off is journaled");
        scene.sent::<worker::CompareBalanceWithProxy>(&turn, |claim| {
            assert_eq!((claim.tokens_committed_to_db, claim.max_tokens), (5, 5));
        });
        let turn = scene.compared(SignedPaymentOf::Empty, 5, 5, 0).unwrap();
        scene.sent::<worker::ProxyHandshakeComplete>(&turn, |_| {});
        scene.completed();
    }
}

#[test]
fn a_refused_step_ends_the_connection_with_its_words() {
    let mut scene = Scene::new();
    let failed = scene.session.failed(&mut scene.channels, 50, 621, "no");
    let Fault::Refused { step, code, message } = failed.unwrap_err() else { panic!("refused") };
    assert_eq!((step, code, message.as_str()), ("connectToProxy", 621, "no"));
}

#[test]
fn an_answer_to_nothing_is_a_fault() {
    let mut scene = Scene::new();
    scene.asked = 51;
    assert_eq!(scene.hello(Some(4)).unwrap_err(), Fault::UnexpectedAnswer(51));
}

#[test]
fn being_disabled_is_told_with_the_last_step_and_after_it() {
    let mut scene = Scene::new();
    assert_eq!(scene.session.set_disabled(true), None, "the last step tells");
    scene.hello(Some(4)).unwrap();
    scene.asked += 1;
    let turn = scene.compared(SignedPaymentOf::Empty, 0, 0, 0).unwrap();
    scene.sent::<worker::ProxyHandshakeComplete>(&turn, |done| assert!(done.is_disabled));
    scene.completed();
    let told = |command: Option<Command>| {
        let Some(Command::Message(data)) = command else { panic!("no message") };
        tl::decode::<worker::EnabledDisabled>(&data).unwrap().disabled
    };
    assert_eq!(told(scene.session.set_disabled(false)), 0);
    assert_eq!(scene.session.set_disabled(false), None, "it is known");
    assert_eq!(told(scene.session.set_disabled(true)), 1);
}
