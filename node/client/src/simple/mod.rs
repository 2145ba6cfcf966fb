//! The network for programs that want answers, not protocols.
//!
//! [`Client`] connects, asks, and reads answers; [`Network`] below it stays reachable
//! for everything else.
//!
//! ```no_run
//! use cocoon_client::{Client, ClientConfig};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect(&ClientConfig::of_local_network("/path/of/cocoon/up")?).await?;
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
mod channel;
mod fault;
mod local;
mod machine;
mod stream;
mod verify;

pub use answer::{ChatAnswer, ToolCall};
pub use ask::ChatRequest;
pub use channel::{Channel, ChannelState, ChannelTokens};
pub use fault::AskFault;
pub use machine::{Listed, Machine};
pub use stream::{ChatPart, ChatStream};
pub use verify::Verified;

use cocoon_attest::Policy;
use cocoon_gateway::{ModelOffer, Upstream as _};
use cocoon_host::Stop;
use cocoon_openai::Endpoint;
use serde_json::json;
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
    /// Connects to the network. Without a chain it returns at once; on a chain it reads the root
    /// contract first, waiting for the chain if need be, and looks after this program's money from
    /// then on. Needs a tokio runtime. [`Client::ready`] waits for the first proxy; a request waits
    /// a moment for one.
    ///
    /// # Errors
    /// [`NetworkFault`]: nothing was started; the configuration must be repaired.
    pub async fn connect(config: &ClientConfig) -> Result<Client, NetworkFault> {
        let stop = Stop::new();
        let policy = Arc::new(verify::policy_of(&config.evidence)?);
        // Only who asks `stop` to end is told `None`, and nobody else has it yet.
        let network = Network::open(config, &stop).await?.ok_or(NetworkFault::Ended)?;
        Ok(Client { network, stop, policy })
    }

    /// Waits until a proxy has let this program in. On a chain that takes coins in the wallet
    /// ([`Client::wallet`]) and, the first time, some blocks: the contract is made, funded and shown
    /// to the proxy. Put a deadline around it (`tokio::time::timeout`).
    pub async fn ready(&self) {
        let shared = &self.network.shared;
        loop {
            // Armed before the look, so that no readiness between look and wait is missed.
            let ready = shared.ready.notified();
            if shared.lock().proxies.values().any(|proxy| proxy.session.is_ready()) {
                return;
            }
            ready.await;
        }
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

    /// Holds the machine that answered against the registry: is the image that the proxy told of it
    /// one that the network lists for workers? That is the proxy's word: what machines show
    /// themselves is judged by [`Client::verify`].
    #[must_use]
    pub fn listed(&self, machine: &Machine) -> Listed {
        machine.listed_in(&self.network.registry().worker_images)
    }

    /// Ends the connection. Running requests break; what was asked for on chain goes on at the next
    /// start. The books are closed when the last clone is dropped.
    pub async fn close(self) {
        self.network.close().await;
        self.stop.now();
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
