//! The attested handshake of one connection: between its session, its TLS and its guard.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use cocoon_attest::channel::{Effect, Exporter, HandshakeFault, Offer, Standing};
use cocoon_session::{Arrival, Event as SessionEvent, Passage};

use crate::event::Event;
use crate::guard::{Facing, Guard, Judgement, Later};
use crate::stream::Stream;

impl Exporter for Stream {
    fn export(&self, label: &[u8], context: &[u8]) -> Option<[u8; 32]> {
        Self::export(self, label, context)
    }
}

/// What comes out for the connection's task.
#[derive(Default)]
pub(crate) struct Outgoing {
    /// Messages of the handshake, for the peer.
    pub(crate) messages: VecDeque<Vec<u8>>,
    /// Events for the node.
    pub(crate) events: VecDeque<Event>,
    /// Events of the session that waited for the handshake.
    pub(crate) released: VecDeque<SessionEvent>,
}

/// The handshake of one connection.
pub(crate) struct Attesting {
    guard: Arc<dyn Guard>,
    facing: Facing,
    passage: Passage,
    standing: Option<Standing>,
    quoting: Option<Later<Option<Offer>>>,
    judging: Option<Later<Judgement>>,
    judged: Option<Judgement>,
    /// The answer that introduced the peer; the node gets it when the handshake is over.
    held: Option<SessionEvent>,
    /// What the peer sent while we still judge its evidence. Nothing more is read until then.
    early: Option<SessionEvent>,
    pub(crate) outgoing: Outgoing,
}

impl Attesting {
    pub(crate) fn new(guard: Arc<dyn Guard>, facing: Facing) -> Self {
        let passage = Passage::new(facing.dialled.is_some());
        Self {
            guard,
            facing,
            passage,
            standing: None,
            quoting: None,
            judging: None,
            judged: None,
            held: None,
            early: None,
            outgoing: Outgoing::default(),
        }
    }

    /// Sorts an event of the session; returns what is the node's.
    pub(crate) fn arrives(
        &mut self,
        event: SessionEvent,
        exporter: &dyn Exporter,
    ) -> Result<Option<SessionEvent>, HandshakeFault> {
        match self.passage.arrives(event) {
            Arrival::Pass(event) => Ok(Some(event)),
            Arrival::Begin(event) => {
                self.held = Some(event);
                self.begin()?;
                Ok(None)
            }
            Arrival::Without(event) => {
                self.facing.introduced_as = self.passage.role();
                let known = self.guard.settled(&self.facing, "", None)?;
                self.outgoing.events.push_back(Event::Attested(Box::new(known)));
                self.outgoing.released.push_back(event);
                Ok(None)
            }
            Arrival::Attest(bytes) => {
                self.receive(&bytes, exporter)?;
                Ok(None)
            }
            Arrival::Early(event) => {
                let awaits = |standing: &Standing| standing.handshake().awaits_peer();
                if self.early.is_some() || self.standing.as_ref().is_none_or(awaits) {
                    return Err(HandshakeFault::Premature);
                }
                self.early = Some(event);
                Ok(None)
            }
            Arrival::Misplaced => {
                Err(HandshakeFault::OutOfOrder { what: "a message of the handshake" })
            }
        }
    }

    /// Announces the addition in a query of ours.
    pub(crate) fn asks(&mut self, data: Bytes) -> Bytes {
        self.passage.asks(data)
    }

    /// Announces the addition in an answer of ours, and begins the handshake behind it.
    pub(crate) fn answers(&mut self, data: Bytes) -> Result<Bytes, HandshakeFault> {
        let (data, begins) = self.passage.answers(data);
        if begins {
            self.begin()?;
        }
        Ok(data)
    }

    /// Whether commands of the node have to wait.
    pub(crate) fn is_closed(&self) -> bool {
        self.passage.is_closed()
    }

    /// Whether nothing more may be read, because what was read waits already.
    pub(crate) fn is_full(&self) -> bool {
        self.early.is_some()
    }

    /// Drops what waits for a handshake that will not end.
    pub(crate) fn give_up(&mut self) {
        (self.held, self.early, self.outgoing) = (None, None, Outgoing::default());
        (self.quoting, self.judging) = (None, None);
    }

    /// Takes what TEE and guard give, and acts on the time; true if something happened.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Result<bool, HandshakeFault> {
        let mut moved = false;
        if let Some(Poll::Ready(offer)) = self.quoting.as_mut().map(|it| it.as_mut().poll(cx)) {
            self.quoting = None;
            moved = true;
            let effects = self.standing()?.quoted(offer)?;
            self.carry_out(effects)?;
        }
        if let Some(Poll::Ready(found)) = self.judging.as_mut().map(|it| it.as_mut().poll(cx)) {
            self.judging = None;
            moved = true;
            let effects = self.standing()?.judged(&found.verdict, unix_ms())?;
            self.judged = Some(found);
            self.carry_out(effects)?;
        }
        if let Some(standing) = &mut self.standing {
            let (guard, facing) = (&self.guard, &self.facing);
            let effects = standing.tick(&mut || guard.begin(facing), unix_ms())?;
            moved |= !effects.is_empty();
            self.carry_out(effects)?;
        }
        Ok(moved)
    }

    /// In how many milliseconds [`Attesting::poll`] has something to do by the clock.
    pub(crate) fn due_in_ms(&self) -> Option<u64> {
        let due_ms = self.standing.as_ref()?.next_deadline_ms()?;
        Some(due_ms.saturating_sub(unix_ms()))
    }

    fn begin(&mut self) -> Result<(), HandshakeFault> {
        self.facing.announced = self.passage.announced();
        self.facing.introduced_as = self.passage.role();
        let (guard, facing) = (&self.guard, &self.facing);
        let (standing, effects) = Standing::start(&mut || guard.begin(facing), unix_ms());
        self.standing = Some(standing);
        self.carry_out(effects)
    }

    fn receive(&mut self, bytes: &[u8], exporter: &dyn Exporter) -> Result<(), HandshakeFault> {
        let (guard, facing) = (&self.guard, &self.facing);
        let Some(standing) = &mut self.standing else {
            return Err(HandshakeFault::OutOfOrder { what: "a message of the handshake" });
        };
        let mut begin = || guard.begin(facing);
        let effects = standing.receive(bytes, exporter, &mut begin, unix_ms())?;
        self.carry_out(effects)
    }

    fn standing(&mut self) -> Result<&mut Standing, HandshakeFault> {
        self.standing.as_mut().ok_or(HandshakeFault::OutOfOrder { what: "evidence" })
    }

    fn carry_out(&mut self, effects: Vec<Effect>) -> Result<(), HandshakeFault> {
        for effect in effects {
            match effect {
                Effect::Send(message) => self.outgoing.messages.push_back(message),
                Effect::Quote(statement) => self.quoting = Some(self.guard.quote(statement)),
                Effect::Verify(evidence) => {
                    self.judging = Some(self.guard.judge(&self.facing, evidence));
                }
                Effect::Ready { fresh } => self.stands(fresh)?,
            }
        }
        Ok(())
    }

    fn stands(&mut self, fresh: bool) -> Result<(), HandshakeFault> {
        let judged = self.judged.take().filter(|_| fresh);
        let standing = self.standing.as_ref();
        let address = standing.map(|it| it.handshake().dialled_address()).unwrap_or_default();
        let known = self.guard.settled(&self.facing, address, judged)?;
        self.passage.stands();
        self.outgoing.events.push_back(Event::Attested(Box::new(known)));
        self.outgoing.released.extend(self.held.take());
        self.outgoing.released.extend(self.early.take());
        Ok(())
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
