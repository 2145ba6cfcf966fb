//! What is true, whoever says otherwise: the invariants and what they remember.

use std::collections::{BTreeMap, BTreeSet};

use cocoon_contract::payment::SignedPayment as Signed;
use cocoon_ledger::{AccountId, Books, Record};
use cocoon_role_proxy::Act;
use cocoon_units::RequestId;
use cocoon_wire::client::{self, FromProxy};
use cocoon_wire::proxy::{ClientRequestPayment, SignedPayment, WorkerRequestPayment};
use cocoon_wire::worker;

use crate::client::End;
use crate::net::PROXY;
use crate::plan::{FaultKind, Lie, NodeId, Plan};
use crate::worker::is;
use crate::world::World;

/// A query as it was given to a worker.
#[derive(Clone, Debug)]
struct Given {
    ask: usize,
    worker: NodeId,
    link: u64,
    /// What the worker claimed at its end, and whether that was an error.
    claim: Option<(u64, Option<i32>)>,
}

/// What the invariants remember.
#[derive(Default)]
pub(crate) struct Truth {
    /// Requests by the clients' ids.
    pub(crate) asked: BTreeMap<RequestId, usize>,
    pub(crate) ended_asks: BTreeMap<RequestId, usize>,
    pub(crate) ends: BTreeMap<usize, End>,
    /// Queries by the proxies' ids.
    given: BTreeMap<(u8, RequestId), Vec<Given>>,
    /// Finished requests ever handed to a disk.
    finished: BTreeSet<(u8, RequestId)>,
    /// Requests whose charge is on disk: proxy and tokens.
    pub(crate) charged: BTreeMap<usize, (u8, u64)>,
    /// Highest total ever told, by proxy, epoch, account.
    told: BTreeMap<(u8, u32, AccountId), u64>,
    /// Totals that each commit covers, when its record was written.
    commits: BTreeMap<(u8, u32), BTreeMap<AccountId, u64>>,
    /// Totals covered by commits that stand on chain.
    pub(crate) covered: BTreeMap<(u8, AccountId), u64>,
}

impl Truth {
    /// Whether a liar may have had a hand in the answers that clients see.
    pub(crate) fn liar_answers(&self, plan: &Plan) -> bool {
        matches!(plan.liar, Some((_, Lie::WorkerTwice | Lie::ProxyOldPayment | Lie::ProxyInflates)))
    }

    /// The connection over which a query was given out last.
    pub(crate) fn link_of(&self, p: u8, request: RequestId) -> Option<u64> {
        self.given.get(&(p, request))?.last().map(|given| given.link)
    }

    /// The chain took a commit.
    pub(crate) fn commit_stands(&mut self, p: u8, seqno: u32) {
        let totals = self.commits.get(&(p, seqno)).cloned().unwrap_or_default();
        for (account, total) in totals {
            let covered = self.covered.entry((p, account)).or_default();
            *covered = total.max(*covered);
        }
    }
}

fn account_of(node: NodeId) -> Option<AccountId> {
    match node {
        NodeId::Client(c) => Some(AccountId(crate::client::owner(c).hash)),
        NodeId::Worker(w) => Some(AccountId(crate::worker::owner(w).hash)),
        _ => None,
    }
}

/// Highest total and committed total of a peer in some books.
fn totals_in(books: &Books, node: NodeId) -> (u64, u64) {
    let Some(account) = account_of(node) else { return (0, 0) };
    let counters = match node {
        NodeId::Client(_) => books.client(account).map(|client| *client.counters()),
        _ => books.worker(account).map(|worker| *worker.counters()),
    };
    counters.map_or((0, 0), |counters| (counters.max().0, counters.committed().0))
}

/// Every account of some books with its highest and its committed total.
fn all_totals(books: &Books) -> BTreeMap<AccountId, (u64, u64)> {
    let totals = |c: &cocoon_ledger::Account| (c.max().0, c.committed().0);
    let clients = books.clients().map(|(id, client)| (*id, totals(client.counters())));
    let workers = books.workers().map(|(id, worker)| (*id, totals(worker.counters())));
    clients.chain(workers).collect()
}

impl World {
    /// A query reached a worker.
    pub(crate) fn truth_given(
        &mut self,
        p: u8,
        request: RequestId,
        ask: usize,
        node: NodeId,
        link: u64,
    ) {
        let given = Given { ask, worker: node, link, claim: None };
        let known = self.truth.given.entry((p, request)).or_default();
        let other = known.iter().any(|before| before.ask != ask);
        // A query that lost its worker goes to another one; it may still reach the first one late.
        known.push(given);
        if other {
            let text = format!("proxy {p} gave the id of another request to request {ask}");
            self.fail("a request id was used twice", text);
        }
    }

    /// A worker told over a connection what a query used.
    pub(crate) fn truth_claimed(
        &mut self,
        request: RequestId,
        link: u64,
        tokens: u64,
        code: Option<i32>,
    ) {
        let given = self.truth.given.iter_mut().filter(|((_, id), _)| *id == request);
        for given in given.flat_map(|(_, given)| given).filter(|given| given.link == link) {
            given.claim = Some((tokens, code));
        }
    }

    /// A record went to a proxy's disk.
    pub(crate) fn truth_written(&mut self, p: u8, epoch: u32, record: &Record) {
        match record {
            Record::Finished { request, client, worker, tokens } => {
                self.check_finished(p, RequestId(*request), *client, *worker, *tokens);
            }
            Record::CommitStarted { seqno, .. } => {
                let Some(machine) = &self.proxies[usize::from(p)].machine else { return };
                let totals = all_totals(machine.books());
                let totals = totals.into_iter().map(|(id, (max, _))| (id, max)).collect();
                self.truth.commits.insert((p, *seqno), totals);
                self.note(NodeId::Proxy(p), "starts a commit", u64::from(*seqno), epoch.into());
            }
            _ => {}
        }
    }

    fn check_finished(
        &mut self,
        p: u8,
        request: RequestId,
        client: AccountId,
        worker: AccountId,
        tokens: u64,
    ) {
        self.note(NodeId::Proxy(p), "books", tokens, 0);
        if !self.truth.finished.insert((p, request)) {
            let text = format!("proxy {p} booked {request} twice");
            return self.fail("booked twice", text);
        }
        let all = self.truth.given.get(&(p, request)).map_or(&[][..], Vec::as_slice);
        let earner = all.iter().rev().find(|given| account_of(given.worker) == Some(worker));
        let Some(given) = earner.or(all.last()).cloned() else {
            let text = format!("proxy {p} booked {request}, which no worker had");
            return self.fail("booked from nothing", text);
        };
        let asker = self.ask_of(given.ask).map(|ask| NodeId::Client(ask.client));
        let right =
            account_of(given.worker) == Some(worker) && asker.and_then(account_of) == Some(client);
        if !right {
            let text = format!("request {}: {client:?} pays {worker:?}", given.ask);
            return self.fail("booked to the wrong account", text);
        }
        let claimed = given.claim.map_or(0, |(tokens, _)| tokens);
        let honest =
            !self.plan.lies(given.worker) && asker.is_none_or(|node| !self.plan.lies(node));
        if honest && tokens != claimed {
            let text = format!(
                "request {}: the worker claimed {claimed} over connection {}, {tokens} were booked",
                given.ask, given.link
            );
            self.fail("booked another amount", text);
        }
        let most = self.ask_of(given.ask).map_or(0, |ask| 2 * (ask.tokens_max + 400) + 2);
        if asker.is_none_or(|node| !self.plan.lies(node)) && tokens > most {
            let text = format!("request {}: {tokens} of at most {most}", given.ask);
            self.fail("charged above the reservation", text);
        }
    }

    /// A record is on a proxy's disk.
    pub(crate) fn truth_durable(&mut self, p: u8, _epoch: u32, record: &Record) {
        let Record::Finished { request, tokens, .. } = record else { return };
        let Some(given) = self.truth.given.get(&(p, RequestId(*request))) else { return };
        let Some(ask) = given.first().map(|given| given.ask) else { return };
        let odd = self.ask_of(ask).is_some_and(|ask| self.plan.lies(NodeId::Client(ask.client)));
        if self.truth.charged.insert(ask, (p, *tokens)).is_some() && !odd {
            self.fail("charged twice", format!("request {ask}"));
        }
    }

    /// Looks at an effect at the moment when it leaves the process.
    pub(crate) fn judge(&mut self, p: u8, act: &Act) {
        let (conn, data) = match act {
            Act::Send { conn, data } | Act::Answer { conn, data, .. } => (conn.0, data),
            _ => return,
        };
        let Some(link) = self.links.get(&conn).filter(|link| link.ends[PROXY].open) else { return };
        let peer = link.peer;
        let Some((id, _)) = data.split_first_chunk::<4>() else { return };
        use cocoon_wire::tl::Constructor as _;
        let statement = match u32::from_le_bytes(*id) {
            ClientRequestPayment::ID => {
                is::<ClientRequestPayment<'_>>(data).map(|m| (m.signed_payment, m.max_tokens))
            }
            WorkerRequestPayment::ID => {
                is::<WorkerRequestPayment<'_>>(data).map(|m| (m.signed_payment, m.max_tokens))
            }
            client::AuthorizationWithProxySuccess::ID => {
                is::<client::AuthorizationWithProxySuccess<'_>>(data)
                    .map(|m| (m.signed_payment, m.max_tokens))
            }
            client::PaymentStatus::ID => {
                is::<client::PaymentStatus<'_>>(data).map(|m| (m.signed_payment, m.max_tokens))
            }
            worker::PaymentStatus::ID => {
                is::<worker::PaymentStatus<'_>>(data).map(|m| (m.signed_payment, m.max_tokens))
            }
            worker::CompareBalanceWithProxyResult::ID => {
                is::<worker::CompareBalanceWithProxyResult<'_>>(data)
                    .map(|m| (m.signed_payment, m.max_tokens))
            }
            cocoon_wire::proxy::RunQueryEx::ID => {
                is::<cocoon_wire::proxy::RunQueryEx<'_>>(data).map(|m| (m.signed_payment, 0))
            }
            client::QueryAnswerEx::ID
            | client::QueryAnswerPartEx::ID
            | client::QueryAnswerErrorEx::ID => return self.judge_end(p, data),
            _ => return,
        };
        if let Some((payment, total)) = statement {
            let signed = match payment {
                SignedPayment::Signed(body) => {
                    Signed::from_boc(body.0).map_or(0, |payment| payment.tokens().0)
                }
                SignedPayment::Empty => 0,
            };
            self.judge_statement(p, conn, peer, signed, total.unsigned_abs());
        }
    }

    fn judge_statement(&mut self, p: u8, conn: u64, peer: NodeId, signed: u64, total: u64) {
        let Some(node) = self.proxies.get(usize::from(p)) else { return };
        let (max, committed) = totals_in(&node.shadow, peer);
        let epoch = node.epoch();
        let Some(account) = account_of(peer) else { return };
        let covered = self.truth.covered.get(&(p, account)).copied().unwrap_or(0);
        let committed = if self.plan.real_chain { committed.min(covered) } else { committed };
        if signed > committed {
            let text = format!("proxy {p} signed {signed} for {peer}, committed are {committed}");
            return self.fail("signed above the commit", text);
        }
        if total > max {
            let text = format!("proxy {p} told {peer} {total}, on disk are {max}");
            return self.fail("told before it was durable", text);
        }
        let told = self.truth.told.entry((p, epoch, account)).or_default();
        *told = total.max(*told);
        let Some(link) = self.links.get_mut(&conn) else { return };
        if total > 0 && total < link.told {
            let text = format!("{peer} was told {} over connection {conn}, now {total}", link.told);
            return self.fail("a total fell", text);
        }
        link.told = total.max(link.told);
    }

    /// The end of an answer may leave when its charge is on disk.
    fn judge_end(&mut self, p: u8, data: &[u8]) {
        let Ok(message) = FromProxy::decode(data) else { return };
        let (request, info) = match &message {
            FromProxy::QueryAnswerEx(m) => (m.request_id, &m.final_info),
            FromProxy::QueryAnswerPartEx(m) => (m.request_id, &m.final_info),
            FromProxy::QueryAnswerErrorEx(m) => (m.request_id, &m.final_info),
            _ => return,
        };
        let tokens = info.as_ref().map_or(0, |info| info.tokens_used.total_tokens_used);
        let Some(ask) = self.truth.asked.get(&request).copied() else { return };
        let booked = self.truth.charged.get(&ask).map_or(0, |(_, tokens)| *tokens);
        let odd = self.ask_of(ask).is_some_and(|ask| self.plan.lies(NodeId::Client(ask.client)));
        if tokens > 0 && tokens.unsigned_abs() != booked && !odd {
            let text = format!("proxy {p}, request {ask}: {tokens} told, {booked} on disk");
            self.fail("the end left before its charge was durable", text);
        }
    }

    /// What a client was told of a charge is what is on the proxy's disk.
    pub(crate) fn check_charge(&mut self, c: u8, proxy: u8, ask: usize, charged: u64) {
        let booked = self.truth.charged.get(&ask).map_or(0, |(_, tokens)| *tokens);
        let odd = self.plan.lies(NodeId::Client(c)) || self.plan.lies(NodeId::Proxy(proxy));
        if charged != booked && !odd {
            let text = format!("client {c}, request {ask}: told {charged}, booked {booked}");
            self.fail("the charge is not what was told", text);
        }
    }

    /// The journal gives back what was on it, and knows all that anybody was told.
    pub(crate) fn check_recovery(&mut self, p: u8, history: &[Record]) {
        let mut books = Books::new();
        for record in history {
            if let Err(fault) = books.apply(record) {
                return self.fail("recovery", format!("proxy {p}: {fault}"));
            }
        }
        books.made_durable();
        let node = &self.proxies[usize::from(p)];
        let (found, known) = (all_totals(&books), all_totals(&node.shadow));
        if found != known || books.epoch() != node.shadow.epoch() {
            let text = format!("proxy {p} had {known:?} on disk, recovered {found:?}");
            return self.fail("recovery", text);
        }
        let Some(epoch) = books.epoch() else { return };
        let lost = self.truth.told.iter().find(|((at, told_epoch, account), total)| {
            let total_now = found.get(account).map_or(0, |(max, _)| *max);
            *at == p && *told_epoch == epoch && total_now < **total
        });
        if let Some(((_, _, account), total)) = lost {
            let text = format!("proxy {p} told {account:?} {total}, recovered {found:?}");
            self.fail("told and forgotten", text);
        }
    }

    /// With nothing under way to the disk, the machine's books are those on the disk.
    pub(crate) fn check_live_books(&mut self, p: u8) {
        let node = &self.proxies[usize::from(p)];
        let Some(machine) = &node.machine else { return };
        if node.base.disk.is_behind() {
            return;
        }
        let (live, disk) = (all_totals(machine.books()), all_totals(&node.shadow));
        if live != disk {
            let text = format!("proxy {p} has {live:?}, on disk are {disk:?}");
            self.fail("books and journal differ", text);
        }
    }

    /// A peer closed its connection because of what the proxy said.
    pub(crate) fn peer_refuses(&mut self, node: NodeId, id: u64, fault: &str) {
        const KNOWN: [&str; 6] = [
            "proxy refused",
            "is in another",
            "expected",
            "answered query",
            "connection lost",
            "Timeout",
        ];
        self.note(node, "refuses the proxy", id, 0);
        let link = self.links.get(&id);
        let proxy = link.map_or(0, |link| link.proxy);
        let honest = link.is_some_and(|link| !link.spoilt) && !self.plan.lies(node);
        let lies = self.plan.lies(NodeId::Proxy(proxy));
        let roots = self.roots_differ(node, proxy);
        // Statements over two connections of one peer may overtake each other.
        let doubled = fault.contains("it had stated")
            && self.plan.faults.iter().any(|(_, fault)| {
                matches!(fault.kind, FaultKind::DialAgain { peer, .. } if peer == node)
            });
        if honest && !lies && !roots && !doubled && !KNOWN.iter().any(|known| fault.contains(known))
        {
            self.fail("an honest proxy was refused", format!("{node}, proxy {proxy}: {fault}"));
        }
    }
}
