//! The local chain as a lite server: TON's light clients work against it.

use std::sync::Arc;
use std::time::Duration;

use cocoon_http::{Crowd, CrowdLimits, Work};
use ed25519_dalek::SigningKey;
use tl_proto::{TlRead as _, TlWrite as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use super::answer::{answer, error};
use super::channel::{self, ChannelFault};
use super::wire::{ADNL_ANSWER, ADNL_QUERY, LITE_QUERY, Query, TCP_PING, TCP_PONG, WAIT_SEQNO};
use crate::node::LocalNode;

/// Clients at a time. A query is answered at once, so no client keeps another one waiting.
const CROWD: CrowdLimits =
    CrowdLimits { connections_max: 256, per_address_max: 64, slow_after: Duration::ZERO };
/// Pause after the system refused to accept, most often for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Largest frame from a client, in bytes: an external message fits many times.
const FRAME_BYTES_MAX: usize = 1 << 20;
/// A client must have shaken hands within this time.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A client that says nothing for so long is gone.
const IDLE_TIMEOUT: Duration = Duration::from_secs(600);
/// Most queries of one client that wait for a block at a time.
const WAITING_MAX: usize = 32;
/// Longest wait for a block.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Answers of one client that may wait to be sent.
const OUTBOX: usize = 64;

/// Serves clients until `stopped` turns true.
pub(crate) async fn run(
    listener: TcpListener,
    node: LocalNode,
    key: SigningKey,
    mut stopped: watch::Receiver<bool>,
) {
    let key = Arc::new(key);
    let crowd = Crowd::new(CROWD);
    let mut clients = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = async { drop(stopped.wait_for(|stopped| *stopped).await) } => return,
            Some(_) = clients.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, peer)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let ip = peer.ip().to_canonical();
        let Ok(seat) = crowd.enter((!ip.is_loopback()).then_some(ip)) else { continue };
        let (node, key) = (node.clone(), key.clone());
        clients.spawn(async move {
            let served = tokio::select! {
                served = serve(stream, &node, &key, seat.work()) => served,
                () = seat.given_up() => Err(ChannelFault::Garbage("silent, and the port is full")),
            };
            if let Err(fault) = served {
                tracing::debug!(%peer, error = &fault as &dyn std::error::Error, "client left");
            }
        });
    }
}

async fn serve(
    stream: TcpStream,
    node: &LocalNode,
    key: &SigningKey,
    work: &Work,
) -> Result<(), ChannelFault> {
    stream.set_nodelay(true)?;
    let (read, write) = stream.into_split();
    let accepted = channel::accept(read, write, key, FRAME_BYTES_MAX);
    let late = |_| ChannelFault::Garbage("no handshake in time");
    let (mut receiver, mut sender) =
        tokio::time::timeout(HANDSHAKE_TIMEOUT, accepted).await.map_err(late)??;
    let (outbox, mut outgoing) = mpsc::channel::<Vec<u8>>(OUTBOX);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Some(payload) = outgoing.recv().await {
            if sender.send(&payload).await.is_err() {
                return;
            }
        }
    });
    let waiting = Arc::new(Semaphore::new(WAITING_MAX));
    loop {
        let payload = tokio::time::timeout(IDLE_TIMEOUT, receiver.receive()).await;
        let payload = payload.map_err(|_| ChannelFault::Garbage("silent for too long"))??;
        // Whoever asks stays before whoever does not.
        drop(work.begin());
        match Request::read(&payload) {
            Some(Request::Ping(id)) => {
                let mut pong = tl_proto::serialize(TCP_PONG);
                id.write_to(&mut pong);
                post(&outbox, pong).await?;
            }
            Some(Request::Query { id, wait, query }) => {
                let Some((seqno, patience)) = wait else {
                    post(&outbox, reply(id, &respond(node, query))).await?;
                    continue;
                };
                let Ok(slot) = waiting.clone().try_acquire_owned() else {
                    let full = tl_proto::serialize(error(228, "too many queries wait"));
                    post(&outbox, reply(id, &full)).await?;
                    continue;
                };
                let (node, outbox) = (node.clone(), outbox.clone());
                tasks.spawn(async move {
                    let _slot = slot;
                    let bytes = respond_after(&node, seqno, patience, query).await;
                    let _gone = outbox.send(reply(id, &bytes)).await;
                });
            }
            None => return Err(ChannelFault::Garbage("neither ping nor query")),
        }
    }
}

async fn post(outbox: &mpsc::Sender<Vec<u8>>, payload: Vec<u8>) -> Result<(), ChannelFault> {
    outbox.send(payload).await.map_err(|_| ChannelFault::Garbage("cannot be written to"))
}

fn respond(node: &LocalNode, query: Option<Box<Query>>) -> Vec<u8> {
    match query {
        Some(query) => answer(node, *query),
        None => tl_proto::serialize(error(621, "unknown or malformed query")),
    }
}

async fn respond_after(
    node: &LocalNode,
    seqno: u32,
    patience: Duration,
    query: Option<Box<Query>>,
) -> Vec<u8> {
    use crate::Chain as _;
    let moved = node.moved_beyond(seqno.saturating_sub(1));
    match tokio::time::timeout(patience, moved).await {
        Ok(()) => respond(node, query),
        Err(_) => tl_proto::serialize(error(652, "timeout")),
    }
}

fn reply(id: [u8; 32], answer: &[u8]) -> Vec<u8> {
    let mut payload = tl_proto::serialize(ADNL_ANSWER);
    id.write_to(&mut payload);
    answer.write_to(&mut payload);
    payload
}

/// What a client may say.
pub(crate) enum Request {
    Ping(u64),
    Query { id: [u8; 32], wait: Option<(u32, Duration)>, query: Option<Box<Query>> },
}

impl Request {
    /// `None` when the payload is neither; the query in it may still be unknown.
    pub(crate) fn read(mut payload: &[u8]) -> Option<Self> {
        let payload = &mut payload;
        match u32::read_from(payload).ok()? {
            TCP_PING => u64::read_from(payload).ok().map(Self::Ping),
            ADNL_QUERY => {
                let id = <[u8; 32]>::read_from(payload).ok()?;
                let mut query = <&[u8]>::read_from(payload).ok()?;
                let query = &mut query;
                if u32::read_from(query).ok()? != LITE_QUERY {
                    return Some(Self::Query { id, wait: None, query: None });
                }
                let mut data = <&[u8]>::read_from(query).ok()?;
                let wait = read_wait(&mut data);
                let query = tl_proto::deserialize(data).ok().map(Box::new);
                Some(Self::Query { id, wait, query })
            }
            _ => None,
        }
    }
}

/// The wish to be answered after a block, which may stand before a query.
fn read_wait(data: &mut &[u8]) -> Option<(u32, Duration)> {
    let mut rest = *data;
    if u32::read_from(&mut rest).ok()? != WAIT_SEQNO {
        return None;
    }
    let seqno = u32::read_from(&mut rest).ok()?;
    let timeout_ms = u32::read_from(&mut rest).ok()?;
    *data = rest;
    Some((seqno, Duration::from_millis(u64::from(timeout_ms)).min(WAIT_MAX)))
}
