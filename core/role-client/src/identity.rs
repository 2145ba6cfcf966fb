//! Who this client is and which network it uses.

use cocoon_contract::address::Network;
use cocoon_units::{Address, AddressForm, ImageHash, Secret};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;

use crate::fault::Fault;

/// Oldest protocol version a client of ours speaks.
pub const VERSION_MIN: i32 = 1;
/// Newest protocol version a client of ours speaks.
pub const VERSION_MAX: i32 = 4;

/// What a client announces and checks; replaced as a whole when the root contract changes.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The client's wallet contract: owner of its client contracts (protocol notes, chain 2.6).
    pub wallet: Address,
    /// The secret of the short authorisation; empty for none.
    pub secret: Secret<Vec<u8>>,
    /// Test mode; peers must agree.
    pub is_test: bool,
    /// TON's test network: only changes how addresses are written.
    pub is_testnet: bool,
    /// The root contract.
    pub root: Address,
    /// Version of the root contract this client knows.
    pub root_version: i32,
    /// Parameters and codes of the network.
    pub network: Network,
    /// Image hashes a proxy may have; `None` checks nothing (test mode only).
    pub proxy_images: Option<BTreeSet<ImageHash>>,
}

impl Identity {
    /// An address as this network writes it (protocol notes, chain 2.1).
    #[must_use]
    pub fn text(&self, address: Address, form: AddressForm) -> String {
        address.to_friendly(form.on_testnet(self.is_testnet))
    }

    /// SHA-256 of the secret, as it stands in the client contract.
    #[must_use]
    pub fn secret_hash(&self) -> [u8; 32] {
        Sha256::digest(self.secret.expose()).into()
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
