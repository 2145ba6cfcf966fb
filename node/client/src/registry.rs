//! What the registry says, in the words of those who act on it.

use cocoon_contract::root::RootState;
use cocoon_host::clock;
use cocoon_host::peers::Presence;
use cocoon_link::{Dialer, KeptLink, Tag};
use cocoon_role_client::Identity;
use cocoon_units::ImageHash;
use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::config::{Checked, ClientConfig};

pub(crate) fn dial(dialer: &Dialer, root: &RootState, connections: usize) -> Vec<KeptLink> {
    let mut endpoints: Vec<(u32, SocketAddr)> = root
        .endpoints()
        .map(|(seqno, endpoint)| (seqno, SocketAddr::V4(endpoint.clients)))
        .collect();
    // A random start spreads clients over proxies.
    let start = usize::from_le_bytes(clock::random()).checked_rem(endpoints.len());
    endpoints.rotate_left(start.unwrap_or(0));
    endpoints
        .into_iter()
        .take(connections)
        .map(|(seqno, target)| dialer.keep(target, Tag(seqno.into())))
        .collect()
}

pub(crate) fn images(root: &RootState) -> BTreeSet<ImageHash> {
    root.proxy_hashes.iter().map(|hash| ImageHash(hash.0)).collect()
}

/// Lets in proxies of these images alone, where images are looked at.
pub(crate) fn admit(presence: &Presence, root: &RootState) {
    let images: Vec<[u8; 32]> = root.proxy_hashes.iter().map(|hash| hash.0).collect();
    if let Err(fault) = presence.admit_images(&images) {
        tracing::error!(%fault, "the registry's images are refused; those before stay in use");
    }
}

pub(crate) fn identity(config: &ClientConfig, checked: Checked, root: RootState) -> Identity {
    let check = config.check_proxy_images || !config.is_test;
    Identity {
        wallet: checked.wallet,
        secret: checked.secret,
        is_test: config.is_test,
        is_testnet: config.is_testnet,
        root: checked.root,
        root_version: i32::try_from(root.version).unwrap_or(i32::MAX),
        proxy_images: check.then(|| images(&root)),
        network: root.network,
    }
}
