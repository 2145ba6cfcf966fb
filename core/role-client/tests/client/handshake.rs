//! The handshake, all ways through it (protocol notes, wire 3.2, 3.9).

use cocoon_channel::ChannelFault;
use cocoon_role_client::{Fault, Incoming};
use cocoon_units::{Address, PublicKey, Tokens};
use cocoon_wire::client::{
    self, ProxyConnectionAuth, ProxyConnectionAuthLong, ProxyConnectionAuthShort,
};
use cocoon_wire::tl::{self, Text};

use crate::scene::{NOW, Scene};

#[test]
fn versions_one_to_four_are_spoken() {
    for version in 1..=4 {
        Scene::ready(version);
    }
    for version in [None, Some(-1), Some(0), Some(5)] {
        let refused = Scene::new().hello(version).unwrap_err();
        assert_eq!(refused, Fault::Version(version.unwrap_or(0)));
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
    let other: &str = Address::new(0, [99; 32]).to_string().leak();
    let property = |met: Result<_, Fault>| match met.unwrap_err() {
        Fault::Channel(ChannelFault::Identity { what, .. }) => what,
        fault => panic!("{fault:?}"),
    };
    let met = Scene::new().hello_with(|h| h.params.proxy_sc_address = Text::from(other));
    assert_eq!(property(met), "proxy contract");
    let met = Scene::new().hello_with(|h| h.client_sc_address = Text::from(other));
    assert_eq!(property(met), "our contract");
    let met = Scene::new().hello_with(|h| h.params.proxy_public_key = PublicKey([1; 32]));
    assert_eq!(property(met), "proxy contract");
    let met = Scene::new().hello_with(|h| h.client_sc_address = Text::from("nonsense"));
    assert!(matches!(met.unwrap_err(), Fault::Channel(ChannelFault::Address(_))));
}

#[test]
fn a_proxy_that_does_not_know_the_secret_makes_the_client_register() {
    let short = ProxyConnectionAuthShort { secret_hash: [9; 32], nonce: -2 };
    for auth in [
        ProxyConnectionAuth::Short(short),
        ProxyConnectionAuth::Long(ProxyConnectionAuthLong { nonce: -2 }),
    ] {
        let mut scene = Scene::new();
        let turn = scene.hello_with(|hello| hello.auth = auth).unwrap();
        scene.sent::<client::AuthorizeWithProxyLong>(&turn, |_| {});
        let (identity, _, own) = scene.proxy();
        match turn.incoming {
            Some(Incoming::Register { nonce, contract, proxy }) => {
                assert_eq!((nonce, contract), (u64::MAX - 1, own));
                assert_eq!(proxy.public_key, identity.public_key);
            }
            other => panic!("{other:?}"),
        }
        assert!(!scene.session.is_ready());
        let turn = scene.authorized(None, 0, 0).unwrap();
        assert!(matches!(turn.incoming, Some(Incoming::Ready)));
    }
}

#[test]
fn a_refusal_ends_the_connection_with_its_words() {
    let mut scene = Scene::new();
    scene.hello(Some(4)).unwrap();
    scene.asked += 1;
    let refused = client::AuthorizationWithProxyFailed { error_code: 602, error: "no".into() };
    let fault = scene.answer(&tl::encode(&refused)).unwrap_err();
    let step = "authorizeWithProxy";
    assert_eq!(fault, Fault::Refused { step, code: 602, message: "no".into() });
    let fault = Scene::new().session.failed(50, 621, "bad").unwrap_err();
    let step = "connectToProxy";
    assert_eq!(fault, Fault::Refused { step, code: 621, message: "bad".into() });
}

#[test]
fn an_answer_to_nothing_is_a_fault() {
    let mut scene = Scene::new();
    scene.asked = 51;
    assert_eq!(scene.hello(Some(4)).unwrap_err(), Fault::UnexpectedAnswer(51));
}

#[test]
fn the_payment_of_the_authorisation_is_checked_and_kept() {
    let mut scene = Scene::new();
    scene.hello(Some(4)).unwrap();
    scene.asked += 1;
    let payment = scene.payment(5);
    let turn = scene.authorized(Some(&payment), 6, 7).unwrap();
    assert_eq!(turn.records.len(), 1);
    let (_, contract, _) = scene.proxy();
    let channel = scene.channels.channel(contract).unwrap();
    assert_eq!((channel.books.signed(), channel.books.max()), (Tokens(5), Tokens(7)));
    // The same proxy with fewer tokens forgot something.
    let mut scene = Scene::again(scene.channels);
    scene.hello(Some(4)).unwrap();
    scene.asked += 1;
    let fault = scene.authorized(None, 6, 6).unwrap_err();
    assert!(matches!(fault, Fault::Channel(ChannelFault::Books(_))));
    // Signed by another key.
    let mut scene = Scene::new();
    scene.hello(Some(4)).unwrap();
    scene.asked += 1;
    scene.key = ed25519_dalek::SigningKey::from_bytes(&[8; 32]);
    let payment = scene.payment(5);
    let fault = scene.authorized(Some(&payment), 6, 7).unwrap_err();
    assert!(matches!(fault, Fault::Channel(ChannelFault::Payment(_))));
}

#[test]
fn payments_are_asked_for_and_late_answers_ignored() {
    let mut scene = Scene::ready(4);
    assert!(scene.session.tick(NOW + 14_999).send.is_empty());
    let turn = scene.session.tick(NOW + 15_000);
    scene.sent::<client::UpdatePaymentStatus>(&turn, |_| {});
    let status =
        |max| client::PaymentStatus { db_tokens: 1, max_tokens: max, ..Default::default() };
    assert_eq!(scene.answer(&tl::encode(&status(9))).unwrap().records.len(), 1);
    let turn = scene.session.tick(NOW + 40_000);
    scene.sent::<client::UpdatePaymentStatus>(&turn, |_| {});
    assert!(scene.answer(&tl::encode(&status(3))).unwrap().records.is_empty());
    let turn = scene.session.tick(NOW - 3_600_000);
    assert_eq!(turn.send.len(), 1, "a clock set back does not silence it");
}
