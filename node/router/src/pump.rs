//! Bytes both ways between two streams, bounded in memory and time.
//!
//! An end of one direction is passed on and the other direction goes on, as TCP has it.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Bytes on the way in one direction.
const CHUNK_BYTES: usize = 16 << 10;

/// How long who may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PumpLimits {
    /// To take bytes that are written.
    pub(crate) stall: Duration,
    /// Without a byte after one direction ended; zero ends at once.
    pub(crate) half_closed: Duration,
    /// Without a byte at all; zero waits for ever.
    pub(crate) idle: Duration,
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Both directions came to their ends.
    Whole,
    /// A side broke off.
    Broken,
    /// Somebody did not take what was written.
    Stalled,
    /// Nobody said anything.
    Idle,
}

/// When something last happened, and whether one direction is over.
struct Life {
    start: Instant,
    last_ms: AtomicU64,
    half: AtomicBool,
    changed: Notify,
}

impl Life {
    fn touch(&self) {
        let ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(ms, Ordering::Relaxed);
    }

    fn halve(&self) {
        self.touch();
        self.half.store(true, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// Ends when nothing happened for as long as the limits say.
    async fn idle(&self, limits: &PumpLimits) {
        loop {
            let half = self.half.load(Ordering::Relaxed);
            let limit = if half { limits.half_closed } else { limits.idle };
            if limit.is_zero() && !half {
                self.changed.notified().await;
                continue;
            }
            let last = Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
            let until = self.start + last + limit;
            if Instant::now() >= until {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep_until(until) => {}
                () = self.changed.notified() => {}
            }
        }
    }
}

/// Copies until both directions have ended, or a limit is passed. `first` goes to `net` before
/// anything else.
pub(crate) async fn pump<A, N>(app: A, net: N, first: &[u8], limits: PumpLimits) -> Ended
where
    A: AsyncRead + AsyncWrite,
    N: AsyncRead + AsyncWrite,
{
    let (app_read, app_write) = tokio::io::split(app);
    let (net_read, net_write) = tokio::io::split(net);
    let start = Instant::now();
    let (last_ms, half) = (AtomicU64::new(0), AtomicBool::new(false));
    let life = Life { start, last_ms, half, changed: Notify::new() };
    let both = async {
        tokio::try_join!(
            one_way(app_read, net_write, first, &limits, &life),
            one_way(net_read, app_write, &[], &limits, &life),
        )
    };
    tokio::select! {
        ended = both => match ended {
            Ok(_) => Ended::Whole,
            Err(ended) => ended,
        },
        () = life.idle(&limits) => Ended::Idle,
    }
}

async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    first: &[u8],
    limits: &PumpLimits,
    life: &Life,
) -> Result<(), Ended> {
    write(&mut to, first, limits).await?;
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match from.read(&mut chunk).await {
            Ok(0) => break,
            Ok(count) => {
                life.touch();
                write(&mut to, chunk.get(..count).unwrap_or_default(), limits).await?;
                life.touch();
            }
            // A peer that closes TCP without TLS's goodbye has ended all the same: frames have
            // ends of their own.
            Err(fault) if fault.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(_) => return Err(Ended::Broken),
        }
    }
    drop(chunk);
    life.halve();
    match tokio::time::timeout(limits.stall, to.shutdown()).await {
        Ok(_) => Ok(()),
        Err(_) => Err(Ended::Stalled),
    }
}

async fn write(
    to: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
    limits: &PumpLimits,
) -> Result<(), Ended> {
    if bytes.is_empty() {
        return Ok(());
    }
    let written = async {
        to.write_all(bytes).await?;
        to.flush().await
    };
    match tokio::time::timeout(limits.stall, written).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Ended::Broken),
        Err(_) => Err(Ended::Stalled),
    }
}
