//! The proof of work that precedes TLS, on both sides (protocol notes 2.2).
//!
//! A challenge is drawn for one connection and dies with it, so an answer serves once. The
//! search runs on blocking threads, each over nonces of its own, and stops when one finds an
//! answer or when the caller goes away: it never holds up the runtime.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cocoon_wire::pow::{CHALLENGE_BYTES, Challenge, RESPONSE_BYTES, Response};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::task::JoinSet;

use crate::fault::{Fault, WorkFault};
use crate::handshake::fault_of;

/// Nonces tried between two looks at the stop sign: about a millisecond of work.
const NONCES_PER_TURN: u64 = 8_192;

/// Threads that share a search by default: more than four bring nothing below 24 bits.
pub(crate) fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(4)
}

/// Demands `bits` of work from the peer and checks its answer.
pub(crate) async fn demand<S>(stream: &mut S, bits: u8) -> Result<(), Fault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let stage = "the proof of work";
    let challenge = Challenge { difficulty: u32::from(bits), salt: rand::random() };
    let mut bytes = [0; RESPONSE_BYTES];
    stream.write_all(&challenge.encode()).await.map_err(|error| fault_of(error, stage))?;
    stream.flush().await.map_err(|error| fault_of(error, stage))?;
    stream.read_exact(&mut bytes).await.map_err(|error| fault_of(error, stage))?;
    let response = Response::decode(&bytes).map_err(WorkFault::from)?;
    if challenge.accepts(response) {
        Ok(())
    } else {
        Err(WorkFault::Unsolved { difficulty: bits }.into())
    }
}

/// Does the work the peer demands, up to `bits_max`, on `threads` threads.
pub(crate) async fn perform<S>(stream: &mut S, bits_max: u8, threads: usize) -> Result<(), Fault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let stage = "the proof of work";
    let mut bytes = [0; CHALLENGE_BYTES];
    stream.read_exact(&mut bytes).await.map_err(|error| fault_of(error, stage))?;
    let challenge = Challenge::decode(&bytes, u32::from(bits_max)).map_err(WorkFault::from)?;
    let response = solve(challenge, threads.max(1)).await?;
    stream.write_all(&response.encode()).await.map_err(|error| fault_of(error, stage))?;
    stream.flush().await.map_err(|error| fault_of(error, stage))
}

/// Raises the stop sign when the search is over or given up.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

async fn solve(challenge: Challenge, threads: usize) -> Result<Response, Fault> {
    // The first turn solves most challenges of test networks without a thread.
    if let Some(response) = search(&challenge, 0, 256) {
        return Ok(response);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let _guard = StopOnDrop(stop.clone());
    let mut search = JoinSet::new();
    for thread in 0..threads {
        let stop = stop.clone();
        search.spawn_blocking(move || search_share(&challenge, thread, threads, &stop));
    }
    while let Some(share) = search.join_next().await {
        match share {
            Ok(Some(response)) => return Ok(response),
            Ok(None) => {}
            Err(_) => return Err(Fault::Internal("a thread of the proof of work died")),
        }
    }
    Err(Fault::Internal("the proof of work was searched through without an answer"))
}

/// Tries every `threads`-th block of nonces, starting with block number `thread`.
fn search_share(
    challenge: &Challenge,
    thread: usize,
    threads: usize,
    stop: &AtomicBool,
) -> Option<Response> {
    let blocks = (thread as u64..).step_by(threads);
    for block in blocks {
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        let first = block.checked_mul(NONCES_PER_TURN)?;
        if let Some(response) = search(challenge, first, NONCES_PER_TURN) {
            return Some(response);
        }
    }
    None
}

/// Tries `count` nonces from `first` on.
fn search(challenge: &Challenge, first: u64, count: u64) -> Option<Response> {
    (first..first.saturating_add(count))
        .map(|nonce| Response { nonce })
        .find(|response| challenge.accepts(*response))
}
