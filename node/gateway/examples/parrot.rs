//! A gateway in front of a network that is a parrot: for trying clients and for measuring the
//! gateway alone. `cargo run --example parrot -- 127.0.0.1:10000 50 128` serves answers of 50
//! events of 128 bytes.

// It tells its address on the standard output, for scripts.
#![allow(clippy::print_stdout)]

use std::sync::Arc;

use bytes::Bytes;
use cocoon_gateway::answer::{AnswerHead, FinalRecord, InferenceStream};
use cocoon_gateway::upstream::WorkerOffer;
use cocoon_gateway::{
    GatewayConfig, InferenceRequest, ModelOffer, Server, Upstream, UpstreamError, answer_channel,
};
use cocoon_units::{Coefficient, Nanoton, Usage};

struct Parrot {
    events: usize,
    event: Bytes,
}

const USAGE: &str = r#"{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}"#;

impl Upstream for Parrot {
    async fn run(&self, request: InferenceRequest) -> Result<InferenceStream, UpstreamError> {
        let (feed, parts) = answer_channel(1 << 20);
        let record = FinalRecord {
            usage: Some(Usage { prompt: 7, completion: 3, ..Usage::default() }),
            cost: Nanoton(1234),
            ..FinalRecord::default()
        };
        if request.stream {
            let (events, event) = (self.events, self.event.clone());
            tokio::spawn(async move {
                for _ in 0..events {
                    if feed.push(event.clone()).is_err() {
                        return;
                    }
                    tokio::task::yield_now().await;
                }
                let last = format!(
                    "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"parrot\",\"choices\":[],\"usage\":{USAGE}}}\n\ndata: [DONE]\n\n"
                );
                if feed.push(Bytes::from(last)).is_ok() {
                    feed.finish(record);
                }
            });
        } else {
            let answer = format!(
                "{{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"parrot\",\"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"Hello!\",\"refusal\":null,\"annotations\":[]}},\"logprobs\":null,\"finish_reason\":\"stop\"}}],\"usage\":{USAGE}}}"
            );
            if feed.push(Bytes::from(answer)).is_ok() {
                feed.finish(record);
            }
        }
        Ok(InferenceStream { head: AnswerHead::default(), parts })
    }

    async fn models(&self) -> Result<Vec<ModelOffer>, UpstreamError> {
        let worker = WorkerOffer {
            coefficient: Coefficient::ONE,
            running: 0,
            max_running: 8,
            tee_kind: None,
        };
        Ok(vec![ModelOffer { id: "parrot".into(), workers: vec![worker], ..ModelOffer::default() }])
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let listen = arguments.next().unwrap_or("127.0.0.1:10000".to_owned()).parse()?;
    let events = arguments.next().unwrap_or("50".to_owned()).parse()?;
    let size: usize = arguments.next().unwrap_or("128".to_owned()).parse()?;
    let frame = "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"parrot\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"@\"},\"finish_reason\":null}]}\n\n";
    let text = "a".repeat(size.saturating_sub(frame.len()).max(1));
    let event = Bytes::from(frame.replace('@', &text));
    let config = GatewayConfig { listen, ..GatewayConfig::default() };
    let server = Server::bind(config, Arc::new(Parrot { events, event })).await?;
    println!("listening on {}", server.local_addr());
    server
        .run(async {
            let _ = tokio::signal::ctrl_c().await;
        })
        .await;
    Ok(())
}
