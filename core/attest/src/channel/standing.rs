//! Evidence over the life of one connection: shown at the start, and again before it expires.

use super::fault::HandshakeFault;
use super::handshake::{Effect, Exporter, Handshake, Local, Nonce};
use super::message::Offer;
use crate::verdict::Verdict;

/// Time one handshake may take, in milliseconds: a quote of hardware takes tens of milliseconds,
/// collateral that has to be fetched seconds.
pub const HANDSHAKE_LIMIT_MS: u64 = 30_000;

/// Shortest pause between two handshakes of one connection, in milliseconds.
const RENEWAL_PAUSE_MS: u64 = 1_000;

/// What a handshake begins with: what this side knows at that time, and a nonce drawn for it.
pub trait Renewing {
    /// Returns both; called once for each handshake.
    fn begin(&mut self) -> (Local, Nonce);
}

impl<F: FnMut() -> (Local, Nonce)> Renewing for F {
    fn begin(&mut self) -> (Local, Nonce) {
        self()
    }
}

/// Where one connection stands with evidence: one [`Handshake`] after the other.
///
/// Either side begins a new one when the peer's evidence has lived half of its time; the hello
/// of one is answered with the hello of the other, also when both begin at once. Requests go on
/// meanwhile; when the old evidence expires first, the connection ends.
#[derive(Clone, Debug)]
pub struct Standing {
    current: Handshake,
    running: bool,
    began_ms: u64,
    deadline_ms: u64,
    /// Until when the peer's evidence counts; nothing while there is none.
    until_ms: Option<u64>,
    renew_ms: Option<u64>,
}

impl Standing {
    /// Begins the first handshake at `now_ms` (Unix milliseconds).
    pub fn start(renewing: &mut dyn Renewing, now_ms: u64) -> (Self, Vec<Effect>) {
        let (local, nonce) = renewing.begin();
        let (current, effects) = Handshake::start(local, nonce);
        let deadline_ms = now_ms.saturating_add(HANDSHAKE_LIMIT_MS);
        let standing = Self {
            current,
            running: true,
            began_ms: now_ms,
            deadline_ms,
            until_ms: None,
            renew_ms: None,
        };
        (standing, effects)
    }

    /// Takes a message of the peer, which may begin a new handshake.
    ///
    /// # Errors
    /// Any fault ends the connection.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        exporter: &dyn Exporter,
        renewing: &mut dyn Renewing,
        now_ms: u64,
    ) -> Result<Vec<Effect>, HandshakeFault> {
        // A quote is dear: a peer that asks for one after the other has to go.
        if !self.running && now_ms.saturating_sub(self.began_ms) < RENEWAL_PAUSE_MS / 2 {
            return Err(HandshakeFault::OutOfOrder { what: "a hello so soon after the last" });
        }
        let mut effects = if self.running { Vec::new() } else { self.begin(renewing, now_ms) };
        effects.extend(self.current.receive(bytes, exporter, now_ms)?);
        Ok(self.settle(effects))
    }

    /// Takes the own TEE's evidence, see [`Handshake::quoted`].
    ///
    /// # Errors
    /// Any fault ends the connection.
    pub fn quoted(&mut self, offer: Option<Offer>) -> Result<Vec<Effect>, HandshakeFault> {
        let effects = self.current.quoted(offer)?;
        Ok(self.settle(effects))
    }

    /// Takes the verdict, see [`Handshake::judged`].
    ///
    /// # Errors
    /// Any fault ends the connection.
    pub fn judged(
        &mut self,
        verdict: &Verdict,
        now_ms: u64,
    ) -> Result<Vec<Effect>, HandshakeFault> {
        let effects = self.current.judged(verdict)?;
        let life_ms = verdict.valid_until_ms.saturating_sub(now_ms);
        self.until_ms = Some(verdict.valid_until_ms);
        self.renew_ms = Some(now_ms.saturating_add((life_ms / 2).max(RENEWAL_PAUSE_MS)));
        Ok(self.settle(effects))
    }

    /// Acts on what is due at `now_ms`.
    ///
    /// # Errors
    /// A handshake took too long, or the peer's evidence has expired: end the connection.
    pub fn tick(
        &mut self,
        renewing: &mut dyn Renewing,
        now_ms: u64,
    ) -> Result<Vec<Effect>, HandshakeFault> {
        let expired = self.until_ms.is_some_and(|until_ms| until_ms < now_ms);
        if expired || (self.running && self.deadline_ms <= now_ms) {
            return Err(HandshakeFault::TooSlow { limit_ms: HANDSHAKE_LIMIT_MS });
        }
        if !self.running && self.renew_ms.is_some_and(|renew_ms| renew_ms <= now_ms) {
            return Ok(self.begin(renewing, now_ms));
        }
        Ok(Vec::new())
    }

    /// When [`Standing::tick`] has something to do next, Unix milliseconds.
    #[must_use]
    pub fn next_deadline_ms(&self) -> Option<u64> {
        let due_ms = if self.running { Some(self.deadline_ms) } else { self.renew_ms };
        let expiry_ms = self.until_ms.map(|until_ms| until_ms.saturating_add(1));
        [due_ms, expiry_ms].into_iter().flatten().min()
    }

    /// The handshake that runs, or ran last.
    #[must_use]
    pub fn handshake(&self) -> &Handshake {
        &self.current
    }

    fn begin(&mut self, renewing: &mut dyn Renewing, now_ms: u64) -> Vec<Effect> {
        let (local, nonce) = renewing.begin();
        let (current, effects) = Handshake::start(local, nonce);
        self.current = current;
        self.running = true;
        self.began_ms = now_ms;
        self.deadline_ms = now_ms.saturating_add(HANDSHAKE_LIMIT_MS);
        effects
    }

    fn settle(&mut self, effects: Vec<Effect>) -> Vec<Effect> {
        if self.current.is_ready() {
            self.running = false;
        }
        effects
    }
}
