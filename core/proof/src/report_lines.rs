//! What an examination says: one line for each claim of each subject.

use std::str::FromStr;

use serde::Serialize;

use crate::events::EventLine;

/// What is known of a claim. Anything but `Holds` is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Shown.
    Holds,
    /// Evidence was offered and is wrong.
    Fails,
    /// It cannot be decided.
    Unknown,
    /// Nothing was offered, or nobody looked.
    NotClaimed,
}

impl Standing {
    /// Returns the word for people.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Fails => "FAILS",
            Self::Unknown => "unknown",
            Self::NotClaimed => "not claimed",
        }
    }
}

/// One claim about one subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClaimLine {
    /// What it is about: `registry`, `proxy 1`, `worker 2`, `receipt`.
    pub subject: String,
    /// Which claim.
    pub claim: String,
    /// What is known of it.
    pub verdict: Standing,
    /// Where that comes from.
    pub source: String,
    /// How old the collateral behind it is, milliseconds, where there is some.
    pub age_ms: Option<u64>,
    /// Plain words.
    pub reason: String,
}

/// All that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Examination {
    /// The date it was judged at, Unix milliseconds.
    pub judged_at_ms: u64,
    /// The claims, subjects in order.
    pub claims: Vec<ClaimLine>,
    /// What the machines measured, as far as genuine quotes agree; machines and registers in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<EventLine>,
}

/// A claim that must hold: `image` of every machine, or `worker.freshness` of every worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// First word of the subjects meant; nothing means proxies and workers.
    pub subject: Option<String>,
    /// The claim.
    pub claim: String,
}

/// Claims about machines.
const MACHINE_CLAIMS: [&str; 14] = [
    "hardware",
    "tcb",
    "image",
    "debug_off",
    "gpu",
    "weights",
    "freshness",
    "key_binding",
    "site",
    "network",
    "receipt_key",
    "boot_log",
    "event_log",
    "vtpm",
];

/// Claims about anything else.
const OTHER_CLAIMS: [&str; 11] = [
    "registry",
    "proxies",
    "workers",
    "date",
    "signature",
    "evidence",
    "request",
    "answer",
    "model",
    "price",
    "nonce",
];

impl FromStr for Requirement {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (subject, claim) = match text.split_once('.') {
            Some((subject, claim)) => (Some(subject), claim),
            None => (None, text),
        };
        let known = MACHINE_CLAIMS.iter().chain(&OTHER_CLAIMS).any(|known| *known == claim);
        if !known {
            let all: Vec<&str> = MACHINE_CLAIMS.iter().chain(&OTHER_CLAIMS).copied().collect();
            return Err(format!("there is no claim {claim:?}; the claims are {}", all.join(", ")));
        }
        if let Some(subject) = subject
            && !["proxy", "worker", "registry", "network", "receipt"].contains(&subject)
        {
            return Err(format!(
                "{subject:?} is nothing that claims are about; write proxy, worker, registry, \
                 network or receipt before the dot"
            ));
        }
        Ok(Self { subject: subject.map(str::to_owned), claim: claim.to_owned() })
    }
}

impl Requirement {
    /// Whether this is a claim that proxies and workers make.
    #[must_use]
    pub fn is_about_machines(&self) -> bool {
        let subject = self.subject.as_deref();
        MACHINE_CLAIMS.contains(&self.claim.as_str())
            && matches!(subject, None | Some("proxy" | "worker"))
    }

    fn is_about(&self, line: &ClaimLine) -> bool {
        let first = line.subject.split(' ').next().unwrap_or_default();
        let machine = MACHINE_CLAIMS.contains(&self.claim.as_str());
        line.claim == self.claim
            && match &self.subject {
                Some(subject) => subject == first,
                None => !machine || first == "proxy" || first == "worker",
            }
    }
}

impl Examination {
    /// Returns why this is not good enough, one sentence each; empty when every required claim
    /// holds and nothing fails. A claim that fails counts whether or not it is required: nobody
    /// has to offer evidence, but what is offered must be true.
    #[must_use]
    pub fn objections(&self, required: &[Requirement]) -> Vec<String> {
        let mut out = Vec::new();
        for line in &self.claims {
            let wanted = required.iter().any(|requirement| requirement.is_about(line));
            let bad = match line.verdict {
                Standing::Holds => false,
                Standing::Fails => true,
                Standing::Unknown | Standing::NotClaimed => wanted,
            };
            if bad {
                let word = line.verdict.word().to_lowercase();
                out.push(format!("{}: {} {word}: {}", line.subject, line.claim, line.reason));
            }
        }
        for requirement in required {
            if !self.claims.iter().any(|line| requirement.is_about(line)) {
                let subject = requirement.subject.as_deref().unwrap_or("any machine");
                out.push(format!(
                    "nothing here says whether {} of {subject} holds",
                    requirement.claim
                ));
            }
        }
        out
    }

    /// Adds a line.
    pub(crate) fn say(
        &mut self,
        subject: &str,
        claim: &str,
        verdict: Standing,
        source: &str,
        reason: impl Into<String>,
    ) {
        self.claims.push(ClaimLine {
            subject: subject.to_owned(),
            claim: claim.to_owned(),
            verdict,
            source: source.to_owned(),
            age_ms: None,
            reason: reason.into(),
        });
    }
}
