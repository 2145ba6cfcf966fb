//! Fresh evidence over the established connection, bound so that it cannot be relayed.

mod statement;

pub use statement::{ChannelRole, Statement, STATEMENT_TAG};
