//! The answer of `/v1/completions`, in pieces or at once.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::generate::job::{FinishReason, JobEvent};
use crate::generate::logprobs::PositionLogprobs;
use crate::model::{TokenId, Vocabulary};
use crate::openai::chat_answer::Envelope;
use crate::openai::error::ApiError;
use crate::openai::logprobs::CompletionLogprobs;
use crate::openai::usage::Usage;

const OBJECT: &str = "text_completion";

/// A prompt as the answer needs it.
#[derive(Clone, Debug)]
pub(crate) struct EchoPrompt {
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) text: String,
}

/// All choices of one request; choice `i` belongs to prompt `i / n`.
pub(crate) struct CompletionAnswer {
    envelope: Envelope,
    vocabulary: Arc<dyn Vocabulary>,
    prompts: Vec<EchoPrompt>,
    per_prompt: usize,
    echo: bool,
    with_logprobs: bool,
    choices: Vec<Choice>,
}

#[derive(Default)]
struct Choice {
    text: String,
    /// Everything for the whole answer, and what the next chunk carries.
    all_logprobs: CompletionLogprobs,
    new_logprobs: CompletionLogprobs,
    cached_tokens: u32,
    generated_tokens: u32,
    finish: Option<&'static str>,
}

impl CompletionAnswer {
    pub(crate) fn new(
        envelope: Envelope,
        vocabulary: Arc<dyn Vocabulary>,
        prompts: Vec<EchoPrompt>,
        per_prompt: u32,
        echo: bool,
        with_logprobs: bool,
    ) -> Self {
        let per_prompt = usize::try_from(per_prompt).unwrap_or(1).max(1);
        let count = prompts.len() * per_prompt;
        let choices = (0..count).map(|_| Choice::default()).collect();
        Self { envelope, vocabulary, prompts, per_prompt, echo, with_logprobs, choices }
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
        let prompt = self.prompts.get(slot / self.per_prompt);
        let Some(choice) = self.choices.get_mut(slot) else { return Ok(Vec::new()) };
        let text = match event {
            JobEvent::Started { cached_tokens, prompt_logprobs } => {
                choice.cached_tokens = cached_tokens;
                let Some(prompt) = prompt else { return Ok(Vec::new()) };
                let offset = prompt.text.chars().count();
                if !self.echo {
                    choice.all_logprobs.begin_at(offset);
                    choice.new_logprobs.begin_at(offset);
                    return Ok(Vec::new());
                }
                choice.note_prompt(&*self.vocabulary, &prompt.tokens, &prompt_logprobs);
                prompt.text.clone()
            }
            JobEvent::Delta { text, tokens, generated_tokens } => {
                choice.generated_tokens = generated_tokens;
                for record in &tokens {
                    let position = record.logprobs.as_ref();
                    choice.note_token(&*self.vocabulary, record.token, position);
                }
                text
            }
            JobEvent::Finished { reason, generated_tokens } => {
                choice.generated_tokens = generated_tokens;
                choice.finish = Some(match reason {
                    FinishReason::Length => "length",
                    FinishReason::Stop => "stop",
                });
                String::new()
            }
            JobEvent::Failed { reason } => return Err(ApiError::internal(reason)),
        };
        choice.text.push_str(&text);
        let logprobs = if self.with_logprobs { choice.new_logprobs.take() } else { Value::Null };
        let choices = json!([{
            "index": index, "text": text, "logprobs": logprobs, "finish_reason": choice.finish,
        }]);
        Ok(vec![self.envelope.chunk(OBJECT, choices, Value::Null)])
    }

    /// The last chunk with the usage, if the request wants it.
    pub(crate) fn usage_chunk(&self) -> Option<Value> {
        self.envelope
            .include_usage
            .then(|| self.envelope.chunk(OBJECT, json!([]), self.usage().to_json()))
    }

    fn usage(&self) -> Usage {
        let narrow = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Usage {
            prompt_tokens: narrow(self.prompts.iter().map(|prompt| prompt.tokens.len()).sum()),
            cached_tokens: self
                .choices
                .iter()
                .step_by(self.per_prompt)
                .map(|choice| choice.cached_tokens)
                .sum(),
            completion_tokens: self.choices.iter().map(|choice| choice.generated_tokens).sum(),
            reasoning_tokens: 0,
        }
    }

    /// The whole answer, once it is complete.
    pub(crate) fn whole(&mut self) -> Value {
        let with_logprobs = self.with_logprobs;
        let choices: Vec<Value> = (0_u32..)
            .zip(&mut self.choices)
            .map(|(index, choice)| {
                let logprobs = if with_logprobs { choice.all_logprobs.take() } else { Value::Null };
                json!({
                    "index": index,
                    "text": choice.text,
                    "logprobs": logprobs,
                    "finish_reason": choice.finish,
                })
            })
            .collect();
        self.envelope.whole(OBJECT, Value::Array(choices), self.usage())
    }
}

impl Choice {
    fn note_token(
        &mut self,
        vocabulary: &dyn Vocabulary,
        token: TokenId,
        position: Option<&PositionLogprobs>,
    ) {
        self.all_logprobs.push(vocabulary, token, position);
        self.new_logprobs.push(vocabulary, token, position);
    }

    fn note_prompt(
        &mut self,
        vocabulary: &dyn Vocabulary,
        tokens: &[TokenId],
        positions: &[Option<PositionLogprobs>],
    ) {
        for (index, token) in tokens.iter().enumerate() {
            let position = positions.get(index).and_then(Option::as_ref);
            self.note_token(vocabulary, *token, position);
        }
    }
}
