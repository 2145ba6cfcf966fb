//! What may pass on a connection whose sides attest to each other: between the introductions
//! and the evidence, nothing but evidence.

use bytes::{Bytes, BytesMut};
use cocoon_wire::cocoon::{self, ATTESTED_CHANNEL, Attest, Introduction};
use cocoon_wire::tl::{self, Extensions};

use crate::event::Event;

/// How far the two sides have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The introductions are due. Tells what the peer announced, once it did.
    Introducing { theirs: Option<bool> },
    /// Both announced the addition and show their evidence now.
    Attesting,
    /// Evidence was shown; it may be renewed at any time.
    Standing,
    /// The peer does not know the addition.
    Without,
}

/// What to do with an event of the session.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It is the node's.
    Pass(Event),
    /// Both sides announced the addition. Begin the handshake, and give the node this event once
    /// it is over.
    Begin(Event),
    /// The peer introduced itself without the addition. Pass the event only where a peer without
    /// fresh evidence will do.
    Without(Event),
    /// A message of the handshake.
    Attest(Bytes),
    /// Something else came before the handshake is over on this side. Keep it back if the peer
    /// has sent all its evidence; otherwise end the connection.
    Early(Event),
    /// A message of the handshake where none may come: end the connection.
    Misplaced,
}

/// Watches the introductions of one connection and says when the handshake begins and what has
/// to wait for it. The addition is announced here rather than by the roles, since only the owner
/// of the TLS session knows whether evidence can be tied to it.
#[derive(Clone, Debug)]
pub struct Passage {
    stage: Stage,
    announced: Extensions,
}

impl Default for Passage {
    fn default() -> Self {
        let stage = Stage::Introducing { theirs: None };
        Self { stage, announced: Extensions::NONE }
    }
}

impl Passage {
    /// Sorts an event of the session.
    pub fn arrives(&mut self, event: Event) -> Arrival {
        if let Event::Message(data) = &event
            && let Ok(attest) = tl::decode::<Attest<'_>>(data)
        {
            return match self.stage {
                Stage::Attesting | Stage::Standing => {
                    Arrival::Attest(data.slice_ref(attest.data.0))
                }
                Stage::Introducing { .. } | Stage::Without => Arrival::Misplaced,
            };
        }
        match self.stage {
            Stage::Introducing { theirs } => self.introducing(event, theirs),
            Stage::Standing | Stage::Without => Arrival::Pass(event),
            Stage::Attesting => match event {
                Event::Ready { .. } | Event::QueryFailed { .. } | Event::Closed(_) => {
                    Arrival::Pass(event)
                }
                Event::Message(_) | Event::Query { .. } | Event::Answer { .. } => {
                    Arrival::Early(event)
                }
            },
        }
    }

    /// Announces the addition in a query of ours that introduces us.
    #[must_use]
    pub fn asks(&self, data: Bytes) -> Bytes {
        match cocoon::introduction(&data) {
            Some((Introduction::Dialling, _)) => announced(data),
            _ => data,
        }
    }

    /// Announces the addition in an answer of ours that introduces us. The second value says that
    /// the handshake begins as soon as this answer is on its way.
    #[must_use]
    pub fn answers(&mut self, data: Bytes) -> (Bytes, bool) {
        let Some((Introduction::Dialled, _)) = cocoon::introduction(&data) else {
            return (data, false);
        };
        let begins = self.stage == Stage::Introducing { theirs: Some(true) };
        if begins {
            self.stage = Stage::Attesting;
        }
        (announced(data), begins)
    }

    /// Tells that the handshake is over: from now on everything passes.
    pub fn stands(&mut self) {
        self.stage = Stage::Standing;
    }

    /// What the peer announced in its introduction; nothing before it.
    #[must_use]
    pub const fn announced(&self) -> Extensions {
        self.announced
    }

    /// Whether commands of the node have to wait.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.stage == Stage::Attesting
    }

    /// The first introduction counts; what is sent in its place later changes nothing.
    fn introducing(&mut self, event: Event, theirs: Option<bool>) -> Arrival {
        let (data, side) = match &event {
            Event::Query { data, .. } => (data, Introduction::Dialling),
            Event::Answer { data, .. } => (data, Introduction::Dialled),
            _ => return Arrival::Pass(event),
        };
        let able = match cocoon::introduction(data) {
            Some((found, bits)) if found == side && theirs.is_none() => {
                self.announced = bits;
                bits.contains(ATTESTED_CHANNEL)
            }
            _ => return Arrival::Pass(event),
        };
        match (able, side) {
            (false, _) => {
                self.stage = Stage::Without;
                Arrival::Without(event)
            }
            (true, Introduction::Dialling) => {
                self.stage = Stage::Introducing { theirs: Some(true) };
                Arrival::Pass(event)
            }
            (true, Introduction::Dialled) => {
                self.stage = Stage::Attesting;
                Arrival::Begin(event)
            }
        }
    }
}

fn announced(data: Bytes) -> Bytes {
    let mut data = BytesMut::from(data);
    cocoon::announce(&mut data, ATTESTED_CHANNEL);
    data.freeze()
}
