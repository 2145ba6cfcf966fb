//! What a router does next (protocol notes, wire 2.5 to 2.11).
//!
//! A router stands beside a program that does not speak attested TLS and does it for the program:
//! towards the network by SOCKS5 or a fixed destination, from the network in front of a port. Here
//! is what is decided, without a socket:
//!
//! - [`SocksServer`]: the SOCKS5 conversation with the program, byte by byte;
//! - [`PolicySpec`], [`PolicyTable`]: whom a port admits, by name;
//! - [`PortSpec`]: what a port does, and the reference's way to write it on a command line;
//! - [`ReferenceFile`]: the reference's configuration file;
//! - [`word`]: what the program is told about its peer.

#![forbid(unsafe_code)]

mod fault;
pub mod fuzz;
mod policy;
mod port;
mod reference;
mod socks;
mod word;

pub use fault::RouterFault;
pub use policy::{PolicyKind, PolicySpec, PolicyTable};
pub use port::{Destination, PortMode, PortSpec};
pub use reference::ReferenceFile;
pub use socks::{SocksServer, SocksStep, reply};
pub use word::{Ends, word};
