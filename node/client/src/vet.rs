//! Machines vetted for the demands of a request, before anything of it is sent.
//!
//! A proxy is judged by what it showed over its connection. The workers behind it are asked for
//! their own reports, over a nonce drawn here; then the proxy is told which of them may have the
//! request. A verdict is kept for a while, and gone with its connection.

use cocoon_attest::{Collateral, Digest32, PeerEvidence};
use cocoon_gateway::UpstreamError;
use cocoon_host::clock;
use cocoon_link::ConnId;
use cocoon_proof::{Asker, Bundle, MachineRole, Shown, examine};
use cocoon_role_client::ReportQuestion;
use cocoon_units::RequestId;
use cocoon_wire::cocoon::{ONLY_WORKERS_MAX, Workers};
use cocoon_wire::tl;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

use crate::demands::{Demands, Judged, Objection, kind, refusal};
use crate::network::Shared;
use crate::turn::State;

/// How old a list of workers may be.
const LIST_LIFE_MS: u64 = 1_000;
/// How long a worker whose report was refused or is no good is left alone.
const REFUSED_LIFE_MS: u64 = 5_000;
/// How long a worker that did not answer at all is left alone. Longer: requests waited for it.
const SILENT_LIFE_MS: u64 = 60_000;
/// Longest wait for a report; a request waits for it.
const REPORT_WAIT: Duration = Duration::from_secs(10);
/// Longest that a request waits for the reports of all workers together. Who has not answered then
/// does not get it, and workers that were not asked yet come first the next time.
const ROUND_WAIT: Duration = Duration::from_secs(15);
/// How long nobody else is asked at a connection where a round took [`ROUND_WAIT`].
const REST_MS: u64 = 5_000;
/// Workers of a proxy's list that are looked at: as many as a proxy of ours names. A longer list is
/// a proxy that wants to keep this gateway busy.
const LISTED_MAX: usize = 512;
/// Workers of one proxy that are asked at the same time.
const ASKED_AT_ONCE: usize = 8;
/// When to try again while nobody serves a model.
const AWAY_RETRY: Duration = Duration::from_secs(2);

/// What is known of the machines at one proxy's connection.
#[derive(Debug, Default)]
pub(crate) struct Vetted {
    listed_at_ms: Option<u64>,
    /// Names of workers' connections, and their models.
    listed: Vec<(i64, String)>,
    proxy: Option<Arc<Judged>>,
    workers: HashMap<i64, Verdict>,
    /// Nobody is asked before this.
    rest_until_ms: u64,
    /// One asks at a time: who comes second finds what the first one was told. Each connection has
    /// its own turn, so that a proxy that keeps silent holds up no request for another.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// A worker as judged, or why it gave nothing to judge and until when it is not asked again.
type Verdict = Result<Arc<Judged>, (String, u64)>;

/// The only workers that a request may go to.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    pub(crate) conn: ConnId,
    pub(crate) workers: Vec<i64>,
    /// Keys that may sign its receipt.
    pub(crate) keys: Vec<Digest32>,
}

impl Shared {
    /// Chooses a proxy and the workers behind it that meet the demands.
    ///
    /// # Errors
    /// [`UpstreamError`]: nobody meets them, and nothing was sent.
    pub(crate) async fn choose(
        self: &Arc<Self>,
        demands: &Demands,
        model: &str,
    ) -> Result<Chosen, UpstreamError> {
        let conn = self.proxy_for(model).await?;
        let turn = self.lock().vetted_at(conn).map(|known| Arc::clone(&known.turn));
        let turn = turn.ok_or(UpstreamError::NoProxy { retry_after: AWAY_RETRY })?;
        let _one = turn.lock().await;
        if !self.lock().can_name_workers(conn) {
            let why = "the proxy cannot be told which worker to give a request to";
            return Err(refusal("verdicts", why));
        }
        let proxy = self.judged_proxy(conn)?;
        if let Some(Objection { param, text }) = demands.against_proxy(&proxy) {
            return Err(refusal(param, text));
        }
        let listed = self.listed(conn, model).await?;
        // What is known now is not asked for, so it has to do until this is decided.
        let now_ms = clock::steady_ms();
        self.ask_unknown(conn, &listed, now_ms).await;
        let state = self.lock();
        let vetted = state.vetted.get(&conn);
        let vetted = vetted.ok_or(UpstreamError::NoProxy { retry_after: AWAY_RETRY })?;
        let chosen = vetted.meeting(demands, model, &listed, now_ms);
        let (workers, keys) = chosen.map_err(|Objection { param, text }| refusal(param, text))?;
        Ok(Chosen { conn, workers, keys })
    }

    /// The proxy that a request for this model goes to; waits a moment for one.
    async fn proxy_for(&self, model: &str) -> Result<ConnId, UpstreamError> {
        let deadline = tokio::time::Instant::now() + self.proxy_wait;
        loop {
            let ready = self.ready.notified();
            let found = self.lock().ready_proxy(model, clock::steady_ms()).map(|(conn, _)| conn);
            if let Some(conn) = found {
                return Ok(conn);
            }
            if tokio::time::timeout_at(deadline, ready).await.is_err() {
                return Err(UpstreamError::NoProxy { retry_after: AWAY_RETRY });
            }
        }
    }

    fn judged_proxy(&self, conn: ConnId) -> Result<Arc<Judged>, UpstreamError> {
        let now_ms = clock::steady_ms();
        let shown = {
            let state = self.lock();
            let known = state.vetted.get(&conn).and_then(|known| known.proxy.clone());
            if let Some(known) = known.filter(|known| known.until_ms > now_ms) {
                return Ok(known);
            }
            state.shown_proxies().into_iter().find(|proxy| proxy.conn == conn)
        };
        let shown = shown.ok_or(UpstreamError::NoProxy { retry_after: AWAY_RETRY })?;
        let (evidence, collateral) = match (&shown.bundle, &shown.evidence) {
            (Some(bundle), _) => (bundle.evidence.clone(), bundle.collateral.clone()),
            (None, Some(evidence)) => {
                ((**evidence).clone(), self.proofs.presence().collateral_of(evidence))
            }
            (None, None) => (PeerEvidence::default(), Collateral::default()),
        };
        let shown = Shown::Evidence(Box::new(evidence.clone()));
        let nonce = Digest32::ZERO;
        let judged = self.judge(MachineRole::Proxy, shown, &evidence, collateral, nonce)?;
        let judged = Arc::new(judged);
        if let Some(known) = self.lock().vetted_at(conn) {
            known.proxy = Some(Arc::clone(&judged));
        }
        Ok(judged)
    }

    /// Workers of this model that give reports.
    async fn listed(
        self: &Arc<Self>,
        conn: ConnId,
        model: &str,
    ) -> Result<Vec<(i64, String)>, UpstreamError> {
        let now_ms = clock::steady_ms();
        let fresh = {
            let state = self.lock();
            let known = state.vetted.get(&conn);
            known.and_then(|known| known.listed_at_ms).is_some_and(|at| now_ms < at + LIST_LIFE_MS)
        };
        if !fresh {
            let answer = self.question(conn, ReportQuestion::Workers).await;
            let listed = answer.and_then(|answer| {
                let object: Workers<'_> = tl::decode(&answer).map_err(|fault| fault.to_string())?;
                let entry = |worker: &cocoon_wire::cocoon::Worker<'_>| {
                    (worker.worker, worker.model.sanitized().into_owned())
                };
                let mut seen = HashSet::new();
                let all = object.workers.iter().filter(|entry| seen.insert(entry.worker));
                Ok(all.take(LISTED_MAX).map(entry).collect::<Vec<_>>())
            });
            let listed = listed
                .map_err(|why| refusal("verdicts", format!("the proxy lists no workers: {why}")))?;
            if let Some(known) = self.lock().vetted_at(conn) {
                let is_listed = |worker: &i64| listed.iter().any(|(name, _)| name == worker);
                known.workers.retain(|worker, _| is_listed(worker));
                known.listed = listed;
                known.listed_at_ms = Some(now_ms);
            }
        }
        let state = self.lock();
        let all = state.vetted.get(&conn).map(|known| known.listed.as_slice()).unwrap_or_default();
        let of_model = all.iter().filter(|(_, name)| is_asked_for(name, model));
        let found: Vec<(i64, String)> = of_model.cloned().collect();
        let served = state.offers().iter().any(|offer| offer.id == base_of(model));
        match found.is_empty() && !served {
            true => {
                let model = model.to_owned();
                Err(UpstreamError::NoWorker { model, retry_after: AWAY_RETRY })
            }
            false => Ok(found),
        }
    }

    /// Asks those of these workers for their reports whose verdict is not known. Takes
    /// [`ROUND_WAIT`] at most, whatever they do.
    async fn ask_unknown(self: &Arc<Self>, conn: ConnId, listed: &[(i64, String)], now_ms: u64) {
        let end = tokio::time::Instant::now() + ROUND_WAIT;
        let mut unknown = match self.lock().vetted.get(&conn) {
            Some(vetted) => vetted.unknown(listed, now_ms),
            None => return,
        };
        let mut asking = JoinSet::new();
        let mut open = Vec::new();
        loop {
            while asking.len() < ASKED_AT_ONCE {
                let Some(worker) = unknown.pop() else { break };
                let shared = Arc::clone(self);
                open.push(worker);
                asking.spawn(async move { (worker, shared.vet_in_time(conn, worker).await) });
            }
            let answered = match tokio::time::timeout_at(end, asking.join_next()).await {
                Ok(Some(answered)) => answered,
                Ok(None) => break,
                Err(_) => {
                    let rest_until_ms = clock::steady_ms().saturating_add(REST_MS);
                    if let Some(known) = self.lock().vetted_at(conn) {
                        known.rest_until_ms = rest_until_ms;
                    }
                    break;
                }
            };
            let Ok((worker, verdict)) = answered else { continue };
            open.retain(|other| *other != worker);
            if let Some(known) = self.lock().vetted_at(conn) {
                known.workers.insert(worker, verdict);
            }
        }
        if let Some(known) = self.lock().vetted_at(conn) {
            known.workers.extend(open.into_iter().map(|worker| (worker, Err(silent()))));
        }
    }

    async fn vet_in_time(self: &Arc<Self>, conn: ConnId, worker: i64) -> Verdict {
        match tokio::time::timeout(REPORT_WAIT, self.vet_worker(conn, worker)).await {
            Ok(vetted) => {
                vetted.map_err(|why| (why, clock::steady_ms().saturating_add(REFUSED_LIFE_MS)))
            }
            Err(_) => Err(silent()),
        }
    }

    async fn vet_worker(
        self: &Arc<Self>,
        conn: ConnId,
        worker: i64,
    ) -> Result<Arc<Judged>, String> {
        let nonce: [u8; 32] = clock::random();
        let (bytes, report) = self.report(conn, worker, nonce).await?;
        let nonce = Digest32::from(nonce);
        let evidence = report.to_peer_evidence(nonce);
        let collateral = self.proofs.presence().collateral_of(&evidence);
        let shown = Shown::report(&bytes);
        let role = MachineRole::Worker;
        let judged = self.judge(role, shown, &evidence, collateral, nonce);
        let judged = judged.map_err(|fault| fault.to_string())?;
        let not_after_s = report.offer.announcement.not_after_s;
        let until_ms = until_ms(not_after_s, clock::now_ms(), clock::steady_ms());
        Ok(Arc::new(Judged {
            key: Some(report.keyset.receipt_key),
            model: report.model_name,
            until_ms: judged.until_ms.min(until_ms),
            ..judged
        }))
    }

    /// Judges one machine by this node's own rules and the registry as this node read it.
    fn judge(
        &self,
        role: MachineRole,
        shown: Shown,
        evidence: &PeerEvidence,
        collateral: Collateral,
        nonce: Digest32,
    ) -> Result<Judged, UpstreamError> {
        let Some(policy) = self.proofs.presence().rules() else {
            let why = "this gateway is configured to look at no evidence";
            return Err(refusal("verdicts", why));
        };
        let (root, now_ms) = (self.proofs.root(), clock::now_ms());
        let mut bundle = Bundle::new(now_ms, nonce, root.clone());
        bundle.add(role, "", shown, collateral);
        let (nonce, root) = (Some(nonce), Some(root));
        let found = examine(&bundle, &Asker { policy, nonce, root, now_ms, date_is_now: true });
        let kind = kind(evidence, &found, self.tee_kind);
        let until_ms = clock::steady_ms().saturating_add(self.verdict_life_ms);
        Ok(Judged { found, kind, key: None, model: String::new(), until_ms })
    }
}

impl Vetted {
    /// What counts of this worker now. A report that came in this very millisecond counts, however
    /// short it lasts.
    fn known(&self, worker: i64, now_ms: u64) -> Option<&Verdict> {
        self.workers.get(&worker).filter(|verdict| match verdict {
            Ok(judged) => judged.until_ms >= now_ms,
            Err((_, until_ms)) => *until_ms > now_ms,
        })
    }

    /// The workers of this list that meet the demands with the model asked for, and the keys that
    /// may sign their receipts. What a proxy says of a worker's model is its word alone: the
    /// worker's own report has to name it.
    fn meeting(
        &self,
        demands: &Demands,
        model: &str,
        listed: &[(i64, String)],
        now_ms: u64,
    ) -> Result<(Vec<i64>, Vec<Digest32>), Objection> {
        let (mut workers, mut keys, mut objection) = (Vec::new(), Vec::new(), None);
        for (worker, name) in listed {
            let found = match self.known(*worker, now_ms) {
                None => continue,
                Some(Err((reason, _))) => {
                    let text = format!("worker: no report: {reason}");
                    objection.get_or_insert(Objection { param: "verdicts", text });
                    continue;
                }
                Some(Ok(judged)) if judged.model != *name || !is_asked_for(name, model) => {
                    let text = format!("worker: its report names the model {:?}", judged.model);
                    Some(Objection { param: "verdicts", text })
                }
                Some(Ok(judged)) => {
                    let found = demands.against_worker(judged);
                    if found.is_none() {
                        workers.push(*worker);
                        keys.extend(judged.key);
                    }
                    found
                }
            };
            objection = found.or(objection);
            if workers.len() == ONLY_WORKERS_MAX {
                break;
            }
        }
        if workers.is_empty() {
            let text = || "no worker of the model gives reports".to_owned();
            return Err(objection.unwrap_or_else(|| Objection { param: "verdicts", text: text() }));
        }
        Ok((workers, keys))
    }

    /// Those of these workers that are to be asked, the last one first. Workers that were never
    /// asked come before those that gave nothing, so that silent ones cannot keep others away.
    fn unknown(&self, listed: &[(i64, String)], now_ms: u64) -> Vec<i64> {
        if now_ms < self.rest_until_ms {
            return Vec::new();
        }
        let is_known = |worker: i64, model: &str| match self.known(worker, now_ms) {
            Some(Ok(judged)) => judged.model == model,
            known => known.is_some(),
        };
        let unknown = listed.iter().filter(|(worker, model)| !is_known(*worker, model));
        let mut unknown: Vec<i64> = unknown.map(|(worker, _)| *worker).collect();
        unknown.sort_by_key(|worker| !matches!(self.workers.get(worker), Some(Err(_))));
        unknown
    }
}

/// Whether a worker with this full name serves the model that a request names: the same up to `@`,
/// or all of it where the request has an `@`.
pub(crate) fn is_asked_for(full: &str, asked: &str) -> bool {
    full == asked || (!asked.contains('@') && base_of(full) == asked)
}

fn base_of(name: &str) -> &str {
    name.split('@').next().unwrap_or_default()
}

/// What is kept of a worker that did not answer.
fn silent() -> (String, u64) {
    let until_ms = clock::steady_ms().saturating_add(SILENT_LIFE_MS);
    ("it did not answer in time".to_owned(), until_ms)
}

/// When an announcement ends, by the steady clock. Its second is a number of the worker, of any size.
const fn until_ms(not_after_s: u64, now_ms: u64, steady_ms: u64) -> u64 {
    let left_ms = not_after_s.saturating_mul(1_000).saturating_sub(now_ms);
    steady_ms.saturating_add(left_ms)
}

impl State {
    /// Whether this proxy can be told which workers may have a request.
    fn can_name_workers(&self, conn: ConnId) -> bool {
        let session = self.proxies.get(&conn).map(|proxy| &proxy.session);
        session.is_some_and(|session| {
            session.can_name_workers() && session.carries_reports() && session.carries_receipts()
        })
    }

    /// The proxy that a request goes to now: the chosen one, with what names the workers to it, or
    /// else any that serves the model.
    pub(crate) fn proxy_of(
        &self,
        model: &str,
        chosen: Option<&Chosen>,
        request: RequestId,
        now_ms: u64,
    ) -> Option<(ConnId, Option<Vec<u8>>)> {
        let Some(chosen) = chosen else {
            return self.ready_proxy(model, now_ms).map(|(conn, _)| (conn, None));
        };
        let proxy = self.proxies.get(&chosen.conn)?;
        if !proxy.session.carries_receipts() || !proxy.takes(now_ms) {
            return None;
        }
        let named = proxy.session.name_workers(request, &chosen.workers)?;
        Some((chosen.conn, Some(named)))
    }

    /// Where verdicts of this connection are kept, as long as it is there.
    fn vetted_at(&mut self, conn: ConnId) -> Option<&mut Vetted> {
        self.proxies.contains_key(&conn).then(|| self.vetted.entry(conn).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cocoon_gateway::upstream::Wishes;
    use cocoon_proof::{ClaimLine, Examination, Standing};

    fn listed(workers: &[i64]) -> Vec<(i64, String)> {
        workers.iter().map(|worker| (*worker, "m".to_owned())).collect()
    }

    #[test]
    fn an_announcement_may_name_any_second() {
        assert_eq!(until_ms(u64::MAX, 5, 9), u64::MAX);
        assert_eq!(until_ms(u64::MAX, u64::MAX, 9), 9);
        assert_eq!(until_ms(7, 6_000, 500), 1_500);
        assert_eq!(until_ms(0, u64::MAX, 500), 500);
    }

    #[test]
    fn silent_workers_are_left_alone_and_then_asked_after_the_others() {
        let mut vetted = Vetted::default();
        for silent in [1, 2] {
            vetted.workers.insert(silent, Err((String::new(), 100)));
        }
        assert_eq!(vetted.unknown(&listed(&[1, 2, 3, 4]), 99), [3, 4]);
        let all = vetted.unknown(&listed(&[3, 1, 4, 2]), 100);
        assert_eq!(all, [1, 2, 3, 4], "the last one is asked first");
        vetted.rest_until_ms = 200;
        assert_eq!(vetted.unknown(&listed(&[3]), 199), [0; 0]);
        assert_eq!(vetted.unknown(&listed(&[3]), 200), [3]);
    }

    fn judged(model: &str, until_ms: u64) -> Verdict {
        let line = ClaimLine {
            subject: "worker 1".into(),
            claim: "weights".into(),
            verdict: Standing::Holds,
            source: String::new(),
            age_ms: None,
            reason: String::new(),
        };
        let found = Examination { judged_at_ms: 0, claims: vec![line], events: Vec::new() };
        let key = Some(Digest32::ZERO);
        Ok(Arc::new(Judged { found, kind: "tdx", key, model: model.into(), until_ms }))
    }

    fn weights() -> Demands {
        let wishes = Wishes { verdicts: vec!["worker.weights".into()], ..Wishes::default() };
        Demands::read(&wishes).unwrap().unwrap()
    }

    #[test]
    fn a_worker_is_chosen_only_for_the_model_that_its_own_report_names() {
        let mut vetted = Vetted::default();
        vetted.workers.insert(1, judged("big@a:b", 100));
        vetted.workers.insert(2, judged("small@a:b", 100));
        let said = [(1, "big@a:b".to_owned()), (2, "big@a:b".to_owned())];
        let chosen = |asked: &str, listed: &[(i64, String)]| {
            vetted.meeting(&weights(), asked, listed, 50).map(|(workers, _)| workers)
        };
        assert_eq!(chosen("big", &said), Ok(vec![1]));
        assert_eq!(chosen("big@a:b", &said), Ok(vec![1]));
        let refused = chosen("big", &said[1..]).unwrap_err();
        assert!(refused.text.contains("small@a:b"), "{refused:?}");
        // Whoever asks for certain bytes gets no others.
        for other in ["big@a:c", "big@c:b", "big@a", "big@", "bi"] {
            assert!(chosen(other, &said).is_err(), "{other}");
        }
    }

    #[test]
    fn a_verdict_that_is_over_counts_no_more_while_nobody_is_asked() {
        let mut vetted = Vetted { rest_until_ms: 500, ..Vetted::default() };
        vetted.workers.insert(1, judged("m", 100));
        let listed = listed(&[1]);
        let chosen = |now_ms| vetted.meeting(&weights(), "m", &listed, now_ms);
        assert_eq!(chosen(100), Ok((vec![1], vec![Digest32::ZERO])));
        assert_eq!(vetted.unknown(&listed, 101), [0; 0], "nobody is asked");
        assert!(chosen(101).is_err());
    }
}
