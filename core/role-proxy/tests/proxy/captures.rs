//! Recorded clients and workers of both lines talk to our proxy; what it answers is compared,
//! field by field, with what the recorded proxy answered.
//!
//! Left out of the comparison is what must differ: keys and addresses, signatures, the proxy's
//! own times, and `db_tokens`, which here never lags behind `max_tokens`.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;

use cocoon_role_proxy::{ConnId, Side};
use cocoon_units::{PublicKey, RequestId};
use cocoon_wire::client::{self, FromProxy};
use cocoon_wire::proxy::{self, SignedPayment};
use cocoon_wire::tcp::Packet;
use cocoon_wire::tl::{self, Blob, Boxed, SecretKey, Text};
use cocoon_wire::{http, worker};

use crate::stage::{Got, Stage};

/// One recorded packet of an application.
#[derive(Clone)]
enum Frame {
    Message(Vec<u8>),
    Query(i64, Vec<u8>),
    Answer(i64, Vec<u8>),
    Failed,
}

/// Reads one direction of a recorded connection. The accepted side begins with a blob.
fn frames(line: &str, name: &str, with_blob: bool) -> Vec<Frame> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/captures");
    let path = root.join(line).join(name);
    let bytes = std::fs::read(&path).expect("recorded bytes");
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let mut at = if with_blob { 4 + word(0) } else { 0 };
    let mut frames = Vec::new();
    while at + 8 <= bytes.len() {
        let payload = &bytes[at + 8..at + 8 + word(at)];
        at += 8 + payload.len();
        match tl::decode::<Packet<'_>>(payload).expect("a packet") {
            Packet::Message(m) => frames.push(Frame::Message(m.data.0.to_vec())),
            Packet::Query(q) => frames.push(Frame::Query(q.id, q.data.0.to_vec())),
            Packet::QueryAnswer(a) => frames.push(Frame::Answer(a.id, a.data.0.to_vec())),
            Packet::QueryError(_) => frames.push(Frame::Failed),
            _ => {}
        }
    }
    frames
}

/// A recorded worker: what it says per request, and what it was asked to run, in order.
struct RecordedWorker {
    hello: VecDeque<Vec<u8>>,
    asked: VecDeque<Vec<u8>>,
    answers: BTreeMap<RequestId, Vec<Vec<u8>>>,
}

impl RecordedWorker {
    fn read(line: &str, name: &str) -> Self {
        let mut recorded =
            Self { hello: VecDeque::new(), asked: VecDeque::new(), answers: BTreeMap::new() };
        for frame in frames(line, &format!("{name}.c2s.bin"), true) {
            match frame {
                Frame::Query(_, data) if recorded.hello.len() < 3 => recorded.hello.push_back(data),
                Frame::Message(data) => {
                    if let Some(id) = answer_id(&data) {
                        recorded.answers.entry(id).or_default().push(data);
                    }
                }
                _ => {}
            }
        }
        for frame in frames(line, &format!("{name}.s2c.bin"), false) {
            if let Frame::Message(data) = frame
                && let Ok(proxy::ToWorker::RunQueryEx(_)) = proxy::ToWorker::decode(&data)
            {
                recorded.asked.push_back(data);
            }
        }
        recorded
    }
}

fn answer_id(data: &[u8]) -> Option<RequestId> {
    match worker::Message::decode(data).expect("a worker's message") {
        worker::Message::QueryAnswerEx(m) => Some(m.request_id),
        worker::Message::QueryAnswerPartEx(m) => Some(m.request_id),
        worker::Message::QueryAnswerErrorEx(m) => Some(m.request_id),
        _ => None,
    }
}

/// The same message under another request id.
fn with_id(data: &[u8], id: RequestId) -> Vec<u8> {
    let encoded = |object: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        object(&mut out);
        out
    };
    match worker::Message::decode(data).expect("a worker's message") {
        worker::Message::QueryAnswerEx(mut m) => {
            m.request_id = id;
            encoded(&|out| m.write_boxed(out))
        }
        worker::Message::QueryAnswerPartEx(mut m) => {
            m.request_id = id;
            encoded(&|out| m.write_boxed(out))
        }
        worker::Message::QueryAnswerErrorEx(mut m) => {
            m.request_id = id;
            encoded(&|out| m.write_boxed(out))
        }
        other => panic!("{other:?}"),
    }
}

fn blank_payment(payment: &mut SignedPayment<'_>) {
    if let SignedPayment::Signed(data) = payment {
        *data = Blob(b"signed");
    }
}

fn blank_info(info: &mut Option<client::QueryFinalInfo<'_>>) {
    let Some(info) = info else { return };
    if let Some(times) = &mut info.times {
        assert!(times.proxy_start > 1e9 && times.proxy_end > 1e9);
        (times.proxy_start, times.proxy_end) = (1.0, 1.0);
        // A refusal shows the present in all four.
        if times.worker_start > 1e9 && info.tokens_used.total_tokens_used == 0 {
            (times.worker_start, times.worker_end) = (1.0, 1.0);
        }
    }
    if let Some(debug) = &mut info.debug {
        debug.proxy = Text::from("proxy");
    }
}

/// A message to a client with everything blanked that must differ.
fn normal(data: &[u8]) -> String {
    match FromProxy::decode(data).expect("a message to a client") {
        FromProxy::QueryAnswerEx(mut m) => {
            blank_info(&mut m.final_info);
            let mut http: http::Response<'_> = tl::decode(m.answer.0).expect("http");
            for header in &mut http.headers {
                if header.name.to_string().starts_with("X-Cocoon-Proxy-") {
                    assert_eq!(header.value.0.len(), "1795293409.709441".len());
                    header.value = Blob(b"time");
                }
            }
            let values: Vec<&[u8]> = http.headers.iter().map(|h| h.value.0).collect();
            format!("{:?} {http:?} {values:?} {:?}", m.request_id, m.final_info)
        }
        FromProxy::QueryAnswerPartEx(mut m) => {
            blank_info(&mut m.final_info);
            format!("{m:?} {:?}", m.answer.0)
        }
        FromProxy::QueryAnswerErrorEx(mut m) => {
            blank_info(&mut m.final_info);
            format!("{m:?}")
        }
        FromProxy::ClientRequestPayment(mut m) => {
            blank_payment(&mut m.signed_payment);
            assert!(m.db_tokens <= m.max_tokens);
            m.db_tokens = 0;
            format!("{m:?}")
        }
        other => panic!("{other:?}"),
    }
}

fn message_id(data: &[u8]) -> Option<RequestId> {
    match FromProxy::decode(data).expect("a message to a client") {
        FromProxy::QueryAnswerEx(m) => Some(m.request_id),
        FromProxy::QueryAnswerPartEx(m) => Some(m.request_id),
        FromProxy::QueryAnswerErrorEx(m) => Some(m.request_id),
        FromProxy::ClientRequestPayment(m) => Some(m.request_id),
        _ => None,
    }
}

/// The answer to a query, blanked likewise.
fn normal_answer(data: &[u8]) -> String {
    if let Ok(mut m) = tl::decode::<client::ConnectedToProxy<'_>>(data) {
        m.params.proxy_public_key = PublicKey::default();
        for text in [
            &mut m.params.proxy_owner_address,
            &mut m.params.proxy_sc_address,
            &mut m.client_sc_address,
        ] {
            assert!(text.to_string().starts_with("UQ"), "{text}");
            *text = Text::from("address");
        }
        return format!("{m:?}");
    }
    if let Ok(client::AuthorizationWithProxy::Success(mut m)) = tl::decode(data) {
        blank_payment(&mut m.signed_payment);
        return format!("{m:?}");
    }
    if let Ok(mut m) = tl::decode::<client::PaymentStatus<'_>>(data) {
        // It came in the middle of a stream, which here has ended by then.
        blank_payment(&mut m.signed_payment);
        return format!("{:?}", m.signed_payment);
    }
    format!("{:?}", tl::decode::<client::WorkerTypesV2<'_>>(data).expect("an answer"))
}

fn check_run_query(ours: &[u8], recorded: &[u8]) -> (RequestId, RequestId) {
    let read = |data| match proxy::ToWorker::decode(data) {
        Ok(proxy::ToWorker::RunQueryEx(run)) => run,
        other => panic!("{other:?}"),
    };
    let (mut ours, mut theirs) = (read(ours), read(recorded));
    let ids = (ours.request_id, theirs.request_id);
    for run in [&mut ours, &mut theirs] {
        blank_payment(&mut run.signed_payment);
        run.request_id = RequestId::default();
    }
    assert_eq!(tl::encode(&ours), tl::encode(&theirs), "{ours:?}\n{theirs:?}");
    ids
}

/// Plays a recorded pair against our proxy; returns how many requests were compared.
fn replay(line: &str, client_name: &str, worker_name: &str) -> usize {
    let mut stage = Stage::new();
    // The public test key pair of the network's test mode.
    let secret = "070ad82e6132dab32067fb720afd0060555a64f905bbec0dc2849088951b3a63";
    let public = PublicKey::parse("+2fQ/NM48g4NSVfZ6CrcEB0uNROkSKOrRgUu4biMWBg=").unwrap();
    let secret: [u8; 32] = hex::decode(secret).unwrap().try_into().unwrap();
    stage.proxy.set_keys([(public, SecretKey::new(secret))]);

    let mut recorded = RecordedWorker::read(line, worker_name);
    let worker = stage.open(Side::Workers, None);
    for data in recorded.hello.drain(..) {
        stage.ask_raw(worker, &data);
        stage.answer(worker);
    }
    let answers = recorded_answers(line, client_name);
    let conn = stage.open(Side::Clients, None);
    let mut compared = 0;
    for frame in frames(line, &format!("{client_name}.c2s.bin"), true) {
        match frame {
            Frame::Query(id, data) => {
                stage.ask_raw(conn, &data);
                let ours = stage.answer(conn);
                let Some(theirs) = answers.by_query.get(&id) else { continue };
                // In some recordings the client came before the worker.
                let listed = tl::decode::<client::WorkerTypesV2<'_>>(theirs);
                if listed.is_ok_and(|list| list.types.iter().all(|t| t.workers.is_empty())) {
                    continue;
                }
                assert_eq!(normal_answer(&ours), normal_answer(theirs));
            }
            Frame::Message(data) => {
                stage.send_raw(conn, data.into());
                run_at_worker(&mut stage, worker, &mut recorded);
                compare(&mut stage, conn, &answers.by_request);
                compared += 1;
            }
            Frame::Answer(..) | Frame::Failed => {}
        }
    }
    compared
}

/// What the recorded proxy sent to the client.
struct RecordedAnswers {
    by_query: BTreeMap<i64, Vec<u8>>,
    by_request: BTreeMap<RequestId, Vec<Vec<u8>>>,
}

fn recorded_answers(line: &str, name: &str) -> RecordedAnswers {
    let mut found = RecordedAnswers { by_query: BTreeMap::new(), by_request: BTreeMap::new() };
    for frame in frames(line, &format!("{name}.s2c.bin"), false) {
        match frame {
            Frame::Answer(id, data) => {
                found.by_query.insert(id, data);
            }
            Frame::Message(data) => {
                let id = message_id(&data).expect("about a request");
                found.by_request.entry(id).or_default().push(data);
            }
            _ => {}
        }
    }
    found
}

fn run_at_worker(stage: &mut Stage, worker: ConnId, recorded: &mut RecordedWorker) {
    for got in stage.all(worker) {
        let Got::Message(data) = got else { continue };
        if !matches!(proxy::ToWorker::decode(&data), Ok(proxy::ToWorker::RunQueryEx(_))) {
            continue;
        }
        let asked = recorded.asked.pop_front().expect("the recorded proxy asked too");
        let (ours, theirs) = check_run_query(&data, &asked);
        for answer in recorded.answers.remove(&theirs).unwrap_or_default() {
            stage.send_raw(worker, with_id(&answer, ours).into());
        }
    }
}

fn compare(stage: &mut Stage, conn: ConnId, recorded: &BTreeMap<RequestId, Vec<Vec<u8>>>) {
    let ours: Vec<_> = stage
        .all(conn)
        .into_iter()
        .map(|got| match got {
            Got::Message(data) => data,
            other => panic!("{other:?}"),
        })
        .collect();
    let id = ours.first().and_then(|data| message_id(data)).expect("an answer");
    let theirs = recorded.get(&id).expect("the recorded proxy answered too");
    let ours: Vec<String> = ours.iter().map(|data| normal(data)).collect();
    let theirs: Vec<String> = theirs.iter().map(|data| normal(data)).collect();
    assert_eq!(ours, theirs);
}

#[test]
fn the_present_line_gets_what_its_own_proxy_gave() {
    assert!(replay("live", "A_123_11102", "A_121_11101") >= 8);
}

#[test]
fn the_older_line_gets_what_its_own_proxy_gave() {
    assert!(replay("base", "A_140_11102", "A_126_11101") >= 4);
}

#[test]
fn a_new_client_and_an_old_worker_get_what_the_present_proxy_gave() {
    assert!(replay("live", "M1_005_11102", "M1_006_11101") >= 3);
}

#[test]
fn an_old_client_and_a_new_worker_get_what_the_present_proxy_gave() {
    assert!(replay("live", "M3_006_11102", "M3_007_11101") >= 2);
}
