//! Errors in OpenAI's shape.

use std::borrow::Cow;

use serde::Serialize;

use crate::json::JsonFault;

/// An error as an OpenAI client expects it: an HTTP status and
/// `{"error":{"message","type","param","code"}}`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{status} {kind}: {message}")]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// OpenAI's `type`, as in `invalid_request_error`.
    pub kind: &'static str,
    /// A stable code for programs.
    pub code: Option<Cow<'static, str>>,
    /// The member of the body at fault.
    pub param: Option<Cow<'static, str>>,
    /// What is wrong and what to do. Never holds content of prompts or answers.
    pub message: String,
}

/// `type` of errors that the caller must repair.
pub const INVALID_REQUEST: &str = "invalid_request_error";

impl ApiError {
    /// An error with a message and neither code nor param.
    pub fn new(status: u16, kind: &'static str, message: impl Into<String>) -> ApiError {
        ApiError { status, kind, code: None, param: None, message: message.into() }
    }

    /// A 400 about one member.
    pub fn invalid(param: impl Into<Cow<'static, str>>, message: impl Into<String>) -> ApiError {
        let error = ApiError::new(400, INVALID_REQUEST, message);
        ApiError { param: Some(param.into()), ..error }
    }

    /// The same error with a code.
    #[must_use]
    pub fn with_code(self, code: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError { code: Some(code.into()), ..self }
    }

    /// The body of the answer.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(&self.body()).unwrap_or_else(|_| b"{\"error\":{}}".to_vec())
    }

    /// The error as the last event of a broken stream. The names are those clients look for.
    pub fn to_event(&self) -> Vec<u8> {
        let mut event = b"data: ".to_vec();
        event.extend_from_slice(&self.to_json());
        event.extend_from_slice(b"\n\n");
        event
    }

    /// The error in Anthropic's shape: `{"type":"error","error":{"type","message"}}`.
    pub fn to_anthropic_json(&self) -> Vec<u8> {
        let kind = match self.status {
            401 => "authentication_error",
            402 => "billing_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            503 => "overloaded_error",
            504 => "timeout_error",
            400..=499 => "invalid_request_error",
            _ => "api_error",
        };
        serde_json::json!({"type": "error", "error": {"type": kind, "message": self.message}})
            .to_string()
            .into_bytes()
    }

    fn body(&self) -> Body<'_> {
        Body {
            error: Inner {
                message: &self.message,
                kind: self.kind,
                param: self.param.as_deref(),
                code: self.code.as_deref(),
            },
        }
    }
}

impl From<JsonFault> for ApiError {
    fn from(fault: JsonFault) -> ApiError {
        let message = match fault {
            JsonFault::NotAnObject => "The body must be a JSON object.".to_owned(),
            JsonFault::EndsEarly { offset: 0 } => {
                "The body is empty: send a JSON object.".to_owned()
            }
            other => format!("The body is not the JSON that was expected: {other}."),
        };
        ApiError::new(400, INVALID_REQUEST, message).with_code("invalid_json")
    }
}

#[derive(Serialize)]
struct Body<'a> {
    error: Inner<'a>,
}

#[derive(Serialize)]
struct Inner<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    param: Option<&'a str>,
    code: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_has_all_four_members() {
        let error = ApiError::invalid("model", "no \"model\"").with_code("missing");
        assert_eq!(
            std::str::from_utf8(&error.to_json()).unwrap(),
            r#"{"error":{"message":"no \"model\"","type":"invalid_request_error","param":"model","code":"missing"}}"#
        );
        let plain = ApiError::new(500, "api_error", "x").to_event();
        assert_eq!(
            plain,
            b"data: {\"error\":{\"message\":\"x\",\"type\":\"api_error\",\"param\":null,\"code\":null}}\n\n"
        );
    }
}
