//! What status pages show.

use cocoon_ledger::{AccountId, ClientStatus};
use cocoon_schedule::Tally;
use cocoon_units::{Address, AdjustedUsage, Nanoton, Tokens};

use crate::outbox::{ConnId, Now};
use crate::proxy::Proxy;
use crate::request::{Assigned, Request};
use crate::settings::Identity;
use crate::worker::worker_id;

/// Totals since the start of the process. They only grow.
// house: one counter per thing that happens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that came.
    pub queries: u64,
    /// Requests refused before they had a worker or waited for one.
    pub rejected: u64,
    /// Requests answered to their end.
    pub success: u64,
    /// Requests that ended with an error after they were admitted.
    pub failed: u64,
    /// Of these, out of time.
    pub timeouts: u64,
    /// Requests given to another worker.
    pub retried: u64,
    /// Bytes of requests.
    pub bytes_in: u64,
    /// Bytes of answers.
    pub bytes_out: u64,
    /// Milliseconds from admission to end, summed over answered requests.
    pub time_ms: u64,
    /// Milliseconds on workers, summed over answered requests.
    pub worker_time_ms: u64,
    /// What was booked, by class, in adjusted tokens.
    pub tokens: AdjustedUsage,
    /// Answers to requests that do not run, or over the wrong connection.
    pub stray_answers: u64,
    /// Requests whose worker claimed more than was reserved.
    pub claims_capped: u64,
    /// Connections closed because of what the peer did.
    pub peers_dropped: u64,
    /// Handshakes of clients that succeeded.
    pub client_handshakes: u64,
    /// Handshakes of workers that succeeded.
    pub worker_handshakes: u64,
    /// Milliseconds from opening to the end of the handshake, summed.
    pub handshake_ms_sum: u64,
    /// State commits confirmed.
    pub commits: u64,
}

impl Counts {
    pub(crate) fn succeeded(
        &mut self,
        usage: &AdjustedUsage,
        request: &Request,
        assigned: Assigned,
        now: Now,
    ) {
        self.success += 1;
        self.time_ms += now.ms.saturating_sub(request.started.ms);
        self.worker_time_ms += now.ms.saturating_sub(assigned.at.ms);
        let sum = |a: Tokens, b: Tokens| a.saturating_add(b);
        self.tokens = AdjustedUsage {
            prompt: sum(self.tokens.prompt, usage.prompt),
            cached: sum(self.tokens.cached, usage.cached),
            completion: sum(self.tokens.completion, usage.completion),
            reasoning: sum(self.tokens.reasoning, usage.reasoning),
            total: sum(self.tokens.total, usage.total),
        };
    }
}

/// The whole state, for people and monitors. Holds no key, no prompt, no answer.
#[derive(Clone, Debug)]
pub struct Status {
    /// Whether requests are served.
    pub serving: bool,
    /// Switched off by the operator.
    pub disabled: bool,
    /// Shutting down.
    pub draining: bool,
    /// Waiting for the session's first commit.
    pub starting: bool,
    /// The chain is away for too long: nothing new is admitted.
    pub chain_away: bool,
    /// Stopped for a reason that a person must look at.
    pub stopped: Option<String>,
    /// The proxy contract.
    pub contract: Address,
    /// `params_version` in force.
    pub params_version: u32,
    /// Totals.
    pub counts: Counts,
    /// The worker pool.
    pub pool: Tally,
    /// Client connections that are ready.
    pub client_connections: usize,
    /// Clients in the books.
    pub clients: Vec<ClientLine>,
    /// Workers in the books.
    pub workers: Vec<WorkerLine>,
    /// Worker connections.
    pub worker_connections: Vec<WorkerConnectionLine>,
}

/// One client.
#[derive(Clone, Debug)]
pub struct ClientLine {
    /// Owner, in the form of book keys.
    pub owner: String,
    /// Its contract.
    pub contract: String,
    /// Tokens used.
    pub used: Tokens,
    /// Tokens used and not charged on chain.
    pub to_charge: Tokens,
    /// Tokens that may still be promised.
    pub available: Tokens,
    /// Tokens held by running requests.
    pub reserved: Tokens,
    /// Requests that run or wait.
    pub running: usize,
    /// State of its contract.
    pub status: ClientStatus,
    /// Balance of its contract.
    pub balance: Nanoton,
}

/// One worker.
#[derive(Clone, Debug)]
pub struct WorkerLine {
    /// Owner, in the form of book keys.
    pub owner: String,
    /// Its contract.
    pub contract: String,
    /// Tokens earned.
    pub earned: Tokens,
    /// Tokens earned and not paid on chain.
    pub unpaid: Tokens,
    /// A payout is on its way.
    pub paying: bool,
    /// Requests that run.
    pub running: usize,
}

/// One worker connection.
#[derive(Clone, Debug)]
pub struct WorkerConnectionLine {
    /// Its number, for commands.
    pub conn: ConnId,
    /// Owner, in the form of book keys.
    pub owner: String,
    /// Full model name.
    pub model: String,
    /// Image hash in hex, when there was evidence.
    pub image: Option<String>,
    /// Protocol version.
    pub version: i32,
    /// Price: 1000 means 1.0.
    pub coefficient: u32,
    /// Requests running.
    pub running: u32,
    /// Requests that may run.
    pub running_max: u32,
    /// Takes requests.
    pub enabled: bool,
    /// Left out for a while because of failures.
    pub cooling: bool,
}

impl Proxy {
    /// The totals alone: cheap.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Whether requests are served now.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.standing.refuses().is_none()
    }

    /// Everything for the status page; linear in accounts and connections.
    #[must_use]
    pub fn status(&self, now: Now) -> Status {
        Status {
            serving: self.is_serving(),
            disabled: self.standing.is_disabled(),
            draining: self.standing.is_draining(),
            starting: self.standing.is_starting(),
            chain_away: self.standing.is_chain_away(),
            stopped: self.standing.stopped().map(str::to_owned),
            contract: self.instance.contract,
            params_version: self.instance.epoch(),
            counts: self.counts.clone(),
            pool: self.pool.tally(),
            client_connections: self.clients.values().filter(|c| c.ready().is_some()).count(),
            clients: self.client_lines(),
            workers: self.worker_lines(),
            worker_connections: self.connection_lines(now),
        }
    }

    fn client_lines(&self) -> Vec<ClientLine> {
        let price = self.books.price();
        let line = |(id, account): (&AccountId, &cocoon_ledger::ClientAccount)| {
            let party = self.parties.clients.get(id);
            let used = account.counters().max();
            ClientLine {
                owner: self.identity.text(Identity::address_of(*id)),
                contract: party.map(|party| party.contract_text.clone()).unwrap_or_default(),
                used,
                to_charge: used.saturating_sub(account.charged()),
                available: account.available(price),
                reserved: account.reserved(),
                running: party.map_or(0, |party| party.running),
                status: account.status(),
                balance: account.balance(),
            }
        };
        let mut lines: Vec<ClientLine> = self.books.clients().map(line).collect();
        lines.sort_unstable_by(|a, b| a.owner.cmp(&b.owner));
        lines
    }

    fn worker_lines(&self) -> Vec<WorkerLine> {
        let line = |(id, account): (&AccountId, &cocoon_ledger::WorkerAccount)| {
            let party = self.parties.workers.get(id);
            let earned = account.counters().max();
            WorkerLine {
                owner: self.identity.text(Identity::address_of(*id)),
                contract: party.map(|party| party.contract_text.clone()).unwrap_or_default(),
                earned,
                unpaid: earned.saturating_sub(account.paid_out()),
                paying: party.is_some_and(|party| party.in_flight),
                running: party.map_or(0, |party| party.running),
            }
        };
        let mut lines: Vec<WorkerLine> = self.books.workers().map(line).collect();
        lines.sort_unstable_by(|a, b| a.owner.cmp(&b.owner));
        lines
    }

    fn connection_lines(&self, now: Now) -> Vec<WorkerConnectionLine> {
        let lines = self.workers.iter().filter_map(|(conn, worker)| {
            let trade = worker.trade()?;
            let offer = self.pool.offer(worker_id(*conn), now.ms)?;
            Some(WorkerConnectionLine {
                conn: *conn,
                owner: self.identity.text(Identity::address_of(trade.account)),
                model: trade.model.to_string(),
                image: worker.image.map(|image| image.to_string()),
                version: trade.version.0,
                coefficient: offer.coefficient,
                running: offer.running,
                running_max: offer.running_max,
                enabled: offer.enabled,
                cooling: offer.cooling,
            })
        });
        let mut lines: Vec<WorkerConnectionLine> = lines.collect();
        lines.sort_unstable_by_key(|line| line.conn);
        lines
    }
}
