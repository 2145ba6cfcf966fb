//! Every failure as the user sees it: a status, OpenAI's error shape, and what to do.

use std::time::Duration;

use cocoon_openai::ApiError;
use cocoon_openai::fault::INVALID_REQUEST;
use cocoon_units::Nanoton;

use crate::upstream::UpstreamError;

/// A refusal: the error, and when to come back.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// The error for the body.
    pub error: ApiError,
    /// For `Retry-After`.
    pub retry_after: Option<Duration>,
    /// Methods for `Allow`, with a 405.
    pub allow: Option<&'static str>,
    /// The request was not read to its end: the connection must close.
    pub close: bool,
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Refusal {
        Refusal { error, retry_after: None, allow: None, close: false }
    }
}

impl From<ApiError> for Box<Refusal> {
    fn from(error: ApiError) -> Box<Refusal> {
        Box::new(error.into())
    }
}

impl Refusal {
    /// A path that is none of ours. `meant` is the path that a client with a wrong `base_url`
    /// wants.
    pub fn unknown_path(meant: Option<&str>) -> Refusal {
        let hint = meant.map_or_else(
            || "GET /openapi.json lists what there is.".to_owned(),
            |path| {
                format!(
                    "It looks as if {path} is meant: OpenAI's clients take a base_url that ends \
                     in /v1, Anthropic's one without it."
                )
            },
        );
        let message = format!("There is nothing at this path. {hint}");
        ApiError::new(404, INVALID_REQUEST, message).with_code("unknown_url").into()
    }

    /// A receipt that is not kept here (any more).
    pub fn unknown_receipt(id: &str) -> Refusal {
        let message = format!(
            "No receipt {id} is kept here. Only the newest are, and only of this gateway's answers."
        );
        ApiError::new(404, INVALID_REQUEST, message).with_code("receipt_not_found").into()
    }

    /// A method that the path does not take.
    pub fn wrong_method(allow: &'static str) -> Refusal {
        let message = format!("This path takes {allow} only.");
        let error = ApiError::new(405, INVALID_REQUEST, message).with_code("method_not_allowed");
        Refusal { allow: Some(allow), ..error.into() }
    }

    /// A body beyond the limit.
    pub fn body_too_large(limit_bytes: usize) -> Refusal {
        let message =
            format!("The body is longer than this gateway's limit of {limit_bytes} bytes.");
        let error = ApiError::new(413, INVALID_REQUEST, message).with_code("body_too_large");
        Refusal { close: true, ..error.into() }
    }

    /// A body that stopped coming.
    pub fn body_too_slow() -> Refusal {
        let message = "The body stopped coming before its end.";
        let error = ApiError::new(408, INVALID_REQUEST, message).with_code("body_timeout");
        Refusal { close: true, ..error.into() }
    }

    /// More requests at once than the gateway takes.
    pub fn too_many_requests(limit: usize) -> Refusal {
        let message = format!("This gateway already runs {limit} requests, its limit. Try again.");
        let error = ApiError::new(429, "rate_limit_error", message).with_code("gateway_busy");
        Refusal { retry_after: Some(Duration::from_secs(1)), ..error.into() }
    }
}

impl From<UpstreamError> for Refusal {
    fn from(failure: UpstreamError) -> Refusal {
        let retry_after = retry_after(&failure);
        Refusal { retry_after, ..api_error(failure).into() }
    }
}

fn retry_after(failure: &UpstreamError) -> Option<Duration> {
    match failure {
        UpstreamError::NoProxy { retry_after }
        | UpstreamError::ChainAway { retry_after, .. }
        | UpstreamError::NoWorker { retry_after, .. }
        | UpstreamError::Busy { retry_after } => Some(*retry_after),
        UpstreamError::ProxyLost | UpstreamError::WorkerLost { .. } => Some(Duration::from_secs(1)),
        _ => None,
    }
}

/// The error for the user, by kind of failure.
pub fn api_error(failure: UpstreamError) -> ApiError {
    match failure {
        UpstreamError::NoProxy { .. } => ApiError::new(
            503,
            "api_error",
            "No proxy of the network is connected at the moment. The gateway keeps trying; send \
             the request again after the time in Retry-After.",
        )
        .with_code("no_proxy"),
        UpstreamError::ChainAway { away, .. } => ApiError::new(
            503,
            "api_error",
            format!(
                "This gateway has not seen the TON chain for {} s and sends nothing new until it \
                 can see its deposit again. Requests that run go on. Its operator finds the reason \
                 in /jsonstats.",
                away.as_secs()
            ),
        )
        .with_code("chain_away"),
        UpstreamError::UnknownModel { model, offered } => unknown_model(&model, &offered),
        UpstreamError::NoWorker { model, .. } => ApiError::new(
            503,
            "api_error",
            format!(
                "No worker that serves '{model}' and fits the request's conditions is connected at \
                 the moment. Try again after the time in Retry-After, or relax the conditions."
            ),
        )
        .with_code("no_worker"),
        UpstreamError::TooExpensive { cheapest, cap } => ApiError::new(
            402,
            INVALID_REQUEST,
            format!(
                "The cheapest free worker asks the price factor {}, above the cap of {}. Raise \
                 max_coefficient to at least {} or try again later.",
                factor(cheapest.milli()),
                factor(cap.milli()),
                cheapest.milli(),
            ),
        )
        .with_code("price_cap_too_low"),
        UpstreamError::NoMoney { needed, available } => ApiError::new(
            402,
            "insufficient_quota",
            format!(
                "The request could cost up to {}, but only {} is free in the payment channel. Top \
                 the channel up, lower max_tokens, or wait for running requests to end.",
                ton(needed),
                ton(available),
            ),
        )
        .with_code("insufficient_balance"),
        UpstreamError::Busy { .. } => ApiError::new(
            429,
            "rate_limit_error",
            "All workers for this model are busy and the queue is full. Try again after the time \
             in Retry-After.",
        )
        .with_code("workers_busy"),
        other => broken(other),
    }
}

/// Failures of nodes rather than of the request.
fn broken(failure: UpstreamError) -> ApiError {
    match failure {
        UpstreamError::Timeout { after } => ApiError::new(
            504,
            "api_error",
            format!(
                "There was no complete answer within {} s. Ask for a longer time with the header \
                 x-cocoon-timeout, or for a shorter answer.",
                after.as_secs_f64()
            ),
        )
        .with_code("timeout"),
        UpstreamError::ProxyLost => ApiError::new(
            502,
            "api_error",
            "The connection to the proxy broke while the request ran. Send it again.",
        )
        .with_code("proxy_lost"),
        UpstreamError::WorkerLost { reason } => ApiError::new(
            502,
            "api_error",
            format!("The worker or its model server broke while the request ran ({reason}). Send it again."),
        )
        .with_code("worker_lost"),
        UpstreamError::BadRequest { message, param, code } => ApiError {
            status: 400,
            kind: INVALID_REQUEST,
            code: code.map(Into::into),
            param: param.map(Into::into),
            message,
        },
        other => {
            tracing::error!(failure = %other, "a fault of ours");
            ApiError::new(
                500,
                "api_error",
                "The gateway failed. Its log says why, under the id in x-request-id.",
            )
            .with_code("internal_error")
        }
    }
}

/// A model that nobody offers, and what is offered instead.
pub fn unknown_model(model: &str, offered: &[String]) -> ApiError {
    let known = if offered.is_empty() {
        "No model is offered at the moment.".to_owned()
    } else {
        let shown: Vec<&str> = offered.iter().take(32).map(String::as_str).collect();
        format!("Offered are: {}.", shown.join(", "))
    };
    let shown: String = model.chars().take(128).collect();
    let message = format!("The model '{shown}' does not exist in the network. {known}");
    let error = ApiError::new(404, INVALID_REQUEST, message).with_code("model_not_found");
    ApiError { param: Some("model".into()), ..error }
}

fn factor(milli: u32) -> String {
    format!("{}.{:03}", milli / 1000, milli % 1000)
}

/// An amount in TON with all nine digits that matter.
pub fn ton(amount: Nanoton) -> String {
    let whole = amount.0 / 1_000_000_000;
    let rest = format!("{:09}", amount.0 % 1_000_000_000);
    let rest = rest.trim_end_matches('0');
    if rest.is_empty() { format!("{whole} TON") } else { format!("{whole}.{rest} TON") }
}

#[cfg(test)]
mod tests {
    use cocoon_units::Coefficient;

    use super::*;

    #[test]
    fn each_kind_has_its_status() {
        let wait = Duration::from_secs(3);
        let model = "m".to_owned();
        let cases = [
            (UpstreamError::NoProxy { retry_after: wait }, 503, true),
            (UpstreamError::ChainAway { away: wait, retry_after: wait }, 503, true),
            (UpstreamError::UnknownModel { model: model.clone(), offered: vec![] }, 404, false),
            (UpstreamError::NoWorker { model, retry_after: wait }, 503, true),
            (
                UpstreamError::TooExpensive { cheapest: Coefficient::MAX, cap: Coefficient::ONE },
                402,
                false,
            ),
            (UpstreamError::NoMoney { needed: Nanoton::TON, available: Nanoton(5) }, 402, false),
            (UpstreamError::Busy { retry_after: wait }, 429, true),
            (UpstreamError::Timeout { after: wait }, 504, false),
            (UpstreamError::ProxyLost, 502, true),
            (UpstreamError::WorkerLost { reason: "x".into() }, 502, true),
            (
                UpstreamError::BadRequest { message: "x".into(), param: None, code: None },
                400,
                false,
            ),
            (UpstreamError::Internal { message: "x".into() }, 500, false),
        ];
        for (failure, status, retries) in cases {
            let refusal = Refusal::from(failure);
            assert_eq!(refusal.error.status, status, "{refusal:?}");
            assert_eq!(refusal.retry_after.is_some(), retries, "{refusal:?}");
            assert!(refusal.error.message.len() <= 1000);
        }
        assert_eq!(ton(Nanoton(1_500_000_000)), "1.5 TON");
        assert_eq!(ton(Nanoton(5)), "0.000000005 TON");
    }
}
