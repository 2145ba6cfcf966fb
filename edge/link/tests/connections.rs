//! Connections between two nodes over real sockets.

#![allow(clippy::unwrap_used, reason = "a failure fails the test")]

mod node;

use std::time::Duration;

use cocoon_link::{
    BackoffSettings, Dialer, Entry, Event, LinkSettings, OpenFault, Origin, PortLimits, Route,
    SendFault, SessionFault, Tag, Voucher,
};
use node::{Node, acceptor, connector, key};

#[tokio::test]
async fn queries_messages_and_errors_go_both_ways_over_tls() {
    let (mut proxy, mut client) = (Node::new(), Node::new());
    let port = proxy.listen(Entry::Direct(Box::new(acceptor()))).await;
    let dialer = Dialer::new(&client.links, Route::Direct(Box::new(connector())));
    let conn = dialer.dial(port.address(), Tag(7));
    let (opened_conn, ours) = client.opened().await;
    let (_, theirs) = proxy.opened().await;
    assert_eq!(opened_conn, conn);
    assert_eq!(ours.origin, Origin::Dialled(Tag(7)));
    assert_eq!(theirs.origin, Origin::Accepted(Tag(1)));
    assert_eq!(ours.remote, port.address());
    assert_eq!(
        (ours.identity.public_key, ours.identity.voucher),
        (Some(key(1)), Voucher::Handshake)
    );
    assert_eq!(theirs.identity.public_key, Some(key(2)));
    assert_eq!(ours.identity.channel_binding, theirs.identity.channel_binding);
    let label = b"EXPORTER-test";
    let (here, there) = tokio::join!(
        ours.link.export_keying_material(label, &b"nonce"[..]),
        theirs.link.export_keying_material(label, &b"nonce"[..]),
    );
    assert!(here.unwrap().is_some());
    assert_eq!(here, there);

    ours.link.query(11, &b"ask!"[..], Duration::from_secs(9)).unwrap();
    ours.link.query(12, &b"fail"[..], Duration::from_secs(9)).unwrap();
    let large = vec![5; 3 << 20];
    ours.link.message(large.clone()).unwrap();
    assert!(matches!(proxy.next().await.1, Event::Query { id: 11, data } if *data == *b"ask!"));
    assert!(matches!(proxy.next().await.1, Event::Query { id: 12, .. }));
    assert!(proxy.message().await == large);
    theirs.link.answer_error(12, 602, "no such thing").unwrap();
    theirs.link.answer(11, &b"here"[..]).unwrap();
    theirs.link.message(&b"news"[..]).unwrap();
    let failed = client.next().await.1;
    assert!(
        matches!(failed, Event::QueryFailed { id: 12, code: 602, message } if message == "no such thing")
    );
    assert!(matches!(client.next().await.1, Event::Answer { id: 11, data } if *data == *b"here"));
    assert_eq!(client.message().await, b"news");

    // What is queued before closing still arrives.
    ours.link.message(&b"bye!"[..]).unwrap();
    ours.link.close();
    assert_eq!(ours.link.message(&b"late"[..]), Err(SendFault::Closed));
    assert_eq!(client.closed().await, SessionFault::Local);
    assert_eq!(proxy.message().await, b"bye!");
    assert_eq!(proxy.closed().await, SessionFault::PeerClosed);
    let counted = proxy.counted(|counters| counters.closed == 1).await;
    assert_eq!((counted.accepted, counted.opened, counted.violations), (1, 1, 0));
}

#[tokio::test]
async fn open_queries_fail_at_once_when_the_peer_goes_away() {
    let (mut proxy, mut client) = (Node::new(), Node::new());
    let port = proxy.listen(Entry::Plain).await;
    let _ = Dialer::new(&client.links, Route::Plain).dial(port.address(), Tag(0));
    let (ours, theirs) = (client.link().await, proxy.link().await);
    ours.query(1, &b"ask!"[..], Duration::from_secs(300)).unwrap();
    assert!(matches!(proxy.next().await.1, Event::Query { id: 1, .. }));
    drop(theirs);
    assert!(matches!(client.next().await.1, Event::QueryFailed { id: 1, code: 653, .. }));
    assert_eq!(client.closed().await, SessionFault::PeerClosed);
    assert!(ours.is_closed());
}

#[tokio::test]
async fn a_query_without_answer_times_out_with_652() {
    let (mut proxy, mut client) = (Node::new(), Node::new());
    let port = proxy.listen(Entry::Plain).await;
    let _ = Dialer::new(&client.links, Route::Plain).dial(port.address(), Tag(0));
    let (ours, _theirs) = (client.link().await, proxy.link().await);
    ours.query(1, &b"ask!"[..], Duration::from_millis(20)).unwrap();
    assert!(matches!(client.next().await.1, Event::QueryFailed { id: 1, code: 652, .. }));
    assert!(!ours.is_closed());
}

#[tokio::test]
async fn a_kept_link_comes_back_after_the_peer_restarts() {
    let settings = LinkSettings {
        backoff: BackoffSettings { stable_after: Duration::ZERO, ..BackoffSettings::default() },
        ..LinkSettings::default()
    };
    let (mut proxy, mut client) = (Node::new(), Node::with(settings, 1_024));
    let port = proxy.listen(Entry::Plain).await;
    let address = port.address();
    let kept = Dialer::new(&client.links, Route::Plain).keep(address, Tag(3));
    let (first, _ours) = client.opened().await;
    assert_eq!(kept.target(), address);
    let _theirs = proxy.link().await;
    drop(port);
    proxy.links.close().await;
    client.closed().await;
    // Nobody listens now: attempts fail and go on.
    let (_, failed) = client.next().await;
    let Event::DialFailed { tag: Tag(3), target, fault } = failed else { panic!("{failed:?}") };
    assert_eq!(target, address);
    assert!(matches!(*fault, OpenFault::Connect { .. }));

    let mut again = Node::new();
    let limits = PortLimits::local();
    let _port = cocoon_link::Listener::bind(&again.links, address, Entry::Plain, limits, Tag(1))
        .await
        .unwrap();
    let _theirs = again.link().await;
    let second = loop {
        match client.next().await {
            (conn, Event::Opened(_)) => break conn,
            (_, Event::DialFailed { .. }) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_ne!(first, second);
    drop(kept);
    client.closed().await;
}

#[tokio::test]
async fn closing_all_links_ends_every_task() {
    let (mut proxy, mut client) = (Node::new(), Node::new());
    let port = proxy.listen(Entry::Direct(Box::new(acceptor()))).await;
    let dialer = Dialer::new(&client.links, Route::Direct(Box::new(connector())));
    let _kept: Vec<_> = (0..5).map(|tag| dialer.keep(port.address(), Tag(tag))).collect();
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push((client.link().await, proxy.link().await));
    }
    tokio::time::timeout(node::PATIENCE, client.links.close()).await.unwrap();
    for _ in 0..5 {
        assert_eq!(client.closed().await, SessionFault::Local);
        assert_eq!(proxy.closed().await, SessionFault::PeerClosed);
    }
    assert_eq!(client.links.counters().closed, 5);
    assert!(held.iter().all(|(ours, theirs)| ours.is_closed() && theirs.is_closed()));
}

#[tokio::test]
async fn a_refused_peer_gets_no_connection() {
    let (proxy, mut client) = (Node::new(), Node::new());
    let port = proxy.listen(Entry::Direct(Box::new(acceptor()))).await;
    // A dialler that refuses to do the work.
    let lazy = cocoon_ratls::Connector { work_bits_max: 3, ..connector() };
    let _ = Dialer::new(&client.links, Route::Direct(Box::new(lazy))).dial(port.address(), Tag(0));
    let (_, event) = client.next().await;
    let Event::DialFailed { fault, .. } = event else { panic!("{event:?}") };
    assert!(matches!(*fault, OpenFault::Secure(cocoon_ratls::Fault::Work(_))));
    assert_eq!(client.links.counters().failed_work, 1);
    let counted = proxy.counted(|counters| counters.failed_otherwise == 1).await;
    assert_eq!(counted.opened, 0);
}

#[tokio::test]
async fn a_burst_keeps_its_order_through_small_queues() {
    let settings = LinkSettings { queued_commands_max: 8, ..LinkSettings::default() };
    // Room for two events only: reading stops and goes on many times.
    let (mut proxy, mut client) = (Node::with(LinkSettings::default(), 2), Node::with(settings, 2));
    let port = proxy.listen(Entry::Direct(Box::new(acceptor()))).await;
    let _ = Dialer::new(&client.links, Route::Direct(Box::new(connector())))
        .dial(port.address(), Tag(0));
    let (ours, _theirs) = (client.link().await, proxy.link().await);
    let sender = tokio::spawn(async move {
        for number in 0..5_000u32 {
            while let Err(fault) = ours.message(number.to_le_bytes().to_vec()) {
                assert!(matches!(fault, SendFault::Stuck { .. }));
                tokio::task::yield_now().await;
            }
        }
        ours
    });
    for number in 0..5_000u32 {
        assert_eq!(proxy.message().await, number.to_le_bytes());
    }
    drop(sender.await.unwrap());
}
