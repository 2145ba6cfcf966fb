//! Certificates from files, read again while the router runs.

use cocoon_ratls::{
    AnyPeer, CertificateRequest, Connector, Credentials, CredentialsHolder, NodeKey, Security,
};
use cocoon_router::{RouterConfig, start};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use crate::site::{Site, connect, within};

fn write(base: &Path, seed: u8) -> [u8; 32] {
    let key = NodeKey::from_seed(&[seed; 32]).unwrap();
    let now_s = cocoon_host::clock::now_ms() / 1000;
    let made = Credentials::make(key.clone(), &CertificateRequest::new(now_s, 60)).unwrap();
    std::fs::write(format!("{}_cert.pem", base.display()), made.certificate_pem()).unwrap();
    std::fs::write(format!("{}_key.pem", base.display()), key.to_pkcs8_pem().as_bytes()).unwrap();
    *key.public_key()
}

/// Pause between two looks: the router limits the connections of one address.
const LOOK: std::time::Duration = std::time::Duration::from_millis(20);

/// The key that the router shows to a peer.
async fn shown(reverse: SocketAddr) -> [u8; 32] {
    let key = NodeKey::from_seed(&[9; 32]).unwrap();
    let now_s = cocoon_host::clock::now_ms() / 1000;
    let own = Credentials::make(key, &CertificateRequest::new(now_s, 60)).unwrap();
    let security = Security::new(CredentialsHolder::new(own), Arc::new(AnyPeer));
    let peer = Connector::new(security).connect(connect(reverse).await).await.unwrap();
    peer.identity.public_key.unwrap()
}

#[tokio::test]
async fn a_new_pair_is_shown_to_new_connections_and_a_broken_one_never() {
    within(async {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("tdx");
        let first = write(&base, 1);
        let site = Site::start(|both| {
            both.0.cert_base_name = base.display().to_string();
            both.0.reload_every_s = 1;
        })
        .await;
        assert_eq!(shown(site.reverse).await, first);
        // A certificate of one key beside the key of another: half written.
        let certificate = format!("{}_cert.pem", base.display());
        let kept = std::fs::read(&certificate).unwrap();
        let second = write(&base, 2);
        std::fs::write(&certificate, kept).unwrap();
        tokio::time::timeout(std::time::Duration::from_millis(1500), async {
            loop {
                assert_eq!(shown(site.reverse).await, first);
                tokio::time::sleep(LOOK).await;
            }
        })
        .await
        .unwrap_err();
        assert_eq!(write(&base, 2), second);
        while shown(site.reverse).await != second {
            tokio::time::sleep(LOOK).await;
        }
        site.stop().await;
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_read_is_said_at_the_start() {
    let missing = RouterConfig {
        cert_base_name: "/nonexistent/tdx".to_owned(),
        ports: vec![cocoon_role_router::PortSpec::socks("0@any", true).unwrap()],
        ..RouterConfig::default()
    };
    let fault = start(&missing, &cocoon_host::Stop::new()).await.unwrap_err().to_string();
    assert!(fault.contains("/nonexistent/tdx_cert.pem"), "{fault}");
    let none = RouterConfig::default();
    let fault = start(&none, &cocoon_host::Stop::new()).await.unwrap_err().to_string();
    assert!(fault.starts_with("ports"), "{fault}");
}
