//! A chat request, put together.

use bytes::Bytes;
use cocoon_gateway::upstream::Wishes;
use cocoon_gateway::{InferenceRequest, Upstream as _};
use cocoon_openai::Endpoint;
use cocoon_units::{Coefficient, SecretBytes, Tokens};
use http::header::{self, HeaderValue};
use http::{HeaderMap, Method};
use serde_json::{Map, Value, json};
use std::time::Duration;

use super::answer::{self, ChatAnswer};
use super::stream::ChatStream;
use super::{AskFault, Client};

/// Answer tokens reserved when the program names no limit.
const MAX_TOKENS_DEFAULT: u64 = 10_000;
/// Time granted when the program grants none.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(120);
/// Price cap when the program names none, thousandths.
const COEFFICIENT_DEFAULT: i64 = 4_000;

/// A chat with a model, before it is sent. The methods that set something may be called in any
/// order; messages keep theirs.
#[must_use = "a request that is not sent does nothing"]
#[derive(Clone)]
pub struct ChatRequest<'a> {
    client: &'a Client,
    model: String,
    messages: Vec<Value>,
    members: Map<String, Value>,
    travel: Travel,
}

/// How a request travels: time, price, demands.
#[derive(Clone)]
pub(super) struct Travel {
    timeout: Duration,
    max_coefficient: i64,
    max_tokens: u64,
    wishes: Wishes,
    stream: bool,
}

impl Default for Travel {
    fn default() -> Self {
        Self {
            timeout: TIMEOUT_DEFAULT,
            max_coefficient: COEFFICIENT_DEFAULT,
            max_tokens: 0,
            wishes: Wishes::default(),
            stream: false,
        }
    }
}

impl Travel {
    pub(super) fn request(
        &self,
        endpoint: Endpoint,
        model: &str,
        body: &Value,
    ) -> Result<InferenceRequest, AskFault> {
        let max_coefficient = Coefficient::new(self.max_coefficient)
            .map_err(|fault| AskFault::Request(fault.to_string()))?;
        let json = HeaderValue::from_static("application/json");
        let id: [u8; 16] = cocoon_host::clock::random();
        Ok(InferenceRequest {
            request_id: format!("req_{}", super::hex(&id)),
            endpoint,
            model: model.to_owned(),
            method: Method::POST,
            path: endpoint.path(),
            headers: HeaderMap::from_iter([(header::CONTENT_TYPE, json)]),
            body: SecretBytes::new(Bytes::from(body.to_string())),
            stream: self.stream,
            max_coefficient,
            max_tokens: Tokens(self.max_tokens),
            timeout: self.timeout,
            debug: false,
            request_guid: None,
            encryption_key: None,
            wishes: self.wishes.clone(),
        })
    }
}

impl<'a> ChatRequest<'a> {
    pub(super) fn new(client: &'a Client, model: &str) -> Self {
        Self {
            client,
            model: model.to_owned(),
            messages: Vec::new(),
            members: Map::new(),
            travel: Travel { max_tokens: MAX_TOKENS_DEFAULT, ..Travel::default() },
        }
    }

    /// Instructions for the model.
    pub fn system(self, text: &str) -> Self {
        self.message(json!({"role": "system", "content": text}))
    }

    /// What the user says.
    pub fn user(self, text: &str) -> Self {
        self.message(json!({"role": "user", "content": text}))
    }

    /// What the model said before.
    pub fn assistant(self, text: &str) -> Self {
        self.message(json!({"role": "assistant", "content": text}))
    }

    /// What a tool returned for a call of the model.
    pub fn tool_result(self, call_id: &str, text: &str) -> Self {
        self.message(json!({"role": "tool", "tool_call_id": call_id, "content": text}))
    }

    /// Any message in OpenAI's form: pictures, tool calls, parts.
    pub fn message(mut self, message: Value) -> Self {
        self.messages.push(message);
        self
    }

    /// Most tokens of the answer. They are reserved from the deposit until the answer ends.
    pub fn max_tokens(mut self, tokens: u32) -> Self {
        self.travel.max_tokens = tokens.into();
        self
    }

    /// How freely the model chooses: 0 for the likeliest token, at most 2.
    pub fn temperature(self, temperature: f64) -> Self {
        self.member("temperature", json!(temperature))
    }

    /// Makes the same request give the same answer, where the model server can.
    pub fn seed(self, seed: i64) -> Self {
        self.member("seed", json!(seed))
    }

    /// A function that the model may call; `parameters` is a JSON schema.
    pub fn tool(mut self, name: &str, description: &str, parameters: Value) -> Self {
        let function = json!({"name": name, "description": description, "parameters": parameters});
        let tool = json!({"type": "function", "function": function});
        match self.members.get_mut("tools").and_then(Value::as_array_mut) {
            Some(tools) => tools.push(tool),
            None => drop(self.members.insert("tools".to_owned(), json!([tool]))),
        }
        self
    }

    /// The answer must be a call of this function.
    pub fn must_call(self, name: &str) -> Self {
        self.member("tool_choice", json!({"type": "function", "function": {"name": name}}))
    }

    /// The answer must be JSON of this schema.
    pub fn json_schema(self, name: &str, schema: Value) -> Self {
        let schema = json!({"name": name, "strict": true, "schema": schema});
        self.member("response_format", json!({"type": "json_schema", "json_schema": schema}))
    }

    /// Any other member of the body, as OpenAI or the model server names it.
    pub fn member(mut self, name: &str, value: Value) -> Self {
        self.members.insert(name.to_owned(), value);
        self
    }

    /// Time granted for the whole answer.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.travel.timeout = timeout;
        self
    }

    /// Highest price factor of a worker, in thousandths.
    pub fn max_coefficient(mut self, milli: u32) -> Self {
        self.travel.max_coefficient = milli.into();
        self
    }

    /// Only machines with this kind of trusted environment, as in `tdx`. May be called again for
    /// further kinds. The request fails before anything is sent when it cannot be kept.
    pub fn require_tee(mut self, kind: &str) -> Self {
        self.travel.wishes.tee_kinds.push(kind.to_owned());
        self
    }

    /// Sends the request and waits for the whole answer.
    ///
    /// # Errors
    /// [`AskFault`].
    pub async fn send(self) -> Result<ChatAnswer, AskFault> {
        let request = self.request()?;
        let (value, record) = answer::whole(self.client.network.run(request).await?).await?;
        ChatAnswer::read(value, &record)
    }

    /// Sends the request and gives the answer as it is made. Dropping the stream cancels it.
    ///
    /// # Errors
    /// [`AskFault`]: it failed before its first part.
    pub async fn stream(mut self) -> Result<ChatStream, AskFault> {
        self.travel.stream = true;
        self.members.insert("stream".to_owned(), true.into());
        self.members.insert("stream_options".to_owned(), json!({"include_usage": true}));
        let request = self.request()?;
        ChatStream::begin(self.client.network.run(request).await?).await
    }

    fn request(&self) -> Result<InferenceRequest, AskFault> {
        if self.messages.is_empty() {
            return Err(AskFault::Request("it has no message".to_owned()));
        }
        let mut body = self.members.clone();
        body.insert("model".to_owned(), self.model.as_str().into());
        body.insert("messages".to_owned(), self.messages.clone().into());
        body.insert("max_tokens".to_owned(), self.travel.max_tokens.into());
        self.travel.request(Endpoint::ChatCompletions, &self.model, &Value::Object(body))
    }
}
