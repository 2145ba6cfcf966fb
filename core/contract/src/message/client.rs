//! Requests to a client contract.

use cocoon_units::{Address, Nanoton};

use crate::cell::{Cell, Hash, Reader, Writer};
use crate::{Fault, op};

/// What is asked of a client contract (protocol notes 1.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientAction {
    /// Anyone tops up.
    TopUp {
        /// What is added to the balance; the message carries it and the gas money.
        amount: Nanoton,
    },
    /// The owner tops up and changes the secret's hash.
    ChangeSecretHashAndTopUp {
        /// What is added to the balance.
        amount: Nanoton,
        /// SHA-256 of the new secret.
        secret_hash: Hash,
    },
    /// The owner shows a nonce to the proxy.
    Register {
        /// Chosen by the proxy.
        nonce: u64,
    },
    /// The owner changes the secret's hash.
    ChangeSecretHash {
        /// SHA-256 of the new secret.
        secret_hash: Hash,
    },
    /// The owner raises the stake.
    IncreaseStake {
        /// The new stake, not the difference.
        new_stake: Nanoton,
    },
    /// The owner takes what exceeds the stake.
    Withdraw,
    /// The owner asks for everything: first starts the delay, then forces the refund.
    RequestRefund,
}

impl ClientAction {
    const ALL: [u32; 7] = [
        op::client::TOP_UP,
        op::client::CHANGE_SECRET_HASH_AND_TOP_UP,
        op::client::REGISTER,
        op::client::CHANGE_SECRET_HASH,
        op::client::INCREASE_STAKE,
        op::client::WITHDRAW,
        op::client::REQUEST_REFUND,
    ];

    pub(super) fn knows(op: u32) -> bool {
        Self::ALL.contains(&op)
    }

    /// The operation code.
    #[must_use]
    pub fn op(&self) -> u32 {
        match self {
            Self::TopUp { .. } => op::client::TOP_UP,
            Self::ChangeSecretHashAndTopUp { .. } => op::client::CHANGE_SECRET_HASH_AND_TOP_UP,
            Self::Register { .. } => op::client::REGISTER,
            Self::ChangeSecretHash { .. } => op::client::CHANGE_SECRET_HASH,
            Self::IncreaseStake { .. } => op::client::INCREASE_STAKE,
            Self::Withdraw => op::client::WITHDRAW,
            Self::RequestRefund => op::client::REQUEST_REFUND,
        }
    }
}

/// A request to a client contract that needs no signature of the proxy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientRequest {
    /// Query id, random.
    pub query_id: u64,
    /// What is asked.
    pub action: ClientAction,
    /// Who gets unused value.
    pub excess: Address,
}

impl ClientRequest {
    /// Builds the body.
    ///
    /// # Errors
    /// None in practice; the fields always fit.
    pub fn cell(&self) -> Result<Cell, Fault> {
        let writer = Writer::body("client request", self.action.op(), self.query_id);
        let writer = match self.action {
            ClientAction::TopUp { amount } => writer.coins(amount),
            ClientAction::ChangeSecretHashAndTopUp { amount, secret_hash } => {
                writer.coins(amount).hash(&secret_hash)
            }
            ClientAction::Register { nonce } => writer.u64(nonce),
            ClientAction::ChangeSecretHash { secret_hash } => writer.hash(&secret_hash),
            ClientAction::IncreaseStake { new_stake } => writer.coins(new_stake),
            ClientAction::Withdraw | ClientAction::RequestRefund => writer,
        };
        writer.address(&self.excess).build()
    }

    pub(super) fn read(op: u32, query_id: u64, mut reader: Reader<'_>) -> Result<Self, Fault> {
        let action = match op {
            op::client::TOP_UP => ClientAction::TopUp { amount: reader.coins()? },
            op::client::CHANGE_SECRET_HASH_AND_TOP_UP => ClientAction::ChangeSecretHashAndTopUp {
                amount: reader.coins()?,
                secret_hash: reader.hash()?,
            },
            op::client::REGISTER => ClientAction::Register { nonce: reader.u64()? },
            op::client::CHANGE_SECRET_HASH => {
                ClientAction::ChangeSecretHash { secret_hash: reader.hash()? }
            }
            op::client::INCREASE_STAKE => {
                ClientAction::IncreaseStake { new_stake: reader.coins()? }
            }
            op::client::WITHDRAW => ClientAction::Withdraw,
            op::client::REQUEST_REFUND => ClientAction::RequestRefund,
            op => return Err(Fault::UnknownOp { op }),
        };
        let request = Self { query_id, action, excess: reader.address()? };
        reader.end()?;
        Ok(request)
    }
}
