//! Peers that lie, flood, stall or come in crowds: the connection closes, a counter rises,
//! the node lives.

#![allow(clippy::unwrap_used, reason = "a failure fails the test")]

mod node;

use std::net::SocketAddr;
use std::time::Duration;

use cocoon_link::{
    Dialer, Entry, Limits, LinkSettings, PortLimits, Route, SendFault, SessionFault, Tag,
};
use node::{CONNECT, Node, PACKET, PATIENCE, PING, acceptor, frame};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Sends `bytes` and returns all that comes back until the node closes.
async fn send_until_closed(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut peer = TcpStream::connect(address).await.unwrap();
    peer.write_all(bytes).await.unwrap();
    let mut back = Vec::new();
    // A reset is a way of closing, too.
    let read = tokio::time::timeout(PATIENCE, peer.read_to_end(&mut back)).await;
    let _ = read.expect("the node did not close");
    back
}

#[tokio::test]
async fn lies_close_the_connection_and_count() {
    let mut node = Node::new();
    let port = node.listen(Entry::Plain).await;
    let hello = frame(0, CONNECT, &[1; 8]);
    let with_hello = |rest: &[u8]| [&hello, rest].concat();
    let announced =
        |length: u32, sequence: i32| [length.to_le_bytes(), sequence.to_le_bytes()].concat();
    // A message whose inner length reaches beyond the packet.
    let nested = frame(1, PACKET, &[0xfe, 0xff, 0xff, 0xff]);
    let lies = [
        ("a first frame of 16 MiB", announced(1 << 24, 0)),
        ("a first frame of another kind", frame(0, PING, &[0; 8])),
        ("a length beyond the protocol", with_hello(&announced((1 << 24) + 1, 1))),
        ("a length of 4 GiB", with_hello(&announced(u32::MAX, 1))),
        ("a length below an id", with_hello(&announced(3, 1))),
        ("a sequence number again", with_hello(&frame(0, PING, &[0; 8]))),
        ("a sequence number too far", with_hello(&frame(2, PING, &[0; 8]))),
        ("an unknown id", with_hello(&frame(1, 0xdead_beef, &[0; 8]))),
        ("a lie about nesting", with_hello(&nested)),
        ("bytes after the packet", with_hello(&frame(1, PING, &[0; 12]))),
        ("no TL at all", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
    ];
    for (count, (what, lie)) in (1..).zip(lies) {
        send_until_closed(port.address(), &lie).await;
        let counted = node.counted(|counters| counters.violations == count).await;
        assert_eq!(counted.accepted, count, "{what}");
    }
    // The node lives: whoever tells the truth is served.
    while node.events.try_recv().is_ok() {}
    let mut peer = TcpStream::connect(port.address()).await.unwrap();
    peer.write_all(&hello).await.unwrap();
    let _link = node.link().await;
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_refused_and_left() {
    let mut settings = LinkSettings { queued_bytes_max: 1 << 20, ..LinkSettings::default() };
    settings.accepted = Limits { stall_ms: 200, ..settings.accepted };
    let mut node = Node::with(settings, 64);
    let port = node.listen(Entry::Plain).await;
    let mut peer = TcpStream::connect(port.address()).await.unwrap();
    peer.write_all(&frame(0, CONNECT, &[1; 8])).await.unwrap();
    let link = node.link().await;
    let data = vec![7; 64 << 10];
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let stuck = loop {
        match link.message(data.clone()) {
            Ok(()) => tokio::task::yield_now().await,
            Err(fault) => break fault,
        }
        assert!(tokio::time::Instant::now() < deadline);
    };
    let SendFault::Stuck { queued_bytes, .. } = stuck else { panic!("{stuck:?}") };
    assert!(queued_bytes <= 1 << 20);
    assert!(matches!(node.closed().await, SessionFault::SlowReader { .. }));
    let counted = node.counted(|counters| counters.slow_readers == 1).await;
    assert!(counted.stuck_commands >= 1);
    drop(peer);
}

#[tokio::test]
async fn a_flood_is_held_back_while_the_node_is_behind() {
    let room = 4;
    let mut node = Node::with(LinkSettings::default(), room);
    let port = node.listen(Entry::Plain).await;
    let mut peer = TcpStream::connect(port.address()).await.unwrap();
    peer.write_all(&frame(0, CONNECT, &[1; 8])).await.unwrap();
    // 32,768 messages of 1 KiB, far more than all socket buffers hold.
    let mut flood = Vec::new();
    for sequence in 1..=32_768 {
        let mut content = vec![0xfe, 0, 4, 0];
        content.extend([0; 1_024]);
        flood.extend(frame(sequence, PACKET, &content));
    }
    let total = flood.len() as u64;
    let writer = tokio::spawn(async move {
        peer.write_all(&flood).await.unwrap();
        peer
    });
    // Wait until the node reads no more although it could: its loop takes no events.
    let mut before = u64::MAX;
    let held = loop {
        let now = node.links.counters().received_bytes;
        if now == before && now > 0 {
            break now;
        }
        before = now;
        // The wait only tells two readings of the counter apart.
        tokio::time::timeout(Duration::from_millis(100), std::future::pending::<()>())
            .await
            .unwrap_err();
    };
    assert!(held <= 256 << 10, "{held} bytes were read although nobody takes them");
    let _link = node.link().await;
    for _ in 0..32_768 {
        assert_eq!(node.message().await.len(), 1_024);
    }
    assert_eq!(node.links.counters().received_bytes, total + 20);
    drop(writer.await.unwrap());
}

#[tokio::test]
async fn silent_and_slow_peers_are_left() {
    let settings = LinkSettings {
        accepted: Limits { hello_ms: 100, idle_ms: 200, ..Limits::accepting() },
        peer_info_deadline: Duration::from_millis(100),
        ..LinkSettings::default()
    };
    let mut node = Node::with(settings, 64);
    let plain = node.listen(Entry::Plain).await;
    send_until_closed(plain.address(), &[]).await;
    node.counted(|counters| counters.silent_peers == 1).await;
    let hello = frame(0, CONNECT, &[1; 8]);
    // Half a frame is silence, however many bytes it has.
    let half = [&hello[..], &frame(1, PING, &[0; 8])[..10]].concat();
    send_until_closed(plain.address(), &half).await;
    let _link = node.link().await;
    assert_eq!(node.closed().await, SessionFault::Silent { limit_ms: 200 });

    let behind_router = node.listen(Entry::Router).await;
    send_until_closed(behind_router.address(), &[0x78, 0, 0]).await;
    node.counted(|counters| counters.failed_slow == 1).await;
    send_until_closed(behind_router.address(), &[0xff; 8]).await;
    node.counted(|counters| counters.failed_otherwise == 1).await;
    let slow = cocoon_ratls::Acceptor { deadline: Duration::from_millis(100), ..acceptor() };
    let direct = node.listen(Entry::Direct(Box::new(slow))).await;
    let challenge = send_until_closed(direct.address(), &[]).await;
    assert_eq!(challenge.len(), 24);
    node.counted(|counters| counters.failed_slow == 2).await;
    send_until_closed(direct.address(), b"GET / HTTP/1.1\r\n\r\n").await;
    node.counted(|counters| counters.failed_work == 1).await;
}

#[tokio::test]
async fn crowds_are_turned_away_and_leave_room_again() {
    let mut node = Node::new();
    let limits = PortLimits {
        connections_max: 3,
        connections_per_address_max: 2,
        handshakes_max: 2,
        handshakes_per_address_max: 2,
    };
    let port = node.listen_with(Entry::Plain, limits).await;
    let mut first = TcpStream::connect(port.address()).await.unwrap();
    first.write_all(&frame(0, CONNECT, &[1; 8])).await.unwrap();
    let first_link = node.link().await;
    let mut second = TcpStream::connect(port.address()).await.unwrap();
    second.write_all(&frame(0, CONNECT, &[1; 8])).await.unwrap();
    let _second_link = node.link().await;
    send_until_closed(port.address(), &[]).await;
    assert_eq!(node.links.counters().refused_address, 1);
    first_link.close();
    node.counted(|counters| counters.closed == 1).await;
    drop(first);
    // The place is free once the task is gone.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let _third = loop {
        let mut third = TcpStream::connect(port.address()).await.unwrap();
        third.write_all(&frame(0, CONNECT, &[1; 8])).await.unwrap();
        if third.read_exact(&mut [0; 20]).await.is_ok() {
            break third;
        }
        assert!(tokio::time::Instant::now() < deadline);
    };
}

#[tokio::test]
async fn idle_handshakes_keep_others_out_only_up_to_their_number() {
    let node = Node::new();
    let limits = PortLimits { handshakes_per_address_max: 2, ..PortLimits::local() };
    let entry = Entry::Direct(Box::new(acceptor()));
    let port = node.listen_with(entry, limits).await;
    let mut idle = Vec::new();
    for _ in 0..2 {
        let mut peer = TcpStream::connect(port.address()).await.unwrap();
        peer.read_exact(&mut [0; 24]).await.unwrap();
        idle.push(peer);
    }
    let back = send_until_closed(port.address(), &[]).await;
    assert!(back.is_empty(), "turned away before any work of ours");
    assert_eq!(node.links.counters().refused_handshakes, 1);
    drop(idle);
    node.counted(|counters| counters.failed_otherwise == 2).await;
    let mut peer = TcpStream::connect(port.address()).await.unwrap();
    peer.read_exact(&mut [0; 24]).await.unwrap();
}

#[tokio::test]
async fn a_dialled_peer_that_lies_is_reported() {
    let server = tokio::net::TcpListener::bind(node::ANY_PORT).await.unwrap();
    let mut client = Node::new();
    let address = server.local_addr().unwrap();
    let _ = Dialer::new(&client.links, Route::Plain).dial(address, Tag(4));
    let (mut peer, _) = server.accept().await.unwrap();
    peer.write_all(&frame(0, CONNECT, &[0; 8])).await.unwrap();
    let (_, event) = client.next().await;
    let cocoon_link::Event::DialFailed { tag: Tag(4), fault, .. } = event else { panic!() };
    assert!(matches!(*fault, cocoon_link::OpenFault::Session(SessionFault::Hello { .. })));
    client.counted(|counters| counters.violations == 1 && counters.dial_failures == 1).await;
}
