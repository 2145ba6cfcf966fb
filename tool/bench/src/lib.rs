//! Measures the path through the network.
//!
//! Things that fit together, and can be used apart:
//!
//! - [`mock`]: a model server that answers at once with prepared bytes, or misbehaves on request;
//! - [`load`]: a load generator for chat completions, small answers and streams;
//! - [`path`]: starts a mock and a network, runs the load against both and prints tables;
//! - [`money`]: what signed payments and proven accounts cost the processor.
//!
//! ```text
//!   load ────────────────────────────────────► mock        direct: the baseline
//!   load ──► gateway ──► proxy ──► worker ───► mock        through the network
//! ```
//!
//! All of it runs on one machine and shares its cores with what is measured, as in the
//! measurements of the reference that the numbers are compared with. So both ends are lean:
//! one thread each, prepared bytes, no pools.

pub mod histogram;
pub mod load;
pub mod machine;
pub mod mock;
pub mod money;
pub mod path;
pub mod process;
