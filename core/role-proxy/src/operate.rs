//! What the operator and the root contract change while the proxy runs.

use std::sync::Arc;

use cocoon_contract::address::{self, ProxyIdentity, StateInit};
use cocoon_contract::payment::PaymentKind;
use cocoon_contract::root::RootState;
use cocoon_ledger::{AccountId, Record};
use cocoon_units::{Address, ModelName, PublicKey};
use cocoon_wire::cocoon::{LEAVING, Leaving};
use cocoon_wire::tl::{self, SecretKey, Text};
use cocoon_wire::worker::{ChangeModel, ChangedModel};

use crate::fault::StartFault;
use crate::instance::Instance;
use crate::outbox::{Act, ChainOrder, ConnId, Note, Now, Outbox};
use crate::proxy::Proxy;
use crate::settings::{ChainMode, Identity};

/// Time a worker has to change its model (protocol notes 3.4).
const CHANGE_MODEL_TIMEOUT_MS: u64 = 60_000;

/// An operator's command. The answer comes as [`Act::Admin`] with the command's number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Refuse everybody until the root's `params_version` has grown, or for ever.
    Disable {
        /// Serve again from this `params_version`; `None` is never.
        until_params_version: Option<u32>,
    },
    /// Serve again. Unlike the reference's, it does what it says (protocol notes 10.2 no. 21).
    Enable,
    /// Ask a worker of version 4 to load another model.
    ChangeModel {
        /// Which connection, as the status page numbers it.
        conn: ConnId,
        /// Full name of the model.
        model: String,
    },
    /// Charge a client on chain now.
    Charge {
        /// Whom.
        client: AccountId,
    },
    /// Pay a worker on chain now.
    Payout {
        /// Whom.
        worker: AccountId,
    },
    /// Make a state commit now.
    Commit,
}

impl Proxy {
    /// Carries out an operator's command.
    pub fn command(&mut self, command: u64, what: Command, now: Now, out: &mut Outbox) {
        let result = match what {
            Command::Disable { until_params_version } => {
                self.standing.disable_until(until_params_version.map_or(i64::MAX, i64::from));
                self.drop_everybody("proxy is disabled", now, out);
                Ok("disabled".to_owned())
            }
            Command::Enable => {
                self.standing.enable();
                Ok("enabled".to_owned())
            }
            Command::ChangeModel { conn, model } => {
                match self.ask_for_model(conn, command, model, out) {
                    Ok(()) => return,
                    Err(text) => Err(text),
                }
            }
            Command::Charge { client } => self.order_by_hand(client, true, out),
            Command::Payout { worker } => self.order_by_hand(worker, false, out),
            Command::Commit => {
                self.start_commit(now, out);
                Ok("commit started".to_owned())
            }
        };
        out.act(Act::Admin { command, result });
    }

    /// The journal cannot be written now, or can again. Meanwhile nothing new is admitted; what
    /// runs goes on and its ends wait.
    pub fn set_stalled(&mut self, stalled: bool) {
        self.standing.stall(stalled);
    }

    /// Takes no new work and tells the clients so; what runs goes on. The hand waits for
    /// [`Proxy::is_idle`], and for the clients that were told ([`Proxy::awaits_goodbye`]).
    pub fn drain(&mut self, out: &mut Outbox) {
        self.standing.drain();
        let mut told: Vec<ConnId> = self.told_of_leaving().collect();
        told.sort_unstable();
        for conn in told {
            out.send(conn, &Leaving {});
        }
    }

    /// Whether a client that was told of the end is still there. It closes its connection when
    /// nothing it sent is unanswered, so none of its requests is lost on the way.
    #[must_use]
    pub fn awaits_goodbye(&self) -> bool {
        self.told_of_leaving().next().is_some()
    }

    fn told_of_leaving(&self) -> impl Iterator<Item = ConnId> + '_ {
        self.clients.iter().filter_map(|(conn, client)| {
            client.ready().filter(|peer| peer.extensions.contains(LEAVING)).map(|_| *conn)
        })
    }

    /// Replaces the private keys of end-to-end encryption, as a key manager gave them. The caller
    /// derives the public halves.
    pub fn set_keys(&mut self, keys: impl IntoIterator<Item = (PublicKey, SecretKey)>) {
        self.keys = keys.into_iter().collect();
    }

    /// A new state of the root contract. Older ones are ignored.
    ///
    /// When the parameters changed, every connection is dropped and a new instance begins; the
    /// old one is handed over in a [`ChainOrder::WindDown`] (protocol notes, chain 3.10); its
    /// totals stay in the books until [`Proxy::old_closed`].
    ///
    /// # Errors
    /// [`StartFault`]: the state makes no sense and was not taken in; the old one stays in force.
    pub fn root_changed(
        &mut self,
        root: Arc<RootState>,
        now: Now,
        out: &mut Outbox,
    ) -> Result<(), StartFault> {
        if root.version <= self.instance.root.version {
            return Ok(());
        }
        let instance = Instance::new(&self.identity, root)?;
        let epoch = instance.epoch();
        if epoch > self.instance.epoch() {
            self.drop_everybody("parameters of the network changed", now, out);
            self.wind_down(out);
            self.instance = instance;
            self.parties = crate::proxy::Parties::default();
            self.ink.marks.clear();
            self.ink.at_risk = 0;
            let opening = self.opening();
            let old = self.books.epoch();
            let _ = self.book(opening, out);
            match (self.settings.chain, old) {
                (ChainMode::Pseudo, Some(epoch)) => {
                    let _ = self.book(Record::OldClosed { epoch }, out);
                }
                (ChainMode::Pseudo, None) => {}
                (ChainMode::Real, _) => self.standing.begin_anew(),
            }
            self.start_commit(now, out);
        } else {
            self.instance = instance;
            self.follow_lists(now, out);
        }
        self.standing.params_reached(epoch);
        Ok(())
    }

    /// The old instance of this epoch is wound down: everybody is settled, its contract is closed.
    pub fn old_closed(&mut self, epoch: u32, out: &mut Outbox) {
        if self.books.old().any(|(old, _)| old == epoch) {
            let _ = self.book(Record::OldClosed { epoch }, out);
        }
    }

    /// Whether this session's first commit stands, so that these books are known to be the newest.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        !self.standing.is_starting() && self.may_order()
    }

    /// Whether orders may go to the chain: not after the proxy has stopped.
    #[must_use]
    pub fn may_order(&self) -> bool {
        self.standing.stopped().is_none()
    }

    /// Who this proxy is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Stops serving for good, for a reason that a person must look at.
    pub fn stop(&mut self, why: String, now: Now, out: &mut Outbox) {
        self.stop_serving(why, now, out);
    }

    /// The proxy contract in use.
    #[must_use]
    pub fn contract(&self) -> Address {
        self.instance.contract
    }

    /// The root's state in force.
    #[must_use]
    pub fn root(&self) -> &Arc<RootState> {
        &self.instance.root
    }

    /// What the contract in use is deployed with.
    ///
    /// # Errors
    /// [`StartFault::Address`] when the root holds no code for it.
    pub fn contract_init(&self) -> Result<StateInit, StartFault> {
        let Identity { owner, root, .. } = self.identity;
        let public_key = self.identity.public_key();
        let identity = ProxyIdentity { owner, public_key, root };
        address::proxy_init(&identity, &self.instance.root.network).map_err(StartFault::Address)
    }

    /// The answer to a query of ours.
    pub fn answered(&mut self, conn: ConnId, query: i64, data: &[u8], now: Now, out: &mut Outbox) {
        if self.report_came(conn, query, Ok(data), out) {
            return;
        }
        let Some(command) = self.take_command(conn, query) else { return };
        let result = tl::decode::<ChangedModel>(data)
            .map(|_| "model change started".to_owned())
            .map_err(|fault| format!("the worker's answer makes no sense: {fault}"));
        let _ = now;
        out.act(Act::Admin { command, result });
    }

    /// A query of ours failed.
    pub fn query_failed(
        &mut self,
        conn: ConnId,
        query: i64,
        code: i32,
        text: &str,
        out: &mut Outbox,
    ) {
        if self.report_came(conn, query, Err((code, text)), out) {
            return;
        }
        let Some(command) = self.take_command(conn, query) else { return };
        out.act(Act::Admin { command, result: Err(format!("{code}: {text}")) });
    }

    fn take_command(&mut self, conn: ConnId, query: i64) -> Option<u64> {
        let worker = self.workers.get_mut(&conn)?;
        let (_, command) = worker.command.filter(|(asked, _)| *asked == query)?;
        worker.command = None;
        Some(command)
    }

    pub(crate) fn command_failed(&self, command: Option<(i64, u64)>, why: &str, out: &mut Outbox) {
        if let Some((_, command)) = command {
            out.act(Act::Admin { command, result: Err(why.to_owned()) });
        }
    }

    fn ask_for_model(
        &mut self,
        conn: ConnId,
        command: u64,
        model: String,
        out: &mut Outbox,
    ) -> Result<(), String> {
        let model = ModelName::new(model).map_err(|fault| fault.to_string())?;
        let query = self.draw.number().cast_signed();
        let worker = self.workers.get_mut(&conn).ok_or("no such worker connection")?;
        let version = worker.trade().map(|trade| trade.version).unwrap_or_default();
        if !worker.is_ready() || !version.has_change_model() {
            return Err(format!("the worker speaks version {version}; 4 is needed"));
        }
        if worker.command.is_some() {
            return Err("the worker is busy with an earlier change".to_owned());
        }
        worker.command = Some((query, command));
        let data = out.encode(&ChangeModel { new_model: Text::from(model.as_str()) });
        out.act(Act::Ask { conn, query, data, timeout_ms: CHANGE_MODEL_TIMEOUT_MS });
        Ok(())
    }

    fn order_by_hand(
        &mut self,
        account: AccountId,
        is_client: bool,
        out: &mut Outbox,
    ) -> Result<String, String> {
        let parties = &self.parties;
        let party = if is_client { &parties.clients } else { &parties.workers }.get(&account);
        let party = party.ok_or("no such account")?;
        if party.in_flight {
            return Err("an order for this account is on its way already".to_owned());
        }
        let (kind, tokens) = if is_client {
            let counters = self.books.client(account).map(|c| *c.counters());
            (PaymentKind::ClientCharge, counters.map(|c| c.durable()))
        } else {
            (PaymentKind::WorkerPayout, Some(party.signable))
        };
        let tokens = tokens.unwrap_or_default();
        self.order(account, kind, tokens, out);
        Ok(format!("ordered for {tokens} tokens"))
    }

    /// Ends every connection; what runs fails or is forgotten with its client.
    pub(crate) fn drop_everybody(&mut self, why: &str, now: Now, out: &mut Outbox) {
        let mut tickets: Vec<_> = self.desk.requests.keys().copied().collect();
        tickets.sort_unstable();
        for ticket in tickets {
            self.pool.cancel(ticket);
            self.pass_cancel(ticket, out);
            self.fail(ticket, crate::fault::code::NOT_READY, why, now, out);
        }
        let mut conns: Vec<ConnId> =
            self.clients.keys().chain(self.workers.keys()).copied().collect();
        conns.sort_unstable();
        for conn in conns {
            out.close(conn, why);
            self.closed(conn, now, out);
        }
    }

    /// Hands the old instance over: final totals of everybody.
    fn wind_down(&self, out: &mut Outbox) {
        let clients = self.books.clients().map(|(id, c)| (*id, c.counters().max()));
        let workers = self.books.workers().map(|(id, w)| (*id, w.counters().max()));
        let (mut clients, mut workers): (Vec<_>, Vec<_>) = (clients.collect(), workers.collect());
        clients.sort_unstable();
        workers.sort_unstable();
        out.act_when_durable(Act::Chain(ChainOrder::WindDown {
            epoch: self.instance.epoch(),
            contract: self.instance.contract,
            clients,
            workers,
        }));
    }

    /// Follows the root's lists. A worker whose image is no longer listed loses its connection; one
    /// whose model is not gets nothing new, but ends what it runs, and is served again when the model
    /// is listed again. (The reference leaves both connected and idle: protocol notes 3.3.)
    fn follow_lists(&mut self, now: Now, out: &mut Outbox) {
        let met = self.workers.iter().filter(|(_, worker)| worker.trade().is_some());
        let mut met: Vec<ConnId> = met.map(|(conn, _)| *conn).collect();
        met.sort_unstable();
        // First of all, so that requests of one that goes do not move to another one that goes.
        for conn in &met {
            self.follow_wish(*conn, now);
        }
        for conn in met {
            if self.check_image(conn).is_err() {
                let text = "the root no longer lists this worker's image".to_owned();
                self.drop_peer(conn, text, now, out);
            } else if !self.is_still_listed(conn) {
                let text = "the root no longer lists this worker's model".to_owned();
                out.note(Note::PeerFault { conn, text });
            }
        }
        self.follow_pool(now, out);
    }
}
