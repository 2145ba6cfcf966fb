//! The machine that answered.

use cocoon_attest::Digest32;
use cocoon_gateway::answer::WorkerSeen;

/// The machines behind an answer, as far as they are known. What stands here of the worker is the
/// proxy's word; [`Client::verify`](super::Client::verify) judges what machines show themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// Image hash of the worker as the proxy told it, hex; `None` when nothing is known, as behind
    /// a reference proxy.
    pub measurement: Option<String>,
    /// Kind of the network's trusted environments by this node's own configuration, as in `tee`;
    /// `None` when nothing is known.
    pub tee_kind: Option<String>,
    /// Image hash of the proxy in between, hex.
    pub proxy_measurement: Option<String>,
}

/// Whether the registry lists an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed {
    /// The image told is one of those that the network lists for workers.
    Yes,
    /// It is not: do not trust the answer with anything.
    No,
    /// Nothing of the worker was told.
    Unknown,
}

impl Machine {
    pub(super) fn of(seen: &WorkerSeen) -> Machine {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Machine {
            measurement: some(&seen.measurement),
            tee_kind: some(&seen.tee_kind),
            proxy_measurement: some(&seen.proxy_measurement),
        }
    }

    pub(super) fn listed_in(&self, images: &[Digest32]) -> Listed {
        match &self.measurement {
            None => Listed::Unknown,
            Some(image) if images.iter().any(|listed| is_hex_of(image, listed)) => Listed::Yes,
            Some(_) => Listed::No,
        }
    }
}

fn is_hex_of(text: &str, digest: &Digest32) -> bool {
    super::hex(&digest.0).eq_ignore_ascii_case(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_listed_image_is_listed() {
        let images = [Digest32::from([0xab; 32])];
        let (listed, other) = ("AB".repeat(32), "cd".repeat(32));
        let machine = |text: Option<&str>| Machine {
            measurement: text.map(str::to_owned),
            ..Machine::default()
        };
        assert_eq!(machine(Some(&listed)).listed_in(&images), Listed::Yes);
        assert_eq!(machine(Some(&other)).listed_in(&images), Listed::No);
        assert_eq!(machine(None).listed_in(&images), Listed::Unknown);
        assert_eq!(Machine::of(&WorkerSeen::default()), Machine::default());
    }
}
