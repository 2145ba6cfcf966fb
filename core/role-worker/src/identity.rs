//! Who this worker is and which network it serves.

use cocoon_contract::address::Network;
use cocoon_units::{Address, AddressForm, Coefficient, ImageHash, ModelName, PublicKey};
use cocoon_wire::tl::SecretKey;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::fault::Fault;

/// Oldest protocol version a worker of ours speaks. The older line's proxies end at 2.
pub const VERSION_MIN: i32 = 1;
/// Newest protocol version a worker of ours speaks.
pub const VERSION_MAX: i32 = 4;

/// Private keys of end-to-end encryption by their public halves, each with the Unix second until
/// which it holds.
pub type OwnKeys = BTreeMap<PublicKey, (SecretKey, u64)>;

/// What a worker announces and checks; replaced as a whole when the root contract changes.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Whom earnings are paid to. Not the node's own wallet (protocol notes, wire 3.3).
    pub owner: Address,
    /// The node's wallet: gets what a payout message leaves over.
    pub wallet: Address,
    /// Full model name, `name@commit:hash`.
    pub model: ModelName,
    /// Price factor, 1000 = 1.0.
    pub coefficient: Coefficient,
    /// Most queries at once, over all proxies; at least 1.
    pub max_active_requests: u32,
    /// Number of proxies the worker connects to; at least 1.
    pub proxy_count: u32,
    /// Test mode; peers must agree.
    pub is_test: bool,
    /// TON's test network: only changes how addresses are written.
    pub is_testnet: bool,
    /// The root contract.
    pub root: Address,
    /// Parameters and codes of the network.
    pub network: Network,
    /// Image hashes a proxy may have; `None` checks nothing (test mode only).
    pub proxy_images: Option<BTreeSet<ImageHash>>,
    /// Keys that the worker got by itself, for requests whose proxy sends none.
    pub keys: Arc<OwnKeys>,
}

impl Identity {
    /// An address as this network writes it (protocol notes, chain 2.1).
    #[must_use]
    pub fn text(&self, address: Address) -> String {
        address.to_friendly(AddressForm::NON_BOUNCEABLE.on_testnet(self.is_testnet))
    }

    /// Checks the image that attestation showed for a proxy.
    ///
    /// # Errors
    /// [`Fault::ProxyImage`]: close the connection.
    pub fn check_proxy_image(&self, image: Option<ImageHash>) -> Result<(), Fault> {
        let Some(allowed) = &self.proxy_images else { return Ok(()) };
        match image {
            Some(image) if allowed.contains(&image) => Ok(()),
            Some(image) => Err(Fault::ProxyImage(image.to_base64())),
            None => Err(Fault::ProxyImage("(none shown)".into())),
        }
    }
}
