//! Proxies that lie about their workers: they cost a request its time, and nothing else.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cocoon_client::{ClientConfig, Network};
use cocoon_gateway::upstream::Wishes;
use cocoon_gateway::{InferenceRequest, Upstream as _, UpstreamError};
use cocoon_host::Stop;
use cocoon_host::evidence::{EvidenceConfig, simulated_image_hash};
use cocoon_host::peers::{Admit, Presence, Transport};
use cocoon_link::{Event, LinkEvent, LinkHandle};
use cocoon_openai::Endpoint;
use cocoon_units::{Coefficient, PublicKey, Secret, SecretBytes, Tokens};
use cocoon_wire::client::{self, Query};
use cocoon_wire::cocoon::{self, GetFullReport, ListWorkers};
use cocoon_wire::tl::{self, Text};
use tokio::task::JoinHandle;

use crate::{DEADLINE, Proxy, config};

type Asked = Arc<Mutex<HashMap<i64, u64>>>;

/// A proxy that lists these workers, and how often each was asked for its report.
struct Liar {
    task: JoinHandle<()>,
    asked: Asked,
}

impl Liar {
    /// Lists these workers; refuses each question for a report, or leaves it open.
    fn start(mut proxy: Proxy, workers: Vec<i64>, refuses: bool) -> Self {
        let asked = Asked::default();
        let count = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            let mut link: Option<LinkHandle> = None;
            while let Some(LinkEvent { event, .. }) = proxy.events.recv().await {
                match (event, &link) {
                    (Event::Opened(opened), _) => link = Some(opened.link),
                    (Event::Query { id, data }, Some(link)) => {
                        if tl::decode::<ListWorkers>(&data.0).is_ok() {
                            link.answer(id, list(&workers)).unwrap();
                        } else if let Ok(get) = tl::decode::<GetFullReport>(&data.0) {
                            *count.lock().unwrap().entry(get.worker).or_default() += 1;
                            if refuses {
                                link.answer_error(id, 621, "no report today").unwrap();
                            }
                        } else {
                            match Query::decode(&data.0).unwrap() {
                                Query::GetWorkerTypesV2(_) => link.answer(id, models()).unwrap(),
                                Query::UpdatePaymentStatus(_) => {
                                    link.answer_error(id, 651, "later").unwrap();
                                }
                                query => link.answer(id, proxy.step(&query)).unwrap(),
                            }
                        }
                    }
                    _ => {}
                }
            }
        });
        Self { task, asked }
    }
}

fn list(workers: &[i64]) -> Vec<u8> {
    let entry = |worker: &i64| cocoon::Worker { worker: *worker, model: Text::from("m") };
    tl::encode(&cocoon::Workers { workers: workers.iter().map(entry).collect() })
}

fn models() -> Vec<u8> {
    tl::encode(&client::WorkerTypesV2 { types: Vec::new() })
}

/// A simulated machine, so that nothing stands against the proxy itself.
fn machine(dir: &Path, image: &str) -> EvidenceConfig {
    EvidenceConfig::Simulated {
        roots: dir.join("roots"),
        image: image.to_owned(),
        machine: 1,
        gpu: false,
        snp: false,
        misbehave: None,
        // This proxy shows no fresh evidence over its connection; its certificate's is judged.
        dangerous_unchecked_peers: true,
    }
}

/// A proxy on such a machine, and a client of it.
async fn proxy_and_client(dir: &Path, stop: &Stop) -> (Proxy, ClientConfig) {
    let presence = Presence::start(&Secret::new([5; 32]), &machine(dir, "proxy"), stop).unwrap();
    let entry = presence.entry(&Transport::Direct, 0, Admit::Anybody);
    let mut proxy = Proxy::behind(entry).await;
    proxy.extensions = cocoon::ANNOUNCED;
    let config = config(dir, proxy.address);
    let image = simulated_image_hash(&dir.join("roots"), "proxy").unwrap();
    let network = std::fs::read(&config.network_file).unwrap();
    let mut network: serde_json::Value = serde_json::from_slice(&network).unwrap();
    network["proxy_hashes"] = serde_json::json!([PublicKey(image).to_base64()]);
    std::fs::write(&config.network_file, network.to_string()).unwrap();
    proxy.name(&config.network_file);
    let evidence = machine(dir, "client");
    (proxy, ClientConfig { evidence, transport: Transport::Direct, ..config })
}

/// Waits until the proxy has let the client in: a request waits for that three seconds at most.
async fn let_in(network: &Network) {
    while network.models().await.is_err() {
        tokio::task::yield_now().await;
    }
}

/// A request that demands something of the worker, and grants this time.
pub(crate) fn demanding(timeout: Duration) -> InferenceRequest {
    InferenceRequest {
        request_id: "r".to_owned(),
        endpoint: Endpoint::ChatCompletions,
        model: "m".to_owned(),
        method: http::Method::POST,
        path: "/v1/chat/completions",
        headers: http::HeaderMap::new(),
        body: SecretBytes::new(b"{}".as_slice().into()),
        stream: false,
        max_coefficient: Coefficient::ONE,
        max_tokens: Tokens(10),
        timeout,
        debug: false,
        request_guid: None,
        encryption_key: None,
        wishes: Wishes { verdicts: vec!["worker.site".to_owned()], ..Wishes::default() },
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_without_end_is_cut_off_and_nobody_is_asked_twice() {
    let test = async {
        let dir = tempfile::tempdir().unwrap();
        let stop = Stop::new();
        let (proxy, config) = proxy_and_client(dir.path(), &stop).await;
        let workers = (0..4_000).flat_map(|worker| [worker, worker]).collect();
        let liar = Liar::start(proxy, workers, true);
        let network = Network::start(&config, &stop).unwrap();
        let_in(&network).await;
        let refused = network.run(demanding(DEADLINE)).await.map(|_| ()).unwrap_err();
        assert!(refused.to_string().contains("no report today"), "{refused}");
        let asked = liar.asked.lock().unwrap().clone();
        assert_eq!(asked.len(), 512);
        assert!(asked.values().all(|times| *times == 1), "{asked:?}");
        network.close().await;
        liar.task.abort();
    };
    tokio::time::timeout(DEADLINE, Box::pin(test)).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_keep_silent_hold_a_request_no_longer_than_it_grants() {
    let test = async {
        let dir = tempfile::tempdir().unwrap();
        let stop = Stop::new();
        let (proxy, config) = proxy_and_client(dir.path(), &stop).await;
        let liar = Liar::start(proxy, (0..512).collect(), false);
        let network = Network::start(&config, &stop).unwrap();
        let_in(&network).await;
        let late = network.run(demanding(Duration::from_secs(2))).await.map(|_| ()).unwrap_err();
        assert!(matches!(late, UpstreamError::Timeout { .. }), "{late}");
        // Whoever grants more waits for one round at most.
        let began = std::time::Instant::now();
        let refused = network.run(demanding(DEADLINE)).await.map(|_| ()).unwrap_err();
        assert!(refused.to_string().contains("did not answer in time"), "{refused}");
        assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
        // The next one finds that, and asks nobody.
        let asked = liar.asked.lock().unwrap().len();
        let refused = network.run(demanding(DEADLINE)).await.map(|_| ()).unwrap_err();
        assert!(refused.to_string().contains("did not answer in time"), "{refused}");
        assert_eq!(liar.asked.lock().unwrap().len(), asked);
        network.close().await;
        liar.task.abort();
    };
    tokio::time::timeout(DEADLINE, Box::pin(test)).await.expect("in time");
}
