//! One running query: from the model server's bytes to the proxy's messages.

use bytes::{Buf as _, Bytes};
use cocoon_host::clock;
use cocoon_proof::ReceiptEnd;
use cocoon_role_worker::{AnswerSeal, AnswerWriter, Reject, Run};
use cocoon_units::Tokens;
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use std::time::Duration;

use crate::backend::{Backend, BackendFault};
use crate::meter::Meter;
use crate::notary::Record;

/// Bytes of the body that are put into one message when they are there at once.
const PART_LEN: usize = 32 << 10;

/// Most bytes of the body in one message; sealing makes a long value longer than a frame.
const MESSAGE_LEN_MAX: usize = 1 << 20;

/// Where a query's messages go. The proxy's connection in the node; a list in tests.
pub(crate) trait Sink: Send {
    /// Sends one message; `false` when the connection is gone or stuck, and the query ends.
    fn send(&mut self, message: Vec<u8>) -> impl Future<Output = bool> + Send;
}

/// How a query ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Tokens that the proxy will book: what was claimed, but nothing for a failure, which is free
    /// by the protocol (protocol notes, wire 3.7).
    pub(crate) claimed: Tokens,
    /// Whether the model server gave a whole answer.
    pub(crate) complete: bool,
}

/// Runs a query to its end. `cancelled` completes when nobody wants the answer any more: the
/// connection to the model server is dropped at once, which ends its work, and what was made until
/// then is claimed. `place` is given up before the last message: the proxy may send its next query at once.
pub(crate) async fn run(
    run: Run,
    backend: &Backend,
    sink: &mut impl Sink,
    mut record: Option<Record>,
    (place, cancelled): (impl Send, impl Future<Output = ()>),
) -> Ended {
    let Run { backend: request, mut seal, mut answer, backend_deadline_ms, .. } = run;
    let mut meter = Meter::default();
    let remaining = Duration::from_millis(backend_deadline_ms.saturating_sub(clock::now_ms()));
    let mut seen = Seen { meter: &mut meter, record: record.as_mut() };
    let work = work(&request, backend, sink, &mut answer, (&mut seen, seal.as_mut()));
    let outcome = tokio::select! {
        outcome = work => outcome,
        () = cancelled => Outcome::Cancelled,
        () = tokio::time::sleep(remaining) => Outcome::Failed(Reject::timeout()),
    };
    finish(outcome, &answer, &meter, record, (place, sink)).await
}

/// Who looks at the answer while it passes.
struct Seen<'a> {
    meter: &'a mut Meter,
    record: Option<&'a mut Record>,
}

enum Outcome {
    Complete,
    Failed(Reject),
    Cancelled,
    ProxyGone,
}

async fn work(
    request: &cocoon_role_worker::BackendRequest,
    backend: &Backend,
    sink: &mut impl Sink,
    answer: &mut AnswerWriter,
    (seen, mut seal): (&mut Seen<'_>, Option<&mut AnswerSeal>),
) -> Outcome {
    let response = match backend.send(request).await {
        Ok(response) => response,
        Err(fault) => return Outcome::Failed(reject(&fault)),
    };
    let (head, mut body) = response.into_parts();
    let mut message = Vec::with_capacity(512);
    let headers = head.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    answer.head(&mut message, head.status.as_u16(), headers, clock::now_ms());
    if let Some(record) = seen.record.as_deref_mut() {
        record.head(head.status.as_u16());
    }
    if !sink.send(message).await {
        return Outcome::ProxyGone;
    }
    let mut part = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => take(frame, seen.meter, &mut part),
            Err(fault) => return Outcome::Failed(Reject::backend(&fault.to_string())),
        }
        // What is there already goes into the same message.
        let ended = gather(&mut body, seen.meter, &mut part);
        if let Some(seal) = seal.as_deref_mut()
            && let Err(reject) = seal_part(seal, &mut part)
        {
            return Outcome::Failed(reject);
        }
        if !send_part(answer, sink, seen, &mut part).await {
            return Outcome::ProxyGone;
        }
        match ended {
            Gathered::More => {}
            Gathered::End => break,
            Gathered::Broken(reason) => return Outcome::Failed(Reject::backend(&reason)),
        }
    }
    let Some(seal) = seal else { return Outcome::Complete };
    match seal.finish(&mut part, &mut fill_random) {
        Ok(()) if send_part(answer, sink, seen, &mut part).await => Outcome::Complete,
        Ok(()) => Outcome::ProxyGone,
        Err(reject) => Outcome::Failed(reject),
    }
}

/// Sends what `part` holds, if anything, and empties it; `false` when the proxy is gone.
async fn send_part(
    answer: &AnswerWriter,
    sink: &mut impl Sink,
    seen: &mut Seen<'_>,
    part: &mut Vec<u8>,
) -> bool {
    if let Some(record) = seen.record.as_deref_mut() {
        record.part(part);
    }
    for chunk in part.chunks(MESSAGE_LEN_MAX) {
        let mut message = Vec::with_capacity(chunk.len() + 64);
        answer.part(&mut message, chunk);
        if !sink.send(message).await {
            return false;
        }
    }
    part.clear();
    true
}

/// Replaces a part of an encrypted query by what of it can be sent sealed.
fn seal_part(seal: &mut AnswerSeal, part: &mut Vec<u8>) -> Result<(), Reject> {
    let mut out = Vec::with_capacity(part.len() * 2 + 256);
    seal.push(part, &mut out, &mut fill_random)?;
    *part = out;
    Ok(())
}

fn fill_random(out: &mut [u8]) {
    for chunk in out.chunks_mut(32) {
        let random: [u8; 32] = clock::random();
        for (byte, random) in chunk.iter_mut().zip(random) {
            *byte = random;
        }
    }
}

enum Gathered {
    More,
    End,
    Broken(String),
}

/// Takes the parts of the body that need no waiting.
fn gather(body: &mut Incoming, meter: &mut Meter, part: &mut Vec<u8>) -> Gathered {
    while part.len() < PART_LEN {
        match body.frame().now_or_never() {
            None => return Gathered::More,
            Some(None) => return Gathered::End,
            Some(Some(Ok(frame))) => take(frame, meter, part),
            Some(Some(Err(fault))) => return Gathered::Broken(fault.to_string()),
        }
    }
    Gathered::More
}

fn take(frame: hyper::body::Frame<Bytes>, meter: &mut Meter, part: &mut Vec<u8>) {
    // Trailers do not travel.
    if let Ok(data) = frame.into_data() {
        meter.push(data.chunk());
        part.extend_from_slice(&data);
    }
}

async fn finish(
    outcome: Outcome,
    answer: &AnswerWriter,
    meter: &Meter,
    record: Option<Record>,
    (place, sink): (impl Send, &mut impl Sink),
) -> Ended {
    let now_ms = clock::now_ms();
    let (_, head_ms) = answer.began_ms();
    let receipt = match (&outcome, record) {
        (Outcome::Complete, Some(record)) => {
            Some(record.sign(answer, meter.usage(), ReceiptEnd::Complete))
        }
        // What is charged for is receipted, once there was something to see.
        (Outcome::Cancelled, Some(record)) if head_ms > 0 => {
            Some(record.sign(answer, meter.usage_so_far(), ReceiptEnd::Cancelled))
        }
        _ => None,
    };
    if let Some(receipt) = receipt {
        let mut message = Vec::with_capacity(receipt.len() + 64);
        answer.receipt(&mut message, &receipt);
        // Whether the proxy is still there shows with the last message.
        let _ = sink.send(message).await;
    }
    let mut message = Vec::new();
    let (claimed, complete) = match outcome {
        Outcome::Complete => (answer.finish(&mut message, &meter.usage(), now_ms), true),
        Outcome::Failed(reject) => {
            answer.fail(&mut message, &reject, &meter.usage_so_far(), now_ms);
            (Tokens::ZERO, false)
        }
        Outcome::Cancelled => {
            let reject = Reject { code: 653, message: "cancelled".into() };
            (answer.fail(&mut message, &reject, &meter.usage_so_far(), now_ms), false)
        }
        Outcome::ProxyGone => return Ended { claimed: Tokens::ZERO, complete: false },
    };
    drop(place);
    // A claim that cannot be told is none.
    let told = sink.send(message).await;
    Ended { claimed: if told { claimed } else { Tokens::ZERO }, complete }
}

fn reject(fault: &BackendFault) -> Reject {
    match fault {
        BackendFault::Timeout(_) => Reject::timeout(),
        _ => Reject::backend(&fault.to_string()),
    }
}
