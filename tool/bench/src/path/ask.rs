//! Single requests, to see whether a network is there.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;

/// Largest answer that is read, bytes.
const ANSWER_LEN_MAX: usize = 4 << 20;

/// Where to ask, and as whom.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// `http://host:port`.
    pub(crate) url: String,
    pub(crate) key: Option<String>,
}

impl Endpoint {
    /// The first model listed, if any is.
    pub(crate) fn first_model(&self, limit: Duration) -> io::Result<Option<String>> {
        let (_, body) = self.ask("/v1/models", None, limit)?;
        let list: Value = serde_json::from_slice(&body).unwrap_or_default();
        Ok(list["data"][0]["id"].as_str().map(str::to_owned))
    }

    /// Asks for a small answer. Gives its status.
    pub(crate) fn chat(&self, model: &str, limit: Duration) -> io::Result<u16> {
        let body = serde_json::json!({
            "model": model,
            "messages": [{ "role": "user", "content": "Are you there?" }],
            "max_tokens": 16,
        });
        Ok(self.ask("/v1/chat/completions", Some(body.to_string().into()), limit)?.0)
    }

    /// A GET, or a POST when there is a body. Blocks.
    pub(crate) fn ask(
        &self,
        path: &str,
        body: Option<Bytes>,
        limit: Duration,
    ) -> io::Result<(u16, Bytes)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            tokio::time::timeout(limit, self.exchange(path, body))
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        })
    }

    async fn exchange(&self, path: &str, body: Option<Bytes>) -> io::Result<(u16, Bytes)> {
        let authority = self.url.trim_start_matches("http://").trim_end_matches('/');
        let stream = TcpStream::connect(authority).await?;
        let (mut send, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        let mut request = http::Request::builder()
            .method(if body.is_some() { http::Method::POST } else { http::Method::GET })
            .uri(path)
            .header(http::header::HOST, authority)
            .header(http::header::CONNECTION, "close")
            .header(http::header::CONTENT_TYPE, "application/json");
        if let Some(key) = &self.key {
            request = request.header(http::header::AUTHORIZATION, format!("Bearer {key}"));
        }
        let request =
            request.body(Full::new(body.unwrap_or_default())).map_err(io::Error::other)?;
        let answer = send.send_request(request).await.map_err(io::Error::other)?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), ANSWER_LEN_MAX)
            .collect()
            .await
            .map_err(io::Error::other)?;
        Ok((status, body.to_bytes()))
    }
}
