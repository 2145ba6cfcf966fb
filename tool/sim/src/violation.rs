//! A promise that was not kept.

use thiserror::Error;

/// What an invariant found. The run stops at the first one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{rule}: {text}")]
pub struct Violation {
    /// Which promise, in few words; the same fault gives the same words.
    pub rule: &'static str,
    /// The values.
    pub text: String,
}
