//! Random histories of clients, workers, time, disk and crashes keep every promise.

use std::collections::{BTreeMap, BTreeSet};

use cocoon_role_proxy::{ConnId, Settings};
use cocoon_units::RequestId;
use cocoon_wire::client::FromProxy;
use cocoon_wire::cocoon::{CANCEL_QUERY, CancelQuery};
use cocoon_wire::proxy::ToWorker;
use cocoon_wire::tl::Extensions;
use cocoon_wire::{client, worker};
use proptest::prelude::*;

use crate::stage::{Got, Stage, account, failed, head, last, part, request, settings};

#[derive(Clone, Debug)]
enum Step {
    Client { owner: u8, version: i32, cancels: bool },
    Worker { owner: u8, version: i32, slots: i32, cancels: bool },
    Request { client: usize, timeout_s: u8, old: bool },
    Cancel { client: usize, nth: usize },
    Answer { worker: usize, nth: usize, how: u8, tokens: i64 },
    Stray { worker: usize },
    Able { worker: usize, disabled: bool },
    CloseClient { client: usize },
    CloseWorker { worker: usize },
    Garbage { client: usize, bytes: Vec<u8> },
    Wait { ms: u16 },
    Flush,
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let at = || 0usize..4;
    let worker = |(owner, version, slots, cancels)| Step::Worker { owner, version, slots, cancels };
    let step = prop_oneof![
        2 => (20u8..23, 0i32..6, any::<bool>())
            .prop_map(|(owner, version, cancels)| Step::Client { owner, version, cancels }),
        2 => (30u8..33, 0i32..6, 1i32..4, any::<bool>()).prop_map(worker),
        8 => (at(), 1u8..60, prop::bool::weighted(0.2))
            .prop_map(|(client, timeout_s, old)| Step::Request { client, timeout_s, old }),
        1 => (at(), 0usize..6).prop_map(|(client, nth)| Step::Cancel { client, nth }),
        14 => (at(), 0usize..4, 0u8..10, -3i64..3_000)
            .prop_map(|(worker, nth, how, tokens)| Step::Answer { worker, nth, how, tokens }),
        1 => at().prop_map(|worker| Step::Stray { worker }),
        1 => (at(), any::<bool>()).prop_map(|(worker, disabled)| Step::Able { worker, disabled }),
        1 => at().prop_map(|client| Step::CloseClient { client }),
        1 => at().prop_map(|worker| Step::CloseWorker { worker }),
        1 => (at(), prop::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(client, bytes)| Step::Garbage { client, bytes }),
        3 => (0u16..40_000).prop_map(|ms| Step::Wait { ms }),
        4 => Just(Step::Flush),
        1 => Just(Step::Crash),
    ];
    prop::collection::vec(step, 1..90)
}

/// What a peer believes.
#[derive(Default)]
struct Peers {
    clients: Vec<(ConnId, u8)>,
    workers: Vec<(ConnId, u8)>,
    /// Requests at workers, and whether a head was sent.
    at_worker: BTreeMap<ConnId, BTreeMap<RequestId, bool>>,
    /// Requests of clients that have not ended.
    open: BTreeSet<(ConnId, RequestId)>,
    /// The total a connection was told last. Never falls.
    told_on: BTreeMap<ConnId, i64>,
    /// The highest total an owner was told; the books know it over restarts too.
    told: BTreeMap<u8, i64>,
    next: u8,
}

impl Peers {
    /// Reads everything that peers got and checks it.
    fn read(&mut self, stage: &mut Stage) {
        for (conn, owner) in self.clients.clone() {
            for got in stage.all(conn) {
                match got {
                    Got::Message(data) => self.client_message(conn, owner, &data),
                    Got::Closed(_) => self.client_gone(conn),
                    _ => {}
                }
            }
        }
        for (conn, owner) in self.workers.clone() {
            for got in stage.all(conn) {
                match got {
                    Got::Message(data) => self.worker_message(conn, owner, &data),
                    Got::Closed(_) => self.worker_gone(conn),
                    _ => {}
                }
            }
        }
    }

    fn client_message(&mut self, conn: ConnId, owner: u8, data: &[u8]) {
        let (id, ended) = match FromProxy::decode(data).expect("well formed") {
            FromProxy::QueryAnswerEx(m) => (m.request_id, m.final_info.is_some()),
            FromProxy::QueryAnswerPartEx(m) => (m.request_id, m.final_info.is_some()),
            FromProxy::QueryAnswerErrorEx(m) => (m.request_id, true),
            FromProxy::QueryAnswer(m) => (m.request_id, m.is_completed),
            FromProxy::QueryAnswerPart(m) => (m.request_id, m.is_completed),
            FromProxy::QueryAnswerError(m) => (m.request_id, true),
            FromProxy::QueryAnswerPartError(m) => (m.request_id, true),
            FromProxy::ClientRequestPayment(m) => {
                assert_eq!(m.db_tokens, m.max_tokens);
                return self.told(conn, owner, m.max_tokens);
            }
            other => panic!("client got {other:?}"),
        };
        assert!(self.open.contains(&(conn, id)), "a message after the end of a request");
        if ended {
            self.open.remove(&(conn, id));
        }
    }

    fn worker_message(&mut self, conn: ConnId, owner: u8, data: &[u8]) {
        let at_worker = self.at_worker.entry(conn).or_default();
        match ToWorker::decode(data).expect("well formed") {
            ToWorker::RunQueryEx(m) => assert!(at_worker.insert(m.request_id, false).is_none()),
            ToWorker::RunQuery(m) => assert!(at_worker.insert(m.request_id, false).is_none()),
            ToWorker::WorkerRequestPayment(m) => {
                at_worker.remove(&m.request_id);
                self.told(conn, owner, m.max_tokens);
            }
            ToWorker::CancelQuery(_) => {}
            other => panic!("worker got {other:?}"),
        }
    }

    fn told(&mut self, conn: ConnId, owner: u8, total: i64) {
        let known = self.told_on.entry(conn).or_default();
        assert!(total >= *known, "{conn:?} was told {known}, now {total}");
        *known = total;
        let highest = self.told.entry(owner).or_default();
        *highest = total.max(*highest);
    }

    fn client_gone(&mut self, conn: ConnId) {
        self.clients.retain(|(known, _)| *known != conn);
        self.open.retain(|(known, _)| *known != conn);
    }

    fn worker_gone(&mut self, conn: ConnId) {
        self.workers.retain(|(known, _)| *known != conn);
        self.at_worker.remove(&conn);
    }
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..200)
}

fn limits() -> Settings {
    Settings { queue_wait_max_ms: 20_000, requests_per_connection_max: 6, ..settings() }
}

fn play(stage: &mut Stage, peers: &mut Peers, step: Step) {
    let pick = |list: &[(ConnId, u8)], nth: usize| list.get(nth % list.len().max(1)).copied();
    let bits = |knows: bool| if knows { CANCEL_QUERY } else { Extensions::NONE };
    match step {
        Step::Client { owner, version, cancels } => {
            // A handshake needs the disk; what peers got before must be read before.
            stage.flush();
            peers.read(stage);
            stage.flushes = true;
            let conn = stage.client_with(owner, version, bits(cancels));
            stage.flushes = false;
            peers.clients.push((conn, owner));
        }
        Step::Worker { owner, version, slots, cancels } => {
            stage.flush();
            peers.read(stage);
            stage.flushes = true;
            let conn = stage.worker_with(owner, version, slots, 1_000, bits(cancels));
            stage.flushes = false;
            peers.workers.push((conn, owner));
        }
        Step::Request { client, timeout_s, old } => {
            let Some((conn, _)) = pick(&peers.clients, client) else { return };
            peers.next = peers.next.wrapping_add(1);
            send_request(stage, peers, conn, f64::from(timeout_s), old);
        }
        Step::Cancel { client, nth } => {
            let Some((conn, _)) = pick(&peers.clients, client) else { return };
            let mine = peers.open.iter().filter(|(at, _)| *at == conn).nth(nth);
            let Some((_, request_id)) = mine.copied() else { return };
            stage.send(conn, &CancelQuery { request_id });
        }
        Step::Answer { worker, nth, how, tokens } => {
            let Some((conn, _)) = pick(&peers.workers, worker) else { return };
            answer(stage, peers, conn, nth, how, tokens);
        }
        Step::Stray { worker } => {
            let Some((conn, _)) = pick(&peers.workers, worker) else { return };
            stage.send(conn, &last(RequestId([0xee; 32]), 1_000));
        }
        Step::Able { worker, disabled } => {
            let Some((conn, _)) = pick(&peers.workers, worker) else { return };
            stage.send(conn, &worker::EnabledDisabled { disabled: i32::from(disabled) });
        }
        Step::CloseClient { client } => {
            let Some((conn, _)) = pick(&peers.clients, client) else { return };
            stage.close(conn);
            peers.client_gone(conn);
        }
        Step::CloseWorker { worker } => {
            let Some((conn, _)) = pick(&peers.workers, worker) else { return };
            stage.close(conn);
            peers.worker_gone(conn);
        }
        Step::Garbage { client, bytes } => {
            let Some((conn, _)) = pick(&peers.clients, client) else { return };
            stage.send_raw(conn, bytes.into());
        }
        Step::Wait { ms } => stage.wait(u64::from(ms)),
        Step::Flush => stage.flush(),
        Step::Crash => crash(stage, peers),
    }
}

fn send_request(stage: &mut Stage, peers: &Peers, conn: ConnId, timeout: f64, old: bool) {
    let wanted = client::RunQueryEx { timeout, ..request(peers.next) };
    if !old {
        return stage.send(conn, &wanted);
    }
    stage.send(
        conn,
        &client::RunQuery {
            model_name: wanted.model_name,
            query: wanted.query,
            max_coefficient: wanted.max_coefficient,
            max_tokens: wanted.max_tokens,
            timeout,
            request_id: wanted.request_id,
            min_config_version: wanted.min_config_version,
        },
    );
}

fn answer(stage: &mut Stage, peers: &mut Peers, conn: ConnId, nth: usize, how: u8, tokens: i64) {
    let Some(mine) = peers.at_worker.get_mut(&conn) else { return };
    let Some((&id, begun)) = mine.iter_mut().nth(nth) else { return };
    match (how, *begun) {
        (0, _) => stage.send(conn, &failed(id, 602, "worker: http failed: away")),
        (1, _) => stage.send(conn, &head(id)),
        (2, false) => stage.send(conn, &part(id, b"early")),
        (3..=6, true) => stage.send(conn, &last(id, tokens)),
        (_, true) => stage.send(conn, &part(id, b"more")),
        (_, false) => stage.send(conn, &head(id)),
    }
    *begun = true;
    if matches!(how, 0) {
        mine.remove(&id);
    }
}

/// The process dies: what is on disk is all that is left.
fn crash(stage: &mut Stage, peers: &mut Peers) {
    peers.read(stage);
    let now = stage.now;
    let lost = stage.written() - stage.durable;
    let kept = stage.journal.len() - usize::try_from(lost).expect("small");
    let journal = stage.journal[..kept].to_vec();
    *stage = Stage::replay(limits(), journal);
    stage.now = now;
    stage.flushes = false;
    peers.clients.clear();
    peers.workers.clear();
    peers.at_worker.clear();
    peers.open.clear();
    peers.told_on.clear();
    for (owner, told) in &peers.told {
        let books = stage.books();
        let client = books.client(account(*owner)).map(|c| c.counters().max());
        let worker = books.worker(account(*owner)).map(|w| w.counters().max());
        let total = client.or(worker).unwrap_or_default();
        assert!(total.to_wire() >= *told, "owner {owner} was told {told}, books have {total:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Books stay sound after every effect, totals told never fall, nothing follows the end of a
    /// request, and when everything is over nothing is left.
    #[test]
    fn histories_keep_every_promise(steps in steps()) {
        let mut stage = Stage::with(limits());
        stage.flushes = false;
        let mut peers = Peers::default();
        for step in steps {
            if let Step::Request { client, .. } = &step
                && let Some((conn, _)) = peers.clients.get(client % peers.clients.len().max(1))
            {
                peers.open.insert((*conn, RequestId([peers.next.wrapping_add(1); 32])));
            }
            play(&mut stage, &mut peers, step);
            peers.read(&mut stage);
        }
        // Faults stop and time passes: every request of a client that is still there has ended.
        stage.flush();
        for _ in 0..10 {
            stage.wait(20_000);
            stage.flush();
        }
        peers.read(&mut stage);
        prop_assert!(peers.open.is_empty(), "never ended: {:?}", peers.open);
        prop_assert_eq!(stage.books().totals().reserved, 0);
        prop_assert!(stage.proxy.is_idle());
        let totals = stage.books().totals();
        prop_assert_eq!(totals.spent, totals.earned);
    }

    /// Any bytes from any peer at any stage: no panic, and the proxy serves on.
    #[test]
    fn arbitrary_bytes_do_no_harm(
        frames in prop::collection::vec((0usize..4, any::<bool>(), bytes()), 0..20),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let mut stage = Stage::new();
        let mut conns = vec![
            stage.open(cocoon_role_proxy::Side::Clients, None),
            stage.open(cocoon_role_proxy::Side::Workers, None),
            stage.client(20, 4),
            stage.worker(30, 4, 2),
        ];
        let mut real = cocoon_wire::tl::encode(&request(1));
        for (at, byte) in &flips {
            let at = at.index(real.len());
            real[at] ^= byte;
        }
        stage.send_raw(conns[2], real.into());
        for (at, is_query, bytes) in frames {
            if is_query {
                stage.ask_raw(conns[at], &bytes);
            } else {
                stage.send_raw(conns[at], bytes.into());
            }
        }
        conns.clear();
        let conn = stage.client(22, 4);
        stage.worker(33, 4, 2);
        stage.send(conn, &request(9));
    }
}
