//! Errors as OpenAI's clients know them: `{"error": {message, type, param, code}}`.

use serde_json::{Value, json};

/// An error of one request.
///
/// The message may name parameters, numbers and names that the client sent as such, never
/// text of a prompt or an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: u16,
    kind: &'static str,
    code: Option<&'static str>,
    param: Option<String>,
    message: String,
    /// Seconds after which to try again, for the header `Retry-After`.
    pub(crate) retry_after_s: Option<u32>,
}

impl ApiError {
    /// 400: the request itself is wrong, in the parameter `param`.
    pub(crate) fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            status: 400,
            kind: "invalid_request_error",
            code: None,
            param: Some(param.into()),
            message: message.into(),
            retry_after_s: None,
        }
    }

    /// 400 about the body as a whole.
    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self { param: None, ..Self::invalid("", message) }
    }

    pub(crate) fn with_code(self, code: &'static str) -> Self {
        Self { code: Some(code), ..self }
    }

    fn with_status(self, status: u16, kind: &'static str) -> Self {
        Self { status, kind, ..self }
    }

    /// 400: the prompt leaves no room for an answer.
    pub(crate) fn context_exceeded(param: &str, prompt: usize, context: u32) -> Self {
        Self::invalid(
            param,
            format!(
                "This model's maximum context length is {context} tokens, prompt and answer \
                 together, but the prompt has {prompt} tokens. Shorten it."
            ),
        )
        .with_code("context_length_exceeded")
    }

    /// 401: a key is needed.
    pub(crate) fn unauthorized() -> Self {
        Self::malformed("Send the engine's key as 'Authorization: Bearer KEY'.")
            .with_code("invalid_api_key")
            .with_status(401, "authentication_error")
    }

    /// 404: no such model.
    pub(crate) fn unknown_model(name: &str, known: &[String]) -> Self {
        let shown: String = name.chars().take(100).collect();
        Self::invalid(
            "model",
            format!(
                "The model '{shown}' is not served here; this server has {}.",
                known.join(", ")
            ),
        )
        .with_code("model_not_found")
        .with_status(404, "invalid_request_error")
    }

    /// 404: no such address.
    pub(crate) fn unknown_path() -> Self {
        Self::malformed(
            "There is nothing at this address. Known are /v1/chat/completions, /v1/completions, \
             /v1/embeddings, /v1/models, /v1/models/{id}, /health and /metrics.",
        )
        .with_code("unknown_url")
        .with_status(404, "invalid_request_error")
    }

    /// 405: the address exists, the method does not.
    pub(crate) fn wrong_method(allowed: &str) -> Self {
        Self::malformed(format!("This address answers to {allowed} only."))
            .with_code("method_not_allowed")
            .with_status(405, "invalid_request_error")
    }

    /// 408: the body did not come in time.
    pub(crate) fn body_timeout(limit_ms: u64) -> Self {
        Self::malformed(format!("The body of the request did not arrive within {limit_ms} ms."))
            .with_code("request_timeout")
            .with_status(408, "invalid_request_error")
    }

    /// 413: the body is too large.
    pub(crate) fn body_too_large(limit_bytes: usize) -> Self {
        Self::malformed(format!("The body of the request is larger than {limit_bytes} bytes."))
            .with_code("request_too_large")
            .with_status(413, "invalid_request_error")
    }

    /// 429: every sequence and every place in the queue is taken.
    pub(crate) fn overloaded(waiting: u64) -> Self {
        let message = format!(
            "The engine is busy: {waiting} requests are waiting and no more are taken. Try again \
             in a moment."
        );
        Self {
            retry_after_s: Some(1),
            ..Self::malformed(message)
                .with_code("engine_overloaded")
                .with_status(429, "rate_limit_error")
        }
    }

    /// 503: still loading, or stopping.
    pub(crate) fn unavailable(message: &str) -> Self {
        Self {
            retry_after_s: Some(2),
            ..Self::malformed(message)
                .with_code("engine_unavailable")
                .with_status(503, "server_error")
        }
    }

    /// 500: a mistake of ours or of the model.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::malformed(message).with_code("engine_failed").with_status(500, "server_error")
    }

    /// The body.
    pub(crate) fn body(&self) -> Value {
        json!({"error": {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_has_the_four_members() {
        let body = ApiError::unknown_model("gpt-9", &["m".into()]).body();
        assert_eq!(body["error"]["code"], "model_not_found");
        assert_eq!(body["error"]["param"], "model");
        assert_eq!(body["error"]["type"], "invalid_request_error");
        assert!(body["error"]["message"].as_str().unwrap().contains("gpt-9"));
        assert_eq!(ApiError::malformed("x").body()["error"]["param"], Value::Null);
    }
}
