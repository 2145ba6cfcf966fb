//! The proxy node: between clients and workers, keeper of the books.
//!
//! Wiring only: two ports (`cocoon_link`), the journal (`cocoon_host::Books`), the machine
//! (`cocoon_role_proxy::Proxy`) and pages for people and monitors. One task owns the machine;
//! nothing is shared and nothing is locked.
//!
//! ```text
//!   clients ─┐ LinkEvents          ┌─ effects at once ────────► links
//!   workers ─┼──────────► loop ────┤
//!   pages ───┘  (machine) ▲        ├─ records ──► journal ──┐
//!                         │        └─ effects that wait ────┤ hold
//!                         └──────── durable ticket ◄────────┘
//! ```

mod chain;
mod config;
mod desk;
mod fault;
mod hold;
mod pages;
mod rates;
mod report;
mod start;
mod turn;

pub use config::{Checked, ProxyConfig};
pub use fault::RunFault;
pub use start::{Running, run, start};
