//! A client's connection: handshake and queries (protocol notes 3.2, 3.4).

use std::collections::BTreeSet;

use bytes::Bytes;
use cocoon_contract::payment::PaymentKind;
use cocoon_ledger::{AccountId, ClientStatus, Record};
use cocoon_schedule::{Ticket, WorkerId};
use cocoon_units::{Address, Coefficient, ProtoVersion, PublicKey, RequestId};
use cocoon_wire::client::{
    self as wire, AuthorizationWithProxySuccess, ConnectToProxy, ConnectedToProxy, Message,
    PaymentStatus, ProxyConnectionAuth, ProxyConnectionAuthLong, ProxyConnectionAuthShort, Query,
};
use cocoon_wire::cocoon::{self, OnlyWorkers};
use cocoon_wire::proxy::SignedPayment;
use cocoon_wire::tl::{Blob, Extensions, Text};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::fault::{Refusal, code};
use crate::instance::Party;
use crate::outbox::{Act, ConnId, Note, Now, Outbox};
use crate::proxy::Proxy;
use crate::request::Wanted;
use crate::settings::{ChainMode, Identity};

/// Versions this proxy speaks (protocol notes 1.8).
pub(crate) const VERSIONS: (ProtoVersion, ProtoVersion) = (ProtoVersion::V0, ProtoVersion::V4);

/// What every client of a network without a chain owns, in nanoTON (protocol notes, chain 10).
const PSEUDO_BALANCE: u64 = 1_000_000_000_000_000;
/// Its stake, in nanoTON.
const PSEUDO_STAKE: u64 = 1_000_000_000;

/// One client connection.
pub(crate) struct ClientConn {
    pub(crate) stage: Stage,
    /// Requests by the client's ids; ids may repeat.
    pub(crate) running: BTreeSet<(RequestId, Ticket)>,
    pub(crate) handshake_ms: Option<u64>,
    /// The only workers for the next request, and its id.
    only: Option<(RequestId, Box<[WorkerId]>)>,
    opened: Now,
}

/// Where the handshake stands.
#[derive(Clone, Copy)]
pub(crate) enum Stage {
    /// Nothing was said.
    Fresh,
    /// The proxy has introduced itself and waits for the secret or the registration.
    Offered { peer: Peer, nonce: u64, secret_hash: Option<[u8; 32]>, registered: bool },
    /// The client's query waits for the registration on chain.
    Registering { peer: Peer, nonce: u64, query: i64 },
    /// Requests are served.
    Ready { peer: Peer },
}

/// Who the client is and what it speaks.
#[derive(Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) account: AccountId,
    pub(crate) version: ProtoVersion,
    pub(crate) extensions: Extensions,
}

impl ClientConn {
    pub(crate) fn new(now: Now) -> Self {
        let (running, only) = (BTreeSet::new(), None);
        Self { stage: Stage::Fresh, running, handshake_ms: None, only, opened: now }
    }

    pub(crate) fn peer(&self) -> Option<Peer> {
        match self.stage {
            Stage::Fresh => None,
            Stage::Offered { peer, .. }
            | Stage::Registering { peer, .. }
            | Stage::Ready { peer } => Some(peer),
        }
    }

    pub(crate) fn ready(&self) -> Option<Peer> {
        match self.stage {
            Stage::Ready { peer } => Some(peer),
            _ => None,
        }
    }

    pub(crate) fn opened(&self) -> Now {
        self.opened
    }
}

impl Proxy {
    pub(crate) fn client_query(
        &mut self,
        conn: ConnId,
        query: i64,
        data: &[u8],
        now: Now,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let asked = Query::decode(data).map_err(|fault| Refusal::malformed(&fault))?;
        let Some(stage) = self.clients.get(&conn).map(|client| client.stage) else { return Ok(()) };
        match (stage, asked) {
            (Stage::Fresh, Query::ConnectToProxy(hello)) => {
                self.introduce_to_client(conn, query, &hello, out)
            }
            (Stage::Ready { .. }, Query::ConnectToProxy(_))
            | (Stage::Ready { .. }, Query::AuthorizeWithProxyShort(_))
            | (Stage::Ready { .. }, Query::AuthorizeWithProxyLong(_)) => {
                Err(Refusal::closing(code::NONE, "already authorized"))
            }
            (Stage::Offered { secret_hash, .. }, Query::AuthorizeWithProxyShort(secret)) => {
                self.authorize_by_secret(conn, query, secret_hash, secret.data.0, now, out)
            }
            (Stage::Offered { .. }, Query::AuthorizeWithProxyLong(_)) => {
                self.authorize_by_chain(conn, query, now, out)
            }
            (Stage::Registering { .. }, Query::AuthorizeWithProxyLong(_)) => {
                Err(Refusal::closing(code::NONE, "duplicate auth message"))
            }
            (Stage::Offered { .. } | Stage::Registering { .. }, Query::ConnectToProxy(_))
            | (Stage::Registering { .. }, Query::AuthorizeWithProxyShort(_)) => {
                Err(Refusal::closing(code::NONE, "expected auth message"))
            }
            (Stage::Ready { peer }, asked) => {
                self.serve_client(conn, query, peer, &asked, now, out)
            }
            (_, Query::RequestRefund(_)) => Err(lost_promise()),
            (_, Query::Unknown(id)) => Err(unknown_query(id, Side::Client)),
            _ => Err(Refusal::open(code::PROTOCOL_VIOLATION, "expected client connection")),
        }
    }

    fn serve_client(
        &mut self,
        conn: ConnId,
        query: i64,
        peer: Peer,
        asked: &Query<'_>,
        now: Now,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        match asked {
            Query::UpdatePaymentStatus(_) => {
                self.check_statements(conn)?;
                let (payment, total) = self.client_statement(peer.account);
                let status = PaymentStatus {
                    signed_payment: signed(payment.as_ref()),
                    db_tokens: total,
                    max_tokens: total,
                };
                let data = out.encode(&status);
                out.act_when_durable(Act::Answer { conn, query, data });
            }
            Query::GetWorkerTypes(_) => self.list_workers_old(conn, query, now, out),
            Query::GetWorkerTypesV2(_) => self.list_workers(conn, query, now, out),
            Query::ListWorkers(_) if peer.extensions.contains(cocoon::REPORTS) => {
                self.list_reporters(conn, query, out);
            }
            Query::GetReport(get) if peer.extensions.contains(cocoon::REPORTS) => {
                let reads = Extensions::NONE;
                return self.ask_for_report(conn, query, (get.worker, get.nonce), reads, out);
            }
            Query::GetEndorsedReport(get) if peer.extensions.contains(cocoon::ENDORSEMENTS) => {
                let reads = cocoon::ENDORSEMENTS;
                return self.ask_for_report(conn, query, (get.worker, get.nonce), reads, out);
            }
            Query::GetFullReport(get) if peer.extensions.contains(cocoon::VTPM_QUOTES) => {
                let reads = Extensions(get.reads.cast_unsigned());
                return self.ask_for_report(conn, query, (get.worker, get.nonce), reads, out);
            }
            Query::Unknown(id) => return Err(unknown_query(*id, Side::Client)),
            _ => return Err(lost_promise()),
        }
        Ok(())
    }

    /// Checks and answers `client.connectToProxy`, in the reference's order.
    fn introduce_to_client(
        &mut self,
        conn: ConnId,
        query: i64,
        hello: &ConnectToProxy<'_>,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let refuse = |text: &str| Err(Refusal::closing(code::ERROR, text));
        let params = &hello.params;
        match params.is_test {
            None => return refuse("too old client"),
            Some(theirs) if theirs != self.identity.is_test => return refuse("test mode mismatch"),
            Some(_) => {}
        }
        let owner = Address::parse(&params.client_owner_address.sanitized())
            .ok()
            .filter(|owner| owner.workchain == 0);
        let Some(owner) = owner else { return refuse("cannot parse client owner address") };
        if i64::from(hello.min_config_version) > i64::from(self.instance.root.version) {
            return refuse("active config version is too low");
        }
        let range = params.versions.unwrap_or_default();
        let theirs = (ProtoVersion(range.min), ProtoVersion(range.max));
        let Some(version) = ProtoVersion::choose(VERSIONS, theirs) else {
            let text = "cannot choose common protocol version";
            return Err(Refusal::closing(code::PROTOCOL_VIOLATION, text));
        };
        if let Some(refusal) = self.not_ready() {
            return Err(refusal);
        }
        let account = AccountId(owner.hash);
        let known = self.meet_client(account, out)?;
        let status = self.books.client(account).map(cocoon_ledger::ClientAccount::status);
        if matches!(status, Some(ClientStatus::Closing | ClientStatus::Closed)) {
            return refuse("client is closing");
        }
        let extensions = cocoon::ANNOUNCED.common(params.extensions);
        let peer = Peer { account, version, extensions };
        self.offer_to_client(conn, query, peer, known, out);
        Ok(())
    }

    /// Answers `client.connectToProxy` with who we are and how to authorise.
    fn offer_to_client(
        &mut self,
        conn: ConnId,
        query: i64,
        peer: Peer,
        known: bool,
        out: &mut Outbox,
    ) {
        let payment = if known { self.client_payment(peer.account) } else { None };
        let secret_hash = self.parties.clients.get(&peer.account).and_then(|p| p.secret_hash);
        let nonce = match self.settings.chain {
            ChainMode::Pseudo => 0,
            ChainMode::Real => self.draw.number(),
        };
        let auth = match secret_hash {
            Some(secret_hash) => ProxyConnectionAuth::Short(ProxyConnectionAuthShort {
                secret_hash,
                nonce: nonce.cast_signed(),
            }),
            None => {
                ProxyConnectionAuth::Long(ProxyConnectionAuthLong { nonce: nonce.cast_signed() })
            }
        };
        let contract = self.parties.clients.get(&peer.account).map(|p| p.contract_text.as_str());
        let is_test = self.identity.is_test;
        let data = out.encode(&ConnectedToProxy {
            params: self.instance.introduction(is_test, peer.version.0, peer.extensions),
            client_sc_address: Text::from(contract.unwrap_or_default()),
            auth,
            signed_payment: signed(payment.as_ref()),
        });
        out.act_when_durable(Act::Answer { conn, query, data });
        if let Some(client) = self.clients.get_mut(&conn) {
            client.stage = Stage::Offered { peer, nonce, secret_hash, registered: false };
        }
    }

    /// Makes sure that the account is known beside the books; says whether the books knew it.
    fn meet_client(&mut self, account: AccountId, out: &mut Outbox) -> Result<bool, Refusal> {
        let known = self.books.client(account).is_some();
        if !known && self.parties.clients.len() >= self.settings.accounts_max {
            let text = "proxy serves as many clients as it can";
            return Err(Refusal::closing(code::NOT_READY, text));
        }
        let is_new = !self.parties.clients.contains_key(&account);
        if is_new {
            let owner = Identity::address_of(account);
            let contract = self.instance.client_contract(owner).map_err(|fault| {
                Refusal::closing(code::FAILURE, format!("client contract: {fault}"))
            })?;
            let party = Party::new(&self.identity, account, contract);
            self.parties.clients.insert(account, party);
        }
        if self.settings.chain == ChainMode::Pseudo {
            if !known {
                let seen = Record::ClientSeen {
                    client: account,
                    status: ClientStatus::Normal,
                    balance_nanoton: PSEUDO_BALANCE,
                    stake_nanoton: PSEUDO_STAKE,
                    charged: 0,
                };
                let failed = |()| Refusal::closing(code::FAILURE, "books refuse the client");
                self.book(seen, out).map_err(failed)?;
            }
            if let Some(party) = self.parties.clients.get_mut(&account) {
                party.secret_hash.get_or_insert_with(|| Sha256::digest(b"").into());
            }
        }
        self.refresh_signable(account, is_new);
        Ok(known)
    }

    fn authorize_by_secret(
        &mut self,
        conn: ConnId,
        query: i64,
        secret_hash: Option<[u8; 32]>,
        secret: &[u8],
        now: Now,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let shown: [u8; 32] = Sha256::digest(secret).into();
        let matches = secret_hash.is_some_and(|known| bool::from(known.ct_eq(&shown)));
        if !matches {
            return Err(Refusal::closing(code::NONE, "sha256 mismatch"));
        }
        self.authorized(conn, query, now, out);
        Ok(())
    }

    fn authorize_by_chain(
        &mut self,
        conn: ConnId,
        query: i64,
        now: Now,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let Some(client) = self.clients.get_mut(&conn) else { return Ok(()) };
        let Stage::Offered { peer, nonce, registered, .. } = client.stage else { return Ok(()) };
        if registered || self.settings.chain == ChainMode::Pseudo {
            self.authorized(conn, query, now, out);
            return Ok(());
        }
        client.stage = Stage::Registering { peer, nonce, query };
        let deadline_ms = now.ms.saturating_add(self.settings.registration_max_ms);
        self.set_handshake_deadline(conn, Some(deadline_ms));
        Ok(())
    }

    /// A client's registration with this nonce was seen on chain.
    pub(crate) fn registered(&mut self, account: AccountId, seen: u64, now: Now, out: &mut Outbox) {
        let waiting = self.clients.iter_mut().find(|(_, client)| match client.stage {
            Stage::Offered { peer, nonce, .. } | Stage::Registering { peer, nonce, .. } => {
                peer.account == account && nonce == seen
            }
            _ => false,
        });
        let Some((&conn, client)) = waiting else { return };
        match &mut client.stage {
            Stage::Offered { registered, .. } => *registered = true,
            Stage::Registering { query, .. } => {
                let query = *query;
                self.authorized(conn, query, now, out);
            }
            _ => {}
        }
    }

    fn authorized(&mut self, conn: ConnId, query: i64, now: Now, out: &mut Outbox) {
        let Some(client) = self.clients.get_mut(&conn) else { return };
        let Some(peer) = client.peer() else { return };
        client.stage = Stage::Ready { peer };
        let took_ms = now.ms.saturating_sub(client.opened().ms);
        self.counts.client_handshakes += 1;
        self.counts.handshake_ms_sum += took_ms;
        self.set_handshake_deadline(conn, None);
        let (payment, total) = self.client_statement(peer.account);
        let success = wire::AuthorizationWithProxy::Success(AuthorizationWithProxySuccess {
            signed_payment: signed(payment.as_ref()),
            tokens_committed_to_db: total,
            max_tokens: total,
        });
        let data = out.encode(&success);
        out.act_when_durable(Act::Answer { conn, query, data });
        out.note(Note::ClientReady { conn, client: peer.account, version: peer.version.0 });
        // What an earlier process left owed may be all that keeps this client from asking.
        self.settle_client(peer.account, out);
    }

    pub(crate) fn client_message(
        &mut self,
        conn: ConnId,
        data: &Bytes,
        now: Now,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let message = Message::decode(data).map_err(|fault| Refusal::malformed(&fault))?;
        // One-way messages before the handshake is over are ignored (protocol notes 3.4).
        let Some(peer) = self.clients.get(&conn).and_then(ClientConn::ready) else { return Ok(()) };
        match message {
            Message::RunQueryEx(m) => {
                let only = self.named_workers(conn, m.request_id)?;
                let wanted = Wanted {
                    model: sanitized(&m.model_name),
                    query: data.slice_ref(m.query.0),
                    coefficient_max: Coefficient::clamped(i64::from(m.max_coefficient)),
                    max_tokens: m.max_tokens,
                    timeout_s: m.timeout,
                    id: m.request_id,
                    config_version_min: m.min_config_version,
                    debug: m.enable_debug.unwrap_or(false),
                    public_key: m.public_key.unwrap_or_default(),
                    only,
                };
                self.admit(conn, peer, wanted, now, out);
            }
            Message::RunQuery(m) => {
                let only = self.named_workers(conn, m.request_id)?;
                let wanted = Wanted {
                    model: sanitized(&m.model_name),
                    query: data.slice_ref(m.query.0),
                    coefficient_max: Coefficient::clamped(i64::from(m.max_coefficient)),
                    max_tokens: m.max_tokens,
                    timeout_s: m.timeout,
                    id: m.request_id,
                    config_version_min: m.min_config_version,
                    debug: false,
                    public_key: PublicKey::default(),
                    only,
                };
                self.admit(conn, peer, wanted, now, out);
            }
            Message::CancelQuery(m) if peer.extensions.contains(cocoon::CANCEL_QUERY) => {
                self.cancelled_by_client(conn, m.request_id, now, out);
            }
            Message::OnlyWorkers(m) if peer.extensions.contains(cocoon::ONLY_WORKERS) => {
                self.name_workers(conn, &m)?;
            }
            Message::CancelQuery(_) | Message::OnlyWorkers(_) | Message::Unknown(_) => {}
        }
        Ok(())
    }

    /// The client names the only workers for its next request (our own addition).
    fn name_workers(&mut self, conn: ConnId, named: &OnlyWorkers) -> Result<(), Refusal> {
        let count = named.workers.len();
        if count == 0 || count > cocoon::ONLY_WORKERS_MAX {
            let text = format!("onlyWorkers names {count} workers, allowed are 1 to 64");
            return Err(Refusal::closing(code::PROTOCOL_VIOLATION, text));
        }
        if let Some(client) = self.clients.get_mut(&conn) {
            let workers = named.workers.iter().map(|worker| WorkerId(worker.cast_unsigned()));
            client.only = Some((named.request_id, workers.collect()));
        }
        Ok(())
    }

    /// The workers named for this request; none allows all. Names for another request mean that
    /// a message was lost: a request must never go where its client does not want it.
    fn named_workers(
        &mut self,
        conn: ConnId,
        request: RequestId,
    ) -> Result<Box<[WorkerId]>, Refusal> {
        match self.clients.get_mut(&conn).and_then(|client| client.only.take()) {
            None => Ok(Box::default()),
            Some((named, workers)) if named == request => Ok(workers),
            Some(_) => {
                let text = "onlyWorkers was about another request";
                Err(Refusal::closing(code::PROTOCOL_VIOLATION, text))
            }
        }
    }

    /// The client is gone: what waits is forgotten, what runs is stopped where the worker can be
    /// told, and what was made is charged.
    pub(crate) fn client_left(&mut self, client: ClientConn, now: Now, out: &mut Outbox) {
        let account = client.peer().map(|peer| peer.account);
        for (_, ticket) in client.running {
            self.listener_left(ticket, now, out);
        }
        // An owner that only named itself leaves nothing behind, or anybody could fill the room
        // for accounts with addresses that nobody owns.
        let is_idle = |party: &Party| party.running == 0 && !party.in_flight;
        if let Some(account) = account
            && self.books.client(account).is_none()
            && self.parties.clients.get(&account).is_some_and(is_idle)
        {
            self.parties.clients.remove(&account);
        }
    }

    /// The signed payment for a client.
    pub(crate) fn client_payment(&mut self, account: AccountId) -> Option<Bytes> {
        let party = self.parties.clients.get_mut(&account)?;
        let (contract, total) = (party.contract, party.signable);
        let draw = &mut self.draw;
        let kind = PaymentKind::ClientCharge;
        party.payment.for_total(&self.identity, kind, contract, total, || draw.number())
    }

    /// What a client is told: the signed payment, and its total, which is durable by the time the
    /// message leaves.
    pub(crate) fn client_statement(&mut self, account: AccountId) -> (Option<Bytes>, i64) {
        let total = self.books.client(account).map(|client| client.counters().max());
        (self.client_payment(account), total.unwrap_or_default().to_wire())
    }
}

/// Which port an unknown query came through.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Worker,
}

/// The answer to a query nobody serves (protocol notes 10.2 no. 1).
pub(crate) fn lost_promise() -> Refusal {
    Refusal::open(code::NONE, "Lost promise")
}

/// An unknown query, unless it is the other side's hello, which gets a hint (10.2 no. 3).
pub(crate) fn unknown_query(id: u32, side: Side) -> Refusal {
    use cocoon_wire::tl::Constructor as _;
    match side {
        Side::Client if id == cocoon_wire::worker::ConnectToProxy::ID => {
            Refusal::open(code::PROTOCOL_VIOLATION, "worker connect() from non worker")
        }
        Side::Worker if id == ConnectToProxy::ID => {
            Refusal::open(code::PROTOCOL_VIOLATION, "client connect() from non client")
        }
        _ => lost_promise(),
    }
}

/// The wire form of a payment that may be missing.
pub(crate) fn signed(payment: Option<&Bytes>) -> SignedPayment<'_> {
    payment.map_or(SignedPayment::Empty, |data| SignedPayment::Signed(Blob(data)))
}

fn sanitized<'tl>(text: &Text<'tl>) -> std::borrow::Cow<'tl, str> {
    std::borrow::Cow::Owned(text.sanitized().into_owned())
}
