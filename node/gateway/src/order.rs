//! From a body and headers to a request for the network. No I/O.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use cocoon_openai::wishes::timeout_ms;
use cocoon_openai::{ApiError, BodyWishes, Changes, Endpoint, FormView, RequestView};
use cocoon_units::{Coefficient, SecretBytes, Tokens};
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method};

use crate::config::GatewayConfig;
use crate::gateway::header_text;
use crate::upstream::{InferenceRequest, Wishes};

/// What a gateway of this configuration sends on of a user's body: the network's own members taken
/// out, defaults put in, other dialects translated. For whoever compares a receipt with a request.
///
/// # Errors
/// The body is none that the gateway would take.
pub fn body_sent(
    endpoint: Endpoint,
    body: Bytes,
    config: &GatewayConfig,
) -> Result<Bytes, ApiError> {
    let order = Order::read(endpoint, &HeaderMap::new(), body, "req_compared", config)?;
    Ok(order.request.body.into_inner())
}

/// A request ready to run, and how its answer is to be shown.
#[derive(Debug)]
pub(crate) struct Order {
    /// What the network is asked.
    pub(crate) request: InferenceRequest,
    /// How the answer is shown.
    pub(crate) shape: Shape,
}

/// How an answer is to be shown.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Shape {
    /// The endpoint that the user called.
    pub(crate) endpoint: Endpoint,
    /// The model as the user wrote it.
    pub(crate) model: String,
    /// The user wants events.
    pub(crate) stream: bool,
    /// Usage was asked for by us only.
    pub(crate) hide_usage: bool,
    /// The user asked for usage: every chunk says `"usage":null` until the last one.
    pub(crate) fill_usage: bool,
    /// The user wants cost and worker in the body.
    pub(crate) report: bool,
    /// What turns the chat answer into the form asked for, if it is another one.
    pub(crate) dialect: Option<cocoon_openai::Dialect>,
}

/// What the views of JSON bodies and forms have in common.
struct Seen {
    model: String,
    stream: bool,
    max_tokens: Option<u64>,
    choices: u64,
    wishes: BodyWishes,
}

impl Order {
    /// Reads a request. Errors are ready for the user.
    pub(crate) fn read(
        endpoint: Endpoint,
        headers: &HeaderMap,
        body: Bytes,
        id: &str,
        config: &GatewayConfig,
    ) -> Result<Order, ApiError> {
        if endpoint == Endpoint::Transcriptions {
            return Order::read_form(headers, body, id, config);
        }
        // Other dialects become chat completions here, once, before anything else looks at them.
        let (body, dialect) = match endpoint {
            Endpoint::Responses => {
                let (body, dialect) = cocoon_openai::Dialect::from_responses(&body)?;
                (Bytes::from(body), Some(dialect))
            }
            Endpoint::Messages => {
                let (body, dialect) = cocoon_openai::Dialect::from_messages(&body)?;
                (Bytes::from(body), Some(dialect))
            }
            _ => (body, None),
        };
        let asked = if dialect.is_some() { Endpoint::ChatCompletions } else { endpoint };
        let view = RequestView::parse(asked, &body)?;
        let model = alias(config, &view.model);
        let generates = matches!(asked, Endpoint::ChatCompletions | Endpoint::Completions);
        let changes = Changes {
            ask_usage: generates,
            default_max_tokens: (generates && config.defaults.insert_max_tokens)
                .then_some(config.defaults.max_tokens),
            model: (model != view.model).then_some(&model),
            stream: None,
        };
        let outgoing = view.outgoing(&body, &changes);
        let stream = view.stream && endpoint.streams();
        let seen = Seen {
            model: model.into_owned(),
            stream,
            max_tokens: if generates { view.max_tokens } else { Some(0) },
            choices: view.choices,
            wishes: view.wishes.clone(),
        };
        let shape = Shape {
            endpoint,
            model: view.model.clone(),
            stream,
            hide_usage: generates && dialect.is_none() && view.usage_must_be_hidden(),
            fill_usage: generates && dialect.is_none() && view.usage_asked,
            report: false,
            dialect,
        };
        let kind = HeaderValue::from_static("application/json");
        build(asked, headers, (outgoing, kind), seen, shape, (id, config))
    }

    fn read_form(
        headers: &HeaderMap,
        body: Bytes,
        id: &str,
        config: &GatewayConfig,
    ) -> Result<Order, ApiError> {
        let kind = header_text(headers, "content-type").unwrap_or_default();
        let view = FormView::parse(kind, &body)?;
        let outgoing = view.outgoing(&body);
        let kind = HeaderValue::from_str(&view.content_type())
            .map_err(|_| ApiError::invalid("content-type", "The boundary is not plain text."))?;
        let shape = Shape {
            endpoint: Endpoint::Transcriptions,
            model: view.model.clone(),
            stream: view.stream,
            hide_usage: false,
            fill_usage: false,
            report: false,
            dialect: None,
        };
        let seen = Seen {
            model: view.model,
            stream: view.stream,
            max_tokens: view.max_tokens,
            choices: 1,
            wishes: view.wishes,
        };
        build(Endpoint::Transcriptions, headers, (outgoing, kind), seen, shape, (id, config))
    }
}

fn alias<'a>(config: &'a GatewayConfig, model: &'a str) -> Cow<'a, str> {
    Cow::Borrowed(config.model_aliases.get(model).map_or(model, String::as_str))
}

fn build(
    endpoint: Endpoint,
    headers: &HeaderMap,
    (body, kind): (Bytes, HeaderValue),
    seen: Seen,
    mut shape: Shape,
    (id, config): (&str, &GatewayConfig),
) -> Result<Order, ApiError> {
    let mut wishes = seen.wishes;
    let background = read_headers(headers, &mut wishes)?;
    let timeout_ms = wishes.timeout_ms.unwrap_or(config.defaults.timeout_ms);
    if timeout_ms > config.limits.timeout_ms_max {
        let most = config.limits.timeout_ms_max / 1000;
        let message = format!("'timeout' is above this gateway's limit of {most} s.");
        return Err(ApiError::invalid("timeout", message));
    }
    let max_tokens =
        seen.max_tokens.unwrap_or(config.defaults.max_tokens).saturating_mul(seen.choices);
    if max_tokens > MAX_RESERVABLE {
        let message = format!("The choices together ask for more than {MAX_RESERVABLE} tokens.");
        return Err(ApiError::invalid("max_tokens", message).with_code("integer_out_of_range"));
    }
    let cap = wishes.max_coefficient.unwrap_or(config.defaults.max_coefficient);
    let max_coefficient = Coefficient::new(i64::from(cap)).map_err(|fault| {
        ApiError::invalid("max_coefficient", format!("'max_coefficient' cannot be used: {fault}."))
    })?;
    shape.report = wishes.report.unwrap_or(false);
    let mut onward = HeaderMap::with_capacity(2);
    onward.insert(header::CONTENT_TYPE, kind);
    if let Some(accept) = headers.get(header::ACCEPT) {
        onward.insert(header::ACCEPT, accept.clone());
    }
    let request = InferenceRequest {
        request_id: id.to_owned(),
        endpoint,
        model: seen.model,
        method: Method::POST,
        path: endpoint.path(),
        headers: onward,
        body: SecretBytes::new(body),
        stream: seen.stream,
        max_coefficient,
        max_tokens: Tokens(max_tokens),
        timeout: Duration::from_millis(timeout_ms),
        debug: wishes.debug.unwrap_or(false),
        request_guid: wishes.request_guid.take(),
        encryption_key: wishes.receiver_public_key,
        wishes: Wishes {
            tee_kinds: wishes.tee,
            verdicts: wishes.verdicts,
            region: wishes.region,
            energy: wishes.energy,
            receipt: wishes.receipt.unwrap_or(false),
            no_retention: wishes.no_retention.unwrap_or(false),
            background,
        },
    };
    Ok(Order { request, shape })
}

/// What the query message can reserve (protocol notes 3.5).
const MAX_RESERVABLE: u64 = i32::MAX as u64;

/// Names of the headers with wishes, behind `x-cocoon-`.
#[cfg(test)]
pub(crate) const HEADER_WISHES: [&str; 12] = [
    "max-coefficient",
    "timeout",
    "debug",
    "report",
    "receipt",
    "no-retention",
    "background",
    "request-guid",
    "tee",
    "verdicts",
    "region",
    "energy",
];

/// Headers with the network's wishes; they win over the body, since programs that cannot change
/// bodies can often set headers. Returns whether the request may wait behind others.
fn read_headers(headers: &HeaderMap, wishes: &mut BodyWishes) -> Result<bool, ApiError> {
    let mut background = false;
    for (name, value) in headers {
        let Some(wish) = name.as_str().strip_prefix("x-cocoon-") else { continue };
        let text = header_value(name, value)?;
        match wish {
            "max-coefficient" => {
                let cap = text.parse().map_err(|_| invalid(name, "an integer in thousandths"))?;
                wishes.max_coefficient = Some(cap);
            }
            "timeout" => {
                let seconds = text.parse().map_err(|_| invalid(name, "a number of seconds"))?;
                wishes.timeout_ms = Some(timeout_ms(seconds)?);
            }
            "debug" => wishes.debug = Some(switch(name, text)?),
            "report" => wishes.report = Some(switch(name, text)?),
            "receipt" => wishes.receipt = Some(switch(name, text)?),
            "no-retention" => wishes.no_retention = Some(switch(name, text)?),
            "background" => background = switch(name, text)?,
            "request-guid" => wishes.request_guid = Some(text.to_owned()),
            "tee" => wishes.tee = words(text),
            "verdicts" => wishes.verdicts = words(text),
            "region" => wishes.region = Some(text.to_owned()),
            "energy" => wishes.energy = Some(text.to_owned()),
            _ => {
                let message = format!(
                    "The header '{name}' is not known. Known wishes stand in /openapi.json."
                );
                return Err(ApiError::invalid(name.to_string(), message));
            }
        }
    }
    Ok(background)
}

fn header_value<'a>(name: &HeaderName, value: &'a HeaderValue) -> Result<&'a str, ApiError> {
    let text = value.to_str().map_err(|_| invalid(name, "plain ASCII"))?.trim();
    if text.len() > 256 {
        return Err(invalid(name, "at most 256 characters long"));
    }
    Ok(text)
}

fn invalid(name: &HeaderName, expected: &str) -> ApiError {
    ApiError::invalid(name.to_string(), format!("The header '{name}' must be {expected}."))
}

fn switch(name: &HeaderName, text: &str) -> Result<bool, ApiError> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "on" | "yes" => Ok(true),
        "0" | "false" | "off" | "no" => Ok(false),
        _ => Err(invalid(name, "on or off")),
    }
}

fn words(text: &str) -> Vec<String> {
    text.split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .take(16)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_header_wish_is_read_and_no_other_is() {
        for name in HEADER_WISHES {
            let name = HeaderName::try_from(format!("x-cocoon-{name}")).unwrap();
            let headers = HeaderMap::from_iter([(name.clone(), HeaderValue::from_static("1"))]);
            read_headers(&headers, &mut BodyWishes::default()).unwrap();
            let headers = HeaderMap::from_iter([(name, HeaderValue::from_bytes(b"\xff").unwrap())]);
            assert!(read_headers(&headers, &mut BodyWishes::default()).is_err());
        }
        let headers = HeaderMap::from_iter([(
            HeaderName::from_static("x-cocoon-other"),
            HeaderValue::from_static("1"),
        )]);
        assert!(read_headers(&headers, &mut BodyWishes::default()).is_err());
    }
}
