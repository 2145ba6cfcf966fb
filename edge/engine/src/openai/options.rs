//! The parameters that chat and plain completions share.

use crate::config::SamplingDefaults;
use crate::generate::sampler::SamplingParams;
use crate::model::TokenId;
use crate::openai::error::ApiError;
use crate::openai::fields::Fields;

/// Most answers to one request.
const CHOICES_MAX: i64 = 64;
/// Most stop sequences, and the length of one in bytes.
const STOPS_MAX: usize = 16;
const STOP_BYTES_MAX: usize = 1024;
/// Most tokens with a bias.
const BIASES_MAX: usize = 4096;
/// OpenAI's limit for `top_logprobs`.
pub(crate) const TOP_LOGPROBS_MAX: i64 = 20;

/// What to generate, apart from the prompt.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Options {
    pub(crate) model: String,
    pub(crate) choices: u32,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    /// `None` goes on to the end of the context.
    pub(crate) tokens_max: Option<u32>,
    pub(crate) tokens_min: u32,
    pub(crate) ignore_end: bool,
    pub(crate) stops: Vec<String>,
    pub(crate) sampling: SamplingParams,
}

/// Reads the shared parameters. `random_seed` stands in when the request names none.
///
/// `min_tokens`, `ignore_eos`, `top_k` and `min_p` are no parameters of OpenAI; vLLM and
/// llama.cpp's server have them under these names.
pub(crate) fn read_options(
    fields: &Fields<'_>,
    defaults: SamplingDefaults,
    vocabulary_size: usize,
    random_seed: u64,
) -> Result<Options, ApiError> {
    let model = fields.required_text("model")?.to_owned();
    let choices = fields.integer("n", 1, CHOICES_MAX)?.unwrap_or(1);
    let tokens_max = match fields.integer("max_completion_tokens", 0, i64::from(u32::MAX))? {
        Some(count) => Some(count),
        None => fields.integer("max_tokens", 0, i64::from(u32::MAX))?,
    };
    let include_usage = match fields.object("stream_options")? {
        Some(options) => {
            Fields::new(options, "stream_options.").boolean("include_usage")?.unwrap_or(false)
        }
        None => false,
    };
    Ok(Options {
        model,
        choices: narrow(choices),
        stream: fields.boolean("stream")?.unwrap_or(false),
        include_usage,
        tokens_max: tokens_max.map(narrow),
        tokens_min: fields.integer("min_tokens", 0, i64::from(u32::MAX))?.map_or(0, narrow),
        ignore_end: fields.boolean("ignore_eos")?.unwrap_or(false),
        stops: read_stops(fields)?,
        sampling: read_sampling(fields, defaults, vocabulary_size, random_seed)?,
    })
}

fn narrow(value: i64) -> u32 {
    u32::try_from(value).unwrap_or(0)
}

fn read_sampling(
    fields: &Fields<'_>,
    defaults: SamplingDefaults,
    vocabulary_size: usize,
    random_seed: u64,
) -> Result<SamplingParams, ApiError> {
    let top_k = fields.integer("top_k", -1, i64::from(i32::MAX))?;
    Ok(SamplingParams {
        temperature: fields.number("temperature", 0.0, 2.0)?.unwrap_or(defaults.temperature),
        top_p: fields.number("top_p", 0.0, 1.0)?.unwrap_or(defaults.top_p),
        top_k: top_k.map_or(defaults.top_k, |count| narrow(count.max(0))),
        min_p: fields.number("min_p", 0.0, 1.0)?.unwrap_or(defaults.min_p),
        frequency_penalty: fields.number("frequency_penalty", -2.0, 2.0)?.unwrap_or(0.0),
        presence_penalty: fields.number("presence_penalty", -2.0, 2.0)?.unwrap_or(0.0),
        seed: fields.integer("seed", i64::MIN, i64::MAX)?.map_or(random_seed, i64::cast_unsigned),
        choice: 0,
        logit_bias: read_biases(fields, vocabulary_size)?,
    })
}

/// A string or a list of strings.
fn read_stops(fields: &Fields<'_>) -> Result<Vec<String>, ApiError> {
    let wanted = format!(
        "a string or an array of at most {STOPS_MAX} strings of 1 to {STOP_BYTES_MAX} bytes"
    );
    let refuse = || fields.refuse("stop", &wanted);
    let Some(value) = fields.get("stop") else { return Ok(Vec::new()) };
    let list = match (value.as_str(), value.as_array()) {
        (Some(one), _) => vec![one.to_owned()],
        (None, Some(list)) if list.len() <= STOPS_MAX => list
            .iter()
            .map(|item| item.as_str().map(str::to_owned).ok_or_else(refuse))
            .collect::<Result<Vec<_>, _>>()?,
        _ => return Err(refuse()),
    };
    if list.iter().any(|stop| stop.is_empty() || stop.len() > STOP_BYTES_MAX) {
        return Err(refuse());
    }
    Ok(list)
}

/// An object of token numbers (as strings) and biases from -100 to 100.
fn read_biases(
    fields: &Fields<'_>,
    vocabulary_size: usize,
) -> Result<Vec<(TokenId, f32)>, ApiError> {
    let Some(map) = fields.object("logit_bias")? else { return Ok(Vec::new()) };
    let wanted = format!(
        "an object of at most {BIASES_MAX} token numbers below {vocabulary_size}, written as \
         strings, with biases from -100 to 100"
    );
    if map.len() > BIASES_MAX {
        return Err(fields.refuse("logit_bias", &wanted));
    }
    map.iter()
        .map(|(token, bias)| {
            let token = token
                .parse::<TokenId>()
                .ok()
                .filter(|token| usize::try_from(*token).is_ok_and(|token| token < vocabulary_size));
            #[allow(clippy::cast_possible_truncation)] // the rounding is wanted
            let bias = bias.as_f64().map(|bias| bias as f32);
            match (token, bias.filter(|bias| (-100.0..=100.0).contains(bias))) {
                // OpenAI says that -100 bans a token.
                (Some(token), Some(bias)) if bias <= -100.0 => Ok((token, f32::NEG_INFINITY)),
                (Some(token), Some(bias)) => Ok((token, bias)),
                _ => Err(fields.refuse("logit_bias", &wanted)),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(value: &Value) -> Result<Options, ApiError> {
        let fields = Fields::new(value.as_object().unwrap(), "");
        read_options(&fields, SamplingDefaults::default(), 100, 42)
    }

    #[test]
    fn defaults_and_aliases() {
        let options = read(&json!({"model": "m"})).unwrap();
        assert_eq!((options.choices, options.stream, options.tokens_max), (1, false, None));
        assert_eq!((options.sampling.seed, options.sampling.min_p), (42, 0.05));
        let options = read(&json!({
            "model": "m", "max_tokens": 9, "max_completion_tokens": 5, "stop": "x", "seed": -1,
            "top_k": -1, "stream": true, "stream_options": {"include_usage": true},
            "logit_bias": {"7": -100, "8": 1.5}
        }))
        .unwrap();
        assert_eq!((options.tokens_max, options.stops), (Some(5), vec!["x".to_owned()]));
        assert_eq!((options.sampling.seed, options.sampling.top_k), (u64::MAX, 0));
        assert!(options.stream && options.include_usage);
        assert_eq!(options.sampling.logit_bias, [(7, f32::NEG_INFINITY), (8, 1.5)]);
    }

    #[test]
    fn each_wrong_parameter_is_a_400_that_names_it() {
        for (param, value) in [
            ("model", json!({})),
            ("model", json!({"model": 5})),
            ("n", json!({"model": "m", "n": 0})),
            ("n", json!({"model": "m", "n": 65})),
            ("temperature", json!({"model": "m", "temperature": 2.5})),
            ("temperature", json!({"model": "m", "temperature": "hot"})),
            ("top_p", json!({"model": "m", "top_p": -1})),
            ("max_tokens", json!({"model": "m", "max_tokens": -1})),
            ("max_completion_tokens", json!({"model": "m", "max_completion_tokens": 1.5})),
            ("stop", json!({"model": "m", "stop": [""]})),
            ("stop", json!({"model": "m", "stop": [1]})),
            ("stop", json!({"model": "m", "stop": vec!["a"; 17]})),
            ("logit_bias", json!({"model": "m", "logit_bias": {"100": 1}})),
            ("logit_bias", json!({"model": "m", "logit_bias": {"x": 1}})),
            ("logit_bias", json!({"model": "m", "logit_bias": {"1": 101}})),
            ("stream", json!({"model": "m", "stream": "yes"})),
            ("stream_options", json!({"model": "m", "stream_options": 1})),
            ("seed", json!({"model": "m", "seed": "x"})),
        ] {
            let fault = read(&value).unwrap_err();
            assert_eq!((fault.status, &fault.body()["error"]["param"]), (400, &json!(param)));
        }
    }
}
