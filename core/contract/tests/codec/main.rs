//! The codecs against `testdata/contract/vectors.json`, and against bytes that mean nothing.

mod addresses;
mod fuzz;
mod messages;
mod registry;
mod vectors;
mod wallets;
