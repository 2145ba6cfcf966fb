//! The types of the members that OpenAI documents: wrong ones are refused before anything is paid.
//!
//! Only the type of a top-level member is checked, never its range or content: what a model
//! server accepts is its own matter, and members that are not listed pass.

use std::borrow::Cow;

use crate::endpoint::Endpoint;
use crate::fault::ApiError;
use crate::json::{Kind, Object};

const NULL: u8 = 1;
const BOOL: u8 = 2;
const INTEGER: u8 = 4;
const NUMBER: u8 = 4 | 8;
const STRING: u8 = 16;
const ARRAY: u8 = 32;
const OBJECT: u8 = 64;

const fn mask(kind: Kind) -> u8 {
    match kind {
        Kind::Null => NULL,
        Kind::True | Kind::False => BOOL,
        Kind::Integer => INTEGER,
        Kind::Double => 8,
        Kind::String => STRING,
        Kind::Array => ARRAY,
        Kind::Object => OBJECT,
    }
}

type Rule = (&'static str, u8);

/// Members that mean the same everywhere.
const EVERYWHERE: [Rule; 5] = [
    ("model", STRING),
    ("stream", BOOL | NULL),
    ("stream_options", OBJECT | NULL),
    ("user", STRING | NULL),
    ("metadata", OBJECT | NULL),
];

const SAMPLING: [Rule; 8] = [
    ("temperature", NUMBER | NULL),
    ("top_p", NUMBER | NULL),
    ("max_tokens", INTEGER | NULL),
    ("n", INTEGER | NULL),
    ("seed", INTEGER | NULL),
    ("frequency_penalty", NUMBER | NULL),
    ("presence_penalty", NUMBER | NULL),
    ("logit_bias", OBJECT | NULL),
];

const CHAT: [Rule; 9] = [
    ("messages", ARRAY),
    ("max_completion_tokens", INTEGER | NULL),
    ("logprobs", BOOL | NULL),
    ("top_logprobs", INTEGER | NULL),
    ("stop", STRING | ARRAY | NULL),
    ("tools", ARRAY | NULL),
    ("tool_choice", STRING | OBJECT | NULL),
    ("parallel_tool_calls", BOOL | NULL),
    ("response_format", OBJECT | NULL),
];

const COMPLETIONS: [Rule; 5] = [
    ("prompt", STRING | ARRAY),
    ("best_of", INTEGER | NULL),
    ("echo", BOOL | NULL),
    ("stop", STRING | ARRAY | NULL),
    ("suffix", STRING | NULL),
];

const EMBEDDINGS: [Rule; 3] =
    [("input", STRING | ARRAY), ("encoding_format", STRING | NULL), ("dimensions", INTEGER | NULL)];

const RESPONSES: [Rule; 9] = [
    ("input", STRING | ARRAY),
    ("instructions", STRING | ARRAY | NULL),
    ("max_output_tokens", INTEGER | NULL),
    ("temperature", NUMBER | NULL),
    ("top_p", NUMBER | NULL),
    ("tools", ARRAY | NULL),
    ("tool_choice", STRING | OBJECT | NULL),
    ("text", OBJECT | NULL),
    ("previous_response_id", STRING | NULL),
];

const MESSAGES: [Rule; 8] = [
    ("messages", ARRAY),
    ("max_tokens", INTEGER),
    ("system", STRING | ARRAY | NULL),
    ("temperature", NUMBER | NULL),
    ("top_p", NUMBER | NULL),
    ("stop_sequences", ARRAY | NULL),
    ("tools", ARRAY | NULL),
    ("tool_choice", OBJECT | NULL),
];

const SPEECH: [Rule; 2] = [("input", STRING), ("voice", STRING | OBJECT)];

const IMAGES: [Rule; 2] = [("prompt", STRING), ("n", INTEGER | NULL)];

/// The rules of an endpoint and the members it cannot do without.
fn rules(endpoint: Endpoint) -> (&'static [Rule], &'static [Rule], &'static [&'static str]) {
    match endpoint {
        Endpoint::ChatCompletions => (&SAMPLING, &CHAT, &["messages"]),
        Endpoint::Completions => (&SAMPLING, &COMPLETIONS, &["prompt"]),
        Endpoint::Embeddings => (&[], &EMBEDDINGS, &["input"]),
        Endpoint::Responses => (&[], &RESPONSES, &["input"]),
        Endpoint::Messages => (&[], &MESSAGES, &["messages", "max_tokens"]),
        Endpoint::Transcriptions => (&[], &[], &[]),
        Endpoint::Speech => (&[], &SPEECH, &["input"]),
        Endpoint::Images => (&[], &IMAGES, &["prompt"]),
    }
}

/// Checks the types of known members and the presence of required ones.
pub(crate) fn check(
    endpoint: Endpoint,
    body: &[u8],
    object: &Object,
    names: &[Cow<'_, str>],
) -> Result<(), ApiError> {
    let (shared, own, required) = rules(endpoint);
    let tables = [&EVERYWHERE[..], shared, own];
    for (member, name) in object.members.iter().zip(names) {
        let rule = tables.iter().flat_map(|table| table.iter()).find(|rule| rule.0 == *name);
        let Some(&(name, allowed)) = rule else { continue };
        if mask(member.kind) & allowed == 0 {
            let expected = words(allowed);
            let message = format!("Invalid type for '{name}': expected {expected}.");
            return Err(ApiError::invalid(name, message).with_code("invalid_type"));
        }
        if name == "messages" && is_empty_array(member.value_in(body)) {
            let message = "'messages' is empty: send at least one message.";
            return Err(ApiError::invalid(name, message).with_code("empty_array"));
        }
    }
    // Without a model nothing else matters to the caller.
    for name in ["model"].iter().chain(required).copied() {
        if !names.iter().any(|other| other == name) {
            let message = format!("Missing required parameter: '{name}'.");
            return Err(ApiError::invalid(name, message).with_code("missing_required_parameter"));
        }
    }
    Ok(())
}

fn is_empty_array(value: &[u8]) -> bool {
    value.iter().all(|byte| matches!(byte, b'[' | b']' | b' ' | b'\t' | b'\r' | b'\n'))
        && value.iter().filter(|&&byte| byte == b'[').count() == 1
}

fn words(allowed: u8) -> String {
    let all: [(u8, &str); 7] = [
        (STRING, "a string"),
        (NUMBER, "a number"),
        (INTEGER, "an integer"),
        (BOOL, "a boolean"),
        (ARRAY, "an array"),
        (OBJECT, "an object"),
        (NULL, "null"),
    ];
    let number = allowed & NUMBER == NUMBER;
    let chosen = all
        .iter()
        .filter(|(bits, word)| allowed & bits == *bits && !(number && *word == "an integer"));
    chosen.map(|(_, word)| *word).collect::<Vec<_>>().join(" or ")
}
