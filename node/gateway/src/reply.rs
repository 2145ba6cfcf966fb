//! Answers that are no streams: gathered whole, checked, shown.

use bytes::Bytes;
use cocoon_openai::fault::INVALID_REQUEST;
use cocoon_openai::{ApiError, Endpoint, Marks};
use http::StatusCode;
use serde_json::Value;

use crate::answer::{AnswerPart, FinalRecord};
use crate::failure::Refusal;
use crate::infer::join;
use crate::order::Shape;
use crate::report;
use crate::sense;
use crate::ticket::Running;
use crate::upstream::UpstreamError;

/// What became of an answer.
pub(crate) enum Gathered {
    /// All of it, and how it ended.
    Whole(Bytes, Box<FinalRecord>),
    /// More than is kept: what there is so far.
    TooLong(Vec<Bytes>),
}

/// Gathers an answer up to `limit_bytes`.
pub(crate) async fn gather(running: &mut Running, limit_bytes: usize) -> Gathered {
    let mut kept = Vec::with_capacity(2);
    let mut bytes = 0usize;
    loop {
        match running.next().await {
            AnswerPart::End(record) => return Gathered::Whole(join(kept), record),
            AnswerPart::Bytes(part) => {
                bytes = bytes.saturating_add(part.len());
                kept.push(part);
                if bytes > limit_bytes {
                    return Gathered::TooLong(kept);
                }
            }
        }
    }
}

/// A whole answer as the user sees it.
pub(crate) fn whole(
    shape: &Shape,
    marks: &Marks,
    status: StatusCode,
    body: Bytes,
    record: &FinalRecord,
) -> Result<(StatusCode, Bytes), Box<Refusal>> {
    if let Some(failure) = &record.error {
        return Err(Box::new(failure.clone().into()));
    }
    if !status.is_success() {
        return Err(Box::new(server_error(status, &body).into()));
    }
    if body.trim_ascii().is_empty() && shape.endpoint != Endpoint::Speech {
        return Err(Box::new(no_stream(record.clone()).into()));
    }
    sense::check_whole(shape.endpoint, &body)?;
    let body = match &shape.dialect {
        Some(dialect) => Bytes::from(dialect.answer(&body, marks)?),
        None => body,
    };
    let mut members: Vec<(&str, Value)> = Vec::new();
    if shape.report {
        members.push(("cocoon", report::member(record)));
    }
    if let Some(debug) = report::debug(record) {
        // Where the reference puts it (protocol notes 4.2).
        members.push(("debug", debug));
    }
    if members.is_empty() {
        return Ok((status, body));
    }
    let members: Vec<(&str, &Value)> = members.iter().map(|(name, value)| (*name, value)).collect();
    let longer = report::add_members(&body, &members);
    Ok((status, longer.map_or(body, Bytes::from)))
}

/// An answer that ended before it began.
pub(crate) fn no_stream(record: FinalRecord) -> UpstreamError {
    record.error.unwrap_or(UpstreamError::WorkerLost {
        reason: "its answer was empty; reference workers lose streams of events, so try \
                 without \"stream\""
            .to_owned(),
    })
}

/// The model server's own error, in OpenAI's shape whatever shape it had.
pub(crate) fn server_error(status: StatusCode, body: &[u8]) -> ApiError {
    let kind = match status.as_u16() {
        429 => "rate_limit_error",
        400..=499 => INVALID_REQUEST,
        _ => "api_error",
    };
    let told: Option<Value> = serde_json::from_slice(body).ok();
    let error = told.as_ref().map(|told| told.get("error").unwrap_or(told));
    let text = |name: &str| {
        error.and_then(|error| error.get(name)).and_then(Value::as_str).map(str::to_owned)
    };
    // `detail` is FastAPI's name, a plain string under `error` is Ollama's.
    let message = text("message")
        .or_else(|| text("detail"))
        .or_else(|| error.and_then(Value::as_str).map(str::to_owned))
        .unwrap_or_else(|| {
            format!("The model server behind the worker answered {status} without saying why.")
        });
    ApiError {
        status: status.as_u16(),
        kind,
        code: text("code").map(Into::into),
        param: text("param").map(Into::into),
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_all_servers_get_one_shape() {
        let shown = |body: &str| server_error(StatusCode::BAD_REQUEST, body.as_bytes()).message;
        assert_eq!(shown(r#"{"error":{"message":"a","code":400}}"#), "a");
        assert_eq!(shown(r#"{"object":"error","message":"b","code":400}"#), "b");
        assert_eq!(shown(r#"{"detail":"c"}"#), "c");
        assert_eq!(shown(r#"{"error":"d"}"#), "d");
        assert!(shown("").contains("400"));
        assert!(shown("<html>").contains("400"));
    }
}
