//! What a verifier answers to programs, and what it requires unless told otherwise.

use serde::Serialize;

use crate::events::EventLine;
use crate::receipt_check::Compared;
use crate::report_lines::{ClaimLine, Examination, Requirement};

/// What has to hold of machines that one is connected to now.
const LIVE: [&str; 12] = [
    "registry",
    "proxies",
    "workers",
    "hardware",
    "tcb",
    "image",
    "debug_off",
    "key_binding",
    "worker.freshness",
    "worker.weights",
    "worker.network",
    "worker.receipt_key",
];

/// What a quote alone can show.
const QUOTE: [&str; 3] = ["worker.hardware", "worker.tcb", "worker.debug_off"];

/// What is asked about machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// Evidence that was made for the asker's nonce, just now.
    Live,
    /// A saved bundle: its date and its nonce are its own word.
    Saved,
    /// A quote and nothing around it.
    Quote,
}

impl Occasion {
    /// Returns the claims that must hold when the asker names none.
    #[must_use]
    pub fn requirements(self) -> Vec<Requirement> {
        match self {
            Self::Live => read(&LIVE),
            Self::Saved => {
                let mut list = read(&LIVE);
                list.retain(|requirement| requirement.claim != "freshness");
                list
            }
            Self::Quote => read(&QUOTE),
        }
    }
}

impl Compared<'_> {
    /// Returns the claims of a receipt that must hold when the asker names none: those about
    /// files that were given are among them.
    #[must_use]
    pub fn requirements(&self) -> Vec<Requirement> {
        let mut list = vec!["signature", "evidence", "price"];
        list.extend(self.request.map(|_| "request"));
        list.extend(self.answer.map(|_| "answer"));
        read(&list)
    }
}

fn read(list: &[&str]) -> Vec<Requirement> {
    list.iter().filter_map(|text| text.parse().ok()).collect()
}

/// The answer, in the order in which it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer<'a> {
    /// What was verified, in the asker's words.
    pub subject: &'a str,
    /// Whether every required claim holds and none fails.
    pub ok: bool,
    /// Why not, one sentence each.
    pub objections: Vec<String>,
    /// The date it was judged at, Unix milliseconds.
    pub judged_at_ms: u64,
    /// The claims, subjects in order.
    pub claims: &'a [ClaimLine],
    /// What the machines measured; see [`Examination::events`].
    #[serde(skip_serializing_if = "<[EventLine]>::is_empty")]
    pub events: &'a [EventLine],
}

impl Examination {
    /// Returns the answer for programs.
    #[must_use]
    pub fn answer<'a>(&'a self, subject: &'a str, required: &[Requirement]) -> Answer<'a> {
        let objections = self.objections(required);
        Answer {
            subject,
            ok: objections.is_empty(),
            objections,
            judged_at_ms: self.judged_at_ms,
            claims: &self.claims,
            events: &self.events,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_usual_claim_is_known() {
        assert_eq!(Occasion::Live.requirements().len(), LIVE.len());
        assert_eq!(Occasion::Saved.requirements().len(), LIVE.len() - 1);
        assert_eq!(Occasion::Quote.requirements().len(), QUOTE.len());
        assert_eq!(Compared::default().requirements().len(), 3);
        let both = Compared { request: Some(b"a"), answer: Some(b"b") };
        assert_eq!(both.requirements().len(), 5);
    }
}
