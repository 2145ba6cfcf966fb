//! What every node shares at run time: configuration, keys, clock, journal, logs, the end.
//!
//! Nothing here knows a role.

pub mod books;
pub mod chain;
pub mod clock;
pub mod config;
pub mod dumps;
mod endorsement;
pub mod evidence;
pub mod fuzz;
mod guard;
pub mod hardware;
pub mod key_feed;
pub mod keys;
pub mod memory;
pub mod network;
pub mod pages;
pub mod peers;
mod stop;
pub mod telemetry;
pub mod witness;

pub use books::{Books, BooksEvent, BooksEvents};
pub use cocoon_attest::channel::ChannelRole;
pub use endorsement::EndorsementFile;
pub use guard::{ServedModel, Subject};
pub use stop::Stop;
