//! The network for programs that want answers, not protocols.
//!
//! [`Client`] connects, asks, and reads answers; [`Network`] below it stays reachable
//! for everything else.
//!
//! ```no_run
//! use cocoon_client::{Client, ClientConfig};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect(&ClientConfig::of_local_network("/path/of/cocoon/up")?)?;
//! let answer = client
//!     .chat("smollm2-135m-instruct")
//!     .user("What is attestation?")
//!     .max_tokens(64)
//!     .send()
//!     .await?;
//! println!("{} ({} nanoTON)", answer.text, answer.cost.0);
//! client.close().await;
//! # Ok(())
//! # }
//! ```

mod answer;
mod ask;
mod fault;
mod local;
mod machine;
mod stream;
mod verify;

pub use answer::{ChatAnswer, ToolCall};
pub use ask::ChatRequest;
pub use fault::AskFault;
pub use machine::{Listed, Machine};
pub use stream::{ChatPart, ChatStream};
pub use verify::Verified;

use cocoon_attest::Policy;
use cocoon_gateway::{ModelOffer, Upstream as _};
use cocoon_host::Stop;
use cocoon_openai::Endpoint;
use serde_json::{Value, json};
use std::sync::Arc;

use crate::config::ClientConfig;
use crate::fault::NetworkFault;
use crate::network::Network;

/// A connection to the network for programs. Clones share it.
#[derive(Clone)]
pub struct Client {
    network: Network,
    stop: Stop,
    /// Rules and trusted roots for evidence.
    policy: Arc<Policy>,
}

impl Client {
    /// Connects to the network. Returns at once; the first request waits a moment for a proxy.
    /// Needs a tokio runtime.
    ///
    /// # Errors
    /// [`NetworkFault`]: nothing was started; the configuration must be repaired.
    pub fn connect(config: &ClientConfig) -> Result<Client, NetworkFault> {
        let stop = Stop::new();
        let policy = Arc::new(verify::policy_of(&config.evidence)?);
        let network = Network::start(config, &stop)?;
        Ok(Client { network, stop, policy })
    }

    /// What lies below: requests in full, status.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The models that can be asked for now, with their workers and prices.
    ///
    /// # Errors
    /// [`AskFault::Network`]: no proxy is connected (yet); try again.
    pub async fn models(&self) -> Result<Vec<ModelOffer>, AskFault> {
        Ok(self.network.models().await?)
    }

    /// Begins a chat with a model.
    pub fn chat(&self, model: &str) -> ChatRequest<'_> {
        ChatRequest::new(self, model)
    }

    /// Vectors of texts, in their order.
    ///
    /// # Errors
    /// [`AskFault`].
    pub async fn embeddings(&self, model: &str, texts: &[&str]) -> Result<Vec<Vec<f32>>, AskFault> {
        let body = json!({"model": model, "input": texts, "encoding_format": "float"});
        let request = ask::Travel::default().request(Endpoint::Embeddings, model, &body)?;
        let (value, _) = answer::whole(self.network.run(request).await?).await?;
        let entries = value["data"].as_array().ok_or(AskFault::senseless("no list of vectors"))?;
        let mut vectors = vec![Vec::new(); entries.len()];
        for entry in entries {
            let index = entry["index"].as_u64().and_then(|index| usize::try_from(index).ok());
            let place = index.and_then(|index| vectors.get_mut(index));
            let numbers = entry["embedding"].as_array();
            let (Some(place), Some(numbers)) = (place, numbers) else {
                return Err(AskFault::senseless("a vector without place or numbers"));
            };
            #[allow(clippy::cast_possible_truncation, reason = "vectors are single precision")]
            place.extend(numbers.iter().filter_map(|number| number.as_f64().map(|n| n as f32)));
        }
        if vectors.len() != texts.len() || vectors.iter().any(Vec::is_empty) {
            return Err(AskFault::senseless("another number of vectors than of texts"));
        }
        Ok(vectors)
    }

    /// Holds the machine that answered against the registry: is what it proved to run an image
    /// that the network lists for workers? [`Client::verify`] asks for everything else.
    #[must_use]
    pub fn listed(&self, machine: &Machine) -> Listed {
        machine.listed_in(&self.network.registry().worker_images)
    }

    /// The payment channel with each proxy: tokens as we count them, and as each proxy claims,
    /// wrote down and signed them.
    pub async fn channels(&self) -> Vec<Value> {
        let status = self.network.status().await;
        let section = status.sections.into_iter().find(|(name, _)| name == "proxies");
        section.and_then(|(_, text)| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// Ends the connection. Running requests break.
    pub async fn close(self) {
        self.stop.now();
        // The loop sees the end at its next turn.
        tokio::task::yield_now().await;
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
