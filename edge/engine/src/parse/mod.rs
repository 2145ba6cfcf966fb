//! Finds reasoning and function calls in the text that a model writes.

pub(crate) mod answer;
pub(crate) mod forced_calls;
