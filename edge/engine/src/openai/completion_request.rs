//! The body of `/v1/completions`.

use serde_json::{Map, Value};

use crate::config::SamplingDefaults;
use crate::model::TokenId;
use crate::openai::error::ApiError;
use crate::openai::fields::Fields;
use crate::openai::options::{Options, TOP_LOGPROBS_MAX, read_options};

/// Most prompts in one request.
const PROMPTS_MAX: usize = 64;
/// OpenAI's default for this endpoint.
const TOKENS_MAX_DEFAULT: u32 = 16;

/// A prompt: text, or the model's own tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Prompt {
    Text(String),
    Tokens(Vec<TokenId>),
}

/// A completion request that is right in itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CompletionRequest {
    pub(crate) options: Options,
    pub(crate) prompts: Vec<Prompt>,
    /// Puts the prompt in front of the answer.
    pub(crate) echo: bool,
    /// `None` reports no log-probabilities.
    pub(crate) logprobs: Option<usize>,
    pub(crate) schema: Option<Map<String, Value>>,
}

/// Reads the request.
pub(crate) fn read_completion_request(
    body: &Map<String, Value>,
    defaults: SamplingDefaults,
    vocabulary_size: usize,
    random_seed: u64,
) -> Result<CompletionRequest, ApiError> {
    let fields = Fields::new(body, "");
    let mut options = read_options(&fields, defaults, vocabulary_size, random_seed)?;
    options.tokens_max.get_or_insert(TOKENS_MAX_DEFAULT);
    if fields.get("suffix").is_some_and(|suffix| suffix != "") {
        return Err(fields.refuse("suffix", "absent; this model cannot fill in"));
    }
    let best_of = fields.integer("best_of", 1, i64::from(u32::MAX))?;
    if best_of.is_some_and(|best_of| best_of != i64::from(options.choices)) {
        return Err(fields.refuse("best_of", "absent or equal to 'n'"));
    }
    Ok(CompletionRequest {
        options,
        prompts: read_prompts(&fields, vocabulary_size)?,
        echo: fields.boolean("echo")?.unwrap_or(false),
        logprobs: fields
            .integer("logprobs", 0, TOP_LOGPROBS_MAX)?
            .and_then(|top| usize::try_from(top).ok()),
        schema: fields.object("json_schema")?.cloned(),
    })
}

/// A string, an array of strings, an array of tokens, or an array of arrays of tokens.
fn read_prompts(fields: &Fields<'_>, vocabulary_size: usize) -> Result<Vec<Prompt>, ApiError> {
    let wanted = format!(
        "given, as a string, an array of strings, or arrays of token numbers below \
         {vocabulary_size}; at most {PROMPTS_MAX} prompts"
    );
    let refuse = || fields.refuse("prompt", &wanted);
    let list = match fields.get("prompt") {
        Some(Value::String(text)) => return Ok(vec![Prompt::Text(text.clone())]),
        Some(Value::Array(list)) if !list.is_empty() => list,
        _ => return Err(refuse()),
    };
    if list.iter().all(Value::is_number) {
        let tokens = read_tokens(list, vocabulary_size).ok_or_else(refuse)?;
        return Ok(vec![Prompt::Tokens(tokens)]);
    }
    if list.len() > PROMPTS_MAX {
        return Err(refuse());
    }
    list.iter()
        .map(|item| match item {
            Value::String(text) => Ok(Prompt::Text(text.clone())),
            Value::Array(tokens) => {
                read_tokens(tokens, vocabulary_size).map(Prompt::Tokens).ok_or_else(refuse)
            }
            _ => Err(refuse()),
        })
        .collect()
}

/// Token numbers of the vocabulary; none at all if one is not.
pub(crate) fn read_tokens(list: &[Value], vocabulary_size: usize) -> Option<Vec<TokenId>> {
    list.iter()
        .map(|value| {
            let token = TokenId::try_from(value.as_u64()?).ok()?;
            (usize::try_from(token).ok()? < vocabulary_size).then_some(token)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> Result<CompletionRequest, ApiError> {
        let body = value.as_object().unwrap();
        read_completion_request(body, SamplingDefaults::default(), 100, 1)
    }

    #[test]
    fn every_form_of_prompt_is_read() {
        let prompts = |prompt: Value| {
            read(json!({"model": "m", "prompt": prompt})).map(|request| request.prompts)
        };
        assert_eq!(prompts(json!("a")).unwrap(), [Prompt::Text("a".into())]);
        assert_eq!(prompts(json!(["a", "b"])).unwrap().len(), 2);
        assert_eq!(prompts(json!([1, 2])).unwrap(), [Prompt::Tokens(vec![1, 2])]);
        assert_eq!(prompts(json!([[1], [2, 3]])).unwrap().len(), 2);
        for wrong in [json!([]), json!(null), json!([100]), json!([1, "a"]), json!({"a": 1})] {
            assert_eq!(prompts(wrong).unwrap_err().body()["error"]["param"], "prompt");
        }
    }

    #[test]
    fn the_endpoints_own_rules_hold() {
        let request = read(json!({"model": "m", "prompt": "a"})).unwrap();
        assert_eq!(request.options.tokens_max, Some(16));
        assert!(read(json!({"model": "m", "prompt": "a", "suffix": "b"})).is_err());
        assert!(read(json!({"model": "m", "prompt": "a", "best_of": 2})).is_err());
        assert!(read(json!({"model": "m", "prompt": "a", "best_of": 2, "n": 2})).is_ok());
    }
}
