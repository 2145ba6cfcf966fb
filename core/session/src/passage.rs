//! What may pass on a connection whose sides attest to each other: between the introductions
//! and the evidence, nothing but evidence.

use bytes::{Bytes, BytesMut};
use cocoon_units::Role;
use cocoon_wire::cocoon::{self, ATTESTED_CHANNEL, Attest, Introduction};
use cocoon_wire::tl::{self, Constructor as _, Extensions};

use crate::event::Event;

/// How far the two sides have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The introductions are due.
    Introducing {
        /// The peer introduced itself and announced the addition.
        announced: bool,
    },
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
    /// Whether this side dialled: its peer introduces itself by an answer, otherwise by a query.
    dials: bool,
    stage: Stage,
    announced: Extensions,
    role: Option<Role>,
    /// Our introduction is one that the peer may not know.
    may_be_unknown: bool,
}

impl Passage {
    /// The passage of a side that dialled, or of one that was dialled.
    #[must_use]
    pub const fn new(dials: bool) -> Self {
        let stage = Stage::Introducing { announced: false };
        Self { dials, stage, announced: Extensions::NONE, role: None, may_be_unknown: false }
    }

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
            Stage::Introducing { announced } => self.introducing(event, announced),
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
    pub fn asks(&mut self, data: Bytes) -> Bytes {
        match cocoon::introduction(&data) {
            Some((Introduction::Dialling(_), _)) => {
                self.may_be_unknown = tl::constructor_id(&data) == Some(cocoon::Introduce::ID);
                announced(data)
            }
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
        let begins = self.stage == Stage::Introducing { announced: true };
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

    /// As what the peer introduced itself, where it dialled us.
    #[must_use]
    pub const fn role(&self) -> Option<Role> {
        self.role
    }

    /// Whether commands of the node have to wait.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.stage == Stage::Attesting
    }

    /// The first introduction counts; what is sent in its place later changes nothing.
    fn introducing(&mut self, event: Event, announced: bool) -> Arrival {
        let (data, dialling) = match &event {
            // An introduction of the other side's kind is none: it must not stand for the one that
            // begins the handshake.
            Event::Query { data, .. } if !self.dials => (data, true),
            Event::Answer { data, .. } if self.dials => (data, false),
            Event::QueryFailed { .. } if self.may_be_unknown => {
                self.stage = Stage::Without;
                return Arrival::Without(event);
            }
            _ => return Arrival::Pass(event),
        };
        let (role, bits) = match (cocoon::introduction(data), dialling) {
            (Some((Introduction::Dialling(role), bits)), true) => (Some(role), bits),
            (Some((Introduction::Dialled, bits)), false) => (None, bits),
            // Secrets are asked for: such a peer is one without additions, or does not wait for
            // the handshake that it announced.
            _ => match cocoon::asks_for_keys(data).filter(|_| dialling) {
                Some(_) if announced => return Arrival::Early(event),
                Some(role) => (Some(role), Extensions::NONE),
                None => return Arrival::Pass(event),
            },
        };
        if announced {
            return Arrival::Pass(event);
        }
        (self.announced, self.role) = (bits, role);
        match (bits.contains(ATTESTED_CHANNEL), dialling) {
            (false, _) => {
                self.stage = Stage::Without;
                Arrival::Without(event)
            }
            (true, true) => {
                self.stage = Stage::Introducing { announced: true };
                Arrival::Pass(event)
            }
            (true, false) => {
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
