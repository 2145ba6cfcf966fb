//! A node's side of its channel with a proxy.
//!
//! Clients and workers both deal with proxies in the same way: they derive the proxy's contract
//! from what it says of itself, pin it, keep own books of what was used, take the proxy's word on
//! the totals, and keep the best payment it signed (protocol notes, wire 3.9, chain 3.2).
//! [`Channels`] is that memory, [`meet`] the first contact. What is durable are [`ChannelRecord`]s;

#![forbid(unsafe_code)]

mod channels;
mod fault;
mod meeting;

pub use channels::{Channel, ChannelRecord, Channels};
pub use fault::ChannelFault;
pub use meeting::{Command, Met, Side, meet, read, tokens};
