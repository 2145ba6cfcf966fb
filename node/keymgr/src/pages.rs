//! Status pages. Nothing on them is a private key.

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use cocoon_role_keymgr::KeyLine;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};

/// What the pages show.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pages(Arc<Mutex<Value>>);

impl Pages {
    /// Shows this from now on.
    pub(crate) fn publish(&self, keys: Vec<KeyLine>, peers: usize, audit: (u64, String)) {
        let keys: Vec<Value> = keys
            .into_iter()
            .map(|key| {
                json!({
                    "public_key": key.public.to_base64(),
                    "since_s": key.since_s,
                    "until_s": key.until_s,
                    "durable": key.durable,
                })
            })
            .collect();
        let (lines, head) = audit;
        let status = json!({
            "status": { "peers": peers, "audit_lines": lines, "audit_head": head },
            "keys": keys,
        });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }

    pub(crate) fn router(self) -> Router {
        Router::new()
            .route("/health", get(async || "ok\n"))
            .route("/jsonstats", get(show))
            .with_state(self)
    }
}

async fn show(State(pages): State<Pages>) -> impl IntoResponse {
    let text = pages.0.lock().unwrap_or_else(PoisonError::into_inner).to_string();
    ([("content-type", "application/json")], text)
}
