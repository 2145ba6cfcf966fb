//! What workers prove to clients, carried unread: receipts of answers, reports on demand
//! (`docs/protocol.md`).

use std::collections::BTreeMap;

use cocoon_wire::cocoon::{
    self, GetEndorsedReport, GetFullReport, GetReport, Receipt, Worker, Workers,
};
use cocoon_wire::tl::{self, Blob, Extensions, Text};

use crate::client::ClientConn;
use crate::fault::{Refusal, code};
use crate::outbox::{Act, ConnId, Outbox};
use crate::proxy::{Desk, Proxy};
use crate::worker::WorkerConn;

/// Time a worker has for a report: its platform signs one at a time, tens of milliseconds each.
const REPORT_TIMEOUT_MS: u64 = 30_000;
/// Most reports that one client may wait for.
const PER_CLIENT_MAX: usize = 16;
/// Most reports that may be asked of one worker at a time.
const PER_WORKER_MAX: usize = 16;
/// Most workers in one list.
const LISTED_MAX: usize = 512;

/// Questions on their way: worker's connection and our id, client's connection and its id.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    open: BTreeMap<(ConnId, i64), (ConnId, i64)>,
}

impl Reports {
    fn of_client(&self, conn: ConnId) -> usize {
        self.open.values().filter(|(client, _)| *client == conn).count()
    }

    fn of_worker(&self, conn: ConnId) -> usize {
        self.open.keys().filter(|(worker, _)| *worker == conn).count()
    }
}

impl Proxy {
    /// A worker's receipt goes to the client at once, with the client's id of the request. It
    /// counts only over the connection the request was given to, once, and for a client that
    /// announced it.
    pub(crate) fn pass_receipt(&mut self, conn: ConnId, receipt: &Receipt<'_>, out: &mut Outbox) {
        if receipt.receipt.0.len() > cocoon::RECEIPT_LEN_MAX {
            self.counts.stray_answers += 1;
            return;
        }
        let ticket = Desk::ticket(&receipt.request_id);
        let Some(request) = self.desk.requests.get_mut(&ticket) else { return };
        let given_there = request.worker.is_some_and(|worker| worker.conn == conn);
        if request.id != receipt.request_id || !given_there || request.receipted {
            return;
        }
        request.receipted = true;
        let Some(listener) = request.listener else { return };
        let peer = self.clients.get(&listener.conn).and_then(ClientConn::ready);
        if !peer.is_some_and(|peer| peer.extensions.contains(cocoon::RECEIPTS)) {
            return;
        }
        let worker = conn.0.cast_signed();
        out.send(
            listener.conn,
            &Receipt { request_id: listener.id, worker, receipt: receipt.receipt },
        );
    }

    /// `cocoon.listWorkers`: the connections that can be asked for a report.
    pub(crate) fn list_reporters(&mut self, conn: ConnId, query: i64, out: &mut Outbox) {
        let mut found: Vec<(ConnId, &str)> = self
            .workers
            .iter()
            .filter(|(_, worker)| gives_reports(worker))
            .filter_map(|(conn, worker)| Some((*conn, worker.trade()?.model.as_str())))
            .collect();
        found.sort_unstable();
        found.truncate(LISTED_MAX);
        let entry = |(conn, model): (ConnId, &'_ str)| (conn.0.cast_signed(), model.to_owned());
        let found: Vec<(i64, String)> = found.into_iter().map(entry).collect();
        let workers = found
            .iter()
            .map(|(worker, model)| Worker { worker: *worker, model: Text::from(model.as_str()) });
        out.answer(conn, query, &Workers { workers: workers.collect() });
    }

    /// `cocoon.getReport`, `cocoon.getEndorsedReport`, `cocoon.getFullReport`: asks the worker in the
    /// client's name, in the last form that client and worker know.
    pub(crate) fn ask_for_report(
        &mut self,
        conn: ConnId,
        query: i64,
        (worker, nonce): (i64, [u8; 32]),
        reads: Extensions,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let worker = ConnId(worker.cast_unsigned());
        if !self.workers.get(&worker).is_some_and(gives_reports) {
            return Err(Refusal::open(code::NOT_READY, "no such worker, or it gives no reports"));
        }
        if self.reports.of_client(conn) >= PER_CLIENT_MAX {
            return Err(Refusal::open(code::NOT_READY, "too many reports asked for at once"));
        }
        if self.reports.of_worker(worker) >= PER_WORKER_MAX {
            return Err(Refusal::open(code::NOT_READY, "the worker makes many reports already"));
        }
        let ours = self.draw.number().cast_signed();
        let knows = |bit| self.workers.get(&worker).is_some_and(|worker| announced(worker, bit));
        let reads_more = reads.0 & !cocoon::ENDORSEMENTS.0 != 0;
        let data = if reads_more && knows(cocoon::VTPM_QUOTES) {
            out.encode(&GetFullReport { worker: 0, nonce, reads: reads.0.cast_signed() })
        } else if reads.contains(cocoon::ENDORSEMENTS) && knows(cocoon::ENDORSEMENTS) {
            out.encode(&GetEndorsedReport { worker: 0, nonce })
        } else {
            out.encode(&GetReport { worker: 0, nonce })
        };
        self.reports.open.insert((worker, ours), (conn, query));
        let timeout_ms = REPORT_TIMEOUT_MS;
        out.act(Act::Ask { conn: worker, query: ours, data, timeout_ms });
        Ok(())
    }

    /// Passes a worker's answer on, when `query` asked for a report.
    pub(crate) fn report_came(
        &mut self,
        worker: ConnId,
        query: i64,
        result: Result<&[u8], (i32, &str)>,
        out: &mut Outbox,
    ) -> bool {
        let Some((conn, asked)) = self.reports.open.remove(&(worker, query)) else { return false };
        let failed = |code: i32, text: &str, out: &mut Outbox| {
            let text = text.chars().take(200).collect();
            out.answer_error(conn, asked, code, text);
        };
        match result.map(tl::decode::<cocoon::Report<'_>>) {
            Ok(Ok(report)) if report.report.0.len() <= cocoon::REPORT_LEN_MAX => {
                out.answer(conn, asked, &cocoon::Report { report: Blob(report.report.0) });
            }
            Ok(_) => failed(code::FAILURE, "the worker's answer is no report", out),
            Err((code, text)) => failed(code, text, out),
        }
        true
    }

    /// A connection is gone: nobody waits for what it asked, and what it was asked fails.
    pub(crate) fn forget_reports(&mut self, conn: ConnId, out: &mut Outbox) {
        self.reports.open.retain(|_, (client, _)| *client != conn);
        let lost: Vec<(ConnId, i64)> =
            self.reports.open.keys().filter(|(worker, _)| *worker == conn).copied().collect();
        for (worker, query) in lost {
            let gone = Err((code::NOT_READY, "the worker's connection is gone"));
            self.report_came(worker, query, gone, out);
        }
    }
}

fn gives_reports(worker: &WorkerConn) -> bool {
    worker.is_ready() && announced(worker, cocoon::REPORTS)
}

fn announced(worker: &WorkerConn, bit: Extensions) -> bool {
    worker.trade().is_some_and(|trade| trade.extensions.contains(bit))
}
