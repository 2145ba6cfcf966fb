//! Message bodies (protocol notes 1).

mod client;
mod comment;
mod proxy;
mod root;
mod worker;

pub use client::{ClientAction, ClientRequest};
pub use comment::{COMMENT_LEN_MAX, comment, read_comment};
pub use proxy::{
    ClientNotice, ClientPayload, ClientSnapshot, ProxyAction, ProxyRequest, WorkerNotice,
    WorkerPayout,
};
pub use root::{RootAction, RootRequest};
pub use worker::WorkerRegister;

use cocoon_units::Nanoton;

use crate::cell::{Cell, Hash, Reader, Writer};
use crate::payment::{CloseKind, PaymentKind, SignedClose, SignedPayment};
use crate::timelock::TimelockRequest;
use crate::{Fault, op};

/// A command written as text, without a query id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TextCommand {
    /// `c`: the owner of a proxy contract starts to close it.
    Close,
    /// `w`: the owner of a proxy contract or wallet takes the money.
    Withdraw,
    /// `b`: the owner of a wallet blocks it.
    Block,
    /// `u`: the owner of a wallet unblocks it.
    Unblock,
}

impl TextCommand {
    /// The letter.
    #[must_use]
    pub fn letter(self) -> u8 {
        match self {
            Self::Close => b'c',
            Self::Withdraw => b'w',
            Self::Block => b'b',
            Self::Unblock => b'u',
        }
    }
}

/// A proxy's state commit: no effect on chain, a record for everybody to see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SaveState {
    /// Query id.
    pub query_id: u64,
    /// Number of the state, grows with every commit.
    pub seqno: i32,
    /// Random 32 bytes of the proxy's session.
    pub session_hash: Hash,
}

/// Part of a refund or payout that a proxy contract could not pay; an addition of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shortfall {
    /// Query id of the request that fell short.
    pub query_id: u64,
    /// What is still owed.
    pub amount: Nanoton,
}

/// A wallet's owner sends a message through the wallet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WalletSend {
    /// Query id.
    pub query_id: u64,
    /// Send mode.
    pub mode: u8,
    /// The message.
    pub message: Cell,
}

/// What came back because the receiver refused it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounced {
    /// Operation of the message that came back, when the chain kept it.
    pub op: Option<u32>,
    /// Its query id, when the chain kept it.
    pub query_id: Option<u64>,
}

/// Any message body that the contracts and wallets of the network send or receive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// Nothing: a deployment or gas money.
    Empty,
    /// A text command.
    Text(TextCommand),
    /// Unused value returns.
    Excesses {
        /// Query id.
        query_id: u64,
    },
    /// Money goes to an owner.
    Payout {
        /// Query id.
        query_id: u64,
    },
    /// A state commit.
    SaveState(SaveState),
    /// To be ignored, and not a state commit.
    DoNotProcess,
    /// To a client contract.
    Client(ClientRequest),
    /// From a client contract to the proxy contract.
    ClientNotice(ClientNotice),
    /// To a worker contract, from its owner.
    WorkerRegister(WorkerRegister),
    /// From a worker contract to the proxy contract.
    WorkerNotice(WorkerNotice),
    /// To a proxy contract.
    Proxy(ProxyRequest),
    /// A payment signed by the proxy's key, to a client or worker contract.
    Payment(SignedPayment),
    /// An order to close, signed by the proxy's key, to the proxy contract.
    Close(SignedClose),
    /// From a proxy contract to a client contract: part of a refund is still owed.
    RefundShort(Shortfall),
    /// From a proxy contract to a worker contract: part of a payout is still owed.
    PayoutShort(Shortfall),
    /// To the root contract.
    Root(RootRequest),
    /// To the timelock that owns a root.
    Timelock(TimelockRequest),
    /// To a wallet, from its owner.
    WalletSend(WalletSend),
    /// A message that was refused by its receiver.
    Bounced(Bounced),
}

impl Body {
    /// Reads a body of any contract of the network.
    ///
    /// # Errors
    /// [`Fault::UnknownOp`] or another [`Fault`]: the message means nothing to this network, skip
    /// it. A body that a contract accepts is always read.
    pub fn parse(cell: &Cell) -> Result<Self, Fault> {
        let mut reader = Reader::new("message body", cell)?;
        if reader.is_empty() {
            return Ok(Self::Empty);
        }
        let op = reader.u32()?;
        match op {
            op::shared::TEXT => return parse_text(reader).map(Self::Text),
            op::shared::BOUNCED | op::shared::BOUNCED_WHOLE => {
                return Ok(Self::Bounced(parse_bounced(op, reader)));
            }
            op::shared::DO_NOT_PROCESS => {
                return Ok(parse_save_state(reader).map_or(Self::DoNotProcess, Self::SaveState));
            }
            _ => {}
        }
        if PaymentKind::from_op(op).is_some() {
            return SignedPayment::parse(cell).map(Self::Payment);
        }
        if CloseKind::from_op(op).is_some() {
            return SignedClose::parse(cell).map(Self::Close);
        }
        let query_id = reader.u64()?;
        parse_known(op, query_id, reader)
    }

    /// Builds the body.
    ///
    /// # Errors
    /// [`Fault::Build`] when a text or a cell inside does not fit.
    pub fn cell(&self) -> Result<Cell, Fault> {
        match self {
            Self::Empty => Writer::new("empty body").build(),
            Self::Text(text) => {
                Writer::new("text command").u32(op::shared::TEXT).u8(text.letter()).build()
            }
            Self::Excesses { query_id } => {
                Writer::body("excesses", op::shared::EXCESSES, *query_id).build()
            }
            Self::Payout { query_id } => {
                Writer::body("payout", op::shared::PAYOUT, *query_id).build()
            }
            Self::SaveState(save) => save.cell(),
            Self::DoNotProcess => {
                Writer::new("do_not_process").u32(op::shared::DO_NOT_PROCESS).build()
            }
            Self::Client(request) => request.cell(),
            Self::ClientNotice(notice) => notice.cell(),
            Self::WorkerRegister(request) => request.cell(),
            Self::WorkerNotice(notice) => notice.cell(),
            Self::Proxy(request) => request.cell(),
            Self::Payment(payment) => payment.cell(),
            Self::Close(close) => close.cell(),
            Self::RefundShort(short) => short.cell(op::client::REFUND_SHORT),
            Self::PayoutShort(short) => short.cell(op::worker::PAYOUT_SHORT),
            Self::Root(request) => request.cell(),
            Self::Timelock(request) => request.cell(),
            Self::WalletSend(send) => {
                Writer::body("wallet order", op::wallet::SEND_MESSAGE, send.query_id)
                    .u8(send.mode)
                    .reference(send.message.clone())
                    .build()
            }
            Self::Bounced(bounced) => {
                let writer = Writer::new("bounced body").u32(op::shared::BOUNCED);
                let writer = bounced.op.into_iter().fold(writer, Writer::u32);
                bounced.query_id.into_iter().fold(writer, Writer::u64).build()
            }
        }
    }
}

/// Operation and query id of a body, when it has both: how a node finds its own requests again.
#[must_use]
pub fn peek(cell: &Cell) -> Option<(u32, u64)> {
    let mut reader = Reader::new("message body", cell).ok()?;
    Some((reader.u32().ok()?, reader.u64().ok()?))
}

impl SaveState {
    /// Builds the body.
    ///
    /// # Errors
    /// None in practice; the fields always fit.
    pub fn cell(&self) -> Result<Cell, Fault> {
        Writer::body("state commit", op::shared::DO_NOT_PROCESS, self.query_id)
            .u32(op::shared::SAVE_STATE)
            .u32(self.seqno.cast_unsigned())
            .hash(&self.session_hash)
            .build()
    }
}

impl Shortfall {
    fn cell(self, op: u32) -> Result<Cell, Fault> {
        Writer::body("shortfall", op, self.query_id).coins(self.amount).build()
    }
}

fn parse_text(mut reader: Reader<'_>) -> Result<TextCommand, Fault> {
    let letter = reader.u8()?;
    reader.end()?;
    [TextCommand::Close, TextCommand::Withdraw, TextCommand::Block, TextCommand::Unblock]
        .into_iter()
        .find(|command| command.letter() == letter)
        .ok_or(Fault::UnknownText)
}

fn parse_save_state(mut reader: Reader<'_>) -> Result<SaveState, Fault> {
    let query_id = reader.u64()?;
    let found = reader.u32()?;
    if found != op::shared::SAVE_STATE {
        return Err(Fault::UnexpectedOp { expected: op::shared::SAVE_STATE, found });
    }
    let save =
        SaveState { query_id, seqno: reader.u32()?.cast_signed(), session_hash: reader.hash()? };
    reader.end()?;
    Ok(save)
}

fn parse_bounced(op: u32, mut reader: Reader<'_>) -> Bounced {
    let read =
        |reader: &mut Reader<'_>| Bounced { op: reader.u32().ok(), query_id: reader.u64().ok() };
    if op == op::shared::BOUNCED {
        return read(&mut reader);
    }
    // The whole body stands in the first reference.
    match reader.reference() {
        Ok(body) => Reader::new("bounced body", &body)
            .map_or(Bounced { op: None, query_id: None }, |mut inner| read(&mut inner)),
        Err(_) => Bounced { op: None, query_id: None },
    }
}

fn parse_shortfall(query_id: u64, mut reader: Reader<'_>) -> Result<Shortfall, Fault> {
    let amount = reader.coins()?;
    reader.end()?;
    Ok(Shortfall { query_id, amount })
}

/// Reads what follows operation and query id.
fn parse_known(op: u32, query_id: u64, mut reader: Reader<'_>) -> Result<Body, Fault> {
    Ok(match op {
        op::shared::EXCESSES => {
            reader.end()?;
            Body::Excesses { query_id }
        }
        op::shared::PAYOUT => {
            reader.end()?;
            Body::Payout { query_id }
        }
        op::wallet::SEND_MESSAGE => {
            let send = WalletSend { query_id, mode: reader.u8()?, message: reader.reference()? };
            reader.end()?;
            Body::WalletSend(send)
        }
        op::client::REFUND_SHORT => Body::RefundShort(parse_shortfall(query_id, reader)?),
        op::worker::PAYOUT_SHORT => Body::PayoutShort(parse_shortfall(query_id, reader)?),
        op::proxy::CLIENT_REQUEST => Body::ClientNotice(ClientNotice::read(query_id, reader)?),
        op::proxy::WORKER_REQUEST => Body::WorkerNotice(WorkerNotice::read(query_id, reader)?),
        op::worker::OWNER_REGISTER => Body::WorkerRegister(WorkerRegister::read(query_id, reader)?),
        op::proxy::INCREASE_STAKE | op::proxy::PAYOUT_REQUEST | op::proxy::OWNER_CLOSE => {
            Body::Proxy(ProxyRequest::read(op, query_id, reader)?)
        }
        _ if ClientAction::knows(op) => Body::Client(ClientRequest::read(op, query_id, reader)?),
        _ if RootAction::knows(op) => Body::Root(RootRequest::read(op, query_id, reader)?),
        _ if TimelockRequest::knows(op) => {
            Body::Timelock(TimelockRequest::read(op, query_id, reader)?)
        }
        _ => return Err(Fault::UnknownOp { op }),
    })
}
