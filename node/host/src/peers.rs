//! How a node meets its peers: transport, own key and certificate.

use cocoon_link::{Entry, Route};
use cocoon_ratls::{
    Acceptor, AnyPeer, CertificateRequest, Connector, Credentials, CredentialsHolder, NodeKey,
    Security,
};
use cocoon_units::Secret;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::ConfigFault;
use crate::{Stop, clock};

/// How far a certificate's start is set back: peers of the reference compare it with their own
/// clock to the second.
const BACKDATE_S: u32 = 3_600;
/// How often the certificate is made anew; it lasts a day.
const RENEW_EVERY: Duration = Duration::from_secs(6 * 3_600);

/// How a node comes to its proxies, or its peers to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// Proof of work and attested TLS by the node itself.
    #[default]
    Direct,
    /// Through the SOCKS5 port of a router on this machine, which does work and TLS and tells the
    /// peer's evidence.
    Router(SocketAddr),
    /// Plain TCP, for tests on loopback.
    Plain,
}

impl Transport {
    /// Reads `connect_to_proxy_via` of the reference's configuration: a router, or nothing.
    ///
    /// # Errors
    /// [`ConfigFault::Member`] when it is no `ip:port`.
    pub fn from_reference(via: &str) -> Result<Self, ConfigFault> {
        if via.is_empty() {
            return Ok(Self::Direct);
        }
        via.parse().map(Self::Router).map_err(|_| ConfigFault::Member {
            member: "connect_to_proxy_via",
            reason: format!("{via:?} is not ip:port"),
        })
    }
}

/// A node's own key with a certificate that is renewed while the node runs.
#[derive(Clone, Debug)]
pub struct Presence {
    security: Security,
}

impl Presence {
    /// Makes the certificate and keeps it fresh until `stop`.
    ///
    /// # Errors
    /// The text says what is wrong with the key.
    pub fn start(seed: &Secret<[u8; 32]>, stop: &Stop) -> Result<Self, String> {
        let key = NodeKey::from_seed(seed.expose()).map_err(|fault| fault.to_string())?;
        let holder = CredentialsHolder::new(certificate(&key)?);
        let renewed = holder.clone();
        let stop = stop.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = stop.asked() => return,
                    () = tokio::time::sleep(RENEW_EVERY) => {}
                }
                match certificate(&key) {
                    Ok(fresh) => renewed.replace(fresh),
                    Err(fault) => tracing::error!(%fault, "certificate was not renewed"),
                }
            }
        });
        Ok(Self { security: Security::new(holder, Arc::new(AnyPeer)) })
    }

    /// The way to proxies. `work_bits_max` bounds the proof of work done for one.
    #[must_use]
    pub fn route(&self, transport: &Transport, work_bits_max: u8) -> Route {
        match transport {
            Transport::Direct => {
                let mut connector = Connector::new(self.security.clone());
                connector.work_bits_max = work_bits_max;
                Route::Direct(Box::new(connector))
            }
            Transport::Router(socks) => Route::Router { socks: *socks },
            Transport::Plain => Route::Plain,
        }
    }

    /// What stands before a listening port. `work_bits` is demanded of every peer.
    #[must_use]
    pub fn entry(&self, transport: &Transport, work_bits: u8) -> Entry {
        match transport {
            Transport::Direct => {
                let mut acceptor = Acceptor::new(self.security.clone());
                acceptor.work_bits = work_bits;
                Entry::Direct(Box::new(acceptor))
            }
            Transport::Router(_) => Entry::Router,
            Transport::Plain => Entry::Plain,
        }
    }
}

fn certificate(key: &NodeKey) -> Result<Credentials, String> {
    let request = CertificateRequest::new(clock::now_ms() / 1000, BACKDATE_S);
    Credentials::make(key.clone(), &request).map_err(|fault| fault.to_string())
}
