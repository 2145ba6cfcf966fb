//! Which handler a method and a path belong to.

use cocoon_openai::Endpoint;
use http::Method;

use crate::batches::BatchCall;
use crate::operator::OperatorPath;

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// To a model server.
    Inference(Endpoint),
    /// Answered here.
    Page(Page),
    /// About files and batches.
    Batch(BatchCall),
    /// The operator moves money.
    Operator(OperatorPath),
    /// A browser asks what it may do.
    Preflight,
    /// A path of ours with a method that it does not take; holds those it takes.
    WrongMethod(&'static str),
    /// No path of ours.
    Unknown,
}

/// What is answered here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Page {
    /// `/v1/models`
    Models,
    /// `/v1/models/{name}`
    Model(String),
    /// `/health`: the process lives.
    Health,
    /// `/ready`: a request would find a worker.
    Ready,
    /// `/metrics`
    Metrics,
    /// `/openapi.json`
    OpenApi,
    /// `/jsonstats`
    JsonStats,
    /// `/stats`
    Stats,
    /// `/verify`: the verifier in a page.
    Verify,
    /// `/v1/attestation`
    Attestation,
    /// `/v1/receipts/{id}`
    Receipt(String),
}

impl Route {
    pub(crate) fn of(method: &Method, path: &str) -> Route {
        if method == Method::OPTIONS {
            return Route::Preflight;
        }
        if let Some(endpoint) = Endpoint::of_path(path) {
            return if method == Method::POST {
                Route::Inference(endpoint)
            } else {
                Route::WrongMethod("POST, OPTIONS")
            };
        }
        match BatchCall::of(method, path) {
            Some(Ok(call)) => return Route::Batch(call),
            Some(Err(allow)) => return Route::WrongMethod(allow),
            None => {}
        }
        if let Some(path) = OperatorPath::of(path) {
            let is_post = method == Method::POST;
            return if is_post {
                Route::Operator(path)
            } else {
                Route::WrongMethod("POST, OPTIONS")
            };
        }
        let Some(page) = page(path) else { return Route::Unknown };
        // The reference answers its model list to POST too (protocol notes 4.1).
        let read = method == Method::GET || method == Method::HEAD;
        if read || (method == Method::POST && page == Page::Models) {
            Route::Page(page)
        } else {
            Route::WrongMethod("GET, HEAD, OPTIONS")
        }
    }
}

/// The path that a client means whose `base_url` lacks `/v1` or has it twice.
pub(crate) fn meant(path: &str) -> Option<String> {
    let with = match path.strip_prefix("/v1/v1/") {
        Some(rest) => format!("/v1/{rest}"),
        None => format!("/v1{path}"),
    };
    let known = Endpoint::of_path(&with).is_some() || with == "/v1/models";
    known.then_some(with)
}

fn page(path: &str) -> Option<Page> {
    Some(match path {
        "/v1/models" => Page::Models,
        "/health" => Page::Health,
        "/ready" => Page::Ready,
        "/metrics" => Page::Metrics,
        "/openapi.json" => Page::OpenApi,
        "/jsonstats" => Page::JsonStats,
        "/stats" => Page::Stats,
        "/verify" => Page::Verify,
        "/v1/attestation" => Page::Attestation,
        _ if path.starts_with("/v1/receipts/") => {
            let id = path.strip_prefix("/v1/receipts/")?;
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let known = (1..=128).contains(&id.len()) && id.chars().all(plain);
            return known.then(|| Page::Receipt(id.to_owned()));
        }
        _ => {
            let name = path.strip_prefix("/v1/models/").filter(|name| !name.is_empty())?;
            Page::Model(percent_decoded(name)?)
        }
    })
}

/// Model names hold slashes; clients send them as they are or as `%2F`.
pub(crate) fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, tail @ ..] = rest else { return None };
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        let value = digit(high)? * 16 + digit(low)?;
        bytes.push(u8::try_from(value).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_and_methods_are_told_apart() {
        let get = |path| Route::of(&Method::GET, path);
        let post = |path| Route::of(&Method::POST, path);
        assert_eq!(post("/v1/chat/completions"), Route::Inference(Endpoint::ChatCompletions));
        assert_eq!(get("/v1/chat/completions"), Route::WrongMethod("POST, OPTIONS"));
        assert_eq!(get("/v1/models"), Route::Page(Page::Models));
        assert_eq!(get("/v1/models/a/b"), Route::Page(Page::Model("a/b".into())));
        assert_eq!(get("/v1/models/a%2Fb"), Route::Page(Page::Model("a/b".into())));
        assert_eq!(get("/v1/models/a%2"), Route::Unknown);
        assert_eq!(get("/v1/models/"), Route::Unknown);
        assert_eq!(post("/request/close"), Route::Operator(OperatorPath::Close));
        assert_eq!(get("/request/close"), Route::WrongMethod("POST, OPTIONS"));
        assert_eq!(post("/request/else"), Route::Unknown);
        assert_eq!(get("/verify"), Route::Page(Page::Verify));
        assert_eq!(get("/favicon.ico"), Route::Unknown);
        assert_eq!(post("/health"), Route::WrongMethod("GET, HEAD, OPTIONS"));
        assert_eq!(Route::of(&Method::OPTIONS, "/anything"), Route::Preflight);
    }

    #[test]
    fn what_a_wrong_base_url_means_is_guessed() {
        assert_eq!(meant("/chat/completions").as_deref(), Some("/v1/chat/completions"));
        assert_eq!(meant("/v1/v1/messages").as_deref(), Some("/v1/messages"));
        assert_eq!(meant("/models").as_deref(), Some("/v1/models"));
        for path in ["/", "", "/v1", "/favicon.ico", "/v1/v1/"] {
            assert_eq!(meant(path), None);
        }
    }

    proptest! {
        #[test]
        fn any_path_is_routed(path in "/?[a-z0-9/%.]{0,40}") {
            let _ = Route::of(&Method::GET, &path);
            let _ = Route::of(&Method::GET, &format!("/v1/models/{path}"));
        }
    }
}
