//! Peers of the reference: through a router in both lines, and recorded byte for byte.

#![allow(clippy::unwrap_used, reason = "a failure fails the test")]

mod node;

use std::net::SocketAddr;

use cocoon_link::{Dialer, Entry, Event, OpenFault, Route, SessionFault, Tag, Voucher};
use cocoon_wire::{peer_info::BLOB_BYTES_MAX, socks};
use node::{ANY_PORT, CONNECTED, Node, PATIENCE, frame};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

macro_rules! recording {
    ($name:literal) => {
        (
            include_bytes!(concat!("../../../testdata/captures/", $name, ".c2s.bin")).as_slice(),
            include_bytes!(concat!("../../../testdata/captures/", $name, ".s2c.bin")).as_slice(),
        )
    };
}

/// Length and blob at the start of what an inner port receives, and the frames after it.
fn split_blob(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (length, _) = bytes.split_first_chunk().unwrap();
    bytes.split_at(4 + u32::from_le_bytes(*length) as usize)
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    queries: usize,
    messages: usize,
}

/// Takes events until the connection closes.
async fn see_all(node: &mut Node) -> (Seen, SessionFault) {
    let mut seen = Seen::default();
    loop {
        match node.next().await.1 {
            Event::Query { .. } => seen.queries += 1,
            Event::Message(_) => seen.messages += 1,
            Event::Closed(fault) => return (seen, fault),
            other => panic!("{other:?}"),
        }
    }
}

/// A recorded client or worker comes to our inner port behind a reverse router.
async fn replay_to_our_port(c2s: &[u8], seen: Seen) {
    let mut node = Node::new();
    let port = node.listen(Entry::Router).await;
    let mut peer = TcpStream::connect(port.address()).await.unwrap();
    // In pieces that cut blob and frames.
    for piece in c2s.chunks(701) {
        peer.write_all(piece).await.unwrap();
    }
    let (_, opened) = node.opened().await;
    assert_eq!(opened.identity.voucher, Voucher::Router);
    let (blob, _) = split_blob(c2s);
    let key = blob
        .windows(33)
        .find(|window| window[0] == 0x20 && window[1..] == opened.identity.public_key.unwrap());
    assert!(key.is_some(), "the key is the blob's");
    let mut connected = [0; 20];
    peer.read_exact(&mut connected).await.unwrap();
    assert_eq!(connected[8..12], CONNECTED.to_le_bytes());
    peer.shutdown().await.unwrap();
    assert_eq!(see_all(&mut node).await, (seen, SessionFault::PeerClosed));
    let counters = node.counted(|counters| counters.closed == 1).await;
    assert_eq!(counters.received_bytes as usize, c2s.len() - blob.len());
}

#[tokio::test]
async fn a_recorded_live_client_comes_to_our_port() {
    let (c2s, _) = recording!("live/B_124_11102");
    replay_to_our_port(c2s, Seen { queries: 5, messages: 3 }).await;
}

#[tokio::test]
async fn a_recorded_live_worker_comes_to_our_port() {
    let (c2s, _) = recording!("live/B_126_11101");
    replay_to_our_port(c2s, Seen { queries: 3, messages: 14 }).await;
}

#[tokio::test]
async fn a_recorded_base_client_comes_to_our_port() {
    let (c2s, _) = recording!("base/A_140_11102");
    replay_to_our_port(c2s, Seen { queries: 11, messages: 4 }).await;
}

/// A router of the reference: SOCKS, then the blob, then what the far end recorded.
async fn play_router(server: TcpListener, target: SocketAddr, blob: &[u8], frames: &[u8]) {
    let (mut node, _) = server.accept().await.unwrap();
    let mut greeting = [0; 3];
    node.read_exact(&mut greeting).await.unwrap();
    assert_eq!(greeting, socks::GREETING);
    node.write_all(&socks::encode_method(socks::METHOD_NONE)).await.unwrap();
    let mut request = [0; socks::REQUEST_BYTES];
    node.read_exact(&mut request).await.unwrap();
    let SocketAddr::V4(target) = target else { panic!("IPv6") };
    assert_eq!(socks::decode_connect(&request).unwrap(), target);
    let mut reply = socks::encode_granted(target).to_vec();
    // Everything at once: the node must not lose what follows the blob.
    reply.extend(blob);
    reply.extend(frames);
    node.write_all(&reply).await.unwrap();
    let mut connect = [0; 20];
    node.read_exact(&mut connect).await.unwrap();
    assert_eq!(connect[8..12], node::CONNECT.to_le_bytes());
    node.shutdown().await.unwrap();
}

async fn dial_through_router(blob: &[u8], frames: &[u8]) -> Node {
    let target: SocketAddr = "10.1.2.3:11002".parse().unwrap();
    let server = TcpListener::bind(ANY_PORT).await.unwrap();
    let client = Node::new();
    let route = Route::Router { socks: server.local_addr().unwrap() };
    let _ = Dialer::new(&client.links, route).dial(target, Tag(2));
    let played = play_router(server, target, blob, frames);
    tokio::time::timeout(PATIENCE, played).await.unwrap();
    client
}

#[tokio::test]
async fn recorded_proxies_answer_us_through_routers_of_both_lines() {
    for ((c2s, s2c), messages, attested) in
        [(recording!("live/B_124_11102"), 18, true), (recording!("base/A_140_11102"), 18, false)]
    {
        let (blob, _) = split_blob(c2s);
        let mut client = dial_through_router(blob, s2c).await;
        let (_, opened) = client.opened().await;
        assert_eq!(opened.identity.voucher, Voucher::Router);
        assert!(opened.identity.public_key.is_some());
        assert_eq!(opened.identity.image_hash.is_some(), attested);
        // Answers to queries that we did not ask are ignored.
        let seen = Seen { queries: 0, messages };
        assert_eq!(see_all(&mut client).await, (seen, SessionFault::PeerClosed));
    }
}

#[tokio::test]
async fn a_router_that_talks_nonsense_is_reported() {
    let too_long = (BLOB_BYTES_MAX as u32 + 1).to_le_bytes();
    let other_line = [8u32.to_le_bytes(), 7u32.to_le_bytes(), [0; 4]].concat();
    for blob in [&too_long[..], &other_line] {
        let target: SocketAddr = "10.1.2.3:11002".parse().unwrap();
        let server = TcpListener::bind(ANY_PORT).await.unwrap();
        let mut client = Node::new();
        let route = Route::Router { socks: server.local_addr().unwrap() };
        let _ = Dialer::new(&client.links, route).dial(target, Tag(2));
        let (mut router, _) = server.accept().await.unwrap();
        router.write_all(&socks::encode_method(socks::METHOD_NONE)).await.unwrap();
        let SocketAddr::V4(v4) = target else { panic!("IPv6") };
        router.write_all(&socks::encode_granted(v4)).await.unwrap();
        router.write_all(blob).await.unwrap();
        let (_, event) = client.next().await;
        let Event::DialFailed { fault, .. } = event else { panic!("{event:?}") };
        assert!(matches!(*fault, OpenFault::PeerInfo(_)), "{fault}");
    }
    let mut client = Node::new();
    let server = TcpListener::bind(ANY_PORT).await.unwrap();
    let dialer = Dialer::new(&client.links, Route::Router { socks: server.local_addr().unwrap() });
    let _ = dialer.dial("[::1]:11002".parse().unwrap(), Tag(2));
    let (_, event) = client.next().await;
    let Event::DialFailed { fault, .. } = event else { panic!("{event:?}") };
    assert!(matches!(*fault, OpenFault::NotIpv4 { .. }));
    // A server that is no router.
    let _ = dialer.dial("10.1.2.3:11002".parse().unwrap(), Tag(2));
    let (mut stranger, _) = server.accept().await.unwrap();
    stranger.write_all(&frame(0, CONNECTED, &[0; 8])).await.unwrap();
    let (_, event) = client.next().await;
    let Event::DialFailed { fault, .. } = event else { panic!("{event:?}") };
    assert!(matches!(*fault, OpenFault::Socks(_)));
}
