//! Accounts of contract instances that are no longer in use and not yet wound down.

use std::collections::BTreeMap;

use cocoon_units::Tokens;

use crate::account::{AccountId, ClientAccount, ClientStatus, WorkerAccount};
use crate::record::Record;

/// Final totals of an old contract instance. Kept until every account is settled on chain and the
/// contract is closed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OldBooks {
    pub(crate) clients: BTreeMap<AccountId, u64>,
    pub(crate) workers: BTreeMap<AccountId, u64>,
}

impl OldBooks {
    /// Closes books: what everybody's final total is. Clients whose contract is closed already
    /// need nothing more.
    pub(crate) fn of<'a>(
        clients: impl Iterator<Item = (&'a AccountId, &'a ClientAccount)>,
        workers: impl Iterator<Item = (&'a AccountId, &'a WorkerAccount)>,
    ) -> Self {
        let clients = clients
            .filter(|(_, account)| account.status != ClientStatus::Closed)
            .map(|(id, account)| (*id, account.counters.max));
        let workers = workers.map(|(id, account)| (*id, account.counters.max));
        Self { clients: clients.collect(), workers: workers.collect() }
    }

    /// Clients to refund, with their final totals, in order.
    pub fn clients(&self) -> impl Iterator<Item = (AccountId, Tokens)> + '_ {
        self.clients.iter().map(|(id, total)| (*id, Tokens(*total)))
    }

    /// Workers to pay, with their final totals, in order.
    pub fn workers(&self) -> impl Iterator<Item = (AccountId, Tokens)> + '_ {
        self.workers.iter().map(|(id, total)| (*id, Tokens(*total)))
    }

    /// The lines of a snapshot.
    pub(crate) fn records(&self, epoch: u32) -> impl Iterator<Item = Record> + '_ {
        let clients = self.clients.iter().map(move |(client, tokens)| Record::OldClient {
            epoch,
            client: *client,
            tokens: *tokens,
        });
        let workers = self.workers.iter().map(move |(worker, tokens)| Record::OldWorker {
            epoch,
            worker: *worker,
            tokens: *tokens,
        });
        std::iter::once(Record::OldBooks { epoch }).chain(clients).chain(workers)
    }
}
