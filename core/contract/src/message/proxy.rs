//! Requests to a proxy contract, and what client and worker contracts tell it.

use cocoon_units::{Address, Nanoton, Tokens};

use crate::cell::{Cell, Hash, Reader, Writer};
use crate::state::Phase;
use crate::{Fault, op};

/// What is asked of a proxy contract without a signature (protocol notes 1.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProxyAction {
    /// Anyone adds coins to the stake.
    IncreaseStake {
        /// What is added; the message carries it and the gas money.
        amount: Nanoton,
    },
    /// Anyone asks to send what the proxy has earned to its owner.
    Payout,
    /// The owner starts to close.
    Close,
}

/// A request to a proxy contract.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProxyRequest {
    /// Query id, random.
    pub query_id: u64,
    /// What is asked.
    pub action: ProxyAction,
    /// Who gets unused value.
    pub excess: Address,
}

impl ProxyRequest {
    /// Builds the body.
    ///
    /// # Errors
    /// None in practice; the fields always fit.
    pub fn cell(&self) -> Result<Cell, Fault> {
        let writer = |op| Writer::body("proxy request", op, self.query_id);
        let writer = match self.action {
            ProxyAction::IncreaseStake { amount } => {
                writer(op::proxy::INCREASE_STAKE).coins(amount)
            }
            ProxyAction::Payout => writer(op::proxy::PAYOUT_REQUEST),
            ProxyAction::Close => writer(op::proxy::OWNER_CLOSE),
        };
        writer.address(&self.excess).build()
    }

    pub(super) fn read(op: u32, query_id: u64, mut reader: Reader<'_>) -> Result<Self, Fault> {
        let action = match op {
            op::proxy::INCREASE_STAKE => ProxyAction::IncreaseStake { amount: reader.coins()? },
            op::proxy::PAYOUT_REQUEST => ProxyAction::Payout,
            op::proxy::OWNER_CLOSE => ProxyAction::Close,
            op => return Err(Fault::UnknownOp { op }),
        };
        let request = Self { query_id, action, excess: reader.address()? };
        reader.end()?;
        Ok(request)
    }
}

/// A client contract's values after the operation it reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientSnapshot {
    /// Where it is in its life.
    pub phase: Phase,
    /// What the client has left.
    pub balance: Nanoton,
    /// The stake.
    pub stake: Nanoton,
    /// Tokens charged.
    pub tokens_used: Tokens,
    /// SHA-256 of the secret.
    pub secret_hash: Hash,
}

const WHAT_SNAPSHOT: &str = "client snapshot";
const WHAT_PAYLOAD: &str = "request payload";

impl ClientSnapshot {
    fn cell(&self) -> Result<Cell, Fault> {
        Writer::new(WHAT_SNAPSHOT)
            .uint(u64::from(self.phase.code()), 2)
            .coins(self.balance)
            .coins(self.stake)
            .tokens(self.tokens_used)
            .hash(&self.secret_hash)
            .build()
    }

    fn parse(cell: &Cell) -> Result<Self, Fault> {
        let mut reader = Reader::new(WHAT_SNAPSHOT, cell)?;
        let snapshot = Self {
            phase: Phase::read(WHAT_SNAPSHOT, &mut reader)?,
            balance: reader.coins()?,
            stake: reader.coins()?,
            tokens_used: reader.tokens()?,
            secret_hash: reader.hash()?,
        };
        reader.end()?;
        Ok(snapshot)
    }
}

/// What a client contract asks of the proxy contract besides telling its values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientPayload {
    /// Coins came in with this message.
    TopUp {
        /// How many.
        amount: Nanoton,
        /// Who gets unused value.
        excess: Address,
    },
    /// A nonce for the proxy to see.
    Register {
        /// Chosen by the proxy.
        nonce: u64,
    },
    /// Pay this back to the client's owner.
    RefundGranted {
        /// How much.
        amount: Nanoton,
        /// Who gets unused value.
        excess: Address,
    },
    /// Pay this back, the proxy did not agree.
    RefundForce {
        /// How much.
        amount: Nanoton,
        /// Who gets unused value.
        excess: Address,
    },
}

impl ClientPayload {
    fn cell(&self) -> Result<Cell, Fault> {
        let money = |op: u32, amount: Nanoton, excess: Address| {
            Writer::new(WHAT_PAYLOAD).u32(op).coins(amount).address(&excess).build()
        };
        match *self {
            Self::TopUp { amount, excess } => money(op::proxy::TOP_UP, amount, excess),
            Self::Register { nonce } => {
                Writer::new(WHAT_PAYLOAD).u32(op::proxy::REGISTER).u64(nonce).build()
            }
            Self::RefundGranted { amount, excess } => {
                money(op::proxy::REFUND_GRANTED, amount, excess)
            }
            Self::RefundForce { amount, excess } => money(op::proxy::REFUND_FORCE, amount, excess),
        }
    }

    fn parse(cell: &Cell) -> Result<Self, Fault> {
        let mut reader = Reader::new(WHAT_PAYLOAD, cell)?;
        let payload = match reader.u32()? {
            op::proxy::REGISTER => Self::Register { nonce: reader.u64()? },
            op @ (op::proxy::TOP_UP | op::proxy::REFUND_GRANTED | op::proxy::REFUND_FORCE) => {
                let (amount, excess) = (reader.coins()?, reader.address()?);
                match op {
                    op::proxy::TOP_UP => Self::TopUp { amount, excess },
                    op::proxy::REFUND_GRANTED => Self::RefundGranted { amount, excess },
                    _ => Self::RefundForce { amount, excess },
                }
            }
            op => return Err(Fault::UnknownOp { op }),
        };
        reader.end()?;
        Ok(payload)
    }
}

/// From a client contract: its values, and what it asks for.
///
/// A message of one nanoton does not run on chain, so read it whatever the transaction's success
/// flags say, and verify the sender by derivation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientNotice {
    /// Query id of the request that led to it.
    pub query_id: u64,
    /// The client's wallet, from which the sender's address is derived.
    pub owner: Address,
    /// Values after the operation.
    pub snapshot: ClientSnapshot,
    /// What is asked, if anything.
    pub payload: Option<ClientPayload>,
}

impl ClientNotice {
    /// Builds the body.
    ///
    /// # Errors
    /// None in practice; the fields always fit.
    pub fn cell(&self) -> Result<Cell, Fault> {
        let payload = self.payload.as_ref().map(ClientPayload::cell).transpose()?;
        Writer::body("client notice", op::proxy::CLIENT_REQUEST, self.query_id)
            .address(&self.owner)
            .reference(self.snapshot.cell()?)
            .maybe_reference(payload)
            .build()
    }

    pub(super) fn read(query_id: u64, mut reader: Reader<'_>) -> Result<Self, Fault> {
        let owner = reader.address()?;
        let snapshot = ClientSnapshot::parse(&reader.reference()?)?;
        let payload = reader.maybe_reference()?.as_ref().map(ClientPayload::parse).transpose()?;
        reader.end()?;
        Ok(Self { query_id, owner, snapshot, payload })
    }
}

/// What a worker contract asks the proxy contract to pay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WorkerPayout {
    /// To the worker's owner.
    pub worker_part: Nanoton,
    /// To the proxy's earnings.
    pub proxy_part: Nanoton,
    /// Who gets unused value.
    pub excess: Address,
}

/// From a worker contract: its values, and what it asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WorkerNotice {
    /// Query id of the request that led to it.
    pub query_id: u64,
    /// The worker's owner, from which the sender's address is derived.
    pub owner: Address,
    /// Where the contract is in its life.
    pub phase: Phase,
    /// Tokens paid out, this payout included.
    pub tokens: Tokens,
    /// What is asked, if anything.
    pub payout: Option<WorkerPayout>,
}

impl WorkerNotice {
    /// Builds the body.
    ///
    /// # Errors
    /// None in practice; the fields always fit.
    pub fn cell(&self) -> Result<Cell, Fault> {
        let payload = self.payout.map(|payout| {
            Writer::new(WHAT_PAYLOAD)
                .u32(op::proxy::WORKER_PAYOUT)
                .coins(payout.worker_part)
                .coins(payout.proxy_part)
                .address(&payout.excess)
                .build()
        });
        Writer::body("worker notice", op::proxy::WORKER_REQUEST, self.query_id)
            .address(&self.owner)
            .uint(u64::from(self.phase.code()), 2)
            .tokens(self.tokens)
            .maybe_reference(payload.transpose()?)
            .build()
    }

    pub(super) fn read(query_id: u64, mut reader: Reader<'_>) -> Result<Self, Fault> {
        let owner = reader.address()?;
        let phase = Phase::read("worker notice", &mut reader)?;
        let tokens = reader.tokens()?;
        let payload = reader.maybe_reference()?;
        reader.end()?;
        let payout = payload.as_ref().map(parse_payout).transpose()?;
        Ok(Self { query_id, owner, phase, tokens, payout })
    }
}

fn parse_payout(cell: &Cell) -> Result<WorkerPayout, Fault> {
    let mut reader = Reader::new(WHAT_PAYLOAD, cell)?;
    let found = reader.u32()?;
    if found != op::proxy::WORKER_PAYOUT {
        return Err(Fault::UnexpectedOp { expected: op::proxy::WORKER_PAYOUT, found });
    }
    let payout = WorkerPayout {
        worker_part: reader.coins()?,
        proxy_part: reader.coins()?,
        excess: reader.address()?,
    };
    reader.end()?;
    Ok(payout)
}
