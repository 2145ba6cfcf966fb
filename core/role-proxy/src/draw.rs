//! Numbers nobody can guess, expanded from a seed that the hand drew at start.

use cocoon_units::RequestId;
use sha2::{Digest as _, Sha256};

/// A deterministic generator: SHA-256 of seed and counter. The seed is 32 random bytes of the
/// operating system, so the output is as unpredictable as the seed, and a simulation repeats.
pub(crate) struct Draw {
    seed: [u8; 32],
    counter: u64,
}

impl Draw {
    pub(crate) const fn new(seed: [u8; 32]) -> Self {
        Self { seed, counter: 0 }
    }

    pub(crate) fn bytes(&mut self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.seed);
        hash.update(self.counter.to_le_bytes());
        self.counter += 1;
        hash.finalize().into()
    }

    pub(crate) fn number(&mut self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.bytes();
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    pub(crate) fn request_id(&mut self) -> RequestId {
        RequestId(self.bytes())
    }
}
