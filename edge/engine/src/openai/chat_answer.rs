//! The answer of `/v1/chat/completions`, in pieces or at once.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::generate::assembler::TokenRecord;
use crate::generate::job::{FinishReason, JobEvent};
use crate::model::Vocabulary;
use crate::openai::error::ApiError;
use crate::openai::logprobs::chat_logprobs;
use crate::openai::usage::Usage;
use crate::parse::answer::{AnswerParser, Expected, Piece};

/// What stands in every chunk and in the whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Envelope {
    pub(crate) id: String,
    pub(crate) model: String,
    /// Seconds since 1970.
    pub(crate) created: u64,
    pub(crate) fingerprint: String,
    pub(crate) include_usage: bool,
}

impl Envelope {
    pub(crate) fn chunk(&self, object: &str, choices: Value, usage: Value) -> Value {
        let mut value = json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": choices,
        });
        if self.include_usage {
            value["usage"] = usage;
        }
        value
    }

    pub(crate) fn whole(&self, object: &str, choices: Value, usage: Usage) -> Value {
        json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": choices,
            "usage": usage.to_json(),
        })
    }
}

/// All choices of one chat request.
pub(crate) struct ChatAnswer {
    envelope: Envelope,
    vocabulary: Arc<dyn Vocabulary>,
    choices: Vec<Choice>,
    with_logprobs: bool,
    prompt_tokens: u32,
}

/// One choice and all that was said in it.
struct Choice {
    parser: AnswerParser,
    content: String,
    reasoning: String,
    calls: Vec<Call>,
    logprobs: Vec<Value>,
    /// Log-probabilities that no chunk carried yet.
    unsent_logprobs: Vec<Value>,
    cached_tokens: u32,
    generated_tokens: u32,
    reasoning_tokens: u32,
    finish: Option<&'static str>,
}

struct Call {
    id: String,
    name: String,
    arguments: String,
}

impl ChatAnswer {
    pub(crate) fn new(
        envelope: Envelope,
        vocabulary: Arc<dyn Vocabulary>,
        expected: &Expected,
        choices: u32,
        with_logprobs: bool,
        prompt_tokens: u32,
    ) -> Self {
        let choice = || Choice {
            parser: AnswerParser::new(expected.clone()),
            content: String::new(),
            reasoning: String::new(),
            calls: Vec::new(),
            logprobs: Vec::new(),
            unsent_logprobs: Vec::new(),
            cached_tokens: 0,
            generated_tokens: 0,
            reasoning_tokens: 0,
            finish: None,
        };
        let choices = (0..choices).map(|_| choice()).collect();
        Self { envelope, vocabulary, choices, with_logprobs, prompt_tokens }
    }

    /// Whether every choice has ended.
    pub(crate) fn is_complete(&self) -> bool {
        self.choices.iter().all(|choice| choice.finish.is_some())
    }

    /// Takes an event of a choice and answers the chunks that it makes.
    ///
    /// # Errors
    /// The whole answer has failed.
    pub(crate) fn take(&mut self, index: u32, event: JobEvent) -> Result<Vec<Value>, ApiError> {
        let slot = usize::try_from(index).unwrap_or(usize::MAX);
        let Some(choice) = self.choices.get_mut(slot) else { return Ok(Vec::new()) };
        let deltas = match event {
            JobEvent::Started { cached_tokens, .. } => {
                choice.cached_tokens = cached_tokens;
                vec![json!({"role": "assistant", "content": "", "refusal": null})]
            }
            JobEvent::Delta { text, tokens, generated_tokens } => {
                choice.note_tokens(&*self.vocabulary, &tokens, generated_tokens);
                choice.push_text(&text)
            }
            JobEvent::Finished { reason, generated_tokens } => {
                choice.generated_tokens = generated_tokens;
                choice.finish(reason)
            }
            JobEvent::Failed { reason } => return Err(ApiError::internal(reason)),
        };
        let chunks = deltas.into_iter().map(|delta| self.chunk(index, delta)).collect();
        Ok(chunks)
    }

    fn chunk(&mut self, index: u32, delta: Value) -> Value {
        let with_logprobs = self.with_logprobs;
        let slot = usize::try_from(index).unwrap_or(usize::MAX);
        let mut logprobs = Value::Null;
        let mut finish = Value::Null;
        if let Some(choice) = self.choices.get_mut(slot) {
            let entries = std::mem::take(&mut choice.unsent_logprobs);
            if with_logprobs && !entries.is_empty() {
                logprobs = json!({"content": entries, "refusal": null});
            }
            if delta.as_object().is_some_and(Map::is_empty) {
                finish = json!(choice.finish);
            }
        }
        let choices = json!([{
            "index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish,
        }]);
        self.envelope.chunk("chat.completion.chunk", choices, Value::Null)
    }

    /// The last chunk with the usage, if the request wants it.
    pub(crate) fn usage_chunk(&self) -> Option<Value> {
        self.envelope.include_usage.then(|| {
            self.envelope.chunk("chat.completion.chunk", json!([]), self.usage().to_json())
        })
    }

    fn usage(&self) -> Usage {
        let sum = |count: fn(&Choice) -> u32| self.choices.iter().map(count).sum();
        Usage {
            prompt_tokens: self.prompt_tokens,
            cached_tokens: self.choices.first().map_or(0, |choice| choice.cached_tokens),
            completion_tokens: sum(|choice| choice.generated_tokens),
            reasoning_tokens: sum(|choice| choice.reasoning_tokens),
        }
    }

    /// The whole answer, once it is complete.
    pub(crate) fn whole(&self) -> Value {
        let choices: Vec<Value> = (0_u32..)
            .zip(&self.choices)
            .map(|(index, choice)| {
                let logprobs = if self.with_logprobs {
                    json!({"content": choice.logprobs, "refusal": null})
                } else {
                    Value::Null
                };
                json!({
                    "index": index,
                    "message": choice.message(),
                    "logprobs": logprobs,
                    "finish_reason": choice.finish,
                })
            })
            .collect();
        self.envelope.whole("chat.completion", Value::Array(choices), self.usage())
    }
}

impl Choice {
    fn note_tokens(
        &mut self,
        vocabulary: &dyn Vocabulary,
        tokens: &[TokenRecord],
        generated_tokens: u32,
    ) {
        let entries = chat_logprobs(vocabulary, tokens);
        self.unsent_logprobs.extend(entries.iter().cloned());
        self.logprobs.extend(entries);
        self.generated_tokens = generated_tokens;
    }

    fn push_text(&mut self, text: &str) -> Vec<Value> {
        let was_reasoning = self.parser.is_reasoning();
        let pieces = self.parser.push(text);
        if was_reasoning || self.parser.is_reasoning() {
            self.reasoning_tokens = self.generated_tokens;
        }
        pieces.into_iter().map(|piece| self.add(piece)).collect()
    }

    fn finish(&mut self, reason: FinishReason) -> Vec<Value> {
        if self.parser.is_reasoning() {
            self.reasoning_tokens = self.generated_tokens;
        }
        let pieces = self.parser.finish();
        let mut deltas: Vec<Value> = pieces.into_iter().map(|piece| self.add(piece)).collect();
        self.finish = Some(match reason {
            FinishReason::Length => "length",
            FinishReason::Stop if self.parser.has_calls() => "tool_calls",
            FinishReason::Stop => "stop",
        });
        deltas.push(json!({}));
        deltas
    }

    /// Adds a piece to the whole and answers its delta.
    fn add(&mut self, piece: Piece) -> Value {
        match piece {
            Piece::Reasoning(text) => {
                self.reasoning.push_str(&text);
                json!({"reasoning_content": text})
            }
            Piece::Content(text) => {
                self.content.push_str(&text);
                json!({"content": text})
            }
            Piece::CallBegins { index, name } => {
                let id = format!("call_{}", random_id());
                let delta = json!({"tool_calls": [{
                    "index": index, "id": id, "type": "function",
                    "function": {"name": name, "arguments": ""},
                }]});
                self.calls.push(Call { id, name, arguments: String::new() });
                delta
            }
            Piece::CallArguments { index, text } => {
                if let Some(call) = self.calls.last_mut() {
                    call.arguments.push_str(&text);
                }
                json!({"tool_calls": [{"index": index, "function": {"arguments": text}}]})
            }
        }
    }

    fn message(&self) -> Value {
        let content = if self.content.is_empty() && !self.calls.is_empty() {
            None
        } else {
            Some(&self.content)
        };
        let mut message = json!({
            "role": "assistant", "content": content, "refusal": null, "annotations": [],
        });
        if !self.reasoning.is_empty() {
            message["reasoning_content"] = json!(self.reasoning);
        }
        if !self.calls.is_empty() {
            message["tool_calls"] = self
                .calls
                .iter()
                .map(|call| {
                    json!({
                        "id": call.id, "type": "function",
                        "function": {"name": call.name, "arguments": call.arguments},
                    })
                })
                .collect();
        }
        message
    }
}

/// 24 hexadecimal digits that no other answer has.
pub(crate) fn random_id() -> String {
    hex::encode(rand::random::<[u8; 12]>())
}
