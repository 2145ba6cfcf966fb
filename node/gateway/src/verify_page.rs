//! `/verify`: the verifier as a page, made by `tool/verifier-web` and part of every copy of Cocoon.

use http::header::{self, HeaderValue};

use crate::gateway::Reply;
use crate::pages;

/// One file: markup, style, program and the verifier in WebAssembly. It can be saved and opened
/// from a disk, and says itself (CSP) that it talks to nobody but the server it came from.
const PAGE: &str = include_str!("verify.html");

/// The page.
pub(crate) fn reply() -> Reply {
    let mut reply = pages::text("text/html; charset=utf-8", PAGE.into());
    let headers = reply.headers_mut();
    // The page's own policy cannot forbid frames (CSP 3, 3.3 of the `meta` form).
    let frames = HeaderValue::from_static("frame-ancestors 'none'");
    headers.insert(header::CONTENT_SECURITY_POLICY, frames);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_runs_its_own_program_and_talks_to_its_own_server_alone() {
        let at = PAGE.find("Content-Security-Policy").unwrap();
        let policy = PAGE[at..].split('"').nth(2).unwrap();
        for rule in ["default-src 'none'", "connect-src 'self'", "script-src 'sha256-"] {
            assert!(policy.contains(rule), "{policy}");
        }
        assert!(!policy.contains("unsafe-inline") && !policy.contains("'unsafe-eval'"), "{policy}");
        assert!(
            !PAGE.contains("http://") && !PAGE.contains(" src=\"http"),
            "nothing from elsewhere"
        );
        assert_eq!(reply().headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    }
}
