//! First contact: from what a proxy says of itself to a pinned channel.

use cocoon_contract::address::{self, Network, ProxyIdentity};
use cocoon_contract::state::ClientConst;
use cocoon_units::{Address, Tokens};
use cocoon_wire::proxy::Params;
use cocoon_wire::tl::{self, Boxed, Constructor};

use crate::channels::{ChannelRecord, Channels};
use crate::fault::ChannelFault;

/// What a session wants sent on its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A query; its answer or failure comes back to the session.
    Query {
        /// Its id.
        id: i64,
        /// The boxed function.
        data: Vec<u8>,
        /// How long to wait.
        timeout_ms: u64,
    },
    /// A one-way message.
    Message(Vec<u8>),
    /// The answer to a query of the proxy.
    Answer {
        /// The proxy's id.
        id: i64,
        /// The boxed result.
        data: Vec<u8>,
    },
    /// A query of the proxy fails.
    AnswerError {
        /// The proxy's id.
        id: i64,
        /// Code of protocol notes, wire 1.7.
        code: i32,
        /// Text.
        message: String,
    },
}

/// Which contract a node has at a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// A client contract, owned by this wallet contract.
    Client(Address),
    /// A worker contract, owned by this address.
    Worker(Address),
}

/// A proxy that is what it says.
#[derive(Clone, Debug)]
pub struct Met {
    /// Who it is.
    pub proxy: ProxyIdentity,
    /// Its contract.
    pub contract: Address,
    /// Our contract there.
    pub own_contract: Address,
    /// To journal, at first contact.
    pub record: Option<ChannelRecord>,
}

/// Checks what a proxy says of itself and of our contract there by deriving both, and pins it.
///
/// # Errors
/// [`ChannelFault`]: close the connection.
pub fn meet(
    channels: &mut Channels,
    side: Side,
    (root, network): (Address, &Network),
    stated: &Params<'_>,
    stated_own: &str,
) -> Result<Met, ChannelFault> {
    let derive = |fault: cocoon_contract::Fault| ChannelFault::Derive(fault.to_string());
    let proxy = ProxyIdentity {
        owner: Address::parse(&stated.proxy_owner_address.sanitized())?,
        public_key: stated.proxy_public_key,
        root,
    };
    let contract = address::proxy(&proxy, network).map_err(derive)?;
    same("proxy contract", &stated.proxy_sc_address.sanitized(), contract)?;
    let own_contract = match side {
        Side::Client(owner) => {
            let constants = ClientConst { owner, proxy: contract, public_key: proxy.public_key };
            address::client(&constants, network)
        }
        Side::Worker(owner) => address::worker(owner, contract, proxy.public_key, network),
    }
    .map_err(derive)?;
    same("our contract", stated_own, own_contract)?;
    let record = channels.pin(contract, proxy.public_key, own_contract)?;
    Ok(Met { proxy, contract, own_contract, record })
}

/// Reads the boxed object that a proxy must send here.
///
/// # Errors
/// [`ChannelFault::Malformed`]: close the connection.
pub fn read<'tl, T: Boxed<'tl> + Constructor>(data: &'tl [u8]) -> Result<T, ChannelFault> {
    tl::decode(data).map_err(|fault| ChannelFault::Malformed { what: T::NAME, fault })
}

/// A token counter, which is never negative.
///
/// # Errors
/// [`ChannelFault::Identity`]: close the connection.
pub fn tokens(value: i64) -> Result<Tokens, ChannelFault> {
    Tokens::from_wire(value).ok_or_else(|| ChannelFault::Identity {
        what: "token counter",
        stated: value.to_string(),
        expected: "a number that is not negative".into(),
    })
}

fn same(what: &'static str, stated: &str, expected: Address) -> Result<(), ChannelFault> {
    if Address::parse(stated)? == expected {
        return Ok(());
    }
    Err(ChannelFault::Identity { what, stated: stated.to_owned(), expected: expected.to_raw() })
}
