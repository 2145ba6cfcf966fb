//! Stories of the channel handshake, the failures of others included.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod party;

use cocoon_attest::channel::{
    ChannelRole, Demand, Dialled, Effect, Handshake, HandshakeFault, Hello, Local, Message, Offer,
    Standing, Statement,
};
use cocoon_attest::{Binding, ClaimKind, Digest32, Finding, PeerEvidence};

use party::{
    Connection, NOW_MS, Party, Silent, Zero, local, mutual, oracle_offer, pump, sign, verdict_over,
};

fn hello_of(effects: &[Effect]) -> Vec<u8> {
    match effects {
        [Effect::Send(bytes)] => bytes.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn both_sides_attest_and_the_channel_stands() {
    let (mut worker, mut proxy) = mutual();
    pump(&mut worker, &mut proxy, &Connection(1), &Connection(1)).unwrap();
    assert!(worker.handshake.is_fresh() && proxy.handshake.is_fresh());
}

#[test]
fn a_client_without_tee_verifies_a_proxy() {
    let mut client = local(ChannelRole::Client, ChannelRole::Proxy);
    client.announcement = None;
    client.own_key = None;
    let mut proxy = local(ChannelRole::Proxy, ChannelRole::Client);
    proxy.demand = Demand::Nothing;
    proxy.peer_key = None;
    let (mut client, mut proxy) = (Party::new(client, 1), Party::new(proxy, 2));
    pump(&mut client, &mut proxy, &Connection(1), &Connection(1)).unwrap();
    assert!(client.handshake.is_fresh());
    assert!(proxy.handshake.is_ready() && !proxy.handshake.is_fresh());
}

#[test]
fn quote_from_another_session_relayed() {
    // Both ends are honest, but somebody with leaked leaf keys sits between two sessions.
    let (mut worker, mut proxy) = mutual();
    let fault = pump(&mut worker, &mut proxy, &Connection(1), &Connection(2)).unwrap_err();
    assert!(matches!(fault, HandshakeFault::Refused(_)), "{fault}");
    assert!(!worker.handshake.is_ready() && !proxy.handshake.is_ready());
}

#[test]
fn yesterdays_quote() {
    let (worker, mut proxy) = mutual();
    // The offer answers another nonce of the very same connection.
    let offer = oracle_offer(&worker.local, &[0x0d; 32], &Connection(1));
    let hello = hello_of(&worker.first);
    proxy.handshake.receive(&hello, &Connection(1), NOW_MS).unwrap();
    let effects = proxy.handshake.receive(&offer, &Connection(1), NOW_MS).unwrap();
    let [Effect::Verify(evidence)] = effects.as_slice() else { panic!("{effects:?}") };
    let fault = proxy.handshake.judged(&verdict_over(evidence)).unwrap_err();
    assert!(matches!(fault, HandshakeFault::Refused(_)), "{fault}");
}

#[test]
fn exporter_missing_on_either_side() {
    for broken in [0, 1] {
        for exporter in [&Silent as &dyn cocoon_attest::channel::Exporter, &Zero] {
            let (mut worker, mut proxy) = mutual();
            let good = Connection(1);
            let fault = if broken == 0 {
                pump(&mut worker, &mut proxy, exporter, &good)
            } else {
                pump(&mut worker, &mut proxy, &good, exporter)
            }
            .unwrap_err();
            assert_eq!(fault, HandshakeFault::NoExporter);
        }
    }
}

#[test]
fn reflection_of_our_own_messages() {
    let (mut worker, _) = mutual();
    let hello = hello_of(&worker.first);
    let fault = worker.handshake.receive(&hello, &Connection(1), NOW_MS).unwrap_err();
    assert_eq!(fault, HandshakeFault::Reflected);
    // With another nonce, our own offer comes back to a node that talks to its own kind.
    let mut node = Party::new(local(ChannelRole::Worker, ChannelRole::Worker), 1);
    let mirror = Message::Hello(Hello {
        role: ChannelRole::Worker,
        nonce: node.nonce,
        attests: true,
        demands: true,
        dialled: None,
    });
    assert_eq!(
        node.handshake.receive(&mirror.encode(), &Connection(1), NOW_MS).unwrap_err(),
        HandshakeFault::Reflected
    );
}

#[test]
fn own_offer_reflected_under_another_hello() {
    // A node talks to its own kind, so that roles alone cannot tell the two apart.
    let mut node = Party::new(local(ChannelRole::Worker, ChannelRole::Worker), 1);
    let hello = Hello {
        role: ChannelRole::Worker,
        nonce: [9; 32],
        attests: true,
        demands: true,
        dialled: None,
    };
    let effects =
        node.handshake.receive(&Message::Hello(hello).encode(), &Connection(1), NOW_MS).unwrap();
    let [Effect::Quote(statement)] = effects.as_slice() else { panic!("{effects:?}") };
    let sent = node.handshake.quoted(Some(party::sign(statement))).unwrap();
    let back = hello_of(&sent);
    let effects = node.handshake.receive(&back, &Connection(1), NOW_MS).unwrap();
    let [Effect::Verify(evidence)] = effects.as_slice() else { panic!("{effects:?}") };
    let fault = node.handshake.judged(&verdict_over(evidence)).unwrap_err();
    assert!(matches!(fault, HandshakeFault::Refused(_)), "{fault}");
}

#[test]
fn role_swap() {
    let (mut worker, _) = mutual();
    let hello = Hello {
        role: ChannelRole::Worker,
        nonce: [9; 32],
        attests: true,
        demands: true,
        dialled: None,
    };
    let hello = Message::Hello(hello).encode();
    let fault = worker.handshake.receive(&hello, &Connection(1), NOW_MS).unwrap_err();
    assert!(matches!(fault, HandshakeFault::WrongRole { .. }), "{fault}");
}

#[test]
fn downgrade_of_the_extension_bits() {
    let (mut worker, proxy) = mutual();
    let stripped = |party: &Party| {
        let Message::Hello(hello) = Message::decode(&hello_of(&party.first)).unwrap() else {
            panic!("a hello")
        };
        Message::Hello(Hello { attests: false, ..hello }).encode()
    };
    let fault = worker.handshake.receive(&stripped(&proxy), &Connection(1), NOW_MS).unwrap_err();
    assert_eq!(fault, HandshakeFault::Downgraded);
    // Where the policy only wishes, the channel stands, but says that nothing is fresh.
    let mut wishing = local(ChannelRole::Worker, ChannelRole::Proxy);
    wishing.demand = Demand::IfAble;
    wishing.announcement = None;
    let mut wishing = Party::new(wishing, 1);
    let effects = wishing.handshake.receive(&stripped(&proxy), &Connection(1), NOW_MS).unwrap();
    assert_eq!(effects, [Effect::Ready { fresh: false }]);
    assert!(!wishing.handshake.is_fresh());
}

#[test]
fn expected_value_is_compared_even_when_it_is_empty() {
    // Evidence whose report data are empty, zero or shorter never matches.
    let (worker, mut proxy) = mutual();
    proxy.handshake.receive(&hello_of(&worker.first), &Connection(1), NOW_MS).unwrap();
    let Message::Offer(mut offer) =
        Message::decode(&oracle_offer(&worker.local, &proxy.nonce, &Connection(1))).unwrap()
    else {
        panic!("an offer")
    };
    offer.tdx_quote = Some(Vec::new());
    let offer = Message::Offer(offer).encode();
    let effects = proxy.handshake.receive(&offer, &Connection(1), NOW_MS).unwrap();
    let [Effect::Verify(evidence)] = effects.as_slice() else { panic!("{effects:?}") };
    let fault = proxy.handshake.judged(&verdict_over(evidence)).unwrap_err();
    assert!(matches!(fault, HandshakeFault::Refused(_)), "{fault}");
}

#[test]
fn a_verdict_without_freshness_or_over_other_evidence_opens_nothing() {
    let offered = || {
        let (worker, mut proxy) = mutual();
        proxy.handshake.receive(&hello_of(&worker.first), &Connection(1), NOW_MS).unwrap();
        let offer = oracle_offer(&worker.local, &proxy.nonce, &Connection(1));
        let effects = proxy.handshake.receive(&offer, &Connection(1), NOW_MS).unwrap();
        let [Effect::Verify(evidence)] = effects.as_slice() else { panic!("{effects:?}") };
        (proxy, evidence.clone())
    };
    let (mut proxy, evidence) = offered();
    let good = verdict_over(&evidence);
    assert_eq!(*good.finding(ClaimKind::Freshness), Finding::Holds);
    for kind in [ClaimKind::Freshness, ClaimKind::KeyBinding] {
        let (mut proxy, evidence) = offered();
        let mut lax = verdict_over(&evidence);
        lax.required.clear();
        for claim in &mut lax.claims {
            if claim.kind == kind {
                claim.finding = Finding::NotClaimed;
            }
        }
        let fault = proxy.handshake.judged(&lax).unwrap_err();
        assert_eq!(fault, HandshakeFault::Unshown { claim: kind });
    }
    let other = PeerEvidence { public_key: [1; 32], ..*evidence };
    let foreign = cocoon_attest::Verdict { evidence: other.digest(), ..good };
    assert_eq!(proxy.handshake.judged(&foreign).unwrap_err(), HandshakeFault::ForeignVerdict);
}

#[test]
fn statements_out_of_their_time_and_of_another_id() {
    let refuse = |change: &dyn Fn(&mut Local), wanted: Option<Digest32>| {
        let (mut worker, _) = mutual();
        change(&mut worker.local);
        let mut proxy = local(ChannelRole::Proxy, ChannelRole::Worker);
        proxy.wanted_id = wanted;
        let mut proxy = Party::new(proxy, 2);
        proxy.handshake.receive(&hello_of(&worker.first), &Connection(1), NOW_MS).unwrap();
        let offer = oracle_offer(&worker.local, &proxy.nonce, &Connection(1));
        proxy.handshake.receive(&offer, &Connection(1), NOW_MS).unwrap_err()
    };
    let until = |not_after_s| {
        move |local: &mut Local| {
            if let Some(said) = &mut local.announcement {
                said.not_after_s = not_after_s;
            }
        }
    };
    let past = refuse(&until(NOW_MS / 1000 - 1), None);
    assert!(matches!(past, HandshakeFault::Lifetime { .. }), "{past}");
    let far = refuse(&until(u64::MAX), None);
    assert!(matches!(far, HandshakeFault::Lifetime { .. }), "{far}");
    let other = refuse(&|_| {}, Some(Digest32::from([0x77; 32])));
    assert!(matches!(other, HandshakeFault::WrongId { .. }), "{other}");
}

#[test]
fn evidence_about_another_dialled_address_network_or_contract() {
    let changes: [&dyn Fn(&mut Local); 3] = [
        &|local| local.network_id = -3,
        &|local| local.root_contract = Digest32::from([8; 32]),
        &|local| local.own_key = Some([0x55; 32]),
    ];
    for change in changes {
        let (mut worker, mut proxy) = mutual();
        change(&mut worker.local);
        let mut worker = Party::new(worker.local, 1);
        let fault = pump(&mut worker, &mut proxy, &Connection(1), &Connection(1)).unwrap_err();
        assert!(matches!(fault, HandshakeFault::Refused(_)), "{fault}");
    }
}

#[test]
fn a_peer_led_to_another_address_is_told_nothing() {
    let (mut worker, mut proxy) = mutual();
    worker.local.dialled = Dialled::ByUs("203.0.113.9:11001".to_owned());
    let mut worker = Party::new(worker.local, 1);
    let fault = pump(&mut worker, &mut proxy, &Connection(1), &Connection(1)).unwrap_err();
    assert!(matches!(fault, HandshakeFault::Diverted { .. }), "{fault}");
    // A side that does not know its addresses takes the peer's word into the statement.
    let mut proxy = proxy.local;
    proxy.dialled = Dialled::ByPeer { ours: Vec::new() };
    let (mut worker, mut proxy) = (Party::new(worker.local, 1), Party::new(proxy, 2));
    pump(&mut worker, &mut proxy, &Connection(1), &Connection(1)).unwrap();
    assert_eq!(proxy.handshake.dialled_address(), "203.0.113.9:11001");
    // An address changed on the way is another statement; one withheld is no hello.
    let (worker, mut proxy) = mutual();
    let Ok(Message::Hello(hello)) = Message::decode(&hello_of(&worker.first)) else { panic!() };
    let silent = Message::Hello(Hello { dialled: None, ..hello }).encode();
    let fault = proxy.handshake.receive(&silent, &Connection(1), NOW_MS).unwrap_err();
    assert!(matches!(fault, HandshakeFault::Malformed { .. }), "{fault}");
}

/// Carries effects between two standings over one session until both rest.
fn settle(sides: &mut [(Standing, Local); 2], mut work: Vec<(usize, Effect)>, now_ms: u64) {
    let session = Connection(1);
    while !work.is_empty() {
        let (from, effect) = work.remove(0);
        let to = 1 - from;
        match effect {
            Effect::Send(bytes) => {
                let (standing, local) = &mut sides[to];
                let mut begin = || (local.clone(), [to as u8 + 9; 32]);
                let effects = standing.receive(&bytes, &session, &mut begin, now_ms).unwrap();
                work.extend(effects.into_iter().map(|effect| (to, effect)));
            }
            Effect::Quote(statement) => {
                let effects = sides[from].0.quoted(Some(sign(&statement))).unwrap();
                work.extend(effects.into_iter().map(|effect| (from, effect)));
            }
            Effect::Verify(evidence) => {
                let mut verdict = verdict_over(&evidence);
                verdict.valid_until_ms = now_ms + 60_000;
                let effects = sides[from].0.judged(&verdict, now_ms).unwrap();
                work.extend(effects.into_iter().map(|effect| (from, effect)));
            }
            Effect::Ready { fresh } => assert!(fresh),
        }
    }
    for (standing, _) in sides {
        assert!(standing.handshake().is_fresh());
        assert_eq!(standing.next_deadline_ms(), Some(now_ms + 30_000));
    }
}

#[test]
fn evidence_is_renewed_by_either_side_or_both_at_half_of_its_life() {
    let (worker, proxy) = mutual();
    let mut work = Vec::new();
    let mut number = 0;
    let mut sides = [worker.local, proxy.local].map(|local| {
        let mut begin = || (local.clone(), [number as u8 + 1; 32]);
        let (standing, effects) = Standing::start(&mut begin, NOW_MS);
        work.extend(effects.into_iter().map(|effect| (number, effect)));
        number += 1;
        (standing, local)
    });
    settle(&mut sides, work, NOW_MS);
    for (round, who) in [&[0][..], &[1], &[0, 1]].into_iter().enumerate() {
        let now_ms = NOW_MS + (round as u64 + 1) * 30_000;
        let mut work = Vec::new();
        for side in who {
            let (standing, local) = &mut sides[*side];
            let mut begin = || (local.clone(), [0x40 + *side as u8; 32]);
            assert!(standing.tick(&mut begin, now_ms - 1).unwrap().is_empty());
            let effects = standing.tick(&mut begin, now_ms).unwrap();
            assert_eq!(effects.len(), 1);
            work.extend(effects.into_iter().map(|effect| (*side, effect)));
        }
        settle(&mut sides, work, now_ms);
    }
}

#[test]
fn a_peer_that_asks_for_one_quote_after_the_other_has_to_go() {
    let (worker, mut proxy) = mutual();
    proxy.local.demand = Demand::Nothing;
    let mut begin = || (proxy.local.clone(), [2; 32]);
    let (mut standing, _) = Standing::start(&mut begin, NOW_MS);
    let hello = hello_of(&worker.first);
    let mut receive = |now_ms| standing.receive(&hello, &Connection(1), &mut begin, now_ms);
    let effects = receive(NOW_MS).unwrap();
    let [Effect::Quote(statement)] = effects.as_slice() else { panic!("{effects:?}") };
    let offer = sign(statement);
    standing.quoted(Some(offer)).unwrap();
    let mut receive = |now_ms| standing.receive(&hello, &Connection(1), &mut begin, now_ms);
    let fault = receive(NOW_MS + 100).unwrap_err();
    assert!(matches!(fault, HandshakeFault::OutOfOrder { .. }), "{fault}");
    assert!(receive(NOW_MS + 1_000).is_ok());
}

#[test]
fn evidence_that_is_not_renewed_ends_the_connection() {
    let (worker, _) = mutual();
    let mut begin = || (worker.local.clone(), [1; 32]);
    let (mut standing, _) = Standing::start(&mut begin, NOW_MS);
    let late_ms = standing.next_deadline_ms().unwrap();
    assert!(standing.tick(&mut begin, late_ms - 1).unwrap().is_empty());
    let fault = standing.tick(&mut begin, late_ms).unwrap_err();
    assert!(matches!(fault, HandshakeFault::TooSlow { .. }), "{fault}");
}

#[test]
fn reordered_and_repeated_messages() {
    let (worker, mut proxy) = mutual();
    let offer = oracle_offer(&worker.local, &proxy.nonce, &Connection(1));
    let fault = proxy.handshake.receive(&offer, &Connection(1), NOW_MS).unwrap_err();
    assert!(matches!(fault, HandshakeFault::OutOfOrder { .. }), "{fault}");
    // After a fault nothing revives it.
    let hello = hello_of(&worker.first);
    assert!(proxy.handshake.receive(&hello, &Connection(1), NOW_MS).is_err());
    let (worker, mut proxy) = mutual();
    let hello = hello_of(&worker.first);
    proxy.handshake.receive(&hello, &Connection(1), NOW_MS).unwrap();
    let fault = proxy.handshake.receive(&hello, &Connection(1), NOW_MS).unwrap_err();
    assert!(matches!(fault, HandshakeFault::OutOfOrder { .. }), "{fault}");
    let fault = Handshake::start(worker.local.clone(), [1; 32]).0.quoted(None).unwrap_err();
    assert!(matches!(fault, HandshakeFault::OutOfOrder { .. }), "{fault}");
}

#[test]
fn a_tee_that_fails_or_an_offer_nobody_asked_for() {
    let (mut worker, proxy) = mutual();
    worker.handshake.receive(&hello_of(&proxy.first), &Connection(1), NOW_MS).unwrap();
    assert_eq!(worker.handshake.quoted(None).unwrap_err(), HandshakeFault::NoQuote);
    let mut public = local(ChannelRole::Proxy, ChannelRole::Worker);
    public.demand = Demand::Nothing;
    let mut public = Party::new(public, 2);
    let (worker, _) = mutual();
    public.handshake.receive(&hello_of(&worker.first), &Connection(1), NOW_MS).unwrap();
    let offer = oracle_offer(&worker.local, &public.nonce, &Connection(1));
    let fault = public.handshake.receive(&offer, &Connection(1), NOW_MS).unwrap_err();
    assert!(matches!(fault, HandshakeFault::OutOfOrder { .. }), "{fault}");
}

#[test]
fn the_expected_statement_is_built_from_own_knowledge() {
    let (worker, mut proxy) = mutual();
    proxy.handshake.receive(&hello_of(&worker.first), &Connection(1), NOW_MS).unwrap();
    let offer = oracle_offer(&worker.local, &proxy.nonce, &Connection(1));
    let effects = proxy.handshake.receive(&offer, &Connection(1), NOW_MS).unwrap();
    let [Effect::Verify(evidence)] = effects.as_slice() else { panic!("{effects:?}") };
    let Binding::Channel(expected) = &evidence.binding else { panic!("{evidence:?}") };
    let Statement { role, peer_role, verifier_nonce, .. } = **expected;
    assert_eq!((role, peer_role), (ChannelRole::Worker, ChannelRole::Proxy));
    assert_eq!(verifier_nonce, proxy.nonce);
    assert_eq!(evidence.public_key, worker.local.own_key.unwrap());
}

#[test]
fn what_only_some_read_is_shown_to_peers_that_announced_it_and_to_nobody_else() {
    for (reads, reads_vtpm) in [(true, true), (true, false), (false, true), (false, false)] {
        let (mut worker, proxy) = mutual();
        worker.local.reads_endorsements = reads;
        worker.local.reads_vtpm_quotes = reads_vtpm;
        let mut worker = Party::new(worker.local, 0x31);
        worker.handshake.receive(&hello_of(&proxy.first), &Connection(1), NOW_MS).unwrap();
        let (endorsement, vtpm) = (Some(vec![7; 300]), Some(vec![8; 300]));
        let offer = Offer { endorsement, vtpm, ..Offer::default() };
        let effects = worker.handshake.quoted(Some(offer)).unwrap();
        let [Effect::Send(sent), ..] = effects.as_slice() else { panic!("{effects:?}") };
        let Ok(Message::Offer(offer)) = Message::decode(sent) else { panic!("no offer") };
        assert_eq!(offer.endorsement, reads.then(|| vec![7; 300]));
        assert_eq!(offer.vtpm, reads_vtpm.then(|| vec![8; 300]));
    }
}
