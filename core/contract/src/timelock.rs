//! The timelock: a contract of ours that owns a root, so that its changes wait and are seen.
//!
//! The root itself keeps its storage and messages; whoever trusts it checks that its owner is a
//! timelock with code and delay they accept ([`TimelockState`]). Revocations take effect at
//! once, everything else after the delay, in the order proposed.

use std::collections::BTreeMap;

use cocoon_units::Address;
use tycho_types::dict::RawDict;

use crate::address::{self, StateInit};
use crate::cell::{Cell, Reader, Writer};
use crate::code::Code;
use crate::{Fault, op};

/// Most changes read from a timelock.
pub const MAX_WAITING: usize = 1024;

/// Seconds after its time during which a change can still be carried out.
pub const GRACE_S: u32 = 14 * 86_400;

const WHAT: &str = "timelock";

/// Where a proposed message goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Receiver {
    /// To the root contract.
    Root,
    /// To the timelock itself: a new admin or delay.
    Timelock,
}

/// A change that waits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Waiting {
    /// From when it can be carried out, Unix seconds.
    pub due_s: u32,
    /// Where it goes.
    pub receiver: Receiver,
    /// The body; read it with [`crate::message::Body::parse`].
    pub body: Cell,
}

/// What a timelock stores.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TimelockState {
    /// Who may propose, cancel and revoke.
    pub admin: Address,
    /// The root it owns; none before the first configuration.
    pub root: Address,
    /// Seconds a change waits.
    pub delay_s: u32,
    /// The number the next change gets.
    pub next_id: u32,
    /// Changes by number.
    pub waiting: BTreeMap<u32, Waiting>,
}

impl TimelockState {
    /// The state a timelock is deployed with.
    #[must_use]
    pub fn initial(admin: Address, root: Address, delay_s: u32) -> Self {
        Self { admin, root, delay_s, next_id: 0, waiting: BTreeMap::new() }
    }

    /// What a timelock is deployed with.
    ///
    /// # Errors
    /// [`Fault::CodeIsHashOnly`] when the code cell is missing; [`Fault::Build`] when changes
    /// already wait, which no deployment has.
    pub fn state_init(&self, code: &Code) -> Result<StateInit, Fault> {
        Ok(StateInit { code: code.require_cell(WHAT)?, data: self.initial_cell()? })
    }

    /// Where a timelock with this state is deployed.
    ///
    /// # Errors
    /// None in practice; the fields always fit.
    pub fn address(&self, code: &Code) -> Result<Address, Fault> {
        address::derive(code.id(), crate::cell::CellId::of(&self.initial_cell()?))
    }

    /// Reads the account that owns a root and checks that it keeps the root's changes waiting:
    /// our code, this root, at least `least_delay_s`. Nodes that want notice of changes ask this
    /// each time they apply a root state.
    ///
    /// # Errors
    /// [`Fault::NotGuarded`] says why changes may come without notice: warn, or keep the last
    /// state, as the operator's policy demands.
    pub fn guarding(
        root: Address,
        owner_code: &Cell,
        owner_data: &Cell,
        least_delay_s: u32,
    ) -> Result<Self, Fault> {
        if owner_code.repr_hash() != crate::code::timelock()?.repr_hash() {
            return Err(Fault::NotGuarded { reason: "its owner is not a timelock" });
        }
        let state = Self::parse(owner_data)?;
        if state.root != root {
            return Err(Fault::NotGuarded { reason: "the timelock guards another root" });
        }
        if state.delay_s < least_delay_s {
            return Err(Fault::NotGuarded { reason: "the timelock's delay is too short" });
        }
        Ok(state)
    }

    fn initial_cell(&self) -> Result<Cell, Fault> {
        Writer::new(WHAT)
            .address(&self.admin)
            .address(&self.root)
            .u32(self.delay_s)
            .u32(self.next_id)
            .bit(false)
            .build()
    }

    /// Reads the data cell.
    ///
    /// # Errors
    /// A [`Fault`] when the cell is not a timelock's data: the root is not protected by one.
    pub fn parse(cell: &Cell) -> Result<Self, Fault> {
        let mut reader = Reader::new(WHAT, cell)?;
        let (admin, root) = (reader.address()?, reader.address()?);
        let (delay_s, next_id) = (reader.u32()?, reader.u32()?);
        let dict = RawDict::<32>::from(reader.maybe_reference()?);
        reader.end()?;
        let mut waiting = BTreeMap::new();
        for item in dict.iter() {
            if waiting.len() >= MAX_WAITING {
                return Err(Fault::TooMany { what: WHAT, limit: MAX_WAITING });
            }
            let (key, value) = item.map_err(|reason| Fault::Layout { what: WHAT, reason })?;
            let id = Reader::of_slice(WHAT, key.as_data_slice()).u32()?;
            let mut reader = Reader::of_slice(WHAT, value);
            let due_s = reader.u32()?;
            let receiver = if reader.bit()? { Receiver::Timelock } else { Receiver::Root };
            waiting.insert(id, Waiting { due_s, receiver, body: reader.reference()? });
            reader.end()?;
        }
        Ok(Self { admin, root, delay_s, next_id, waiting })
    }
}

/// What is asked of a timelock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TimelockAction {
    /// The admin proposes a change.
    Propose {
        /// Where it goes.
        receiver: Receiver,
        /// The body.
        body: Cell,
    },
    /// Anyone carries out the oldest change once its time has come.
    Apply,
    /// The admin withdraws a change.
    Cancel {
        /// Its number.
        id: u32,
    },
    /// The admin takes back an image, model or proxy at once.
    Revoke {
        /// A revocation, see [`crate::message::RootAction::is_revocation`].
        body: Cell,
    },
    /// Changes admin and delay; only as a proposal of the timelock to itself.
    Configure {
        /// The new admin.
        admin: Address,
        /// The new delay.
        delay_s: u32,
    },
}

/// A request to a timelock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TimelockRequest {
    /// Query id.
    pub query_id: u64,
    /// What is asked.
    pub action: TimelockAction,
}

impl TimelockRequest {
    pub(crate) fn knows(op: u32) -> bool {
        (op::timelock::PROPOSE..=op::timelock::CONFIGURE).contains(&op)
    }

    /// Builds the body.
    ///
    /// # Errors
    /// [`Fault::Build`] when the proposed body is too deep.
    pub fn cell(&self) -> Result<Cell, Fault> {
        let writer = |op| Writer::body("timelock request", op, self.query_id);
        match &self.action {
            TimelockAction::Propose { receiver, body } => writer(op::timelock::PROPOSE)
                .bit(*receiver == Receiver::Timelock)
                .reference(body.clone()),
            TimelockAction::Apply => writer(op::timelock::APPLY),
            TimelockAction::Cancel { id } => writer(op::timelock::CANCEL).u32(*id),
            TimelockAction::Revoke { body } => writer(op::timelock::REVOKE).reference(body.clone()),
            TimelockAction::Configure { admin, delay_s } => {
                writer(op::timelock::CONFIGURE).address(admin).u32(*delay_s)
            }
        }
        .build()
    }

    pub(crate) fn read(op: u32, query_id: u64, mut reader: Reader<'_>) -> Result<Self, Fault> {
        let action = match op {
            op::timelock::PROPOSE => TimelockAction::Propose {
                receiver: if reader.bit()? { Receiver::Timelock } else { Receiver::Root },
                body: reader.reference()?,
            },
            op::timelock::APPLY => TimelockAction::Apply,
            op::timelock::CANCEL => TimelockAction::Cancel { id: reader.u32()? },
            op::timelock::REVOKE => TimelockAction::Revoke { body: reader.reference()? },
            op::timelock::CONFIGURE => {
                TimelockAction::Configure { admin: reader.address()?, delay_s: reader.u32()? }
            }
            op => return Err(Fault::UnknownOp { op }),
        };
        reader.end()?;
        Ok(Self { query_id, action })
    }
}
