//! Our compiled contracts on the real virtual machine with mainnet's fees.

mod cast;
mod flows;
mod report;
mod script;
mod world;
