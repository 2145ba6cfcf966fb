//! `/v1/chat/completions`.

use std::sync::Arc;

use http::Response;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use crate::generate::constraint::{Constraint, SchemaFault};
use crate::generate::job::{Job, Work};
use crate::http::body::{Answer, AnswerBody, collect, stream};
use crate::http::route::{envelope, off_thread};
use crate::http::served::{Served, Shared};
use crate::model::TokenId;
use crate::openai::chat_answer::ChatAnswer;
use crate::openai::chat_request::{ChatRequest, read_chat_request};
use crate::openai::error::ApiError;
use crate::openai::response_format::{ResponseFormat, narrowed};
use crate::parse::answer::Expected;
use crate::template::Conversation;

/// A request that is ready for the decoding thread.
struct Prepared {
    tokens: Vec<TokenId>,
    constraint: Option<Constraint>,
    expected: Expected,
}

/// Answers a chat request.
pub(crate) async fn chat(
    shared: &Shared,
    body: Map<String, Value>,
) -> Result<Response<AnswerBody>, ApiError> {
    let served = shared.served()?;
    let defaults = shared.config.sampling;
    let request = read_chat_request(&body, defaults, served.vocabulary.size(), rand::random())?;
    shared.check_model(&request.options.model)?;
    let choices = request.options.choices;
    let permits = shared.reserve(usize::try_from(choices).unwrap_or(usize::MAX))?;
    let worker = Arc::clone(&served);
    let (request, prepared) = off_thread(move || {
        let prepared = prepare(&worker, &request)?;
        Ok((request, prepared))
    })
    .await?;
    let Prepared { tokens, constraint, expected } = prepared;
    let options = &request.options;
    let answer = ChatAnswer::new(
        envelope("chatcmpl", options, &served),
        Arc::clone(&served.vocabulary),
        &expected,
        choices,
        request.logprobs.is_some(),
        u32::try_from(tokens.len()).unwrap_or(u32::MAX),
    );
    let (sender, events) = mpsc::unbounded_channel();
    for (index, permit) in (0..choices).zip(permits) {
        let mut sampling = options.sampling.clone();
        sampling.choice = index;
        served.submit(Work::Generate(Box::new(Job {
            prompt: tokens.clone(),
            tokens_max: options.tokens_max.unwrap_or(u32::MAX),
            tokens_min: options.tokens_min,
            ignore_end: options.ignore_end,
            sampling,
            constraint: constraint.clone(),
            stops: options.stops.clone(),
            logprobs: request.logprobs,
            prompt_logprobs: false,
            index,
            events: sender.clone(),
            permit: Some(permit),
        })))?;
    }
    // The jobs hold the only senders: if the thread dies the channel closes.
    drop(sender);
    if options.stream {
        Ok(stream(Answer::Chat(answer), events))
    } else {
        collect(Answer::Chat(answer), events).await
    }
}

/// Renders and tokenizes the conversation and compiles the grammar.
fn prepare(served: &Served, request: &ChatRequest) -> Result<Prepared, ApiError> {
    let forced = request.toolbox.forced_schema();
    let constraint = match (&forced, &request.format) {
        (Some(schema), _) => Some(
            served
                .constraints
                .json_schema(&narrowed(schema), true)
                .map_err(|fault| schema_error("tools", &fault))?,
        ),
        (None, ResponseFormat::Json { schema, strict }) => Some(
            served
                .constraints
                .json_schema(&narrowed(schema), !strict)
                .map_err(|fault| schema_error("response_format", &fault))?,
        ),
        (None, ResponseFormat::Text) => None,
    };
    let conversation = Conversation {
        messages: &request.messages,
        tools: request.toolbox.offered(),
        variables: &request.template_variables,
        forced: constraint.is_some(),
        open_call: forced.is_some(),
    };
    let rendered = served
        .template
        .render(conversation)
        .map_err(|fault| ApiError::invalid("messages", fault.to_string()))?;
    let tokens = served.conversation_tokens(&rendered.text);
    served.check_length("messages", tokens.len())?;
    let expected = if forced.is_some() {
        Expected::Calls
    } else {
        // An answer that a grammar forces is content, whatever it looks like.
        let offered = if constraint.is_some() { &[] } else { request.toolbox.offered() };
        Expected::Free {
            functions: offered.iter().map(|tool| tool.name.clone()).collect(),
            thinking: rendered.thinking && constraint.is_none(),
        }
    };
    Ok(Prepared { tokens, constraint, expected })
}

fn schema_error(param: &str, fault: &SchemaFault) -> ApiError {
    ApiError::invalid(param, fault.to_string()).with_code("invalid_schema")
}
