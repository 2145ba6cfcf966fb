//! A model server that costs next to nothing, for measuring what stands before it.
//!
//! Speaks as much of the OpenAI API as the network needs: `GET /v1/models`, `GET /health`,
//! `POST /v1/chat/completions` (whole or as a stream), and its own `GET /counts`. Every answer is
//! made of bytes prepared at the start; each event of a stream is flushed as its own HTTP chunk.
//! On request it misbehaves: see [`Misbehaviour`].
//!
//! ```
//! let mock = cocoon_bench::mock::Mock::start(cocoon_bench::mock::Options::default())?;
//! println!("forward_to = \"http://{}\"", mock.address());
//! assert_eq!(mock.counts().requests, 0);
//! # Ok::<(), cocoon_bench::mock::Fault>(())
//! ```

mod answer;
mod counts;
mod events;
mod misbehaviour;
mod script;

pub use counts::Counts;
pub use misbehaviour::Misbehaviour;

use counts::Counters;
use script::Script;
use serde::{Deserialize, Serialize};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::watch;

/// How the events of a stream are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Style {
    /// Server-sent events with `[DONE]` at the end, as model servers send them.
    #[default]
    Sse,
    /// One JSON value a line, as workers of the reference send them.
    JsonLines,
}

/// What the mock serves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Threads that serve, each with its own event loop. One is enough to saturate the load
    /// generator.
    pub threads: usize,
    /// Models it lists; it answers to any name.
    pub models: Vec<String>,
    /// Events of a stream, before the one with the usage.
    pub events: usize,
    /// Smallest size of such an event on the wire, bytes, `data: ` and blank line included.
    pub event_bytes: usize,
    /// Size of the text of an answer that is no stream, bytes.
    pub answer_bytes: usize,
    /// Pause before each event; zero for none. A request's member `mock_gap_ms` wins over it.
    pub gap: Duration,
    /// How events are written.
    pub style: Style,
}

impl Default for Options {
    /// The shape of the measurements: 50 events of 128 bytes at once, small answers.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            threads: 1,
            models: vec!["mock".into()],
            events: 50,
            event_bytes: 128,
            answer_bytes: 64,
            gap: Duration::ZERO,
            style: Style::Sse,
        }
    }
}

/// A mock that cannot start.
#[derive(Debug, Error)]
pub enum Fault {
    /// Environment: the address is taken or not ours. Choose another.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// Environment: no thread or event loop.
    #[error("cannot start a serving thread: {0}")]
    Thread(std::io::Error),
}

/// A running mock. Dropping it closes its connections and ends its threads.
#[derive(Debug)]
pub struct Mock {
    address: SocketAddr,
    counters: Arc<Counters>,
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
}

impl Mock {
    /// Starts serving on threads of its own; it is ready when this returns.
    ///
    /// # Errors
    /// [`Fault`]: nothing runs.
    pub fn start(options: Options) -> Result<Self, Fault> {
        let address = options.listen;
        let fault = move |source| Fault::Listen { address, source };
        let listener = TcpListener::bind(address).map_err(fault)?;
        listener.set_nonblocking(true).map_err(fault)?;
        let address = listener.local_addr().map_err(fault)?;
        let counters = Arc::new(Counters::default());
        let (stop, _) = watch::channel(false);
        let count = options.threads.max(1);
        let service = Arc::new(answer::Service {
            script: Arc::new(Script::new(&options)),
            counters: Arc::clone(&counters),
        });
        let mut mock = Self { address, counters, stop, threads: Vec::new() };
        for index in 0..count {
            let listener = listener.try_clone().map_err(fault)?;
            let (service, stop) = (Arc::clone(&service), mock.stop.subscribe());
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(Fault::Thread)?;
            let thread = std::thread::Builder::new()
                .name(format!("mock-{index}"))
                .spawn(move || runtime.block_on(answer::serve(listener, service, stop)))
                .map_err(Fault::Thread)?;
            mock.threads.push(thread);
        }
        Ok(mock)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What happened so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counters.read()
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
