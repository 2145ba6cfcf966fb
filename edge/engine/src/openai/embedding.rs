//! `/v1/embeddings`: the request and the answer.

use base64::Engine as _;
use serde_json::{Map, Value, json};

use crate::openai::completion_request::{Prompt, read_tokens};
use crate::openai::error::ApiError;
use crate::openai::fields::Fields;

/// OpenAI's limit for inputs of one request.
const INPUTS_MAX: usize = 2048;

/// A request for embeddings that is right in itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EmbeddingRequest {
    pub(crate) model: String,
    pub(crate) inputs: Vec<Prompt>,
    /// Floats as base64 of their bytes instead of numbers.
    pub(crate) base64: bool,
    /// How many numbers to keep; `None` keeps all.
    pub(crate) dimensions: Option<usize>,
}

/// Reads the request; `width` is the number of numbers that the model gives.
pub(crate) fn read_embedding_request(
    body: &Map<String, Value>,
    vocabulary_size: usize,
    width: usize,
) -> Result<EmbeddingRequest, ApiError> {
    let fields = Fields::new(body, "");
    let model = fields.required_text("model")?.to_owned();
    let base64 = match fields.text("encoding_format")? {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => return Err(fields.refuse("encoding_format", "'float' or 'base64'")),
    };
    let most = i64::try_from(width).unwrap_or(i64::MAX);
    let dimensions = fields.integer("dimensions", 1, most)?;
    Ok(EmbeddingRequest {
        model,
        inputs: read_inputs(&fields, vocabulary_size)?,
        base64,
        dimensions: dimensions.and_then(|count| usize::try_from(count).ok()),
    })
}

fn read_inputs(fields: &Fields<'_>, vocabulary_size: usize) -> Result<Vec<Prompt>, ApiError> {
    let wanted = format!(
        "given, as a string, an array of strings, or arrays of token numbers below \
         {vocabulary_size}; none empty, at most {INPUTS_MAX} inputs"
    );
    let refuse = || fields.refuse("input", &wanted);
    let inputs = match fields.get("input") {
        Some(Value::String(text)) => vec![Prompt::Text(text.clone())],
        Some(Value::Array(list)) if !list.is_empty() && list.iter().all(Value::is_number) => {
            vec![Prompt::Tokens(read_tokens(list, vocabulary_size).ok_or_else(refuse)?)]
        }
        Some(Value::Array(list)) if (1..=INPUTS_MAX).contains(&list.len()) => list
            .iter()
            .map(|item| match item {
                Value::String(text) => Ok(Prompt::Text(text.clone())),
                Value::Array(tokens) => {
                    read_tokens(tokens, vocabulary_size).map(Prompt::Tokens).ok_or_else(refuse)
                }
                _ => Err(refuse()),
            })
            .collect::<Result<_, _>>()?,
        _ => return Err(refuse()),
    };
    let empty = |input: &Prompt| match input {
        Prompt::Text(text) => text.is_empty(),
        Prompt::Tokens(tokens) => tokens.is_empty(),
    };
    if inputs.iter().any(empty) { Err(refuse()) } else { Ok(inputs) }
}

/// Cuts to `dimensions` and scales to length 1, as OpenAI's embeddings are.
pub(crate) fn normalized(mut vector: Vec<f32>, dimensions: Option<usize>) -> Vec<f32> {
    vector.truncate(dimensions.unwrap_or(usize::MAX));
    let length: f64 = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    if length > 0.0 && length.is_finite() {
        #[allow(clippy::cast_possible_truncation)] // the rounding is wanted
        vector.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
    }
    vector
}

/// The body of the answer.
pub(crate) fn embedding_answer(
    model: &str,
    vectors: &[Vec<f32>],
    base64: bool,
    prompt_tokens: u32,
) -> Value {
    let data: Vec<Value> = vectors
        .iter()
        .enumerate()
        .map(|(index, vector)| {
            let embedding = if base64 {
                let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
                json!(base64::engine::general_purpose::STANDARD.encode(bytes))
            } else {
                json!(vector)
            };
            json!({"object": "embedding", "index": index, "embedding": embedding})
        })
        .collect();
    json!({
        "object": "list",
        "data": data,
        "model": model,
        "usage": {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_and_formats_are_read_or_refused() {
        let read = |value: Value| read_embedding_request(value.as_object().unwrap(), 100, 8);
        let request = read(json!({"model": "m", "input": ["a", "b"], "dimensions": 4})).unwrap();
        assert_eq!((request.inputs.len(), request.dimensions), (2, Some(4)));
        assert!(
            read(json!({"model": "m", "input": [1, 2], "encoding_format": "base64"}))
                .unwrap()
                .base64
        );
        for (param, value) in [
            ("model", json!({"input": "a"})),
            ("input", json!({"model": "m"})),
            ("input", json!({"model": "m", "input": ""})),
            ("input", json!({"model": "m", "input": [""]})),
            ("input", json!({"model": "m", "input": [500]})),
            ("encoding_format", json!({"model": "m", "input": "a", "encoding_format": "x"})),
            ("dimensions", json!({"model": "m", "input": "a", "dimensions": 9})),
        ] {
            assert_eq!(read(value).unwrap_err().body()["error"]["param"], param);
        }
    }

    #[test]
    fn vectors_have_length_one_and_survive_base64() {
        let vector = normalized(vec![3.0, 4.0, 99.0], Some(2));
        assert_eq!(vector, [0.6, 0.8]);
        assert_eq!(normalized(vec![0.0], None), [0.0]);
        let answer = embedding_answer("m", &[vector], true, 5);
        let text = answer["data"][0]["embedding"].as_str().unwrap();
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
        assert_eq!(f32::from_le_bytes(bytes[..4].try_into().unwrap()), 0.6);
    }
}
