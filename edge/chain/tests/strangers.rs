//! Strangers that hold the local chain's ports and ask nothing.
#![allow(clippy::unwrap_used, reason = "a broken scenario shall panic")]

use std::net::SocketAddr;
use std::time::Duration;

use cocoon_chain::{
    Chain as _, GlobalConfig, LiteServers, NodeConfig, ServeConfig, Serving, Toncenter,
};
use cocoon_localchain::Genesis;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

const DEADLINE: Duration = Duration::from_secs(20);
/// More than each port has places.
const STRANGERS: usize = 300;

async fn strangers(at: SocketAddr) -> Vec<TcpStream> {
    let mut all = Vec::new();
    for _ in 0..STRANGERS {
        all.push(TcpStream::connect(at).await.unwrap());
    }
    all
}

/// The one that came first had to go; the last one is still there.
async fn are_bounded(mut strangers: Vec<TcpStream>) {
    let (last, first) = (strangers.pop().unwrap(), &mut strangers[0]);
    let ended = tokio::time::timeout(DEADLINE, first.read(&mut [0])).await;
    assert!(matches!(ended.expect("an end"), Ok(0) | Err(_)));
    let kept = last.try_read(&mut [0]).unwrap_err();
    assert_eq!(kept.kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn silent_strangers_keep_nobody_out() {
    let node = NodeConfig { beat_ms: 0, ..NodeConfig::in_memory([5; 32]) };
    let node = NodeConfig { genesis: Genesis::new([5; 32], 1_760_000_000_000), ..node };
    let any = "127.0.0.1:0".parse().unwrap();
    let config = ServeConfig { node, http: any, lite: Some(any) };
    let serving = Serving::start(&config).await.unwrap();
    let test = async {
        let at_http = strangers(serving.http).await;
        let http = Toncenter::new(&format!("http://{}/api/v2/jsonRPC", serving.http)).unwrap();
        http.head().await.unwrap();
        are_bounded(at_http).await;

        let at_lite = strangers(serving.lite.unwrap()).await;
        let global = GlobalConfig::parse(&serving.global_config()).unwrap();
        let lite = LiteServers::new(&global);
        lite.head().await.unwrap();
        are_bounded(at_lite).await;
    };
    tokio::time::timeout(DEADLINE * 2, Box::pin(test)).await.expect("in time");
    serving.stop().await.unwrap();
}
