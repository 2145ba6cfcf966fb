//! What can be wrong with a router's configuration. All of it is the operator's to correct.

use thiserror::Error;

/// A configuration that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RouterFault {
    /// The file is no JSON.
    #[error("the router's file is no JSON: {detail}")]
    Json {
        /// Where.
        detail: String,
    },
    /// A member holds something else.
    #[error("{place} must be {expected}")]
    Member {
        /// Which.
        place: String,
        /// What it must be.
        expected: &'static str,
    },
    /// A port or a policy as it stands on a command line.
    #[error("{text:?} is not written as {form}")]
    Form {
        /// What was written.
        text: String,
        /// What it should look like.
        form: &'static str,
    },
    /// No policy of this name.
    #[error("there is no policy named {name:?}; there are: {known}")]
    NoPolicy {
        /// The name.
        name: String,
        /// Those that exist.
        known: String,
    },
    /// A policy that contradicts itself or is not built in.
    #[error("policy {name}: {reason}")]
    Policy {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
}
