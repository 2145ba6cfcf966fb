//! The runtime event log: text events whose digests were extended into RTMR3
//! (protocol notes 6.1).

use crate::digest::Digest48;
use crate::evidence::EVENT_LOG_LIMIT;
use crate::fault::BadEvidence;

/// Most events of one log.
const EVENT_LIMIT: usize = 1024;

/// Begins the event that ties a GPU's evidence to the machine; SHA-256 in hex follows.
pub const GPU_EVENT: &str = "cocoon:gpu=";

/// Begins the event that names the measured configuration.
pub const SPEC_EVENT: &str = "cocoon:spec.tree=";

/// The event after which the machine counts as set up: whatever follows ran later.
pub const READY_EVENT: &str = "cocoon:tdx_inited";

/// The event of a debugging image.
pub const DEBUG_EVENT: &str = "cocoon:cocoon_debug";

/// A log as it was read, not yet compared with a register.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventLog {
    events: Vec<String>,
}

/// One step of a replay, to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayStep {
    /// The event's text.
    pub event: String,
    /// SHA-384 of the text.
    pub digest: Digest48,
    /// The register after it.
    pub register: Digest48,
}

impl EventLog {
    /// Reads a log of one event per line.
    ///
    /// # Errors
    /// Text that is too long, has too many events or is not printable ASCII.
    pub fn read(text: &[u8]) -> Result<Self, BadEvidence> {
        if text.len() > EVENT_LOG_LIMIT {
            return Err(BadEvidence::TooLong {
                what: "the event log",
                len: text.len(),
                limit: EVENT_LOG_LIMIT,
            });
        }
        let malformed = |detail: &str| BadEvidence::Malformed {
            what: "the event log",
            detail: detail.to_owned(),
        };
        let text = std::str::from_utf8(text).map_err(|_| malformed("it is not text"))?;
        let mut events = Vec::new();
        for line in text.lines() {
            if line.is_empty() || !line.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
                return Err(malformed("a line is empty or not printable"));
            }
            if events.len() == EVENT_LIMIT {
                return Err(malformed("it has too many events"));
            }
            events.push(line.to_owned());
        }
        Ok(Self { events })
    }

    /// Returns a log of these events.
    #[must_use]
    pub fn from_events(events: impl IntoIterator<Item = String>) -> Self {
        Self { events: events.into_iter().collect() }
    }

    /// Returns the text form: one event per line.
    #[must_use]
    pub fn to_text(&self) -> String {
        self.events.join("\n")
    }

    /// Replays the log from 48 zero bytes: `register = SHA-384(register ‖ SHA-384(event))`.
    #[must_use]
    pub fn replay(&self) -> Vec<ReplayStep> {
        let mut register = Digest48::ZERO;
        self.events
            .iter()
            .map(|event| {
                let digest = Digest48::sha384(&[event.as_bytes()]);
                register = Digest48::sha384(&[&register.0, &digest.0]);
                ReplayStep { event: event.clone(), digest, register }
            })
            .collect()
    }

    /// Returns the register that the log leads to.
    #[must_use]
    pub fn register(&self) -> Digest48 {
        self.replay().last().map_or(Digest48::ZERO, |step| step.register)
    }

    /// Returns the register that the log without the events of `prefix` leads to.
    #[must_use]
    pub fn register_without(&self, prefix: &str) -> Digest48 {
        let others = self.events.iter().filter(|event| !event.starts_with(prefix));
        Self::from_events(others.cloned()).register()
    }

    /// Checks that the log leads to `register`.
    ///
    /// # Errors
    /// [`BadEvidence::EventLog`]: the log is not the one that was measured.
    pub fn check(&self, register: &Digest48) -> Result<(), BadEvidence> {
        let replayed = self.register();
        if replayed == *register {
            return Ok(());
        }
        Err(BadEvidence::EventLog {
            register: "RTMR3",
            replayed: replayed.to_string(),
            found: register.to_string(),
        })
    }

    /// Returns the value of the only event that begins with `prefix`; nothing when there is
    /// none or more than one.
    #[must_use]
    pub fn value(&self, prefix: &str) -> Option<&str> {
        let mut values = self.events.iter().filter_map(|event| event.strip_prefix(prefix));
        let value = values.next()?;
        values.next().is_none().then_some(value)
    }

    /// Returns the value of the only event that begins with `prefix`, provided it comes
    /// before the first `limit`; what is extended later was not there when work began.
    #[must_use]
    pub fn value_before(&self, prefix: &str, limit: &str) -> Option<&str> {
        let value = self.value(prefix)?;
        let at = self.events.iter().position(|event| event.starts_with(prefix))?;
        let end = self.events.iter().position(|event| event == limit).unwrap_or(usize::MAX);
        (at < end).then_some(value)
    }

    /// Says whether an event begins with `prefix`.
    #[must_use]
    pub fn contains_prefix(&self, prefix: &str) -> bool {
        self.events.iter().any(|known| known.starts_with(prefix))
    }

    /// Says whether `event` is in the log.
    #[must_use]
    pub fn contains(&self, event: &str) -> bool {
        self.events.iter().any(|known| known == event)
    }
}
