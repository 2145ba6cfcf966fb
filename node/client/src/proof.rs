//! What this node can show of the machines behind it: a bundle on demand, and reports for the
//! receipts it keeps.

use cocoon_attest::report::Report;
use cocoon_attest::{Collateral, Digest32};
use cocoon_contract::root::RootState;
use cocoon_gateway::UpstreamError;
use cocoon_host::peers::Presence;
use cocoon_host::{clock, network};
use cocoon_link::ConnId;
use cocoon_proof::{Bundle, MachineRole, RootView, Shown};
use cocoon_role_client::ReportQuestion;
use cocoon_wire::{cocoon, tl};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use crate::network::Shared;

/// Bundles that are made at the same time; each asks every worker for a quote.
const BUNDLES_AT_ONCE: usize = 2;
/// Workers that are asked for one bundle.
const WORKERS_MAX: usize = 128;
/// Workers that are asked at the same time.
const ASKED_AT_ONCE: usize = 8;
/// Longest wait for an answer by way of a proxy.
const ANSWER_WAIT: Duration = Duration::from_secs(45);
/// Longest that the machines behind one bundle are asked. Who has not answered then is named as
/// silent: a proxy that lists workers which never answer must not keep the next verifier waiting.
const BUNDLE_WAIT: Duration = Duration::from_secs(60);
/// When to try again after too many asked for bundles.
const BUSY_RETRY: Duration = Duration::from_secs(1);

/// What proofs are made from.
pub(crate) struct Proofs {
    presence: Presence,
    root: Mutex<RootView>,
    bundles: Semaphore,
}

/// A key that no report vouches for yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unvouched {
    pub(crate) conn: ConnId,
    pub(crate) worker: i64,
    pub(crate) key: Digest32,
}

impl Proofs {
    pub(crate) fn new(presence: Presence, root: RootView) -> Self {
        let bundles = Semaphore::new(BUNDLES_AT_ONCE);
        Self { presence, root: Mutex::new(root), bundles }
    }

    /// The registry changed.
    pub(crate) fn adopt(&self, root: RootView) {
        *self.root.lock().unwrap_or_else(PoisonError::into_inner) = root;
    }

    pub(crate) fn presence(&self) -> &Presence {
        &self.presence
    }

    /// The registry as it is believed now.
    pub(crate) fn root(&self) -> RootView {
        self.root.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What was found out about one machine.
struct Found {
    role: MachineRole,
    name: String,
    shown: Shown,
    collateral: Collateral,
}

impl Shared {
    /// Asks a proxy by name; the answer is the boxed object.
    pub(crate) async fn question(
        self: &Arc<Self>,
        conn: ConnId,
        question: ReportQuestion,
    ) -> Result<Vec<u8>, String> {
        let answer = self.lock().ask_reports(conn, question)?;
        match tokio::time::timeout(ANSWER_WAIT, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err("the proxy's connection is gone".to_owned()),
            Err(_) => Err("the proxy did not answer in time".to_owned()),
        }
    }

    /// Asks a worker for its report. Nothing in it has been checked.
    pub(crate) async fn report(
        self: &Arc<Self>,
        conn: ConnId,
        worker: i64,
        nonce: [u8; 32],
    ) -> Result<(Vec<u8>, Report), String> {
        let answer = self.question(conn, ReportQuestion::Report { worker, nonce }).await?;
        let object: cocoon::Report<'_> = tl::decode(&answer).map_err(|fault| fault.to_string())?;
        let report = Report::decode(object.report.0)
            .map_err(|fault| format!("the worker's report cannot be read: {fault}"))?;
        Ok((object.report.0.to_vec(), report))
    }

    async fn worker(
        self: &Arc<Self>,
        conn: ConnId,
        worker: i64,
        model: String,
        nonce: [u8; 32],
    ) -> Found {
        let role = MachineRole::Worker;
        match self.report(conn, worker, nonce).await {
            Ok((bytes, report)) => {
                let evidence = report.to_peer_evidence(Digest32::from(nonce));
                let collateral = self.proofs.presence.collateral_of(&evidence);
                Found { role, name: model, shown: Shown::report(&bytes), collateral }
            }
            Err(reason) => {
                let reason = plain(&reason);
                let collateral = Collateral::default();
                Found { role, name: model, shown: Shown::Failed { reason }, collateral }
            }
        }
    }

    /// Every worker behind one proxy; those that have not answered at `end` as silent.
    async fn workers(
        self: &Arc<Self>,
        conn: ConnId,
        nonce: [u8; 32],
        end: tokio::time::Instant,
    ) -> Vec<Found> {
        let silent = |shown| Found {
            role: MachineRole::Worker,
            name: "behind a proxy that lists none".to_owned(),
            shown,
            collateral: Collateral::default(),
        };
        let late = || "it did not answer in time".to_owned();
        if !self.lock().carries_reports(conn) {
            let reason = "the proxy in between carries no reports of workers".to_owned();
            return vec![silent(Shown::Nothing { reason })];
        }
        let listed = tokio::time::timeout_at(end, self.question(conn, ReportQuestion::Workers));
        let listed = listed.await.unwrap_or_else(|_| Err(late())).and_then(|answer| {
            let object: cocoon::Workers<'_> =
                tl::decode(&answer).map_err(|fault| fault.to_string())?;
            let entry =
                |entry: &cocoon::Worker<'_>| (entry.worker, plain(&entry.model.sanitized()));
            Ok(object.workers.iter().take(WORKERS_MAX).map(entry).collect::<Vec<_>>())
        });
        let listed = match listed {
            Ok(listed) => listed,
            Err(reason) => return vec![silent(Shown::Failed { reason: plain(&reason) })],
        };
        let mut waiting = listed.clone().into_iter().enumerate();
        let mut running = JoinSet::new();
        let mut found: Vec<Option<Found>> = listed.iter().map(|_| None).collect();
        loop {
            while running.len() < ASKED_AT_ONCE {
                let Some((place, (worker, model))) = waiting.next() else { break };
                let shared = Arc::clone(self);
                running
                    .spawn(async move { (place, shared.worker(conn, worker, model, nonce).await) });
            }
            match tokio::time::timeout_at(end, running.join_next()).await {
                Err(_) | Ok(None) => break,
                Ok(Some(Ok((place, one)))) => {
                    if let Some(found) = found.get_mut(place) {
                        *found = Some(one);
                    }
                }
                Ok(Some(Err(fault))) => tracing::error!(%fault, "a worker's report was not taken"),
            }
        }
        let named = found.into_iter().zip(listed);
        let named = named.map(|(found, (_, model))| {
            let shown = || Shown::Failed { reason: late() };
            found.unwrap_or_else(|| Found { name: model, ..silent(shown()) })
        });
        named.collect()
    }

    /// Evidence of all machines behind this node, over the caller's nonce.
    pub(crate) async fn bundle(self: &Arc<Self>, nonce: [u8; 32]) -> Result<Bundle, UpstreamError> {
        let busy = UpstreamError::Busy { retry_after: BUSY_RETRY };
        let _one = self.proofs.bundles.try_acquire().map_err(|_| busy)?;
        let (proxies, unreachable) = {
            let state = self.lock();
            (state.shown_proxies(), state.unreachable.clone())
        };
        let end = tokio::time::Instant::now() + BUNDLE_WAIT;
        let root = self.proofs.root();
        let mut bundle = Bundle::new(clock::now_ms(), Digest32::from(nonce), root);
        for proxy in &proxies {
            let (shown, collateral) = match (&proxy.bundle, &proxy.evidence) {
                (Some(kept), _) => {
                    (Shown::Evidence(Box::new(kept.evidence.clone())), kept.collateral.clone())
                }
                (None, Some(evidence)) => {
                    let collateral = self.proofs.presence.collateral_of(evidence);
                    (Shown::Evidence(Box::new((**evidence).clone())), collateral)
                }
                (None, None) => {
                    let reason = "this connection shows no certificate".to_owned();
                    (Shown::Nothing { reason }, Collateral::default())
                }
            };
            bundle.add(MachineRole::Proxy, &proxy.name, shown, collateral);
        }
        for (address, why) in unreachable {
            let reason = plain(&format!("this node cannot or does not want to talk to it: {why}"));
            let shown = Shown::Failed { reason };
            bundle.add(MachineRole::Proxy, &address.to_string(), shown, Collateral::default());
        }
        for proxy in &proxies {
            for found in self.workers(proxy.conn, nonce, end).await {
                bundle.add(found.role, &found.name, found.shown, found.collateral);
            }
        }
        // Reports took a while: the bundle is judged at the date when all of it was there.
        bundle.made_ms = clock::now_ms();
        Ok(bundle)
    }

    /// Fetches the report that vouches for a key which signed a receipt, and keeps it. It is
    /// judged by whoever looks at the receipt.
    pub(crate) async fn vouch(self: &Arc<Self>, unvouched: Unvouched) {
        let nonce: [u8; 32] = clock::random();
        let outcome = self.report(unvouched.conn, unvouched.worker, nonce).await;
        let mut kept = None;
        match outcome {
            Ok((bytes, report)) if report.keyset.receipt_key == unvouched.key => {
                let evidence = report.to_peer_evidence(Digest32::from(nonce));
                let collateral = self.proofs.presence.collateral_of(&evidence);
                let root = self.proofs.root();
                let mut bundle = Bundle::new(clock::now_ms(), Digest32::from(nonce), root);
                let shown = Shown::report(&bytes);
                bundle.add(MachineRole::Worker, &report.model_name, shown, collateral);
                kept = Some(bundle);
            }
            Ok(_) => tracing::warn!("a worker's report vouches for another key than its receipt's"),
            Err(reason) => tracing::info!(%reason, "no report for the key of a receipt"),
        }
        self.lock().vouched(unvouched.key, kept);
    }
}

/// One proxy connection, as far as evidence goes.
pub(crate) struct ShownProxy {
    pub(crate) conn: ConnId,
    pub(crate) name: String,
    pub(crate) bundle: Option<Arc<cocoon_attest::EvidenceBundle>>,
    pub(crate) evidence: Option<Arc<cocoon_attest::PeerEvidence>>,
}

/// Where the answer to a question arrives.
pub(crate) type AnswerSender = oneshot::Sender<Result<Vec<u8>, String>>;

/// What the registry allows, for whoever judges the machines.
pub(crate) fn root_view(root: &RootState, contract: [u8; 32], is_testnet: bool) -> RootView {
    RootView {
        contract: Digest32::from(contract),
        network_id: network::network_id(is_testnet),
        version: root.version,
        proxy_images: root.proxy_hashes.iter().map(|hash| Digest32::from(hash.0)).collect(),
        worker_images: root.worker_hashes.iter().map(|hash| Digest32::from(hash.0)).collect(),
        models: root.model_hashes.iter().map(|hash| Digest32::from(hash.0)).collect(),
    }
}

/// Text of a peer, short and printable.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}
