//! Which web pages may call the gateway (CORS, Fetch standard 3.2).
//!
//! A gateway on loopback without keys would let any page that the user happens to open spend
//! the user's money, for a browser sends such requests even where the page may not read the
//! answer. So requests with an unknown `Origin` are refused, not only left without CORS headers.

use cocoon_openai::ApiError;
use http::HeaderMap;
use http::header::{self, HeaderName, HeaderValue};

use crate::failure::Refusal;

/// The rule for origins.
#[derive(Debug, Clone)]
pub(crate) enum OriginRule {
    /// Every page may call: a key protects the money.
    Everyone,
    /// Pages from loopback may call.
    Loopback,
    /// These origins may call.
    Listed(Vec<String>),
}

impl OriginRule {
    pub(crate) fn new(allowed: &[String], keys_required: bool) -> OriginRule {
        if allowed.iter().any(|origin| origin == "*") || (allowed.is_empty() && keys_required) {
            OriginRule::Everyone
        } else if allowed.is_empty() {
            OriginRule::Loopback
        } else {
            OriginRule::Listed(allowed.to_vec())
        }
    }

    /// True for requests of programs, and of pages that may call.
    pub(crate) fn allows(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(header::ORIGIN) else { return true };
        match self {
            OriginRule::Everyone => true,
            OriginRule::Loopback => origin.to_str().is_ok_and(is_loopback),
            OriginRule::Listed(list) => list.iter().any(|allowed| origin == allowed.as_str()),
        }
    }

    /// The refusal of a page's request.
    pub(crate) fn refusal() -> Refusal {
        let message = "Pages of this web origin may not call the gateway. Its operator can add the \
                       origin to `allowed_origins`.";
        ApiError::new(403, "permission_error", message).with_code("origin_not_allowed").into()
    }

    /// Adds the CORS headers to an answer for an allowed page.
    pub(crate) fn mark(&self, request: &HeaderMap, answer: &mut HeaderMap) {
        let Some(origin) = request.get(header::ORIGIN) else { return };
        answer.append(header::VARY, HeaderValue::from_static("origin"));
        if !self.allows(request) {
            return;
        }
        answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        answer.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
        if !request.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
            return;
        }
        let methods = HeaderValue::from_static("GET, HEAD, POST, DELETE, OPTIONS");
        answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
        // The official clients send a dozen headers of their own: allow what is asked for.
        let asked = request.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
        let asked = asked.unwrap_or(HeaderValue::from_static("content-type, authorization"));
        answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked);
        answer.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("7200"));
        if request.contains_key(PRIVATE_NETWORK_ASKED) {
            answer.insert(PRIVATE_NETWORK_ALLOWED, HeaderValue::from_static("true"));
        }
    }
}

const PRIVATE_NETWORK_ASKED: HeaderName =
    HeaderName::from_static("access-control-request-private-network");
const PRIVATE_NETWORK_ALLOWED: HeaderName =
    HeaderName::from_static("access-control-allow-private-network");

/// True for `http://localhost:3000` and its like.
fn is_loopback(origin: &str) -> bool {
    let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    let Some(authority) = rest else { return false };
    let host = match authority.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(origin: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::ORIGIN, HeaderValue::from_static(origin))])
    }

    #[test]
    fn loopback_pages_and_programs_may_call() {
        let rule = OriginRule::new(&[], false);
        assert!(rule.allows(&HeaderMap::new()));
        for origin in
            ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:8", "http://a.localhost"]
        {
            assert!(rule.allows(&from(origin)), "{origin}");
        }
        for origin in [
            "https://evil.example",
            "null",
            "http://localhost.evil.example",
            "http://127.0.0.1.evil",
        ] {
            assert!(!rule.allows(&from(origin)), "{origin}");
        }
        assert!(OriginRule::new(&[], true).allows(&from("https://any.example")));
        let listed = OriginRule::new(&["https://a.example".to_owned()], false);
        assert!(listed.allows(&from("https://a.example")));
        assert!(!listed.allows(&from("http://localhost")));
    }

    #[test]
    fn a_preflight_is_told_what_it_may_do() {
        let mut request = from("http://localhost:3000");
        request.insert("access-control-request-method", HeaderValue::from_static("POST"));
        request.insert("access-control-request-headers", HeaderValue::from_static("x-a, x-b"));
        let mut answer = HeaderMap::new();
        OriginRule::Loopback.mark(&request, &mut answer);
        assert_eq!(answer["access-control-allow-headers"], "x-a, x-b");
        // Files are deleted.
        assert!(answer["access-control-allow-methods"].to_str().unwrap().contains("DELETE"));
        assert_eq!(answer["access-control-allow-origin"], "http://localhost:3000");
    }
}
