//! One connection to one lite server: many queries at a time, each answered by its number.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ed25519_dalek::VerifyingKey;
use tl_proto::{TlRead as _, TlWrite as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::channel::{self, ChannelFault, Receiver, Sender};
use super::wire::{ADNL_ANSWER, ADNL_QUERY, ERROR, ErrorAnswer, LITE_QUERY, Query, TCP_PING};

/// Largest frame from a server, in bytes.
const FRAME_BYTES_MAX: usize = 16 << 20;
/// How long connecting and shaking hands may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Queries that may wait to be sent.
const OUTBOX: usize = 64;
/// A ping keeps the connection from falling asleep.
const PING_PERIOD: Duration = Duration::from_secs(5);

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkFault {
    /// The server cannot be reached or went away.
    #[error("{0}")]
    Gone(String),
    /// The server says no.
    #[error("error {code}: {message}")]
    Refused {
        /// The server's number for it.
        code: i32,
        /// Its words.
        message: String,
    },
    /// The answer is not what was asked for.
    #[error("the answer is malformed")]
    Malformed,
}

type Pending = Arc<Mutex<HashMap<[u8; 32], oneshot::Sender<Vec<u8>>>>>;

/// A connection; dropping it closes it.
pub(crate) struct Link {
    outbox: mpsc::Sender<Vec<u8>>,
    pending: Pending,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Link {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn lock(pending: &Pending) -> MutexGuard<'_, HashMap<[u8; 32], oneshot::Sender<Vec<u8>>>> {
    pending.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    /// Connects and shakes hands.
    pub(crate) async fn open(address: SocketAddr, key: &VerifyingKey) -> Result<Self, LinkFault> {
        let connected = async {
            let stream = TcpStream::connect(address).await.map_err(ChannelFault::Broken)?;
            stream.set_nodelay(true).map_err(ChannelFault::Broken)?;
            let (read, write) = stream.into_split();
            channel::connect(read, write, key, FRAME_BYTES_MAX).await
        };
        let gone = |reason: String| LinkFault::Gone(reason);
        let (receiver, sender) = tokio::time::timeout(CONNECT_TIMEOUT, connected)
            .await
            .map_err(|_| gone("no connection in time".to_owned()))?
            .map_err(|fault| gone(fault.to_string()))?;
        let (outbox, outgoing) = mpsc::channel(OUTBOX);
        let pending = Pending::default();
        let tasks = [
            tokio::spawn(send(sender, outgoing)),
            tokio::spawn(receive(receiver, pending.clone())),
        ];
        Ok(Self { outbox, pending, tasks })
    }

    /// Whether the server is still there, as far as is known.
    pub(crate) fn is_alive(&self) -> bool {
        self.tasks.iter().all(|task| !task.is_finished())
    }

    /// Asks and waits for the answer, which must be a `T`.
    pub(crate) async fn ask<T>(&self, query: &Query) -> Result<T, LinkFault>
    where
        T: for<'a> tl_proto::TlRead<'a, Repr = tl_proto::Boxed>,
    {
        let gone = || LinkFault::Gone("the connection broke".to_owned());
        let id: [u8; 32] = rand::random();
        let (answer, answered) = oneshot::channel();
        lock(&self.pending).insert(id, answer);
        // Forgets the question when the asker gives up.
        let _forget = Forget { pending: &self.pending, id };
        self.outbox.send(envelope(id, query)).await.map_err(|_| gone())?;
        if !self.is_alive() {
            return Err(gone());
        }
        let bytes = answered.await.map_err(|_| gone())?;
        let mut head = bytes.as_slice();
        if u32::read_from(&mut head).is_ok_and(|id| id == ERROR) {
            let error: ErrorAnswer =
                tl_proto::deserialize(&bytes).map_err(|_| LinkFault::Malformed)?;
            let message = String::from_utf8_lossy(&error.message).into_owned();
            return Err(LinkFault::Refused { code: error.code, message });
        }
        tl_proto::deserialize(&bytes).map_err(|_| LinkFault::Malformed)
    }
}

struct Forget<'a> {
    pending: &'a Pending,
    id: [u8; 32],
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(self.pending).remove(&self.id);
    }
}

fn envelope(id: [u8; 32], query: &Query) -> Vec<u8> {
    let mut lite = tl_proto::serialize(LITE_QUERY);
    tl_proto::serialize(query).write_to(&mut lite);
    let mut payload = tl_proto::serialize(ADNL_QUERY);
    id.write_to(&mut payload);
    lite.write_to(&mut payload);
    payload
}

async fn send(mut sender: Sender<OwnedWriteHalf>, mut outgoing: mpsc::Receiver<Vec<u8>>) {
    loop {
        let payload = match tokio::time::timeout(PING_PERIOD, outgoing.recv()).await {
            Ok(Some(payload)) => payload,
            Ok(None) => return,
            Err(_) => {
                let mut ping = tl_proto::serialize(TCP_PING);
                rand::random::<u64>().write_to(&mut ping);
                ping
            }
        };
        if sender.send(&payload).await.is_err() {
            return;
        }
    }
}

async fn receive(mut receiver: Receiver<OwnedReadHalf>, pending: Pending) {
    while let Ok(payload) = receiver.receive().await {
        if let Some((id, answer)) = read_answer(&payload)
            && let Some(asker) = lock(&pending).remove(&id)
        {
            // The asker may have given up meanwhile.
            let _given_up = asker.send(answer);
        }
    }
    // Whoever still waits learns that nothing will come.
    lock(&pending).clear();
}

/// `None` for pongs and whatever else a server may say by itself.
fn read_answer(mut payload: &[u8]) -> Option<([u8; 32], Vec<u8>)> {
    let payload = &mut payload;
    if u32::read_from(payload).ok()? != ADNL_ANSWER {
        return None;
    }
    let id = <[u8; 32]>::read_from(payload).ok()?;
    Some((id, Vec::<u8>::read_from(payload).ok()?))
}
