//! Every row of docs/attacks.md that certificates and reports can show, against the
//! simulated platform. Each test is named after its row.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod certificate;
mod collateral;
mod gpu;
mod mutation;
mod snp;
mod stage;
mod table;
mod tdx;
