//! The whole handshake between our own two sides, and with peers that misbehave.

#![allow(clippy::unwrap_used, reason = "a failure fails the test")]

mod crafted;

use std::sync::Arc;
use std::time::Duration;

use cocoon_ratls::{
    Acceptor, AnyPeer, CertificateFault, CertificateRequest, Clock, Connector, Credentials,
    CredentialsHolder, Fault, NodeKey, PeerCertificate, PeerIdentity, PeerPolicy, PolicyRefusal,
    Security, Voucher, WorkFault, export_keying_material,
};
use crafted::{Crafted, NEW_YEAR_UNIX_S};
use rustls::NamedGroup;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

const NOON_UNIX_S: u64 = NEW_YEAR_UNIX_S + 43_200;

fn credentials(seed: u8) -> CredentialsHolder {
    let key = NodeKey::from_seed(&[seed; 32]).unwrap();
    let request = CertificateRequest::new(NOON_UNIX_S, 60);
    CredentialsHolder::new(Credentials::make(key, &request).unwrap())
}

fn security(credentials: CredentialsHolder) -> Security {
    let clock = Clock::new(|| NOON_UNIX_S);
    Security { clock, ..Security::new(credentials, Arc::new(AnyPeer)) }
}

fn pair() -> (Acceptor, Connector) {
    let acceptor = Acceptor { work_bits: 8, ..Acceptor::new(security(credentials(1))) };
    (acceptor, Connector::new(security(credentials(2))))
}

type Ends = (Result<PeerIdentity, Fault>, Result<PeerIdentity, Fault>);

/// Runs both sides; the dialling side sends a byte so that a late refusal shows.
async fn meet(acceptor: &Acceptor, connector: &Connector) -> Ends {
    let (near, far) = duplex(1 << 16);
    let accept = async { acceptor.accept(near).await.map(|peer| peer.identity) };
    let connect = async {
        let mut peer = connector.connect(far).await?;
        let mut byte = [0];
        match peer.stream.read(&mut byte).await {
            Ok(_) => Ok(peer.identity),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(peer.identity),
            Err(error) => Err(cocoon_ratls::fault_of(error, "reading")),
        }
    };
    tokio::join!(accept, connect)
}

#[tokio::test]
async fn both_sides_learn_the_other_key_and_the_same_binding() {
    let (acceptor, connector) = pair();
    let (accepted, connected) = meet(&acceptor, &connector).await;
    let (accepted, connected) = (accepted.unwrap(), connected.unwrap());
    let key = |seed| *NodeKey::from_seed(&[seed; 32]).unwrap().public_key();
    assert_eq!(accepted.public_key, Some(key(2)));
    assert_eq!(connected.public_key, Some(key(1)));
    assert_eq!(accepted.voucher, Voucher::Handshake);
    assert!(accepted.channel_binding.is_some());
    assert_eq!(accepted.channel_binding, connected.channel_binding);
    let (again, _) = meet(&acceptor, &connector).await;
    assert_ne!(again.unwrap().channel_binding, accepted.channel_binding);
}

#[tokio::test]
async fn the_group_is_post_quantum_and_exporters_agree() {
    let (acceptor, connector) = pair();
    let (near, far) = duplex(1 << 16);
    let (accepted, connected) = tokio::join!(acceptor.accept(near), connector.connect(far));
    let (mut accepted, mut connected) = (accepted.unwrap(), connected.unwrap());
    let group = connected.stream.get_ref().1.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, NamedGroup::X25519MLKEM768);
    let (mut ours, mut theirs) = ([0; 32], [0; 32]);
    let label = b"EXPORTER-cocoon-attest-v1";
    export_keying_material(&accepted.stream, label, b"nonce", &mut ours).unwrap();
    export_keying_material(&connected.stream, label, b"nonce", &mut theirs).unwrap();
    assert_eq!(ours, theirs);
    export_keying_material(&connected.stream, label, b"other", &mut theirs).unwrap();
    assert_ne!(ours, theirs);
    accepted.stream.write_all(b"hello").await.unwrap();
    accepted.stream.flush().await.unwrap();
    let mut hello = [0; 5];
    connected.stream.read_exact(&mut hello).await.unwrap();
    assert_eq!(&hello, b"hello");
    let tokio_rustls::TlsStream::Client(stream) = connected.stream else { panic!("a server") };
    let connection = stream.into_inner().1;
    assert_eq!(connection.handshake_kind(), Some(rustls::HandshakeKind::Full));
    assert_eq!(connection.tls13_tickets_received(), 0, "nothing to resume with");
}

#[tokio::test]
async fn work_is_demanded_checked_and_bounded() {
    let (acceptor, connector) = pair();
    let lazy = Connector { work_bits_max: 7, ..connector };
    let (_, connected) = meet(&acceptor, &lazy).await;
    assert!(matches!(connected, Err(Fault::Work(WorkFault::Message(_)))));

    let (near, mut far) = duplex(1 << 16);
    let hard = Acceptor { work_bits: 60, ..acceptor.clone() };
    let cheat = async {
        let mut challenge = [0; 24];
        far.read_exact(&mut challenge).await.unwrap();
        far.write_all(&[0x19, 0x73, 0x82, 0x01, 0, 0, 0, 0, 0, 0, 0, 0]).await.unwrap();
    };
    let (accepted, ()) = tokio::join!(hard.accept(near), cheat);
    assert!(matches!(accepted, Err(Fault::Work(WorkFault::Unsolved { difficulty: 60 }))));

    let (near, mut far) = duplex(1 << 16);
    let (accepted, _) =
        tokio::join!(acceptor.accept(near), far.write_all(b"GET / HTTP/1.1\r\n\r\n"));
    assert!(matches!(accepted, Err(Fault::Work(WorkFault::Message(_)))));
}

/// The accepting side of each vector, answered with the vector's nonce and with another.
#[test]
fn the_work_vectors_hold() {
    use cocoon_wire::pow::{Challenge, Response};
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../../../testdata/vectors/ratls.json")).unwrap();
    let bytes = |value: &serde_json::Value| hex::decode(value.as_str().unwrap()).unwrap();
    for vector in vectors["pow"].as_array().unwrap() {
        let challenge = bytes(&vector["challenge"]).try_into().unwrap();
        let challenge = Challenge::decode(&challenge, 28).unwrap();
        let response = bytes(&vector["response"]).try_into().unwrap();
        let response = Response::decode(&response).unwrap();
        assert!(challenge.accepts(response));
        // The vectors hold the smallest nonces, so the one before does not do the work.
        if let Some(nonce) = response.nonce.checked_sub(1) {
            assert!(!challenge.accepts(Response { nonce }));
        }
    }
}

#[tokio::test]
async fn harder_work_is_shared_by_threads() {
    let (acceptor, connector) = pair();
    let acceptor = Acceptor { work_bits: 14, deadline: Duration::from_secs(60), ..acceptor };
    let connector = Connector { work_threads: 3, ..connector };
    let (accepted, connected) = meet(&acceptor, &connector).await;
    assert!(accepted.is_ok() && connected.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_left_at_the_deadline() {
    let (acceptor, connector) = pair();
    let (near, _held) = duplex(1 << 16);
    let limit = Duration::from_secs(10);
    let fault = acceptor.accept(near).await.err();
    assert!(matches!(fault, Some(Fault::TooSlow { limit: found, .. }) if found == limit));
    let (near, _held) = duplex(1 << 16);
    assert!(matches!(connector.connect(near).await.err(), Some(Fault::TooSlow { .. })));
    // A peer that does the work but then stops in the TLS handshake.
    let (near, mut far) = duplex(1 << 16);
    let easy = Acceptor { work_bits: 0, ..acceptor };
    far.write_all(&[0x19, 0x73, 0x82, 0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0x16]).await.unwrap();
    assert!(matches!(easy.accept(near).await.err(), Some(Fault::TooSlow { .. })));
}

#[tokio::test]
async fn bad_certificates_are_refused_by_both_sides() {
    let (acceptor, connector) = pair();
    for (bad, expected) in [
        (Crafted { issuer: "authority", ..Crafted::new() }, CertificateFault::NotSelfIssued),
        (
            Crafted::new().with(&[0x2a, 3, 4], true, b"?"),
            CertificateFault::UnknownCritical { oid: "1.2.3.4".to_owned() },
        ),
        (
            Crafted { not_after: "20260101100000Z", ..Crafted::new() },
            CertificateFault::Expired { not_after_unix_s: 1_767_261_600, now_unix_s: NOON_UNIX_S },
        ),
    ] {
        let holder = CredentialsHolder::new(bad.credentials());
        let bad_connector = Connector::new(security(holder.clone()));
        let (accepted, connected) = meet(&acceptor, &bad_connector).await;
        assert!(matches!(accepted, Err(Fault::Certificate(fault)) if fault == expected));
        assert!(matches!(connected, Err(Fault::Tls(_))), "the refused side is told");

        let bad_acceptor = Acceptor { work_bits: 0, ..Acceptor::new(security(holder)) };
        let (accepted, connected) = meet(&bad_acceptor, &connector).await;
        assert!(matches!(connected, Err(Fault::Certificate(fault)) if fault == expected));
        assert!(matches!(accepted, Err(Fault::Tls(_))), "the refused side is told");
    }
}

#[tokio::test]
async fn a_version_one_certificate_with_extensions_is_admitted() {
    let (acceptor, connector) = pair();
    let quote = crafted::evidence_oid(1);
    let v1 = Crafted { version: None, ..Crafted::new().with(&quote, true, &[5; 5_000]) };
    let holder = CredentialsHolder::new(v1.credentials());
    let (accepted, connected) = meet(&acceptor, &Connector::new(security(holder.clone()))).await;
    assert!(accepted.is_ok() && connected.is_ok());
    let v1_acceptor = Acceptor { work_bits: 0, ..Acceptor::new(security(holder)) };
    let (accepted, connected) = meet(&v1_acceptor, &connector).await;
    assert!(accepted.is_ok() && connected.is_ok());
}

/// Admits one key only.
#[derive(Debug)]
struct OnlyKey([u8; 32]);

impl PeerPolicy for OnlyKey {
    fn check(&self, peer: &PeerCertificate, _now: u64) -> Result<PeerIdentity, PolicyRefusal> {
        if peer.public_key == self.0 {
            Ok(PeerIdentity::of_key(peer.public_key))
        } else {
            Err(PolicyRefusal::Refused {
                policy: "only".to_owned(),
                reason: "a stranger".to_owned(),
            })
        }
    }
}

#[tokio::test]
async fn the_policy_decides_and_renewed_credentials_count_at_once() {
    let (acceptor, connector) = pair();
    let friend = *NodeKey::from_seed(&[7; 32]).unwrap().public_key();
    let security = Security { policy: Arc::new(OnlyKey(friend)), ..acceptor.security.clone() };
    let picky = Acceptor { security, ..acceptor };
    let (accepted, _) = meet(&picky, &connector).await;
    assert!(matches!(accepted, Err(Fault::Policy(PolicyRefusal::Refused { .. }))));
    assert!(accepted.unwrap_err().is_peers());
    connector.security.credentials.replace(credentials(7).current());
    let (accepted, connected) = meet(&picky, &connector).await;
    assert_eq!(accepted.unwrap().public_key, Some(friend));
    assert!(connected.is_ok());
}

#[tokio::test]
async fn clients_without_certificate_or_with_old_tls_are_refused() {
    let (acceptor, _) = pair();
    let acceptor = Acceptor { work_bits: 0, ..acceptor };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting))
        .with_no_client_auth();
    let (near, mut far) = duplex(1 << 16);
    let nameless = async {
        let mut challenge = [0; 24];
        far.read_exact(&mut challenge).await.unwrap();
        far.write_all(&[0x19, 0x73, 0x82, 0x01, 0, 0, 0, 0, 0, 0, 0, 0]).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
        let mut stream =
            tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, far).await?;
        stream.read(&mut [0]).await
    };
    let (accepted, refused) = tokio::join!(acceptor.accept(near), nameless);
    assert!(matches!(accepted, Err(Fault::Tls(rustls::Error::NoCertificatesPresented))));
    assert!(refused.is_err());
}

#[derive(Debug)]
struct Trusting;

impl rustls::client::danger::ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        vec![rustls::SignatureScheme::ED25519]
    }
}
