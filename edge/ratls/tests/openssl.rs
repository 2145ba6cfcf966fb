//! Interoperation with the system's OpenSSL, which the reference links: both directions, and
//! a certificate without a version as OpenSSL 3.0 writes it.
//!
//! OpenSSL's tools do no proof of work, so a small bridge in front of them does.

#![allow(clippy::unwrap_used, reason = "a failure fails the test")]

mod crafted;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use cocoon_ratls::{
    Acceptor, AnyPeer, CertificateRequest, Connector, Credentials, CredentialsHolder, Fault,
    NodeKey, OwnEvidence, PeerCertificate, Security,
};
use cocoon_wire::pow::{Challenge, RESPONSE_BYTES};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

/// Everything here is over in a second; this is for a machine that is very busy.
const PATIENCE: Duration = Duration::from_secs(60);

fn now_unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Our side's security, and our certificate as a file OpenSSL may trust.
fn ours(directory: &Path, evidence: OwnEvidence) -> (Security, PathBuf) {
    let key = NodeKey::from_seed(&[9; 32]).unwrap();
    let request = CertificateRequest { evidence, ..CertificateRequest::new(now_unix_s(), 60) };
    let credentials = Credentials::make(key, &request).unwrap();
    let file = directory.join("ours.pem");
    std::fs::write(&file, credentials.certificate_pem()).unwrap();
    (Security::new(CredentialsHolder::new(credentials), Arc::new(AnyPeer)), file)
}

async fn openssl(directory: &Path, arguments: &[&str]) {
    let output = Command::new("openssl")
        .args(arguments)
        .current_dir(directory)
        .output()
        .await
        .expect("these tests need the `openssl` command: install the package openssl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Lets OpenSSL make `key.pem` and `theirs.pem` with a quote extension, as the reference does.
async fn their_certificate(directory: &Path) {
    openssl(
        directory,
        &[
            "req",
            "-x509",
            "-newkey",
            "ed25519",
            "-nodes",
            "-keyout",
            "key.pem",
            "-out",
            "theirs.pem",
            "-days",
            "1",
            "-subj",
            "/C=AE/O=TDLib Development/CN=localhost",
            "-addext",
            "1.3.6.1.4.1.12345.1=critical,DER:0102030405060708",
            "-addext",
            "keyUsage=critical,digitalSignature",
            "-addext",
            "extendedKeyUsage=critical,serverAuth,clientAuth",
            "-addext",
            "subjectAltName=DNS:localhost,DNS:127.0.0.1",
        ],
    )
    .await;
}

/// Takes the version out of `theirs.pem` and lets OpenSSL sign the rest again: byte for byte
/// what a program linked with OpenSSL 3.0 writes when it never sets the version.
async fn drop_version(directory: &Path) {
    openssl(directory, &["x509", "-in", "theirs.pem", "-outform", "DER", "-out", "v3.der"]).await;
    let certificate = std::fs::read(directory.join("v3.der")).unwrap();
    let body = contents(&certificate).0;
    let (body_contents, after_body) = contents(body);
    let version = [0xa0, 3, 2, 1, 2];
    let body = crafted::der(0x30, &[body_contents.strip_prefix(&version).unwrap()]);
    std::fs::write(directory.join("body.der"), &body).unwrap();
    let sign =
        ["pkeyutl", "-sign", "-inkey", "key.pem", "-rawin", "-in", "body.der", "-out", "sig"];
    openssl(directory, &sign).await;
    let signature = std::fs::read(directory.join("sig")).unwrap();
    let algorithm = &after_body[..7];
    let signature = crafted::der(3, &[&[0], &signature]);
    let v1 = crafted::der(0x30, &[&body, algorithm, &signature]);
    let peer = PeerCertificate::read(&v1).unwrap();
    assert_eq!(peer.evidence.tdx_quote, Some(vec![1, 2, 3, 4, 5, 6, 7, 8]));
    let pem = base64::engine::general_purpose::STANDARD.encode(&v1);
    let mut lines = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in pem.as_bytes().chunks(64) {
        lines.push_str(std::str::from_utf8(line).unwrap());
        lines.push('\n');
    }
    lines.push_str("-----END CERTIFICATE-----\n");
    std::fs::write(directory.join("theirs.pem"), lines).unwrap();
}

/// Contents of an element with a length of two bytes, and what follows it.
fn contents(element: &[u8]) -> (&[u8], &[u8]) {
    assert_eq!(element[1], 0x82, "an element of 256 bytes or more");
    let length = usize::from(element[2]) << 8 | usize::from(element[3]);
    element[4..].split_at(length)
}

/// Waits for a connection on `listener`, sends a challenge of no bits, then joins it with
/// OpenSSL's server.
async fn bridge_to_server(listener: TcpListener, server: u16) {
    let (mut ours, _) = listener.accept().await.unwrap();
    ours.write_all(&Challenge { difficulty: 0, salt: [0; 16] }.encode()).await.unwrap();
    ours.read_exact(&mut [0; RESPONSE_BYTES]).await.unwrap();
    let mut theirs = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
    let _ = tokio::io::copy_bidirectional(&mut ours, &mut theirs).await;
}

/// Waits for OpenSSL's client on `listener`, does its work of no bits at our acceptor, then
/// joins the two.
async fn bridge_from_client(listener: TcpListener, acceptor: u16) {
    let (mut theirs, _) = listener.accept().await.unwrap();
    let mut ours = TcpStream::connect(("127.0.0.1", acceptor)).await.unwrap();
    ours.read_exact(&mut [0; 24]).await.unwrap();
    ours.write_all(&cocoon_wire::pow::Response { nonce: 0 }.encode()).await.unwrap();
    let _ = tokio::io::copy_bidirectional(&mut theirs, &mut ours).await;
}

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Starts `openssl s_server` that demands a client certificate and trusts only `trusted`;
/// returns it with its port.
async fn start_server(directory: &Path, trusted: &Path) -> (Child, u16) {
    let mut child = Command::new("openssl")
        .args(["s_server", "-accept", "127.0.0.1:0", "-cert", "theirs.pem", "-key", "key.pem"])
        .args(["-tls1_3", "-Verify", "1", "-verify_return_error", "-rev", "-CAfile"])
        .arg(trusted)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if let Some(port) = line.strip_prefix("ACCEPT ").and_then(|at| at.rsplit(':').next()) {
            let port = port.trim().parse().unwrap();
            // Keep reading, so that the server never blocks on its output.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return (child, port);
        }
    }
    panic!("s_server said no port");
}

/// Dials OpenSSL's server, which reverses lines, and sees one line come back reversed.
async fn dial_their_server(directory: &TempDir) {
    let (security, our_file) = ours(directory.path(), OwnEvidence::None);
    let (server, server_port) = start_server(directory.path(), &our_file).await;
    let (listener, port) = listen().await;
    let bridge = tokio::spawn(bridge_to_server(listener, server_port));
    let tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut peer = Connector::new(security).connect(tcp).await.unwrap();
    assert!(peer.identity.public_key.is_some());
    peer.stream.write_all(b"drawer\n").await.unwrap();
    peer.stream.flush().await.unwrap();
    let mut line = String::new();
    BufReader::new(&mut peer.stream).read_line(&mut line).await.unwrap();
    assert_eq!(line, "reward\n");
    drop(peer);
    bridge.await.unwrap();
    drop(server);
}

/// Accepts OpenSSL's client, which trusts only our certificate and checks the host name;
/// returns what we found and what it printed.
async fn accept_their_client(
    directory: &TempDir,
    security: Security,
    trusted: Option<&Path>,
    extra: &[&str],
) -> (Result<String, Fault>, String) {
    let (our_listener, our_port) = listen().await;
    let (bridge_listener, bridge_port) = listen().await;
    let bridge = tokio::spawn(bridge_from_client(bridge_listener, our_port));
    let mut command = Command::new("openssl");
    command
        .args(["s_client", "-connect", &format!("127.0.0.1:{bridge_port}"), "-quiet"])
        .args(["-cert", "theirs.pem", "-key", "key.pem"])
        .args(extra)
        .current_dir(directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    if let Some(trusted) = trusted {
        command.args(["-verify_return_error", "-verify_hostname", "127.0.0.1", "-CAfile"]);
        command.arg(trusted);
    }
    let mut client = command.spawn().unwrap();
    let mut stdin = client.stdin.take().unwrap();
    stdin.write_all(b"from openssl\n").await.unwrap();
    let acceptor = Acceptor { work_bits: 0, ..Acceptor::new(security) };
    let accept = async {
        let (tcp, _) = our_listener.accept().await.unwrap();
        let mut peer = acceptor.accept(tcp).await?;
        let mut line = String::new();
        BufReader::new(&mut peer.stream).read_line(&mut line).await.unwrap();
        peer.stream.write_all(b"from ours\n").await.unwrap();
        peer.stream.shutdown().await.unwrap();
        Ok(line)
    };
    let accepted = accept.await;
    let mut printed = String::new();
    client.stdout.take().unwrap().read_to_string(&mut printed).await.unwrap();
    drop((stdin, client));
    bridge.await.unwrap();
    (accepted, printed)
}

async fn in_time(test: impl Future<Output = ()>) {
    tokio::time::timeout(PATIENCE, test).await.expect("OpenSSL did not answer in time");
}

#[tokio::test]
async fn openssl_serves_us() {
    in_time(async {
        let directory = TempDir::new().unwrap();
        their_certificate(directory.path()).await;
        dial_their_server(&directory).await;
    })
    .await;
}

#[tokio::test]
async fn openssl_serves_us_with_a_certificate_without_version() {
    in_time(async {
        let directory = TempDir::new().unwrap();
        their_certificate(directory.path()).await;
        drop_version(directory.path()).await;
        dial_their_server(&directory).await;
    })
    .await;
}

#[tokio::test]
async fn openssl_dials_us_and_trusts_our_certificate() {
    in_time(async {
        let directory = TempDir::new().unwrap();
        their_certificate(directory.path()).await;
        let (security, our_file) = ours(directory.path(), OwnEvidence::None);
        let (line, printed) =
            accept_their_client(&directory, security, Some(&our_file), &["-tls1_3"]).await;
        assert_eq!(line.unwrap(), "from openssl\n");
        assert_eq!(printed, "from ours\n");
    })
    .await;
}

#[tokio::test]
async fn openssl_dials_us_without_version_and_takes_our_evidence() {
    in_time(async {
        let directory = TempDir::new().unwrap();
        their_certificate(directory.path()).await;
        drop_version(directory.path()).await;
        let evidence = OwnEvidence::Tdx { quote: vec![3; 5_000] };
        let (security, _) = ours(directory.path(), evidence);
        let (line, printed) = accept_their_client(&directory, security, None, &["-tls1_3"]).await;
        assert_eq!(line.unwrap(), "from openssl\n");
        assert_eq!(printed, "from ours\n");
    })
    .await;
}

#[tokio::test]
async fn openssl_with_tls_1_2_is_refused() {
    in_time(async {
        let directory = TempDir::new().unwrap();
        their_certificate(directory.path()).await;
        let (security, _) = ours(directory.path(), OwnEvidence::None);
        let (refused, printed) =
            accept_their_client(&directory, security, None, &["-tls1_2"]).await;
        assert!(matches!(refused, Err(Fault::Tls(_))));
        assert_eq!(printed, "");
    })
    .await;
}
