//! What a request needs of the engine: the model, the queue, the limits.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc, watch};

use crate::config::EngineConfig;
use crate::generate::constraint::ConstraintFactory;
use crate::generate::job::Work;
use crate::metrics::Metrics;
use crate::model::{ModelFacts, TokenId, Vocabulary};
use crate::openai::completion_request::Prompt;
use crate::openai::error::ApiError;
use crate::template::ChatTemplate;

/// A model that is loaded and can be asked.
pub(crate) struct Served {
    pub(crate) vocabulary: Arc<dyn Vocabulary>,
    pub(crate) facts: ModelFacts,
    pub(crate) template: ChatTemplate,
    pub(crate) constraints: ConstraintFactory,
    pub(crate) context_tokens: u32,
    /// Tells answers of different weights or versions apart (OpenAI's `system_fingerprint`).
    pub(crate) fingerprint: String,
    pub(crate) work: mpsc::UnboundedSender<Work>,
}

/// How far the engine is.
#[derive(Clone)]
pub(crate) enum Phase {
    /// From 0 to 1.
    Loading(f32),
    Ready(Arc<Served>),
    Stopping,
}

/// Shared by all connections.
pub(crate) struct Shared {
    pub(crate) config: EngineConfig,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) metrics: Arc<Metrics>,
    /// A place for each sequence under way or waiting.
    pub(crate) places: Arc<Semaphore>,
    /// Seconds since 1970 at the start.
    pub(crate) started_s: u64,
}

impl Shared {
    /// The loaded model.
    pub(crate) fn served(&self) -> Result<Arc<Served>, ApiError> {
        match &*self.phase.borrow() {
            Phase::Ready(served) => Ok(Arc::clone(served)),
            Phase::Loading(fraction) => Err(ApiError::unavailable(&format!(
                "The model is being loaded ({:.0} %). Try again in a moment.",
                fraction * 100.0
            ))),
            Phase::Stopping => Err(ApiError::unavailable("The engine is stopping.")),
        }
    }

    /// Refuses a model that is not served here.
    pub(crate) fn check_model(&self, name: &str) -> Result<(), ApiError> {
        if self.config.model_names.iter().any(|known| known == name) {
            Ok(())
        } else {
            Err(ApiError::unknown_model(name, &self.config.model_names))
        }
    }

    /// Takes `count` places, or none.
    pub(crate) fn reserve(&self, count: usize) -> Result<Vec<OwnedSemaphorePermit>, ApiError> {
        let mut permits = Vec::with_capacity(count);
        for _ in 0..count {
            match Arc::clone(&self.places).try_acquire_owned() {
                Ok(permit) => permits.push(permit),
                Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => {
                    return Err(ApiError::overloaded(self.metrics.load().1));
                }
            }
        }
        Ok(permits)
    }

    /// An entry of `/v1/models`. `context_length` and `max_model_len` are what others call
    /// the same number (OpenRouter and vLLM).
    pub(crate) fn model_entry(&self, name: &str) -> Value {
        let mut entry = json!({
            "id": name,
            "object": "model",
            "created": self.started_s,
            "owned_by": "cocoon",
        });
        if let Ok(served) = self.served() {
            entry["context_length"] = json!(served.context_tokens);
            entry["max_model_len"] = json!(served.context_tokens);
            entry["meta"] = json!({
                "n_params": served.facts.parameters,
                "size": served.facts.weight_bytes,
                "n_ctx_train": served.facts.trained_context_tokens,
                "n_embd": served.facts.embedding_width,
                "n_vocab": served.vocabulary.size(),
                "tools_in_template": served.template.knows_tools(),
            });
        }
        entry
    }
}

impl Served {
    /// The tokens of a prompt as it stands.
    pub(crate) fn prompt_tokens(&self, prompt: &Prompt) -> Vec<TokenId> {
        match prompt {
            Prompt::Text(text) => self.vocabulary.tokenize(text, true, true),
            Prompt::Tokens(tokens) => tokens.clone(),
        }
    }

    /// The tokens of a rendered conversation. What the template wrote at its beginning is
    /// not added a second time.
    pub(crate) fn conversation_tokens(&self, text: &str) -> Vec<TokenId> {
        let begun = &self.facts.begin_text;
        let add_special = begun.is_empty() || !text.starts_with(begun.as_str());
        self.vocabulary.tokenize(text, add_special, true)
    }

    /// Refuses a prompt that is empty or leaves no room for a token.
    pub(crate) fn check_length(&self, param: &str, tokens: usize) -> Result<(), ApiError> {
        let context = usize::try_from(self.context_tokens).unwrap_or(usize::MAX);
        if tokens == 0 {
            return Err(ApiError::invalid(param, format!("'{param}' must not be empty.")));
        }
        if tokens >= context {
            return Err(ApiError::context_exceeded(param, tokens, self.context_tokens));
        }
        Ok(())
    }

    /// Hands work to the decoding thread.
    pub(crate) fn submit(&self, work: Work) -> Result<(), ApiError> {
        self.work.send(work).map_err(|_| ApiError::internal("The decoding thread has ended."))
    }
}
