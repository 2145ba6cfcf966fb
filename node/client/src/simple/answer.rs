//! A whole answer.

use cocoon_gateway::answer::{AnswerPart, InferenceStream};
use cocoon_gateway::{AnswerHead, AnswerParts, FinalRecord};
use cocoon_openai::UsageCounter;
use cocoon_units::{Nanoton, Usage};
use serde_json::Value;

use super::{AskFault, Machine};

/// Most bytes of an answer that is read whole.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// What a model answered, and what it cost.
#[derive(Clone, PartialEq)]
pub struct ChatAnswer {
    /// The text; empty when the model only called tools.
    pub text: String,
    /// What the model thought before, where it says so.
    pub reasoning: Option<String>,
    /// Functions that the model wants called.
    pub tool_calls: Vec<ToolCall>,
    /// Why it ended: `stop`, `length`, `tool_calls`.
    pub finish_reason: Option<String>,
    /// Tokens as the model server counted them.
    pub usage: Option<Usage>,
    /// What the request cost.
    pub cost: Nanoton,
    /// Who answered.
    pub machine: Machine,
    /// The answer in OpenAI's form, in full.
    pub raw: Value,
}

/// Shows no content: answers do not belong in logs.
impl std::fmt::Debug for ChatAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatAnswer")
            .field("text_bytes", &self.text.len())
            .field("tool_calls", &self.tool_calls.len())
            .field("finish_reason", &self.finish_reason)
            .field("usage", &self.usage)
            .field("cost", &self.cost)
            .field("machine", &self.machine)
            .finish_non_exhaustive()
    }
}

/// A function that the model wants called.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ToolCall {
    /// To name the result with.
    pub id: String,
    /// The function.
    pub name: String,
    /// Its arguments: JSON text, as the model wrote it.
    pub arguments: String,
}

/// Shows no arguments.
impl std::fmt::Debug for ToolCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ToolCall").field("name", &self.name).finish_non_exhaustive()
    }
}

impl ChatAnswer {
    pub(super) fn read(raw: Value, record: &FinalRecord) -> Result<ChatAnswer, AskFault> {
        let message = raw
            .pointer("/choices/0/message")
            .ok_or(AskFault::senseless("a chat completion without a message"))?;
        let text = |name: &str| message[name].as_str().filter(|text| !text.is_empty());
        let calls = message["tool_calls"].as_array().into_iter().flatten();
        let call = |call: &Value| ToolCall {
            id: call["id"].as_str().unwrap_or_default().to_owned(),
            name: call["function"]["name"].as_str().unwrap_or_default().to_owned(),
            arguments: call["function"]["arguments"].as_str().unwrap_or_default().to_owned(),
        };
        Ok(ChatAnswer {
            text: text("content").unwrap_or_default().to_owned(),
            reasoning: text("reasoning_content").or(text("reasoning")).map(str::to_owned),
            tool_calls: calls.map(call).collect(),
            finish_reason: raw["choices"][0]["finish_reason"].as_str().map(str::to_owned),
            usage: record.usage,
            cost: record.cost,
            machine: Machine::of(&record.worker),
            raw,
        })
    }
}

/// Reads an answer to its end as JSON.
pub(super) async fn whole(stream: InferenceStream) -> Result<(Value, FinalRecord), AskFault> {
    let InferenceStream { head, mut parts } = stream;
    let (body, record) = gather(&mut parts).await?;
    if !head.status.is_success() {
        return Err(refused(&head, &body));
    }
    let value: Value =
        serde_json::from_slice(&body).map_err(|_| AskFault::senseless("it is no JSON"))?;
    Ok((value, record))
}

async fn gather(parts: &mut AnswerParts) -> Result<(Vec<u8>, FinalRecord), AskFault> {
    let mut body = Vec::new();
    loop {
        match parts.next().await {
            AnswerPart::Bytes(bytes) => {
                if body.len().saturating_add(bytes.len()) > ANSWER_BYTES_MAX {
                    return Err(AskFault::senseless("it does not end"));
                }
                body.extend_from_slice(&bytes);
            }
            AnswerPart::End(record) => {
                if let Some(error) = record.error {
                    return Err(error.into());
                }
                let mut counter = UsageCounter::default();
                counter.push(&body);
                let usage = record.usage.or(counter.usage());
                return Ok((body, FinalRecord { usage, ..*record }));
            }
        }
    }
}

/// The model server's own refusal.
pub(super) fn refused(head: &AnswerHead, body: &[u8]) -> AskFault {
    let told: Value = serde_json::from_slice(body).unwrap_or_default();
    let message = ["/error/message", "/message", "/detail", "/error"]
        .iter()
        .find_map(|path| told.pointer(path).and_then(Value::as_str))
        .unwrap_or("without saying why");
    AskFault::Server { status: head.status.as_u16(), message: message.chars().take(500).collect() }
}

/// Reads a refusal to its end.
pub(super) async fn read_refusal(head: &AnswerHead, parts: &mut AnswerParts) -> AskFault {
    match gather(parts).await {
        Ok((body, _)) => refused(head, &body),
        Err(fault) => fault,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails says where")]

    use super::*;
    use bytes::Bytes;
    use cocoon_gateway::answer_channel;
    use http::StatusCode;

    fn given(status: u16, body: &'static str) -> InferenceStream {
        let (feed, parts) = answer_channel(1 << 20);
        feed.push(Bytes::from_static(body.as_bytes())).unwrap();
        feed.finish(FinalRecord { cost: Nanoton(7), ..FinalRecord::default() });
        let head =
            AnswerHead { status: StatusCode::from_u16(status).unwrap(), ..Default::default() };
        InferenceStream { head, parts }
    }

    #[tokio::test]
    async fn answers_refusals_and_garbage_are_told_apart() {
        let body = r#"{"choices":[{"message":{"content":null,"reasoning":"hm","tool_calls":[
            {"id":"c","function":{"name":"f","arguments":"{}"}}]},"finish_reason":"tool_calls"}],
            "usage":{"prompt_tokens":3,"completion_tokens":2}}"#;
        let (value, record) = whole(given(200, body)).await.unwrap();
        let answer = ChatAnswer::read(value, &record).unwrap();
        assert_eq!((answer.text.as_str(), answer.reasoning.as_deref()), ("", Some("hm")));
        assert_eq!((answer.tool_calls[0].name.as_str(), answer.cost), ("f", Nanoton(7)));
        assert_eq!(answer.usage.unwrap().completion, 2);
        assert!(!format!("{answer:?}").contains("hm"), "no content in Debug");
        let refusal = whole(given(400, r#"{"error":{"message":"too long"}}"#)).await.unwrap_err();
        assert_eq!(refusal.to_string(), "the model server answered 400: too long");
        assert!(matches!(whole(given(200, "<html>")).await, Err(AskFault::Senseless(_))));
        let (value, record) = whole(given(200, "{}")).await.unwrap();
        assert!(matches!(ChatAnswer::read(value, &record), Err(AskFault::Senseless(_))));
    }
}
