//! The end of a node: asked for by a signal, by the parent, or by a fault.

use std::io::Read as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Tells everything in a node that it should end. Cheap to clone; clones share the state.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    token: CancellationToken,
}

impl Stop {
    /// A node that runs.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends on SIGINT and SIGTERM.
    ///
    /// # Errors
    /// Environment: the process may not listen for signals.
    pub fn on_signals(&self) -> std::io::Result<()> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let stop = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            tracing::info!("asked to stop");
            stop.now();
        });
        Ok(())
    }

    /// Ends when standard input is closed: a child whose parent died, however it died, sees the
    /// end of the pipe between them.
    pub fn on_parent_gone(&self) {
        let stop = self.clone();
        // A thread of its own: a runtime that ends would wait for a blocking read.
        std::thread::spawn(move || {
            let mut stdin = std::io::stdin().lock();
            let mut buffer = [0; 64];
            while stdin.read(&mut buffer).is_ok_and(|count| count > 0) {}
            stop.now();
        });
    }

    /// Asks everything to end.
    pub fn now(&self) {
        self.token.cancel();
    }

    /// Whether the end was asked for.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits until the end is asked for.
    pub async fn asked(&self) {
        self.token.cancelled().await;
    }

    /// The token itself, for libraries that take one.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }
}
