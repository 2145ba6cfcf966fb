//! The whole network on one thread, from one seed, in virtual time.
//!
//! The machines are the real ones: [`Proxy`](cocoon_role_proxy::Proxy), the sessions of client and
//! worker, their channels, the byte machine of connections. What is simulated are their hands, the
//! disks, the network, the clocks and the chain. `docs/simulation.md` says what is drawn, what is
//! checked and how to read a failure.
//!
//! ```text
//!   seed ──► Plan ──► World ──► Outcome { hash, violation, … }
//!             ▲                    │
//!             └──── shrink ◄───────┘
//! ```
//!
//! # Invariants
//!
//! 1. Equal seeds give equal runs: no clock, no thread, no iteration over a hash map decides
//!    anything here.
//! 2. The first broken promise ends a run; see [`Violation`].
//! 3. A planted fault ([`Mutant`]) changes hands, disks, network or chain, never a machine.

#![forbid(unsafe_code)]

mod after;
mod chain;
mod chance;
mod client;
mod contracts;
mod disk;
mod ending;
mod faults;
mod hold;
mod liar;
mod log;
mod mirror;
mod mutant;
mod net;
mod node;
mod peer;
mod plan;
mod pool;
mod proxy;
mod run;
mod truth;
mod violation;
mod worker;
mod world;

pub use after::HOME_MS;
pub use chance::Chance;
pub use disk::Disk;
pub use ending::{CALM_MS, PROBE_MS};
pub use log::{Entry, Log};
pub use mutant::Mutant;
pub use plan::{Ask, Fate, Fault, FaultKind, Lie, NodeId, Plan, Point};
pub use run::{Options, Outcome, run, shrink};
pub use violation::Violation;
