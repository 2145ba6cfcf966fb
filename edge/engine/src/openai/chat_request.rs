//! The body of `/v1/chat/completions`.

use serde_json::{Map, Value};

use crate::config::SamplingDefaults;
use crate::openai::error::ApiError;
use crate::openai::fields::Fields;
use crate::openai::message::{Message, read_messages};
use crate::openai::options::{Options, TOP_LOGPROBS_MAX, read_options};
use crate::openai::response_format::{ResponseFormat, read_response_format};
use crate::openai::tools::{Toolbox, read_toolbox};

/// A chat request that is right in itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ChatRequest {
    pub(crate) options: Options,
    pub(crate) messages: Vec<Message>,
    pub(crate) toolbox: Toolbox,
    pub(crate) format: ResponseFormat,
    /// `None` reports no log-probabilities.
    pub(crate) logprobs: Option<usize>,
    /// Variables for the template, such as `enable_thinking` (as in vLLM and llama.cpp).
    pub(crate) template_variables: Map<String, Value>,
}

/// Reads the request; unknown members are ignored, as OpenAI's compatible servers do.
pub(crate) fn read_chat_request(
    body: &Map<String, Value>,
    defaults: SamplingDefaults,
    vocabulary_size: usize,
    random_seed: u64,
) -> Result<ChatRequest, ApiError> {
    let fields = Fields::new(body, "");
    let options = read_options(&fields, defaults, vocabulary_size, random_seed)?;
    let messages = read_messages(&fields)?;
    refuse_other_modalities(&fields)?;
    let top = fields.integer("top_logprobs", 0, TOP_LOGPROBS_MAX)?;
    let wanted = fields.boolean("logprobs")?.unwrap_or(false);
    if top.is_some_and(|top| top > 0) && !wanted {
        return Err(fields.refuse("top_logprobs", "absent unless 'logprobs' is true"));
    }
    let top = top.and_then(|top| usize::try_from(top).ok()).unwrap_or(0);
    Ok(ChatRequest {
        options,
        messages,
        toolbox: read_toolbox(&fields)?,
        format: read_response_format(&fields)?,
        logprobs: wanted.then_some(top),
        template_variables: fields.object("chat_template_kwargs")?.cloned().unwrap_or_default(),
    })
}

fn refuse_other_modalities(fields: &Fields<'_>) -> Result<(), ApiError> {
    let list = fields.array("modalities")?.unwrap_or_default();
    if list.iter().all(|modality| modality == "text") && fields.get("audio").is_none() {
        return Ok(());
    }
    Err(ApiError::invalid("modalities", "This model writes text only."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn read(value: &Value) -> Result<ChatRequest, ApiError> {
        read_chat_request(value.as_object().unwrap(), SamplingDefaults::default(), 100, 1)
    }

    #[test]
    fn logprobs_need_their_switch() {
        let messages = json!([{"role": "user", "content": "x"}]);
        let request = |extra: Value| {
            let mut body = json!({"model": "m", "messages": messages});
            body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            read(&body)
        };
        assert_eq!(request(json!({})).unwrap().logprobs, None);
        assert_eq!(request(json!({"logprobs": true})).unwrap().logprobs, Some(0));
        let top = request(json!({"logprobs": true, "top_logprobs": 3})).unwrap();
        assert_eq!(top.logprobs, Some(3));
        assert_eq!(request(json!({"top_logprobs": null})).unwrap().logprobs, None);
        assert!(request(json!({"top_logprobs": 3})).is_err());
        assert!(request(json!({"logprobs": true, "top_logprobs": 21})).is_err());
        assert!(request(json!({"modalities": ["text", "audio"]})).is_err());
    }

    fn arbitrary_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("(role|content|type|text|name)", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// Also the body of a fuzz target: any members are read or refused, never a panic.
        #[test]
        fn any_members_are_read_or_refused(
            members in proptest::collection::btree_map(
                "(messages|model|n|stop|tools|tool_choice|logit_bias|response_format|stream|\
                 max_tokens|temperature|seed|logprobs|top_logprobs|stream_options)",
                arbitrary_json(),
                0..8,
            ),
        ) {
            let body = Value::Object(members.into_iter().collect());
            if let Err(fault) = read(&body) {
                prop_assert_eq!(fault.status, 400);
            }
        }
    }
}
