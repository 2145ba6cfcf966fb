//! Attested TLS: certificates that carry evidence, proof of work before the handshake.
//!
//! ```text
//!   TCP ─▶ work (demand │ perform) ─▶ TLS 1.3, both show Ed25519 certificates ─▶ frames
//!                                        │ certificate: read, judged by the rules
//!                                        ▼
//!                                     PeerPolicy: any │ tee │ fake ─▶ PeerIdentity
//! ```
//!
//! [`Acceptor`] and [`Connector`] take any byte stream through protocol notes 2.1 to a
//! [`Secured`] stream. TLS is 1.3 only, X25519MLKEM768 before X25519, without tickets,
//! resumption or early data: every connection shows its evidence. [`Credentials`] makes our
//! certificate as the reference makes it, [`CredentialsHolder`] swaps it while running.
//!
//! What is checked and what not: the peer holds the key of its certificate
//! (`CertificateVerify`), the certificate obeys [`PeerCertificate::judge`], the policy admits
//! its evidence. The self-signature is not checked, as it proves nothing.
//!
//! ```no_run
//! use std::sync::Arc;
//! use cocoon_ratls::{
//!     AnyPeer, CertificateRequest, Connector, Credentials, CredentialsHolder, Fault, NodeKey,
//!     Security,
//! };
//!
//! # async fn dial(seed: [u8; 32], now_unix_s: u64) -> Result<(), Fault> {
//! let key = NodeKey::from_seed(&seed)?;
//! let request = CertificateRequest::new(now_unix_s, 60);
//! let credentials = CredentialsHolder::new(Credentials::make(key, &request)?);
//! let connector = Connector::new(Security::new(credentials, Arc::new(AnyPeer)));
//! # let tcp = tokio::net::TcpStream::connect("127.0.0.1:11002").await.unwrap();
//! let peer = connector.connect(tcp).await?;
//! println!("{:?}", peer.identity);
//! # Ok(())
//! # }
//! ```

mod certificate;
mod credentials;
mod der;
mod fault;
pub mod fuzz;
mod handshake;
mod key;
mod policy;
mod settings;
mod verifier;
mod work;

pub use certificate::{CERTIFICATE_LIMIT, CertificateRules, PeerCertificate, PeerSide};
pub use credentials::{
    CertificateRequest, Credentials, CredentialsHolder, LIFETIME_S, LIFETIME_S_MAX, OwnEvidence,
    certificate_der,
};
pub use fault::{CertificateFault, Fault, PolicyRefusal, WorkFault};
pub use handshake::{Acceptor, Connector, Secured, export_keying_material, fault_of};
pub use key::{NodeKey, report_data};
pub use policy::{
    AnyPeer, AttestedPeer, CollateralSource, KeepingPeer, PeerIdentity, PeerPolicy, Voucher,
};
pub use settings::{ACCEPT_DEADLINE, Clock, DIAL_DEADLINE, Security, WORK_BITS, WORK_BITS_MAX};
