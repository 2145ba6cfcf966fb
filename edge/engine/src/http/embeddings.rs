//! `/v1/embeddings`.

use std::sync::Arc;

use http::Response;
use serde_json::{Map, Value};
use tokio::sync::oneshot;

use crate::generate::job::{EmbeddingJob, Work};
use crate::http::body::{AnswerBody, json};
use crate::http::route::off_thread;
use crate::http::served::Shared;
use crate::openai::embedding::{embedding_answer, normalized, read_embedding_request};
use crate::openai::error::ApiError;

/// Answers a request for embeddings. The inputs are done one after the other and take one
/// place in the queue together, so that a long list does not push others out.
pub(crate) async fn embeddings(
    shared: &Shared,
    body: Map<String, Value>,
) -> Result<Response<AnswerBody>, ApiError> {
    let served = shared.served()?;
    let width = served.facts.embedding_width;
    let request = read_embedding_request(&body, served.vocabulary.size(), width)?;
    shared.check_model(&request.model)?;
    let _places = shared.reserve(1)?;
    let worker = Arc::clone(&served);
    let (request, inputs) = off_thread(move || {
        let mut inputs = Vec::with_capacity(request.inputs.len());
        for input in &request.inputs {
            let tokens = worker.prompt_tokens(input);
            worker.check_length("input", tokens.len())?;
            inputs.push(tokens);
        }
        Ok((request, inputs))
    })
    .await?;
    let mut prompt_tokens = 0_u32;
    let mut vectors = Vec::with_capacity(inputs.len());
    for tokens in inputs {
        let count = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
        prompt_tokens = prompt_tokens.saturating_add(count);
        let (sender, answer) = oneshot::channel();
        served.submit(Work::Embed(EmbeddingJob { tokens, answer: sender, permit: None }))?;
        let vector = answer
            .await
            .map_err(|_| ApiError::internal("The engine stopped before the answer was complete."))?
            .map_err(ApiError::internal)?;
        vectors.push(normalized(vector, request.dimensions));
    }
    Ok(json(200, &embedding_answer(&request.model, &vectors, request.base64, prompt_tokens)))
}
