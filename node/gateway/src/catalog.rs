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
        let offers = self.offers().await?;
        let data: Vec<Value> = offers.iter().map(entry).collect();
        let list = json!({"object": "list", "data": data});
        Ok(pages::json(StatusCode::OK, list.to_string().into()))
    }

    /// `/v1/models/{name}`.
    pub(crate) async fn model_page(&self, name: &str) -> Result<Reply, Box<Refusal>> {
        let offers = self.offers().await?;
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
        let Ok(offers) = self.offers().await else { return Ok(()) };
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

    /// What can be asked for, with what the operator told of it and under all its names.
    async fn offers(&self) -> Result<Vec<ModelOffer>, Box<Refusal>> {
        let mut offers = self.upstream().models().await.map_err(Refusal::from)?;
        for offer in &mut offers {
            let Some(facts) = self.config().models.get(&offer.id) else { continue };
            offer.context_tokens = facts.context_tokens.or(offer.context_tokens);
            if !facts.capabilities.is_empty() {
                offer.capabilities.clone_from(&facts.capabilities);
            }
        }
        self.add_aliases(&mut offers);
        Ok(offers)
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
        let can = |name: &str| offer.capabilities.iter().any(|known| known == name);
        entry["tools"] = json!(can("tools"));
        entry["modalities"] = modalities(can);
    }
    let price = |price: Option<Nanoton>| {
        price.map_or(Value::Null, |price| json!({"nanoton": price.0, "text": ton(price)}))
    };
    entry["price_per_million_tokens"] =
        json!({"in": price(offer.price_in_per_million), "out": price(offer.price_out_per_million)});
    entry
}

/// What goes in and what comes out, in the words that model lists use.
fn modalities(can: impl Fn(&str) -> bool) -> Value {
    let chosen = |words: &[(&str, bool)]| -> Vec<String> {
        words.iter().filter(|(_, holds)| *holds).map(|(word, _)| (*word).to_owned()).collect()
    };
    let text = can("chat") || can("completions");
    let input = chosen(&[
        ("text", text || can("embeddings") || can("speech") || can("image")),
        ("image", can("vision")),
        ("audio", can("audio") || can("transcription")),
    ]);
    let output = chosen(&[
        ("text", text || can("transcription")),
        ("embedding", can("embeddings")),
        ("image", can("image")),
        ("audio", can("speech")),
    ]);
    json!({"input": input, "output": output})
}

#[cfg(test)]
mod tests {
    use cocoon_units::Coefficient;

    use super::*;
    use crate::upstream::WorkerOffer;

    #[test]
    fn a_model_says_what_it_can_and_what_it_costs() {
        let worker = WorkerOffer {
            coefficient: Coefficient::ONE,
            running: 1,
            max_running: 8,
            tee_kind: Some("tdx".into()),
        };
        let offer = ModelOffer {
            id: "m".into(),
            context_tokens: Some(4096),
            capabilities: ["chat", "tools", "vision"].map(str::to_owned).to_vec(),
            price_in_per_million: Some(Nanoton(20_000_000)),
            price_out_per_million: Some(Nanoton(160_000_000)),
            workers: vec![worker.clone(), worker],
            ..ModelOffer::default()
        };
        let shown = entry(&offer);
        assert_eq!(shown["context_length"], 4096);
        assert_eq!(shown["tools"], true);
        assert_eq!(shown["modalities"], json!({"input": ["text", "image"], "output": ["text"]}));
        assert_eq!(shown["tee_kinds"], json!(["tdx"]));
        assert_eq!(shown["workers"].as_array().unwrap().len(), 2);
        let price = &shown["price_per_million_tokens"];
        assert_eq!(
            (&price["in"]["text"], &price["out"]["nanoton"]),
            (&json!("0.02 TON"), &json!(160_000_000))
        );
        let unknown = entry(&ModelOffer { id: "m".into(), ..ModelOffer::default() });
        assert!(unknown.get("tools").is_none() && unknown.get("modalities").is_none());
    }
}
