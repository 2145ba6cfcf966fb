//! Why an answer did not come.

use cocoon_gateway::UpstreamError;
use thiserror::Error;

/// A request that brought no answer.
#[derive(Debug, Error)]
pub enum AskFault {
    /// The network did not answer; its variants say who is at fault and whether to try again.
    #[error(transparent)]
    Network(#[from] UpstreamError),
    /// The model server refused the request or failed: its own status and words.
    #[error("the model server answered {status}: {message}")]
    Server {
        /// Its HTTP status.
        status: u16,
        /// Its words.
        message: String,
    },
    /// The worker's answer is none; the worker or its model server is at fault. Try again.
    #[error("the worker's answer makes no sense: {0}")]
    Senseless(&'static str),
    /// The request itself cannot be sent: the program is at fault.
    #[error("the request cannot be sent: {0}")]
    Request(String),
}

impl AskFault {
    pub(super) fn senseless(what: &'static str) -> AskFault {
        AskFault::Senseless(what)
    }
}
