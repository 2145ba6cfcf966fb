//! The believed server over TLS: vouched for, or not asked.

// A broken scenario shall panic.
#![allow(clippy::unwrap_used)]

use std::io::Write as _;
use std::sync::Arc;

use cocoon_chain::{Chain, ChainFault, Toncenter};
use cocoon_units::Secret;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

const ANSWER: &str = r#"{"ok":true,"result":{"consensus_block":7,"timestamp":1760000000.25}}"#;

/// A TLS server that gives one answer to everything; what it was asked comes through the channel.
async fn serve() -> (u16, tempfile::NamedTempFile, mpsc::UnboundedReceiver<String>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(made.cert.pem().as_bytes()).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (asked, questions) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client that does not trust this server goes away here.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = Vec::new();
            while !request.ends_with(b"}}") {
                let mut chunk = [0; 1024];
                let read = stream.read(&mut chunk).await.unwrap();
                assert!(read > 0, "the request is cut short");
                request.extend_from_slice(&chunk[..read]);
            }
            asked.send(String::from_utf8(request).unwrap()).unwrap();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", ANSWER.len());
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(ANSWER.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    (port, file, questions)
}

#[tokio::test]
async fn a_vouched_server_is_asked_with_the_key() {
    let (port, authorities, mut questions) = serve().await;
    let endpoint = format!("https://localhost:{port}/api/v2/jsonRPC");
    let chain = Toncenter::with_authorities(&endpoint, authorities.path())
        .unwrap()
        .with_api_key(Secret::new("opensesame".to_owned()));
    let head = chain.head().await.unwrap();
    assert_eq!((head.seqno, head.time.0), (7, 1_760_000_000));
    let question = questions.recv().await.unwrap();
    assert!(question.starts_with("POST /api/v2/jsonRPC HTTP/1.1\r\n"), "{question}");
    assert!(question.contains("x-api-key: opensesame"), "{question}");
    assert!(question.contains(&format!("host: localhost:{port}")), "{question}");
}

#[tokio::test]
async fn a_stranger_is_not_asked() {
    let (port, _, mut questions) = serve().await;
    let (_, other, _) = serve().await;
    let endpoint = format!("https://localhost:{port}/api/v2/jsonRPC");
    let chain = Toncenter::with_authorities(&endpoint, other.path()).unwrap();
    let fault = chain.head().await.unwrap_err();
    assert!(matches!(fault, ChainFault::Unreachable { .. }), "{fault}");
    assert!(questions.try_recv().is_err(), "nothing was said to the stranger");
}

#[test]
fn odd_addresses_are_refused() {
    for endpoint in ["", "localhost", "ftp://localhost/", "https:///x"] {
        assert!(Toncenter::new(endpoint).is_err(), "{endpoint}");
    }
}
