//! What the doctor says: one line for each thing it looked at.

use serde::Serialize;
use serde_json::json;
use std::fmt::Write as _;

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// As it should be.
    Good,
    /// Worth knowing; nothing is wrong.
    Note,
    /// It works, but not as well or as safely as it could.
    Warning,
    /// It keeps a node from working.
    Failed,
}

impl State {
    const fn word(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Failed => "FAILED",
        }
    }
}

/// One thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    /// Its short name, stable for programs.
    pub(crate) name: String,
    /// How it is.
    pub(crate) state: State,
    /// What was found.
    pub(crate) found: String,
    /// What to do; empty when nothing is to be done.
    pub(crate) advice: String,
}

impl Check {
    pub(crate) fn good(name: &str, found: impl Into<String>) -> Self {
        Self::new(name, State::Good, found, "")
    }

    pub(crate) fn note(name: &str, found: impl Into<String>) -> Self {
        Self::new(name, State::Note, found, "")
    }

    pub(crate) fn warning(name: &str, found: impl Into<String>, advice: &str) -> Self {
        Self::new(name, State::Warning, found, advice)
    }

    pub(crate) fn failed(name: &str, found: impl Into<String>, advice: &str) -> Self {
        Self::new(name, State::Failed, found, advice)
    }

    fn new(name: &str, state: State, found: impl Into<String>, advice: &str) -> Self {
        let (name, found, advice) = (name.to_owned(), found.into(), advice.to_owned());
        Self { name, state, found, advice }
    }
}

/// How many failed.
pub(crate) fn failed(checks: &[Check]) -> usize {
    checks.iter().filter(|check| check.state == State::Failed).count()
}

/// For programs.
pub(crate) fn json_text(role: &str, checks: &[Check]) -> String {
    json!({ "role": role, "ok": failed(checks) == 0, "checks": checks }).to_string()
}

/// For people.
pub(crate) fn text(role: &str, checks: &[Check]) -> String {
    let mut out = match role {
        "" => "This machine, for any role:\n\n".to_owned(),
        role => format!("This machine as a {role}:\n\n"),
    };
    for check in checks {
        let (word, name, found) = (check.state.word(), &check.name, &check.found);
        // Writing to a text cannot fail.
        let _ = writeln!(out, "  {word:<8} {name:<14} {found}");
        if !check.advice.is_empty() {
            let _ = writeln!(out, "{:>26}{}", "→ ", check.advice);
        }
    }
    out
}
