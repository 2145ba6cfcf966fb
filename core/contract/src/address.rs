//! Addresses and initial states (protocol notes 2.1).
//!
//! An address is the hash of the code and of every field of the initial data, so both ends of a
//! channel derive it on their own and compare.

use cocoon_units::{Address, PublicKey};

use crate::Fault;
use crate::cell::{Cell, CellId, Writer};
use crate::code::{Code, Codes};
use crate::params::{Params, Selector};
use crate::state::{ClientConst, ClientState, ProxyState, WalletState, WorkerState};

/// All contracts of the network live in the basic workchain.
pub const WORKCHAIN: i8 = 0;

/// What a contract is deployed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateInit {
    /// Code cell.
    pub code: Cell,
    /// Initial data cell.
    pub data: Cell,
}

impl StateInit {
    /// The cell whose hash is the address: `00110 ^code ^data`.
    ///
    /// # Errors
    /// [`Fault::Build`] when code or data is too deep.
    pub fn cell(&self) -> Result<Cell, Fault> {
        state_init().reference(self.code.clone()).reference(self.data.clone()).build()
    }

    /// The address this state deploys to.
    #[must_use]
    pub fn address(&self) -> Address {
        derive(CellId::of(&self.code), CellId::of(&self.data))
            .unwrap_or(Address { workchain: WORKCHAIN, hash: [0; 32] })
    }
}

fn state_init() -> Writer {
    Writer::new("state init").uint(0b00110, 5)
}

/// The address of a contract with this code and this initial data.
///
/// # Errors
/// None in practice; five bits always fit.
pub fn derive(code: CellId, data: CellId) -> Result<Address, Fault> {
    let id = state_init().identify(&[code, data])?;
    Ok(Address { workchain: WORKCHAIN, hash: id.hash.0 })
}

/// Parameters and codes of one network: what every derivation starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Prices, delays and stakes.
    pub params: Params,
    /// Codes of the working contracts.
    pub codes: Codes,
}

/// Who a proxy contract belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyIdentity {
    /// Whom earnings and stake belong to.
    pub owner: Address,
    /// The proxy's key.
    pub public_key: PublicKey,
    /// The root contract.
    pub root: Address,
}

impl ProxyIdentity {
    fn initial(&self) -> ProxyState {
        ProxyState::initial(self.owner, self.public_key, self.root)
    }
}

/// The address of a proxy contract.
///
/// # Errors
/// [`Fault::NoCode`] when the network has no proxy code.
pub fn proxy(identity: &ProxyIdentity, network: &Network) -> Result<Address, Fault> {
    let params = network.params.id(Selector::Proxy, &network.codes)?;
    derive(network.codes.require_proxy()?.id(), identity.initial().id(params)?)
}

/// What a proxy contract is deployed with.
///
/// # Errors
/// [`Fault::NoCode`] or [`Fault::CodeIsHashOnly`] when a code cell is missing.
pub fn proxy_init(identity: &ProxyIdentity, network: &Network) -> Result<StateInit, Fault> {
    let params = network.params.cell(Selector::Proxy, &network.codes)?;
    let code = network.codes.require_proxy()?.require_cell("proxy")?;
    Ok(StateInit { code, data: identity.initial().cell(params)? })
}

/// The address of the worker contract of `owner` at `proxy`.
///
/// # Errors
/// [`Fault::NoCode`] when the network has no worker code.
pub fn worker(
    owner: Address,
    proxy: Address,
    public_key: PublicKey,
    network: &Network,
) -> Result<Address, Fault> {
    let params = network.params.id(Selector::Leaf, &network.codes)?;
    let data = WorkerState::initial(owner, proxy, public_key).id(params)?;
    derive(network.codes.require_worker()?.id(), data)
}

/// What a worker contract is deployed with.
///
/// # Errors
/// [`Fault::NoCode`] or [`Fault::CodeIsHashOnly`] when the code cell is missing.
pub fn worker_init(
    owner: Address,
    proxy: Address,
    public_key: PublicKey,
    network: &Network,
) -> Result<StateInit, Fault> {
    let params = network.params.cell(Selector::Leaf, &network.codes)?;
    let data = WorkerState::initial(owner, proxy, public_key).cell(params)?;
    Ok(StateInit { code: network.codes.require_worker()?.require_cell("worker")?, data })
}

/// The address of a client contract.
///
/// # Errors
/// [`Fault::NoCode`] when the network has no client code.
pub fn client(constants: &ClientConst, network: &Network) -> Result<Address, Fault> {
    let params = network.params.id(Selector::Leaf, &network.codes)?;
    let state = ClientState::initial(constants.clone(), network.params.min_client_stake);
    derive(network.codes.require_client()?.id(), state.id(params)?)
}

/// What a client contract is deployed with.
///
/// # Errors
/// [`Fault::NoCode`] or [`Fault::CodeIsHashOnly`] when the code cell is missing.
pub fn client_init(constants: &ClientConst, network: &Network) -> Result<StateInit, Fault> {
    let params = network.params.cell(Selector::Leaf, &network.codes)?;
    let state = ClientState::initial(constants.clone(), network.params.min_client_stake);
    let code = network.codes.require_client()?.require_cell("client")?;
    Ok(StateInit { code, data: state.cell(params)? })
}

/// The address of a Cocoon wallet with this code.
///
/// # Errors
/// None in practice; the fields always fit.
pub fn wallet(owner: Address, public_key: PublicKey, code: &Code) -> Result<Address, Fault> {
    derive(code.id(), WalletState::initial(owner, public_key).id()?)
}

/// What a Cocoon wallet is deployed with.
///
/// # Errors
/// [`Fault::CodeIsHashOnly`] when the code cell is missing.
pub fn wallet_init(owner: Address, public_key: PublicKey, code: &Code) -> Result<StateInit, Fault> {
    let data = WalletState::initial(owner, public_key).cell()?;
    Ok(StateInit { code: code.require_cell("wallet")?, data })
}
