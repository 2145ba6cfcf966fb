//! One connection's worth of load.

use super::reading::{Broken, Reading};
use super::report::{Outcome, Recorder};
use super::{Reuse, Target, Tickets};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// Pause after a failure, so that a dead server does not make the generator spin.
const FAILURE_PAUSE: Duration = Duration::from_millis(5);

/// Makes one request after the other.
pub(crate) struct Driver {
    target: Arc<Target>,
    tickets: Arc<Tickets>,
    recorder: Arc<Recorder>,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Driver {
    pub(crate) fn new(target: Arc<Target>, tickets: Arc<Tickets>, recorder: Arc<Recorder>) -> Self {
        Self { target, tickets, recorder, connection: None }
    }

    pub(crate) async fn run(mut self) {
        while self.tickets.take() {
            let limit = self.target.timeout;
            let outcome = match tokio::time::timeout(limit, self.request()).await {
                Ok(outcome) => outcome,
                Err(_) => Outcome::Broken(Broken::Timeout),
            };
            if !matches!(outcome, Outcome::Whole(_)) {
                // What is left of this answer must not be taken for the next one.
                self.connection = None;
                tokio::time::sleep(match outcome {
                    Outcome::Refused(..) => self.target.refusal_pause,
                    _ => FAILURE_PAUSE,
                })
                .await;
            }
            self.recorder.record(&outcome);
        }
    }

    async fn request(&mut self) -> Outcome {
        // A new connection is part of what the user waits for.
        let start = Instant::now();
        let mut connection = match self.connection.take() {
            Some(connection) if !connection.is_closed() => connection,
            _ => match self.connect().await {
                Some(connection) => connection,
                None => return Outcome::Broken(Broken::Connect),
            },
        };
        if connection.ready().await.is_err() {
            return Outcome::Broken(Broken::Send);
        }
        let request = http::Request::from_parts(
            self.target.request.clone(),
            Full::new(self.target.body.clone()),
        );
        let Ok(answer) = connection.send_request(request).await else {
            return Outcome::Broken(Broken::Send);
        };
        let head = start.elapsed();
        let status = answer.status();
        let mut body = answer.into_body();
        let mut reading = Reading::new(self.target.shape);
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return Outcome::Broken(Broken::Read) };
            if let Some(data) = frame.data_ref()
                && let Some(gap) = reading.piece(data, Instant::now())
            {
                self.recorder.gap(gap);
            }
        }
        if self.target.reuse == Reuse::KeepAlive {
            self.connection = Some(connection);
        }
        if status != http::StatusCode::OK {
            return Outcome::Refused(status, start.elapsed());
        }
        match reading.end() {
            Ok(()) => Outcome::Whole(super::report::Whole::new(start, head, &reading)),
            Err(broken) => Outcome::Broken(broken),
        }
    }

    async fn connect(&self) -> Option<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(self.target.address).await.ok()?;
        let _ = stream.set_nodelay(true);
        let (send, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        tokio::spawn(connection);
        self.recorder.connected();
        Some(send)
    }
}
