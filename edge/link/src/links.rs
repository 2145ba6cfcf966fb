//! All connections of one node: what they share, and how they end together.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cocoon_ratls::Fault as SecureFault;
use cocoon_session::{Connection, Side};
use cocoon_wire::tl::Extensions;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::attesting::Attesting;
use crate::counters::{CounterValues, Counters, count};
use crate::event::{ConnId, LinkEvent, Origin};
use crate::fault::OpenFault;
use crate::guard::Facing;
use crate::open::Open;
use crate::settings::LinkSettings;
use crate::task::{ConnectionTask, Ended, Surroundings};

/// The connections of one node: they report to one loop, share limits and counters, and are
/// closed together. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Links {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) settings: LinkSettings,
    pub(crate) counters: Arc<Counters>,
    pub(crate) events: mpsc::Sender<LinkEvent>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    next_conn: AtomicU64,
}

impl Links {
    /// Reports every event to `events`. A bounded channel of a few thousand is right: when it
    /// is full, connections stop reading, and TCP slows the peers down. Take events with
    /// `recv_many`. Needs a tokio runtime.
    #[must_use]
    pub fn new(settings: LinkSettings, events: mpsc::Sender<LinkEvent>) -> Self {
        Self {
            inner: Arc::new(Inner {
                settings,
                counters: Arc::default(),
                events,
                tasks: TaskTracker::new(),
                stop: CancellationToken::new(),
                next_conn: AtomicU64::new(1),
            }),
        }
    }

    /// What happened so far, in numbers.
    #[must_use]
    pub fn counters(&self) -> CounterValues {
        self.inner.counters.values()
    }

    /// Closes every connection, port and kept link, each after writing what waits or after
    /// the linger time, and returns when all are gone. The event loop must go on taking
    /// events meanwhile, or be dropped. Nothing can be opened afterwards.
    pub async fn close(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}

impl Inner {
    pub(crate) fn next_conn(&self) -> ConnId {
        ConnId(self.next_conn.fetch_add(1, Ordering::Relaxed))
    }

    /// Runs a connection to its end; `stop` closes it.
    pub(crate) async fn run(
        &self,
        conn: ConnId,
        open: Open,
        remote: SocketAddr,
        origin: Origin,
        stop: &CancellationToken,
    ) -> Ended {
        let settings = &self.settings;
        let attesting = open.guard.map(|guard| {
            let (dialled, reached) = match origin {
                Origin::Dialled(_) => (Some(remote), None),
                Origin::Accepted(_) => (None, open.stream.local_addr()),
            };
            let (identity, announced) = (open.identity.clone(), Extensions::NONE);
            let facing = Facing { dialled, reached, identity, announced, introduced_as: None };
            Attesting::new(guard, facing)
        });
        let around = Surroundings {
            conn,
            origin,
            identity: open.identity,
            remote,
            events: self.events.clone(),
            counters: self.counters.clone(),
            queued_commands_max: settings.queued_commands_max,
            queued_bytes_max: settings.queued_bytes_max,
            output_bytes_high: settings.output_bytes_high,
            linger: settings.linger,
        };
        let session = |now_ms| match origin {
            Origin::Dialled(_) => {
                let side = Side::Connecting { connect_id: rand::random() };
                Connection::new(side, settings.dialled.clone(), now_ms)
            }
            Origin::Accepted(_) => {
                Connection::new(Side::Accepting, settings.accepted.clone(), now_ms)
            }
        };
        let task = ConnectionTask::new(open.stream, session, attesting, around);
        let shared = task.shared();
        let run = task.run();
        tokio::pin!(run);
        tokio::select! {
            ended = &mut run => ended,
            () = stop.cancelled() => {
                shared.close();
                run.await
            }
        }
    }

    /// Sorts a failed opening into the counters.
    pub(crate) fn count_failure(&self, fault: &OpenFault) {
        let counters = &self.counters;
        count(match fault {
            OpenFault::Secure(SecureFault::Work(_)) => &counters.failed_work,
            OpenFault::Secure(SecureFault::Certificate(_)) => &counters.failed_certificate,
            OpenFault::Secure(SecureFault::Policy(_)) => &counters.failed_policy,
            OpenFault::Secure(SecureFault::Tls(_)) => &counters.failed_tls,
            OpenFault::Secure(SecureFault::TooSlow { .. }) | OpenFault::TooSlow { .. } => {
                &counters.failed_slow
            }
            _ => &counters.failed_otherwise,
        });
    }
}
