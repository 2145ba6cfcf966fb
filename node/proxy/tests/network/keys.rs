//! Keys of a key manager reach the worker with the request that is encrypted to them.

use cocoon_host::Stop;
use cocoon_host::key_feed::KeyManagerAt;
use cocoon_host::peers::Transport;
use cocoon_keymgr::{KeyManagerConfig, Running, start};
use cocoon_units::PublicKey;
use cocoon_wire::client::{FromProxy, RunQueryEx};
use cocoon_wire::e2e;
use cocoon_wire::proxy::ToWorker;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::peer::{client, worker};
use crate::site::Site;
use crate::{DEADLINE, request};

/// The public half of the key manager's first key, from its page.
async fn public_key(running: &Running) -> PublicKey {
    loop {
        let mut tcp = tokio::net::TcpStream::connect(running.http.unwrap()).await.unwrap();
        let ask = b"GET /jsonstats HTTP/1.1\r\nHost: keys\r\nConnection: close\r\n\r\n";
        tcp.write_all(ask).await.unwrap();
        let mut text = String::new();
        tcp.read_to_string(&mut text).await.unwrap();
        let (_, body) = text.split_once("\r\n\r\n").unwrap();
        let status: serde_json::Value = serde_json::from_str(body).unwrap();
        if let Some(key) = status["keys"][0]["public_key"].as_str() {
            return PublicKey::parse(key).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_to_a_registered_key_carries_its_private_half_to_the_worker() {
    tokio::time::timeout(DEADLINE, async {
        let mut site = Site::new(Transport::Plain);
        let stop = Stop::new();
        let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        let keys = KeyManagerConfig {
            listen: any,
            http: Some(any),
            transport: Transport::Plain,
            network_file: site.config.network_file.clone(),
            is_test: true,
            check_images: false,
            data_dir: site.config.data_dir.join("keys"),
            ..KeyManagerConfig::default()
        };
        let keys = start(&keys, &stop).await.unwrap();
        let public = public_key(&keys).await;
        site.config.key_manager =
            Some(KeyManagerAt { address: keys.address, image_hash: String::new() });
        let node = site.start().await;
        let mut worker = worker(&node, &site, 0).await;
        let mut client = client(&node, &site).await;
        // The proxy may not have asked yet: then it knows no such key.
        for number in 0.. {
            let wanted = RunQueryEx { public_key: Some(public), ..request(number) };
            client.link.message_object(&wanted).unwrap();
            tokio::select! {
                data = worker.message() => {
                    let ToWorker::RunQueryEx(run) = ToWorker::decode(&data).unwrap() else {
                        panic!("no query")
                    };
                    assert_eq!(e2e::public_key(&run.private_key.unwrap()), public);
                    break;
                }
                data = client.message() => {
                    let FromProxy::QueryAnswerErrorEx(fault) = FromProxy::decode(&data).unwrap()
                    else {
                        panic!("no error")
                    };
                    assert!(fault.error.to_string().contains("unknown public key"));
                }
            }
        }
        drop((worker, client));
        node.stop().await;
        stop.now();
        keys.ended().await.unwrap();
    })
    .await
    .expect("in time");
}
