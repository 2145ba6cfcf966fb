//! Ways in which a model server can fail its caller.

use std::str::FromStr;
use thiserror::Error;

/// How the mock fails a request. Chosen by the header `x-mock-fault`, else the body's member
/// `mock_fault` (which survives the way through a network), else a model name that ends with
/// `fault-` and one of these names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misbehaviour {
    /// `silent`: no answer until the caller hangs up.
    Silent,
    /// `stall`: half of the stream, then silence until the caller hangs up.
    Stall,
    /// `die`: half of the stream, then the connection breaks. Who asked for no stream gets one
    /// here and with `stall` too.
    Die,
    /// `error`: status 500 with an error body in OpenAI's form.
    Error,
    /// `busy`: status 503 with `Retry-After: 1`.
    Busy,
    /// `garbage`: status 200 and bytes that are neither JSON nor events.
    Garbage,
}

/// Not the name of a misbehaviour.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0:?} is none of silent, stall, die, error, busy, garbage")]
pub struct UnknownMisbehaviour(String);

impl FromStr for Misbehaviour {
    type Err = UnknownMisbehaviour;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Ok(match name {
            "silent" => Self::Silent,
            "stall" => Self::Stall,
            "die" => Self::Die,
            "error" => Self::Error,
            "busy" => Self::Busy,
            "garbage" => Self::Garbage,
            _ => return Err(UnknownMisbehaviour(name.to_owned())),
        })
    }
}

impl Misbehaviour {
    /// The one a request asks for. A wrong name is an error, so that a test with a typing mistake
    /// does not pass by getting a good answer.
    pub(crate) fn asked_for(
        header: Option<&str>,
        member: Option<&str>,
        model: Option<&str>,
    ) -> Result<Option<Self>, UnknownMisbehaviour> {
        let of_model = || model.and_then(|name| Some(name.rsplit_once("fault-")?.1));
        header.or(member).or_else(of_model).map(str::parse).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::{Misbehaviour, UnknownMisbehaviour};

    #[test]
    fn header_wins_over_member_over_model() {
        let asked = Misbehaviour::asked_for;
        assert_eq!(asked(None, None, Some("mock")), Ok(None));
        assert_eq!(asked(None, None, Some("a-fault-die")), Ok(Some(Misbehaviour::Die)));
        assert_eq!(asked(None, Some("busy"), Some("fault-die")), Ok(Some(Misbehaviour::Busy)));
        assert_eq!(asked(Some("stall"), Some("busy"), None), Ok(Some(Misbehaviour::Stall)));
        assert_eq!(asked(None, Some("dye"), None), Err(UnknownMisbehaviour("dye".into())));
    }
}
