//! The machine that one side of the handshake runs.

use super::fault::HandshakeFault;
use super::message::{Announcement, Hello, Message, Offer};
use super::statement::{ChannelRole, EXPORTER_LABEL, Statement, exporter_context, leaf_key_digest};
use crate::digest::Digest32;
use crate::evidence::{Binding, PeerEvidence};
use crate::verdict::{ClaimKind, Finding, Outcome, Verdict};

/// Longest life of a peer's statement, in seconds.
const LIFETIME_LIMIT_S: u64 = 24 * 3600;

/// Thirty-two random bytes of the caller.
pub type Nonce = [u8; 32];

/// The TLS session of the connection.
pub trait Exporter {
    /// Returns 32 bytes of the TLS exporter (RFC 8446, 7.5), or nothing when the session has
    /// none. Never a constant, never zeros in place of an error.
    fn export(&self, label: &[u8], context: &[u8]) -> Option<[u8; 32]>;
}

/// What this side wants of its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Demand {
    /// No evidence: the side that serves the public.
    Nothing,
    /// Evidence when the peer can give it. A stripped offer goes unnoticed, so the verdict
    /// then says "freshness: not claimed".
    IfAble,
    /// Evidence, or no channel.
    Always,
}

/// Which address the connecting side dialled.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Dialled {
    /// This side dialled it, and wrote it so; at most [`super::ADDRESS_LIMIT`] bytes.
    ByUs(String),
    /// The peer dialled, and says what. An address that is none of ours ends the handshake: the
    /// peer was diverted. An empty list means that this side does not know its own addresses, as
    /// behind a translator of addresses; then the peer's word stands in the statement unchecked.
    ByPeer {
        /// All addresses of this side.
        ours: Vec<String>,
    },
}

/// What this side knows before the handshake begins.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Local {
    /// Own role.
    pub role: ChannelRole,
    /// Role of whoever this connection is for.
    pub peer_role: ChannelRole,
    /// Own Ed25519 leaf key; nothing when this side shows no certificate.
    pub own_key: Option<[u8; 32]>,
    /// The peer's Ed25519 leaf key as the TLS handshake proved it.
    pub peer_key: Option<[u8; 32]>,
    /// Network.
    pub network_id: i32,
    /// Hash part of the root contract's address.
    pub root_contract: Digest32,
    /// Which address was dialled, and by whom.
    pub dialled: Dialled,
    /// What this side states about itself; nothing when it cannot attest.
    pub announcement: Option<Announcement>,
    /// What this side wants.
    pub demand: Demand,
    /// Whether the peer announced that it reads endorsements; otherwise it is shown none.
    pub reads_endorsements: bool,
    /// Whether the peer announced that it reads registers of vTPMs; otherwise it is shown none.
    pub reads_vtpm_quotes: bool,
    /// Id that the peer must have, when a certain one was dialled.
    pub wanted_id: Option<Digest32>,
}

/// What the caller has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send this message to the peer.
    Send(Vec<u8>),
    /// Have the TEE sign this statement, then call [`Handshake::quoted`].
    Quote(Box<Statement>),
    /// Verify this evidence with [`crate::verify`], then call [`Handshake::judged`].
    Verify(Box<PeerEvidence>),
    /// The channel stands. `fresh` says whether the peer proved itself over it; where it is
    /// false, only what its certificate shows may be believed.
    Ready {
        /// Whether fresh evidence of the peer was accepted.
        fresh: bool,
    },
}

/// Where the peer's evidence stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Incoming {
    /// Its hello has not come.
    Awaited,
    /// Its offer has not come.
    Offered,
    /// The caller verifies evidence with this digest.
    Judging(Digest32),
    /// Accepted, or not wanted.
    Settled { fresh: bool },
}

/// Where our own evidence stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Outgoing {
    /// The peer's hello has not come.
    Awaited,
    /// The TEE works on it.
    Quoting,
    /// Sent, or not wanted.
    Settled,
}

/// One side of one handshake. After the first fault it stays dead.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Handshake {
    local: Local,
    nonce: Nonce,
    /// The address dialled; empty until the side that dialled has said it.
    address: String,
    incoming: Incoming,
    outgoing: Outgoing,
    ready: bool,
    dead: bool,
}

impl Handshake {
    /// Opens the handshake with a nonce drawn for it alone.
    #[must_use]
    pub fn start(local: Local, nonce: Nonce) -> (Self, Vec<Effect>) {
        let dialled = match &local.dialled {
            Dialled::ByUs(address) => Some(address.clone()),
            Dialled::ByPeer { .. } => None,
        };
        let address = dialled.clone().unwrap_or_default();
        let hello = Message::Hello(Hello {
            role: local.role,
            nonce,
            attests: local.announcement.is_some(),
            demands: local.demand != Demand::Nothing,
            dialled,
        });
        let handshake = Self {
            local,
            nonce,
            address,
            incoming: Incoming::Awaited,
            outgoing: Outgoing::Awaited,
            ready: false,
            dead: false,
        };
        (handshake, vec![Effect::Send(hello.encode())])
    }

    /// Takes a message of the peer at `now_ms` (Unix milliseconds).
    ///
    /// # Errors
    /// Any fault ends the handshake: close the connection.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        exporter: &dyn Exporter,
        now_ms: u64,
    ) -> Result<Vec<Effect>, HandshakeFault> {
        let result = self.alive().and_then(|()| match Message::decode(bytes)? {
            Message::Hello(hello) => self.hello(&hello, exporter),
            Message::Offer(offer) => self.offer(*offer, exporter, now_ms),
        });
        self.settle(result)
    }

    /// Takes the evidence that the own TEE made over the statement of [`Effect::Quote`]; of
    /// `offer` only the evidence counts. Nothing means that the TEE failed.
    ///
    /// # Errors
    /// Any fault ends the handshake: close the connection.
    pub fn quoted(&mut self, offer: Option<Offer>) -> Result<Vec<Effect>, HandshakeFault> {
        let result = self.alive().and_then(|()| {
            if self.outgoing != Outgoing::Quoting {
                return Err(HandshakeFault::OutOfOrder { what: "a quote" });
            }
            let mut offer = offer.ok_or(HandshakeFault::NoQuote)?;
            offer.announcement = self.local.announcement.clone().ok_or(HandshakeFault::Unable)?;
            offer.endorsement = offer.endorsement.filter(|_| self.local.reads_endorsements);
            offer.vtpm = offer.vtpm.filter(|_| self.local.reads_vtpm_quotes);
            self.outgoing = Outgoing::Settled;
            Ok(vec![Effect::Send(Message::Offer(Box::new(offer)).encode())])
        });
        self.settle(result)
    }

    /// Takes the verdict over the evidence of [`Effect::Verify`].
    ///
    /// Whatever the policy requires, a channel needs key binding and freshness to hold.
    ///
    /// # Errors
    /// Any fault ends the handshake: close the connection.
    pub fn judged(&mut self, verdict: &Verdict) -> Result<Vec<Effect>, HandshakeFault> {
        let result = self.alive().and_then(|()| {
            let Incoming::Judging(digest) = &self.incoming else {
                return Err(HandshakeFault::OutOfOrder { what: "a verdict" });
            };
            if *digest != verdict.evidence {
                return Err(HandshakeFault::ForeignVerdict);
            }
            match verdict.outcome() {
                Outcome::Refuse(bad) => return Err(HandshakeFault::Refused(bad)),
                Outcome::Undecided(cannot) => return Err(HandshakeFault::Undecided(cannot)),
                Outcome::Accept => {}
            }
            for claim in [ClaimKind::KeyBinding, ClaimKind::Freshness] {
                if *verdict.finding(claim) != Finding::Holds {
                    return Err(HandshakeFault::Unshown { claim });
                }
            }
            self.incoming = Incoming::Settled { fresh: true };
            Ok(Vec::new())
        });
        self.settle(result)
    }

    /// Says whether the channel stands.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready && !self.dead
    }

    /// Says whether the peer proved itself over this channel.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.is_ready() && self.incoming == Incoming::Settled { fresh: true }
    }

    /// Says whether a message of the peer is still due. Until then the peer may send nothing
    /// else.
    #[must_use]
    pub fn awaits_peer(&self) -> bool {
        !self.dead && matches!(self.incoming, Incoming::Awaited | Incoming::Offered)
    }

    /// The address that the connecting side dialled; empty until that is known.
    #[must_use]
    pub fn dialled_address(&self) -> &str {
        &self.address
    }

    fn hello(
        &mut self,
        hello: &Hello,
        exporter: &dyn Exporter,
    ) -> Result<Vec<Effect>, HandshakeFault> {
        if self.incoming != Incoming::Awaited {
            return Err(HandshakeFault::OutOfOrder { what: "a hello" });
        }
        if hello.nonce == self.nonce {
            return Err(HandshakeFault::Reflected);
        }
        if hello.role != self.local.peer_role {
            let (expected, found) = (self.local.peer_role, hello.role);
            return Err(HandshakeFault::WrongRole { expected, found });
        }
        self.take_address(hello.dialled.as_deref())?;
        self.incoming = match (self.local.demand, hello.attests) {
            (Demand::Nothing, _) | (Demand::IfAble, false) => Incoming::Settled { fresh: false },
            (Demand::IfAble | Demand::Always, true) => Incoming::Offered,
            (Demand::Always, false) => return Err(HandshakeFault::Downgraded),
        };
        match (&self.local.announcement, hello.demands) {
            (Some(announcement), true) => {
                let statement = self.own_statement(announcement, &hello.nonce, exporter)?;
                self.outgoing = Outgoing::Quoting;
                Ok(vec![Effect::Quote(Box::new(statement))])
            }
            // A peer that demands always will refuse; one that demands if able goes on.
            (None, true) | (_, false) => {
                self.outgoing = Outgoing::Settled;
                Ok(Vec::new())
            }
        }
    }

    /// Takes the address that the peer says it dialled, where it is the one who did.
    fn take_address(&mut self, said: Option<&str>) -> Result<(), HandshakeFault> {
        let Dialled::ByPeer { ours } = &self.local.dialled else { return Ok(()) };
        let detail = "it dialled and does not say what";
        let said = said.ok_or(HandshakeFault::Malformed { detail })?;
        if !ours.is_empty() && ours.iter().all(|own| own != said) {
            return Err(HandshakeFault::Diverted { dialled: said.to_owned() });
        }
        said.clone_into(&mut self.address);
        Ok(())
    }

    fn offer(
        &mut self,
        offer: Offer,
        exporter: &dyn Exporter,
        now_ms: u64,
    ) -> Result<Vec<Effect>, HandshakeFault> {
        if self.incoming != Incoming::Offered {
            return Err(HandshakeFault::OutOfOrder { what: "an offer" });
        }
        let said = &offer.announcement;
        if let Some(wanted) = self.local.wanted_id.filter(|wanted| *wanted != said.own_id) {
            let (expected, found) = (wanted.to_string(), said.own_id.to_string());
            return Err(HandshakeFault::WrongId { expected, found });
        }
        let (now_s, not_after_s) = (now_ms / 1000, said.not_after_s);
        if not_after_s < now_s {
            return Err(HandshakeFault::Lifetime { not_after_s, detail: "in the past" });
        }
        if not_after_s > now_s.saturating_add(LIFETIME_LIMIT_S) {
            return Err(HandshakeFault::Lifetime { not_after_s, detail: "too far ahead" });
        }
        let expected = self.expected_statement(said, exporter)?;
        let evidence = PeerEvidence {
            public_key: self.local.peer_key.unwrap_or_default(),
            sev_report_data: offer.sev_report.is_some().then(|| expected.report_data().to_vec()),
            binding: Binding::Channel(Box::new(expected)),
            tdx_quote: offer.tdx_quote,
            sev_report: offer.sev_report,
            sev_vcek_pem: offer.sev_vcek_pem,
            gpu: offer.gpu,
            event_log: offer.event_log,
            runtime_data: offer.runtime_data,
            boot_log: offer.boot_log,
            endorsement: offer.endorsement,
            vtpm: offer.vtpm,
            ..PeerEvidence::default()
        };
        self.incoming = Incoming::Judging(evidence.digest());
        Ok(vec![Effect::Verify(Box::new(evidence))])
    }

    /// Builds what this side states.
    fn own_statement(
        &self,
        said: &Announcement,
        verifier_nonce: &Nonce,
        exporter: &dyn Exporter,
    ) -> Result<Statement, HandshakeFault> {
        let local = &self.local;
        let keys = (local.own_key, local.peer_key);
        self.statement(said, (local.role, local.peer_role), keys, verifier_nonce, exporter)
    }

    /// Builds what this side expects the peer to state: every field but the announcement is
    /// this side's own knowledge.
    fn expected_statement(
        &self,
        said: &Announcement,
        exporter: &dyn Exporter,
    ) -> Result<Statement, HandshakeFault> {
        let local = &self.local;
        let keys = (local.peer_key, local.own_key);
        self.statement(said, (local.peer_role, local.role), keys, &self.nonce, exporter)
    }

    fn statement(
        &self,
        said: &Announcement,
        (role, peer_role): (ChannelRole, ChannelRole),
        (own_key, peer_key): (Option<[u8; 32]>, Option<[u8; 32]>),
        verifier_nonce: &Nonce,
        exporter: &dyn Exporter,
    ) -> Result<Statement, HandshakeFault> {
        let context = exporter_context(verifier_nonce, role);
        let exported = exporter
            .export(EXPORTER_LABEL, &context)
            .filter(|exported| exported.iter().any(|byte| *byte != 0))
            .ok_or(HandshakeFault::NoExporter)?;
        let digest = |key: Option<[u8; 32]>| key.as_ref().map(leaf_key_digest).unwrap_or_default();
        Ok(Statement {
            role,
            peer_role,
            verifier_nonce: *verifier_nonce,
            exporter: exported,
            own_key: digest(own_key),
            peer_key: digest(peer_key),
            network_id: self.local.network_id,
            root_contract: self.local.root_contract,
            own_id: said.own_id,
            dialled_address: self.address.clone(),
            keyset: said.keyset,
            image: said.image,
            model: said.model,
            gpu: said.gpu,
            beacon: said.beacon,
            not_after_s: said.not_after_s,
        })
    }

    fn alive(&self) -> Result<(), HandshakeFault> {
        if self.dead {
            return Err(HandshakeFault::OutOfOrder { what: "something after a fault" });
        }
        Ok(())
    }

    /// Dies on a fault; otherwise announces readiness once both directions are settled.
    fn settle(
        &mut self,
        result: Result<Vec<Effect>, HandshakeFault>,
    ) -> Result<Vec<Effect>, HandshakeFault> {
        let mut effects = match result {
            Ok(effects) => effects,
            Err(fault) => {
                self.dead = true;
                return Err(fault);
            }
        };
        if let (Incoming::Settled { fresh }, Outgoing::Settled) = (&self.incoming, &self.outgoing)
            && !self.ready
        {
            self.ready = true;
            effects.push(Effect::Ready { fresh: *fresh });
        }
        Ok(effects)
    }
}
