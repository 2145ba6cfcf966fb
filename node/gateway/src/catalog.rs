//! The list of models, and what else is said about what can be asked for.

use cocoon_openai::fault::INVALID_REQUEST;
use cocoon_openai::{ApiError, Endpoint};
use cocoon_units::Nanoton;
use http::StatusCode;
use serde_json::{Value, json};

use crate::failure::{Refusal, ton, unknown_model};
use crate::gateway::{Gateway, Reply};
use crate::pages;
use crate::upstream::{ModelOffer, Upstream};

impl<U: Upstream> Gateway<U> {
    /// `/v1/models`.
    pub(crate) async fn models_page(&self) -> Result<Reply, Box<Refusal>> {
        let mut offers = self.upstream().models().await.map_err(Refusal::from)?;
        self.add_aliases(&mut offers);
        let data: Vec<Value> = offers.iter().map(entry).collect();
        let list = json!({"object": "list", "data": data});
        Ok(pages::json(StatusCode::OK, list.to_string().into()))
    }

    /// `/v1/models/{name}`.
    pub(crate) async fn model_page(&self, name: &str) -> Result<Reply, Box<Refusal>> {
        let mut offers = self.upstream().models().await.map_err(Refusal::from)?;
        self.add_aliases(&mut offers);
        if let Some(offer) = offers.iter().find(|offer| offer.id == name) {
            return Ok(pages::json(StatusCode::OK, entry(offer).to_string().into()));
        }
        let known: Vec<String> = offers.into_iter().map(|offer| offer.id).collect();
        Err(Box::new(unknown_model(name, &known).into()))
    }

    /// `/ready`: 200 when a request would find a worker.
    pub(crate) async fn ready_page(&self) -> Result<Reply, Box<Refusal>> {
        let offers = self.upstream().models().await.map_err(Refusal::from)?;
        let models = offers.iter().filter(|offer| !offer.workers.is_empty()).count();
        let ready = models > 0 && !self.is_closing();
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let body = json!({"ready": ready, "models": models});
        Ok(pages::json(status, body.to_string().into()))
    }

    /// Refuses a request that no worker of its model can serve, and names the models that can.
    /// Chats are not checked: every model does them, and they must not wait for a list.
    pub(crate) async fn check_capability(
        &self,
        endpoint: Endpoint,
        model: &str,
    ) -> Result<(), Box<Refusal>> {
        let needed = match endpoint {
            Endpoint::Embeddings => "embeddings",
            Endpoint::Transcriptions => "transcription",
            Endpoint::Speech => "speech",
            Endpoint::Images => "image",
            _ => return Ok(()),
        };
        // Whoever cannot list models will say so when the request runs.
        let Ok(offers) = self.upstream().models().await else { return Ok(()) };
        let can = |offer: &ModelOffer| offer.capabilities.iter().any(|name| name == needed);
        let known = offers.iter().find(|offer| offer.id == model);
        if known.is_none_or(|offer| offer.capabilities.is_empty() || can(offer)) {
            return Ok(());
        }
        let able: Vec<&str> =
            offers.iter().filter(|offer| can(offer)).map(|offer| offer.id.as_str()).collect();
        let hint = if able.is_empty() {
            "No model offered at the moment can.".to_owned()
        } else {
            format!("Models that can: {}.", able.join(", "))
        };
        let message = format!("The model '{model}' does not serve {}. {hint}", endpoint.path());
        let error = ApiError::new(404, INVALID_REQUEST, message).with_code("unsupported_by_model");
        Err(Box::new(ApiError { param: Some("model".into()), ..error }.into()))
    }

    fn add_aliases(&self, offers: &mut Vec<ModelOffer>) {
        for (alias, name) in &self.config().model_aliases {
            if let Some(offer) = offers.iter().find(|offer| offer.id == *name) {
                let offer = ModelOffer { id: alias.clone(), ..offer.clone() };
                offers.push(offer);
            }
        }
    }
}

/// A model as OpenAI's clients expect it, with `workers` as the reference shows them (protocol
/// notes 4.1), and what the network knows besides.
fn entry(offer: &ModelOffer) -> Value {
    let workers: Vec<Value> = offer
        .workers
        .iter()
        .map(|worker| {
            json!({
                "coefficient": worker.coefficient.milli(),
                "running_requests": worker.running,
                "max_running_requests": worker.max_running,
                "tee": worker.tee_kind,
            })
        })
        .collect();
    let mut entry = json!({
        "id": offer.id,
        "object": "model",
        "created": offer.created,
        "owned_by": "cocoon",
        "workers": workers,
    });
    let mut kinds: Vec<&str> =
        offer.workers.iter().filter_map(|worker| worker.tee_kind.as_deref()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    entry["tee_kinds"] = json!(kinds);
    if let Some(tokens) = offer.context_tokens {
        // vLLM's name for it, which many clients read.
        entry["max_model_len"] = json!(tokens);
        entry["context_length"] = json!(tokens);
    }
    if !offer.capabilities.is_empty() {
        entry["capabilities"] = json!(offer.capabilities);
    }
    let price = |price: Option<Nanoton>| {
        price.map_or(Value::Null, |price| json!({"nanoton": price.0, "text": ton(price)}))
    };
    entry["price_per_million_tokens"] =
        json!({"in": price(offer.price_in_per_million), "out": price(offer.price_out_per_million)});
    entry
}
