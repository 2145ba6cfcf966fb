//! Prints how many attested handshakes a second this machine does, over TCP on loopback.
//!
//! Both ends run here, so a handshake's cost is that of two nodes. The proof of work is left
//! out (0 bits); its own speed is printed besides. Usage: `handshakes [SECONDS]`.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring program")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use cocoon_ratls::{
    Acceptor, AnyPeer, CertificateRequest, Connector, Credentials, CredentialsHolder, NodeKey,
    OwnEvidence, Security,
};
use tokio::net::{TcpListener, TcpStream};

#[tokio::main]
async fn main() {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(3);
    let limit = Duration::from_secs(seconds);
    for (name, quote_len) in [("without evidence", 0), ("with a quote of 5,000 bytes", 5_000)] {
        for streams in [1, 8] {
            let per_second = measure(quote_len, streams, limit).await;
            println!(
                "{name}, {streams} at a time: {per_second:.0} handshakes/s, {:.2} ms each",
                1_000.0 * f64::from(streams) / per_second
            );
        }
    }
    print_work();
}

fn security(seed: u8, quote_len: usize) -> Security {
    let key = NodeKey::from_seed(&[seed; 32]).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let mut request = CertificateRequest::new(now.as_secs(), 60);
    if quote_len > 0 {
        request.evidence = OwnEvidence::Tdx { quote: vec![0; quote_len] };
    }
    let credentials = CredentialsHolder::new(Credentials::make(key, &request).unwrap());
    Security::new(credentials, Arc::new(AnyPeer))
}

async fn measure(quote_len: usize, streams: u32, limit: Duration) -> f64 {
    let acceptor = Acceptor { work_bits: 0, ..Acceptor::new(security(1, quote_len)) };
    let connector = Connector::new(security(2, quote_len));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            tcp.set_nodelay(true).unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move { acceptor.accept(tcp).await.unwrap() });
        }
    });
    let start = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..streams {
        let connector = connector.clone();
        clients.spawn(async move {
            let mut count = 0u32;
            while start.elapsed() < limit {
                let tcp = TcpStream::connect(address).await.unwrap();
                tcp.set_nodelay(true).unwrap();
                connector.connect(tcp).await.unwrap();
                count += 1;
            }
            count
        });
    }
    let total: u32 = clients.join_all().await.into_iter().sum();
    let elapsed = start.elapsed();
    server.abort();
    f64::from(total) / elapsed.as_secs_f64()
}

fn print_work() {
    use cocoon_wire::pow::{Challenge, Response};
    let challenge = Challenge { difficulty: 64, salt: [7; 16] };
    let start = Instant::now();
    let tries = 1_000_000u32;
    let found = (0..u64::from(tries)).any(|nonce| challenge.accepts(Response { nonce }));
    let rate = f64::from(tries) / start.elapsed().as_secs_f64();
    println!("proof of work: {:.2} million nonces/s on one thread (found: {found})", rate / 1e6);
}
