//! The last message of a request says what it cost, whether or not somebody still reads the answer.

use std::time::Duration;

use bytes::Bytes;
use cocoon_client::Network;
use cocoon_gateway::answer::{AnswerPart, FinalRecord};
use cocoon_gateway::{InferenceStream, Upstream as _, UpstreamError};
use cocoon_host::Stop;
use cocoon_link::{Event, LinkEvent, LinkHandle};
use cocoon_units::{Nanoton, RequestId};
use cocoon_wire::client::{self, Message, TokensUsed};
use cocoon_wire::tl::{self, Blob, Extensions};
use cocoon_wire::{cocoon, http};

use crate::liars::demanding;
use crate::{DEADLINE, Proxy, config};

/// One request at a proxy that has sent the head and a part of its answer.
struct Scene {
    network: Network,
    proxy: Proxy,
    link: LinkHandle,
    id: RequestId,
    stream: InferenceStream,
    _dir: tempfile::TempDir,
}

impl Scene {
    async fn new(timeout: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut proxy = Proxy::new().await;
        proxy.extensions = cocoon::CANCEL_QUERY;
        let config = config(dir.path(), proxy.address);
        proxy.name(&config.network_file);
        let network = Network::start(&config, &Stop::new()).unwrap();
        let link = proxy.meet().await.expect("a client");
        let asking = network.clone();
        let run = tokio::spawn(async move {
            let mut request = demanding(timeout);
            request.wishes = Default::default();
            asking.run(request).await
        });
        let asked = message(&mut proxy).await;
        let Message::RunQueryEx(run_query) = Message::decode(&asked).unwrap() else {
            panic!("a request")
        };
        let id = run_query.request_id;
        let head = tl::encode(&http::Response { status_code: 200, ..Default::default() });
        let start =
            client::QueryAnswerEx { request_id: id, answer: Blob(&head), ..Default::default() };
        link.message_object(&start).unwrap();
        let stream = run.await.unwrap().unwrap();
        Self { network, proxy, link, id, stream, _dir: dir }
    }

    /// Waits until the client wants no more.
    async fn cancelled(&mut self) {
        let told = message(&mut self.proxy).await;
        let cancel = Message::CancelQuery(cocoon::CancelQuery { request_id: self.id });
        assert_eq!(Message::decode(&told), Ok(cancel));
    }

    /// Says that the request cost so many tokens.
    fn charge(&self, total_tokens_used: i64) {
        let info = client::QueryFinalInfo {
            tokens_used: TokensUsed { total_tokens_used, ..Default::default() },
            ..Default::default()
        };
        let last = client::QueryAnswerErrorEx {
            request_id: self.id,
            error_code: 653,
            error: "cancelled".into(),
            extensions: Extensions::NONE,
            final_info: Some(info),
        };
        self.link.message_object(&last).unwrap();
    }

    async fn end(&mut self) -> FinalRecord {
        loop {
            if let AnswerPart::End(record) = self.stream.parts.next().await {
                return *record;
            }
        }
    }
}

/// The next message of the client; its questions stay open.
async fn message(proxy: &mut Proxy) -> Bytes {
    loop {
        let LinkEvent { event, .. } = proxy.events.recv().await.expect("an event");
        if let Event::Message(data) = event {
            return data.0;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_hangs_up_still_learns_what_is_charged() {
    let test = async {
        let mut scene = Scene::new(DEADLINE).await;
        scene.stream.parts.cancel();
        scene.cancelled().await;
        scene.charge(10);
        let record = scene.end().await;
        assert_eq!(record.cost, Nanoton(20));
        scene.network.close().await;
    };
    tokio::time::timeout(DEADLINE, Box::pin(test)).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_takes_too_long_costs_what_its_proxy_says() {
    let test = async {
        let timeout = Duration::from_secs(4);
        let mut scene = Scene::new(timeout).await;
        scene.cancelled().await;
        scene.charge(7);
        let record = scene.end().await;
        assert_eq!(record.error, Some(UpstreamError::Timeout { after: timeout }));
        assert_eq!(record.cost, Nanoton(14));
        scene.network.close().await;
    };
    tokio::time::timeout(DEADLINE, Box::pin(test)).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_without_a_last_word_keeps_nobody_waiting() {
    let test = async {
        let timeout = Duration::from_secs(4);
        let mut scene = Scene::new(timeout).await;
        let record = scene.end().await;
        assert_eq!(record.error, Some(UpstreamError::Timeout { after: timeout }));
        assert_eq!(record.cost, Nanoton::ZERO);
        scene.network.close().await;
    };
    tokio::time::timeout(DEADLINE, Box::pin(test)).await.expect("in time");
}
