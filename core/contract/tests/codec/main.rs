//! The codecs against `testdata/contract/vectors.json`, and against bytes that mean nothing.

mod addresses;
mod compiled;
mod fuzz;
mod messages;
mod registry;
mod vectors;
mod wallets;
