//! Whether what a model server answers with status 200 is an answer at all.
//!
//! A wrong port, a login page of a captive portal, a server that puts its error under a good
//! status: none of it may reach the user as success. Only the outermost shape is looked at, once.

use std::time::Duration;

use bytes::Bytes;
use cocoon_openai::json::{self, Kind};
use cocoon_openai::sse::Event;
use cocoon_openai::{ApiError, BodyForm, Endpoint};
use serde_json::Value;

use crate::failure::Refusal;
use crate::reply;

/// Checks a whole answer with a good status.
///
/// # Errors
/// A 502 that says that the model server is at fault, or its own words when it gave an error.
pub(crate) fn check_whole(endpoint: Endpoint, body: &[u8]) -> Result<(), Box<Refusal>> {
    let Some((member, what)) = required(endpoint) else { return Ok(()) };
    let Ok(object) = json::scan_object(body) else {
        return Err(senseless(endpoint, "it is no JSON object"));
    };
    match object.last(body, member) {
        Some(found) if found.kind == Kind::Array => Ok(()),
        _ if object.last(body, "error").is_some_and(|error| error.kind != Kind::Null) => {
            Err(own_error(body))
        }
        _ => Err(senseless(endpoint, &format!("it has no list '{member}', as {what} must"))),
    }
}

/// Checks the first part of a stream of events.
///
/// # Errors
/// As of [`check_whole`].
pub(crate) fn check_beginning(endpoint: Endpoint, part: &Bytes) -> Result<(), Box<Refusal>> {
    // A transcription may be plain text.
    if endpoint == Endpoint::Transcriptions {
        return Ok(());
    }
    match BodyForm::recognise(part) {
        BodyForm::Opaque => Err(senseless(endpoint, "it is no stream of events")),
        BodyForm::Unknown => Ok(()),
        BodyForm::Json => refuse_error(part),
        BodyForm::Events => match Event::read(part).data {
            // Only the first event of a part that holds several parses alone; those are no errors.
            Some(data) => refuse_error(data.as_bytes()),
            None => Ok(()),
        },
    }
}

/// Refuses an object that is an error and nothing else.
fn refuse_error(text: &[u8]) -> Result<(), Box<Refusal>> {
    let Ok(object) = json::scan_object(text) else { return Ok(()) };
    let error = object.last(text, "error").is_some_and(|error| error.kind != Kind::Null);
    if error && object.last(text, "choices").is_none() { Err(own_error(text)) } else { Ok(()) }
}

/// The member that an answer must have, and what such an answer is called.
fn required(endpoint: Endpoint) -> Option<(&'static str, &'static str)> {
    Some(match endpoint {
        // Both dialects are spoken over chat completions.
        Endpoint::ChatCompletions | Endpoint::Responses | Endpoint::Messages => {
            ("choices", "a chat completion")
        }
        Endpoint::Completions => ("choices", "a completion"),
        Endpoint::Embeddings => ("data", "a list of embeddings"),
        Endpoint::Images => ("data", "a list of images"),
        Endpoint::Transcriptions | Endpoint::Speech => return None,
    })
}

fn senseless(endpoint: Endpoint, why: &str) -> Box<Refusal> {
    let message = format!(
        "The model server behind the worker is at fault: it answered {} with status 200, but {why}. \
         Send the request again; another worker may get it.",
        endpoint.path()
    );
    refusal(ApiError::new(502, "api_error", message).with_code("bad_answer"))
}

/// The server's own error, which it sent under a good status.
fn own_error(body: &[u8]) -> Box<Refusal> {
    let told: Value = serde_json::from_slice(body).unwrap_or_default();
    let error = reply::server_error(http::StatusCode::BAD_GATEWAY, told.to_string().as_bytes());
    refusal(error)
}

fn refusal(error: ApiError) -> Box<Refusal> {
    Box::new(Refusal { retry_after: Some(Duration::from_secs(1)), ..error.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(result: Result<(), Box<Refusal>>) -> u16 {
        result.map_or_else(|refusal| refusal.error.status, |()| 200)
    }

    #[test]
    fn answers_pass_and_garbage_does_not() {
        let chat = Endpoint::ChatCompletions;
        assert_eq!(status(check_whole(chat, b"{\"choices\":[]}")), 200);
        assert_eq!(status(check_whole(chat, b"{\"choices\":[],\"error\":null}")), 200);
        for garbage in
            ["<html>login</html>", "[]", "{}", "null", "{\"choices\":{}}", "{\"choices\":", "42"]
        {
            let refusal = check_whole(chat, garbage.as_bytes()).unwrap_err();
            assert_eq!(refusal.error.status, 502, "{garbage}");
            assert!(refusal.error.message.contains("model server"), "{refusal:?}");
        }
        let refusal =
            check_whole(chat, b"{\"error\":{\"message\":\"out of memory\"}}").unwrap_err();
        assert_eq!((refusal.error.status, refusal.error.message.as_str()), (502, "out of memory"));
        assert_eq!(status(check_whole(Endpoint::Embeddings, b"{\"data\":[]}")), 200);
        assert_eq!(status(check_whole(Endpoint::Speech, b"RIFF")), 200);
        assert_eq!(status(check_whole(Endpoint::Transcriptions, b"plain text")), 200);
    }

    #[test]
    fn streams_are_told_by_their_beginning() {
        let status = |text: &'static str| {
            status(check_beginning(Endpoint::ChatCompletions, &Bytes::from_static(text.as_bytes())))
        };
        assert_eq!(status("data: {\"choices\":[]}\n\ndata: {\"choices\":[]}\n\n"), 200);
        assert_eq!(status("data: {\"cho"), 200);
        assert_eq!(status(": waiting\n\n"), 200);
        assert_eq!(status("{\"choices\":[]}\n"), 200);
        assert_eq!(status("<html>"), 502);
        assert_eq!(status("data: {\"error\":{\"message\":\"x\"}}\n\n"), 502);
        assert_eq!(status("{\"error\":\"x\"}"), 502);
    }
}
