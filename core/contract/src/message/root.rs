//! Changes of the registry.

use cocoon_units::{Address, Nanoton};

use crate::cell::{Cell, Hash, Reader, Writer};
use crate::root::RegisteredProxy;
use crate::{Fault, op};

/// A change of the registry, by its owner (protocol notes 1.3).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RootAction {
    /// Allows an image for workers.
    AddWorkerType(Hash),
    /// Takes it back.
    DelWorkerType(Hash),
    /// Allows a model: SHA-256 of its full name.
    AddModelType(Hash),
    /// Takes it back.
    DelModelType(Hash),
    /// Allows an image for proxies.
    AddProxyType(Hash),
    /// Takes it back.
    DelProxyType(Hash),
    /// Adds a proxy under the next number.
    RegisterProxy(RegisteredProxy),
    /// Removes a proxy.
    UnregisterProxy {
        /// Its number.
        seqno: u32,
    },
    /// Replaces a proxy's entry.
    UpdateProxy {
        /// Its number.
        seqno: u32,
        /// The new entry.
        entry: RegisteredProxy,
    },
    /// New price and worker fee: every contract gets a new address.
    ChangePrice {
        /// Price of one adjusted token.
        price_per_token: Nanoton,
        /// The worker's part.
        worker_fee_per_token: Nanoton,
    },
    /// New price, fee, delays and stakes: every contract gets a new address.
    ChangeParams {
        /// Price of one adjusted token.
        price_per_token: Nanoton,
        /// The worker's part.
        worker_fee_per_token: Nanoton,
        /// Seconds before a proxy's close completes.
        proxy_delay_s: u32,
        /// Seconds before a refund may be forced.
        client_delay_s: u32,
        /// Least stake of a proxy.
        min_proxy_stake: Nanoton,
        /// Stake of a new client contract.
        min_client_stake: Nanoton,
    },
    /// New codes of the working contracts.
    UpgradeContracts {
        /// Proxy code.
        proxy: Cell,
        /// Worker code.
        worker: Cell,
        /// Client code.
        client: Cell,
    },
    /// New code of the root contract itself.
    Upgrade {
        /// The code.
        code: Cell,
    },
    /// New data and code of the root contract.
    UpgradeFull {
        /// The data.
        data: Cell,
        /// The code.
        code: Cell,
    },
    /// Empties all four dictionaries.
    Reset,
    /// Hands the root to another owner.
    ChangeOwner(Address),
}

impl RootAction {
    const ALL: [u32; 16] = [
        op::root::ADD_WORKER_TYPE,
        op::root::DEL_WORKER_TYPE,
        op::root::ADD_MODEL_TYPE,
        op::root::DEL_MODEL_TYPE,
        op::root::ADD_PROXY_TYPE,
        op::root::DEL_PROXY_TYPE,
        op::root::REGISTER_PROXY,
        op::root::UNREGISTER_PROXY,
        op::root::UPDATE_PROXY,
        op::root::CHANGE_PRICE,
        op::root::CHANGE_PARAMS,
        op::root::UPGRADE_CONTRACTS,
        op::root::UPGRADE,
        op::root::RESET,
        op::root::UPGRADE_FULL,
        op::root::CHANGE_OWNER,
    ];

    pub(super) fn knows(op: u32) -> bool {
        Self::ALL.contains(&op)
    }

    /// The operation code.
    #[must_use]
    pub fn op(&self) -> u32 {
        match self {
            Self::AddWorkerType(_) => op::root::ADD_WORKER_TYPE,
            Self::DelWorkerType(_) => op::root::DEL_WORKER_TYPE,
            Self::AddModelType(_) => op::root::ADD_MODEL_TYPE,
            Self::DelModelType(_) => op::root::DEL_MODEL_TYPE,
            Self::AddProxyType(_) => op::root::ADD_PROXY_TYPE,
            Self::DelProxyType(_) => op::root::DEL_PROXY_TYPE,
            Self::RegisterProxy(_) => op::root::REGISTER_PROXY,
            Self::UnregisterProxy { .. } => op::root::UNREGISTER_PROXY,
            Self::UpdateProxy { .. } => op::root::UPDATE_PROXY,
            Self::ChangePrice { .. } => op::root::CHANGE_PRICE,
            Self::ChangeParams { .. } => op::root::CHANGE_PARAMS,
            Self::UpgradeContracts { .. } => op::root::UPGRADE_CONTRACTS,
            Self::Upgrade { .. } => op::root::UPGRADE,
            Self::UpgradeFull { .. } => op::root::UPGRADE_FULL,
            Self::Reset => op::root::RESET,
            Self::ChangeOwner(_) => op::root::CHANGE_OWNER,
        }
    }

    /// Only takes something back: images, models, proxies. A timelock lets it through at once.
    #[must_use]
    pub fn is_revocation(&self) -> bool {
        matches!(
            self,
            Self::DelWorkerType(_)
                | Self::DelModelType(_)
                | Self::DelProxyType(_)
                | Self::UnregisterProxy { .. }
        )
    }
}

/// A request to the root contract.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RootRequest {
    /// Query id, 0 allowed.
    pub query_id: u64,
    /// What is asked.
    pub action: RootAction,
}

impl RootRequest {
    /// Builds the body.
    ///
    /// # Errors
    /// [`Fault::Build`] when the text of a proxy entry is longer than 114 bytes (110 in an
    /// update), which a cell cannot hold.
    pub fn cell(&self) -> Result<Cell, Fault> {
        let writer = Writer::body("root request", self.action.op(), self.query_id);
        match &self.action {
            RootAction::AddWorkerType(hash)
            | RootAction::DelWorkerType(hash)
            | RootAction::AddModelType(hash)
            | RootAction::DelModelType(hash)
            | RootAction::AddProxyType(hash)
            | RootAction::DelProxyType(hash) => writer.hash(hash),
            RootAction::RegisterProxy(entry) => entry.write(writer),
            RootAction::UnregisterProxy { seqno } => writer.u32(*seqno),
            RootAction::UpdateProxy { seqno, entry } => entry.write(writer.u32(*seqno)),
            RootAction::ChangePrice { price_per_token, worker_fee_per_token } => {
                writer.coins(*price_per_token).coins(*worker_fee_per_token)
            }
            RootAction::ChangeParams {
                price_per_token,
                worker_fee_per_token,
                proxy_delay_s,
                client_delay_s,
                min_proxy_stake,
                min_client_stake,
            } => writer
                .coins(*price_per_token)
                .coins(*worker_fee_per_token)
                .u32(*proxy_delay_s)
                .u32(*client_delay_s)
                .coins(*min_proxy_stake)
                .coins(*min_client_stake),
            RootAction::UpgradeContracts { proxy, worker, client } => {
                writer.reference(proxy.clone()).reference(worker.clone()).reference(client.clone())
            }
            RootAction::Upgrade { code } => writer.reference(code.clone()),
            RootAction::UpgradeFull { data, code } => {
                writer.reference(data.clone()).reference(code.clone())
            }
            RootAction::Reset => writer,
            RootAction::ChangeOwner(owner) => writer.address(owner),
        }
        .build()
    }

    pub(super) fn read(op: u32, query_id: u64, mut reader: Reader<'_>) -> Result<Self, Fault> {
        let action = read_action(op, &mut reader)?;
        reader.end()?;
        Ok(Self { query_id, action })
    }
}

fn read_action(op: u32, reader: &mut Reader<'_>) -> Result<RootAction, Fault> {
    Ok(match op {
        op::root::ADD_WORKER_TYPE => RootAction::AddWorkerType(reader.hash()?),
        op::root::DEL_WORKER_TYPE => RootAction::DelWorkerType(reader.hash()?),
        op::root::ADD_MODEL_TYPE => RootAction::AddModelType(reader.hash()?),
        op::root::DEL_MODEL_TYPE => RootAction::DelModelType(reader.hash()?),
        op::root::ADD_PROXY_TYPE => RootAction::AddProxyType(reader.hash()?),
        op::root::DEL_PROXY_TYPE => RootAction::DelProxyType(reader.hash()?),
        op::root::REGISTER_PROXY => RootAction::RegisterProxy(RegisteredProxy::read(reader)?),
        op::root::UNREGISTER_PROXY => RootAction::UnregisterProxy { seqno: reader.u32()? },
        op::root::UPDATE_PROXY => {
            RootAction::UpdateProxy { seqno: reader.u32()?, entry: RegisteredProxy::read(reader)? }
        }
        op::root::CHANGE_PRICE => RootAction::ChangePrice {
            price_per_token: reader.coins()?,
            worker_fee_per_token: reader.coins()?,
        },
        op::root::CHANGE_PARAMS => RootAction::ChangeParams {
            price_per_token: reader.coins()?,
            worker_fee_per_token: reader.coins()?,
            proxy_delay_s: reader.u32()?,
            client_delay_s: reader.u32()?,
            min_proxy_stake: reader.coins()?,
            min_client_stake: reader.coins()?,
        },
        op::root::UPGRADE_CONTRACTS => RootAction::UpgradeContracts {
            proxy: reader.reference()?,
            worker: reader.reference()?,
            client: reader.reference()?,
        },
        op::root::UPGRADE => RootAction::Upgrade { code: reader.reference()? },
        op::root::UPGRADE_FULL => {
            RootAction::UpgradeFull { data: reader.reference()?, code: reader.reference()? }
        }
        op::root::RESET => RootAction::Reset,
        op::root::CHANGE_OWNER => RootAction::ChangeOwner(reader.address()?),
        op => return Err(Fault::UnknownOp { op }),
    })
}
