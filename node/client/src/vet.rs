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
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

use crate::demands::{Demands, Judged, Objection, kind, refusal};
use crate::network::Shared;
use crate::turn::{Proxy, State};

/// How old a list of workers may be.
const LIST_LIFE_MS: u64 = 1_000;
/// How long a worker that gave no report is left alone.
const SILENT_LIFE_MS: u64 = 5_000;
/// Longest wait for a report; a request waits for it.
const REPORT_WAIT: Duration = Duration::from_secs(10);
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
    workers: HashMap<i64, Result<Arc<Judged>, (String, u64)>>,
}

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
        // One at a time: who comes second finds what the first one was told.
        let _one = self.proofs.vetting().await;
        if !self.lock().can_name_workers(conn) {
            let why = "the proxy cannot be told which worker to give a request to";
            return Err(refusal("verdicts", why));
        }
        let proxy = self.judged_proxy(conn)?;
        if let Some(Objection { param, text }) = demands.against_proxy(&proxy) {
            return Err(refusal(param, text));
        }
        let listed = self.listed(conn, model).await?;
        self.ask_unknown(conn, &listed).await;
        let mut chosen = Chosen { conn, workers: Vec::new(), keys: Vec::new() };
        let mut objection = None;
        let state = self.lock();
        for (worker, _) in &listed {
            let known = state.vetted.get(&conn).and_then(|known| known.workers.get(worker));
            match known {
                Some(Ok(judged)) => match demands.against_worker(judged) {
                    None => {
                        chosen.workers.push(*worker);
                        chosen.keys.extend(judged.key);
                    }
                    Some(found) => objection = Some(found),
                },
                Some(Err((reason, _))) => {
                    let text = format!("worker: no report: {reason}");
                    objection.get_or_insert(Objection { param: "verdicts", text });
                }
                None => {}
            }
            if chosen.workers.len() == ONLY_WORKERS_MAX {
                break;
            }
        }
        drop(state);
        if chosen.workers.is_empty() {
            let text = || "no worker of the model gives reports".to_owned();
            let none = Objection { param: "verdicts", text: text() };
            let Objection { param, text } = objection.unwrap_or(none);
            return Err(refusal(param, text));
        }
        Ok(chosen)
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
                Ok(object.workers.iter().map(entry).collect::<Vec<_>>())
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
        let base = |name: &str| name.split('@').next().unwrap_or_default().to_owned();
        let state = self.lock();
        let all = state.vetted.get(&conn).map(|known| known.listed.as_slice()).unwrap_or_default();
        let of_model = all.iter().filter(|(_, name)| base(name) == base(model));
        let found: Vec<(i64, String)> = of_model.cloned().collect();
        let served = state.offers().iter().any(|offer| offer.id == base(model));
        match found.is_empty() && !served {
            true => {
                let model = model.to_owned();
                Err(UpstreamError::NoWorker { model, retry_after: AWAY_RETRY })
            }
            false => Ok(found),
        }
    }

    /// Asks those of these workers for their reports whose verdict is not known.
    async fn ask_unknown(self: &Arc<Self>, conn: ConnId, listed: &[(i64, String)]) {
        let now_ms = clock::steady_ms();
        let mut unknown: Vec<i64> = {
            let state = self.lock();
            let Some(vetted) = state.vetted.get(&conn) else { return };
            let is_known = |worker: &i64, model: &str| match vetted.workers.get(worker) {
                Some(Ok(judged)) => judged.until_ms > now_ms && judged.model == model,
                Some(Err((_, until_ms))) => *until_ms > now_ms,
                None => false,
            };
            let unknown = listed.iter().filter(|(worker, model)| !is_known(worker, model));
            unknown.map(|(worker, _)| *worker).collect()
        };
        let mut asking = JoinSet::new();
        loop {
            while asking.len() < ASKED_AT_ONCE {
                let Some(worker) = unknown.pop() else { break };
                let shared = Arc::clone(self);
                asking.spawn(async move { (worker, shared.vet_worker(conn, worker).await) });
            }
            let Some(answered) = asking.join_next().await else { return };
            let Ok((worker, judged)) = answered else { continue };
            if let Some(known) = self.lock().vetted_at(conn) {
                let silent_until_ms = clock::steady_ms() + SILENT_LIFE_MS;
                known.workers.insert(worker, judged.map_err(|why| (why, silent_until_ms)));
            }
        }
    }

    async fn vet_worker(
        self: &Arc<Self>,
        conn: ConnId,
        worker: i64,
    ) -> Result<Arc<Judged>, String> {
        let nonce: [u8; 32] = clock::random();
        let asked = tokio::time::timeout(REPORT_WAIT, self.report(conn, worker, nonce)).await;
        let (bytes, report) = asked.map_err(|_| "it did not answer in time".to_owned())??;
        let nonce = Digest32::from(nonce);
        let evidence = report.to_peer_evidence(nonce);
        let collateral = self.proofs.presence().collateral_of(&evidence);
        let shown = Shown::report(&bytes);
        let role = MachineRole::Worker;
        let judged = self.judge(role, shown, &evidence, collateral, nonce);
        let judged = judged.map_err(|fault| fault.to_string())?;
        let left_s = report.offer.announcement.not_after_s.saturating_sub(clock::now_ms() / 1000);
        Ok(Arc::new(Judged {
            key: Some(report.keyset.receipt_key),
            model: report.model_name,
            until_ms: judged.until_ms.min(clock::steady_ms() + left_s.saturating_mul(1000)),
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
    ) -> Option<(ConnId, &Proxy, Option<Vec<u8>>)> {
        let Some(chosen) = chosen else {
            return self.ready_proxy(model, now_ms).map(|(conn, proxy)| (conn, proxy, None));
        };
        let proxy = self.proxies.get(&chosen.conn)?;
        if !proxy.session.carries_receipts() || !proxy.takes(now_ms) {
            return None;
        }
        let named = proxy.session.name_workers(request, &chosen.workers)?;
        Some((chosen.conn, proxy, Some(named)))
    }

    /// Where verdicts of this connection are kept, as long as it is there.
    fn vetted_at(&mut self, conn: ConnId) -> Option<&mut Vetted> {
        self.proxies.contains_key(&conn).then(|| self.vetted.entry(conn).or_default())
    }
}
