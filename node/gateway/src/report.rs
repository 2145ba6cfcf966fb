//! What a user learns of an answer beside its content: headers, and the `cocoon` member.

use cocoon_openai::Marks;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use crate::answer::{FinalRecord, WorkerSeen};

/// Puts what is known of the worker into headers.
pub(crate) fn worker_headers(headers: &mut HeaderMap, worker: &WorkerSeen) {
    put(headers, "x-cocoon-worker", &worker.measurement);
    put(headers, "x-cocoon-tee", &worker.tee_kind);
    put(headers, "x-cocoon-proxy", &worker.proxy_measurement);
    if worker.tee_kind == "fake" {
        put(headers, "x-cocoon-fake-evidence", "true");
    }
}

/// Puts what is known at the end into headers.
pub(crate) fn final_headers(headers: &mut HeaderMap, record: &FinalRecord) {
    worker_headers(headers, &record.worker);
    headers.insert(HeaderName::from_static("x-cocoon-cost-nanoton"), record.cost.0.into());
    let charged = record.charged_tokens.0.into();
    headers.insert(HeaderName::from_static("x-cocoon-tokens-charged"), charged);
    if let Some(receipt) = &record.receipt_id {
        put(headers, "x-cocoon-receipt", receipt);
    }
}

fn put(headers: &mut HeaderMap, name: &'static str, text: &str) {
    if !text.is_empty()
        && let Ok(value) = HeaderValue::from_str(text)
    {
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// The `cocoon` member.
pub(crate) fn member(record: &FinalRecord) -> Value {
    let mut member = json!({
        "cost_nanoton": record.cost.0,
        "tokens_charged": record.charged_tokens.0,
        "worker": worker(&record.worker),
        "timings": {
            "proxy_start": record.timings.proxy_start_s,
            "proxy_end": record.timings.proxy_end_s,
            "worker_start": record.timings.worker_start_s,
            "worker_end": record.timings.worker_end_s,
        },
    });
    if let Some(usage) = record.usage {
        member["usage"] = json!({
            "prompt_tokens": usage.prompt,
            "cached_tokens": usage.cached,
            "completion_tokens": usage.completion,
            "reasoning_tokens": usage.reasoning,
        });
    }
    if let Some(receipt) = &record.receipt_id {
        member["receipt_id"] = json!(receipt);
    }
    if let Some(debug) = debug(record) {
        member["debug"] = debug;
    }
    member
}

fn worker(worker: &WorkerSeen) -> Value {
    let text = |text: &str| if text.is_empty() { Value::Null } else { text.into() };
    json!({
        "measurement": text(&worker.measurement),
        "tee": text(&worker.tee_kind),
        "proxy_measurement": text(&worker.proxy_measurement),
    })
}

/// The nodes' debug records, as one JSON value.
pub(crate) fn debug(record: &FinalRecord) -> Option<Value> {
    record.debug.as_deref().and_then(|text| serde_json::from_str(text).ok())
}

/// A chunk without choices that carries the member, as the last one before `[DONE]`.
pub(crate) fn event(marks: &Marks, model: &str, record: &FinalRecord) -> String {
    json!({
        "id": format!("chatcmpl-{}", marks.id),
        "object": "chat.completion.chunk",
        "created": marks.created_unix_s,
        "model": model,
        "choices": [],
        "cocoon": member(record),
    })
    .to_string()
}

/// Adds members to the end of a JSON object's text. Anything else is returned as it is.
pub(crate) fn add_members(body: &[u8], members: &[(&str, &Value)]) -> Option<Vec<u8>> {
    let object = cocoon_openai::json::scan_object(body).ok()?;
    let mut out = Vec::with_capacity(body.len() + 512);
    out.extend_from_slice(body.get(..object.close)?);
    for (index, (name, value)) in members.iter().enumerate() {
        if index > 0 || !object.members.is_empty() {
            out.push(b',');
        }
        out.extend_from_slice(cocoon_openai::json::quote(name).as_bytes());
        out.push(b':');
        out.extend_from_slice(value.to_string().as_bytes());
    }
    out.extend_from_slice(body.get(object.close..)?);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_added_to_objects_only() {
        let value = json!(1);
        let added = |body: &str| {
            add_members(body.as_bytes(), &[("a", &value), ("b", &value)])
                .map(|bytes| String::from_utf8(bytes).unwrap())
        };
        assert_eq!(added("{\"x\":[]} \n").as_deref(), Some("{\"x\":[],\"a\":1,\"b\":1} \n"));
        assert_eq!(added("{}").as_deref(), Some("{\"a\":1,\"b\":1}"));
        assert_eq!(added("[]"), None);
    }
}
