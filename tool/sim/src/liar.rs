//! Peers that lie, and hands with planted faults that change what is said.

use bytes::Bytes;
use cocoon_channel::Command;
use cocoon_contract::payment::{PaymentKind, SignedPayment as Signed};
use cocoon_ledger::AccountId;
use cocoon_role_proxy::{Act, ConnId};
use cocoon_units::{Address, RequestId, Tokens};
use cocoon_wire::client::TokensUsed;
use cocoon_wire::proxy::{
    ClientRequestPayment, QueryAnswerEx, QueryAnswerPartEx, QueryFinalInfo, SignedPayment,
    WorkerRequestPayment,
};
use cocoon_wire::tl::{self, Blob, Extensions};
use cocoon_wire::{http, worker};

use crate::mutant::Mutant;
use crate::plan::{Lie, NodeId};
use crate::worker::is;
use crate::world::World;

/// A whole answer to a request that runs elsewhere.
pub(crate) fn stolen_answer(request: RequestId, begun: bool) -> Vec<Vec<u8>> {
    let response = tl::encode(&http::Response {
        http_version: "HTTP/1.1".into(),
        status_code: 200,
        reason: "".into(),
        headers: Vec::new(),
        payload: Blob(&[]),
    });
    let head = tl::encode(&QueryAnswerEx {
        request_id: request,
        answer: Blob(&response),
        extensions: Extensions::NONE,
        final_info: None,
    });
    let last = tl::encode(&QueryAnswerPartEx {
        request_id: request,
        answer: Blob(b"stolen"),
        extensions: Extensions::NONE,
        final_info: Some(QueryFinalInfo {
            extensions: Extensions::NONE,
            tokens_used: TokensUsed {
                completion_tokens_used: 77,
                total_tokens_used: 77,
                ..TokensUsed::default()
            },
            worker_debug: None,
            times: None,
        }),
    });
    if begun { vec![last] } else { vec![head, last] }
}

impl World {
    /// The lie that a node tells now.
    pub(crate) fn lie(&self, node: NodeId) -> Option<Lie> {
        self.plan.liar.filter(|(liar, _)| *liar == node && !self.quiet).map(|(_, lie)| lie)
    }

    /// A lying worker states balances it cannot have.
    pub(crate) fn twist_balance(&mut self, node: NodeId, command: &Command) -> Command {
        let Command::Query { id, data, timeout_ms } = command else { return command.clone() };
        let honest = self.lie(node) != Some(Lie::WorkerBalance) || self.chance.percent(40);
        let Some(mut claim) = is::<worker::CompareBalanceWithProxy>(data).filter(|_| !honest)
        else {
            return command.clone();
        };
        match self.chance.index(4) {
            0 => claim.tokens_committed_to_blockchain += 1_000,
            1 => claim.max_tokens = -1,
            2 => claim.max_tokens += 10_000,
            _ => claim.tokens_committed_to_db = i64::MAX,
        }
        Command::Query { id: *id, data: tl::encode(&claim), timeout_ms: *timeout_ms }
    }

    /// A planted fault: the connection that an answer is taken for.
    pub(crate) fn conn_of_answer(&self, p: u8, conn: ConnId, data: &Bytes) -> ConnId {
        if self.mutant != Some(Mutant::AnyConnection) {
            return conn;
        }
        let id = is::<QueryAnswerEx<'_>>(data)
            .map(|m| m.request_id)
            .or_else(|| is::<QueryAnswerPartEx<'_>>(data).map(|m| m.request_id));
        id.and_then(|id| self.truth.link_of(p, id)).map_or(conn, ConnId)
    }

    /// What a lying or a broken proxy makes of an effect.
    pub(crate) fn spoil(&mut self, p: u8, act: Act) -> Act {
        let lie = self.lie(NodeId::Proxy(p));
        let Act::Send { conn, data } = act else { return act };
        let data = match (self.mutant, lie) {
            (Some(Mutant::LastPartDropped), _) if self.chance.percent(10) => {
                let last = is::<cocoon_wire::client::QueryAnswerPartEx<'_>>(&data)
                    .is_some_and(|m| m.final_info.is_some());
                if last { Bytes::new() } else { data }
            }
            (_, Some(Lie::ProxyOldPayment)) => self.old_payment(p, conn, data),
            (_, Some(Lie::ProxyInflates)) => inflate(data),
            _ => data,
        };
        if data.is_empty() {
            return Act::Send { conn: ConnId(u64::MAX), data };
        }
        Act::Send { conn, data }
    }

    fn old_payment(&mut self, p: u8, conn: ConnId, data: Bytes) -> Bytes {
        let payment = is::<ClientRequestPayment<'_>>(&data).is_some()
            || is::<WorkerRequestPayment<'_>>(&data).is_some();
        if !payment {
            return data;
        }
        let Some(node) = self.proxies.get_mut(usize::from(p)) else { return data };
        let said = node.said.entry(conn.0).or_default();
        said.push(data.clone());
        said.first().cloned().unwrap_or(data)
    }

    /// Planted faults in what is signed: for the highest total, or for another account.
    pub(crate) fn resign(&mut self, p: u8, act: Act) -> Act {
        let wrong = match self.mutant {
            Some(Mutant::SignMax) => false,
            Some(Mutant::WrongAccount) => true,
            _ => return act,
        };
        let Act::Send { conn, data } = &act else { return act };
        let Some(mut payment) = is::<WorkerRequestPayment<'_>>(data) else { return act };
        let Some(NodeId::Worker(w)) = self.links.get(&conn.0).map(|link| link.peer) else {
            return act;
        };
        let Some(node) = self.proxies.get(usize::from(p)) else { return act };
        let Some(machine) = &node.machine else { return act };
        let status = machine.status(cocoon_role_proxy::Now::default());
        let mine = |line: &&cocoon_role_proxy::WorkerLine| {
            Address::parse(&line.owner).is_ok_and(|owner| owner == crate::worker::owner(w))
        };
        let line = if wrong {
            status.workers.iter().find(|line| !mine(line))
        } else {
            status.workers.iter().find(mine)
        };
        let Some(contract) = line.and_then(|line| Address::parse(&line.contract).ok()) else {
            return act;
        };
        let (key, wallet) = (crate::proxy::identity(p).key, crate::proxy::identity(p).wallet);
        let tokens = if wrong { 0 } else { payment.max_tokens.unsigned_abs() };
        let signed =
            Signed::sign(PaymentKind::WorkerPayout, 1, Tokens(tokens), contract, wallet, &key);
        let Ok(body) = signed.and_then(|signed| signed.to_boc()) else { return act };
        payment.signed_payment = SignedPayment::Signed(Blob(&body));
        Act::Send { conn: *conn, data: tl::encode(&payment).into() }
    }

    /// A planted fault: whether the chain believes a body whoever signed it.
    pub(crate) fn is_body_good(
        &self,
        p: u8,
        body: &[u8],
        kind: PaymentKind,
        contract: &Address,
    ) -> Option<u64> {
        let payment = Signed::from_boc(body).ok()?;
        if self.mutant == Some(Mutant::ChainBelieves) {
            return Some(payment.tokens().0);
        }
        let key = crate::proxy::identity(p).public_key();
        payment.verify(kind, contract, key).ok().map(|tokens| tokens.0)
    }
}

/// A proxy that counts more than was used.
fn inflate(data: Bytes) -> Bytes {
    if let Some(mut payment) = is::<ClientRequestPayment<'_>>(&data) {
        payment.max_tokens += 5_000;
        payment.db_tokens += 5_000;
        return tl::encode(&payment).into();
    }
    if let Some(mut payment) = is::<WorkerRequestPayment<'_>>(&data) {
        payment.max_tokens -= 1;
        payment.db_tokens += 2;
        return tl::encode(&payment).into();
    }
    data
}

/// The account behind an address.
pub(crate) fn account(address: Address) -> AccountId {
    AccountId(address.hash)
}
