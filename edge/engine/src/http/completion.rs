//! `/v1/completions`.

use std::sync::Arc;

use http::Response;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use crate::generate::constraint::Constraint;
use crate::generate::job::{Job, Work};
use crate::http::body::{Answer, AnswerBody, collect, stream};
use crate::http::route::{envelope, off_thread};
use crate::http::served::{Served, Shared};
use crate::openai::completion_answer::{CompletionAnswer, EchoPrompt};
use crate::openai::completion_request::{CompletionRequest, Prompt, read_completion_request};
use crate::openai::error::ApiError;
use crate::openai::logprobs::text_of;
use crate::openai::response_format::narrowed;

/// Answers a completion request.
pub(crate) async fn completion(
    shared: &Shared,
    body: Map<String, Value>,
) -> Result<Response<AnswerBody>, ApiError> {
    let served = shared.served()?;
    let defaults = shared.config.sampling;
    let request =
        read_completion_request(&body, defaults, served.vocabulary.size(), rand::random())?;
    shared.check_model(&request.options.model)?;
    let choices = request.options.choices;
    let per_prompt = usize::try_from(choices).unwrap_or(1);
    let permits = shared.reserve(request.prompts.len().saturating_mul(per_prompt))?;
    let worker = Arc::clone(&served);
    let (request, prompts, constraint) = off_thread(move || {
        let prompts = prepare_prompts(&worker, &request)?;
        let constraint = prepare_constraint(&worker, &request)?;
        Ok((request, prompts, constraint))
    })
    .await?;
    let (sender, events) = mpsc::unbounded_channel();
    let mut permits = permits.into_iter();
    let mut index = 0;
    for prompt in &prompts {
        for choice in 0..choices {
            let mut job = job_of(&request, &prompt.tokens, sender.clone());
            job.sampling.choice = choice;
            job.constraint.clone_from(&constraint);
            job.index = index;
            job.permit = permits.next();
            served.submit(Work::Generate(Box::new(job)))?;
            index += 1;
        }
    }
    drop(sender);
    let answer = CompletionAnswer::new(
        envelope("cmpl", &request.options, &served),
        Arc::clone(&served.vocabulary),
        prompts,
        choices,
        request.echo,
        request.logprobs.is_some(),
    );
    if request.options.stream {
        Ok(stream(Answer::Completion(answer), events))
    } else {
        collect(Answer::Completion(answer), events).await
    }
}

fn job_of(
    request: &CompletionRequest,
    tokens: &[u32],
    events: mpsc::UnboundedSender<(u32, crate::generate::job::JobEvent)>,
) -> Job {
    let options = &request.options;
    Job {
        prompt: tokens.to_vec(),
        tokens_max: options.tokens_max.unwrap_or(u32::MAX),
        tokens_min: options.tokens_min,
        ignore_end: options.ignore_end,
        sampling: options.sampling.clone(),
        constraint: None,
        stops: options.stops.clone(),
        logprobs: request.logprobs,
        prompt_logprobs: request.echo && request.logprobs.is_some(),
        index: 0,
        events,
        permit: None,
    }
}

fn prepare_prompts(
    served: &Served,
    request: &CompletionRequest,
) -> Result<Vec<EchoPrompt>, ApiError> {
    request
        .prompts
        .iter()
        .map(|prompt| {
            let tokens = served.prompt_tokens(prompt);
            served.check_length("prompt", tokens.len())?;
            let text = match prompt {
                Prompt::Text(text) => text.clone(),
                Prompt::Tokens(tokens) => {
                    tokens.iter().map(|token| text_of(&*served.vocabulary, *token)).collect()
                }
            };
            Ok(EchoPrompt { tokens, text })
        })
        .collect()
}

fn prepare_constraint(
    served: &Served,
    request: &CompletionRequest,
) -> Result<Option<Constraint>, ApiError> {
    let Some(schema) = &request.schema else { return Ok(None) };
    let constraint = served
        .constraints
        .json_schema(&narrowed(schema), true)
        .map_err(|fault| ApiError::invalid("json_schema", fault.to_string()))?;
    Ok(Some(constraint))
}
