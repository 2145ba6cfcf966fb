//! The hand of a purse: reads the wallet's account, keeps the file, sends.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cocoon_chain::{
    Account, AccountStatus, Chain, ChainFault, Follower, MessageRecord, TransactionRecord,
};
use cocoon_contract::cell::Hash;
use cocoon_purse::{
    Act, Delivery, Label, Lookout, Order, Outcome, Passed, Purse, Report, Sent, Sighting, Status,
    WalletStanding,
};
use cocoon_units::Address;
use tokio::sync::{mpsc, watch};

use crate::Stop;

/// Transactions of a receiver that are looked through at once.
const PAGE: usize = 64;
/// Pages of one receiver that are looked through in one round.
const PAGES_MAX: usize = 16;
/// Pause before a file that could not be written is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What became of orders. At most two reports come for each order.
pub type Reports = mpsc::UnboundedReceiver<Report>;

/// Gives orders to a node's purse; clones share it.
#[derive(Clone, Debug)]
pub struct PurseHand {
    address: Address,
    asks: mpsc::UnboundedSender<Ask>,
    status: watch::Receiver<Status>,
}

#[derive(Debug)]
enum Ask {
    Order(Box<Order>),
    Cancel(Label),
}

impl PurseHand {
    /// Drives `purse` over `chain` until `stop`; what is on its way is kept in `file`. The chain
    /// is looked at when it moves, at least every `poll`.
    pub fn start(
        chain: Arc<dyn Chain>,
        purse: Purse,
        file: PathBuf,
        poll: Duration,
        stop: Stop,
    ) -> (Self, Reports) {
        let (asks, asked) = mpsc::unbounded_channel();
        let (reports, reported) = mpsc::unbounded_channel();
        let (status, seen) = watch::channel(purse.status());
        let address = purse.address();
        let follower = follow(&chain, &purse, poll);
        let task =
            Task { chain, purse, follower, file, poll, reports, status, began: Instant::now() };
        tokio::spawn(task.run(asked, stop));
        (Self { address, asks, status: seen }, reported)
    }

    /// The wallet's address.
    #[must_use]
    pub fn address(&self) -> Address {
        self.address
    }

    /// Gives an order; what becomes of it comes as reports. An order whose label is waiting or on
    /// its way is the same order. Whoever orders bounds what waits: [`Outcome::NotSent`] is
    /// reported beyond the purse's limit.
    pub fn order(&self, order: Order) {
        // A purse that ended with its node has no more use for orders.
        let _ = self.asks.send(Ask::Order(Box::new(order)));
    }

    /// Takes an order back that is not signed yet; nothing is reported for it then.
    pub fn cancel(&self, label: Label) {
        let _ = self.asks.send(Ask::Cancel(label));
    }

    /// The purse, to look at.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Waits until the status satisfies `is_it`; false when the purse ended before.
    pub async fn wait_for(&self, is_it: impl FnMut(&Status) -> bool) -> bool {
        self.status.clone().wait_for(is_it).await.is_ok()
    }
}

fn follow(chain: &Arc<dyn Chain>, purse: &Purse, poll: Duration) -> Follower {
    match purse.history_from_lt() {
        Some(lt) => Follower::from_lt(Arc::clone(chain), purse.address(), lt, poll),
        None => Follower::from_now(Arc::clone(chain), purse.address(), poll),
    }
}

struct Task {
    chain: Arc<dyn Chain>,
    purse: Purse,
    follower: Follower,
    file: PathBuf,
    poll: Duration,
    reports: mpsc::UnboundedSender<Report>,
    status: watch::Sender<Status>,
    began: Instant,
}

impl Task {
    async fn run(mut self, mut asked: mpsc::UnboundedReceiver<Ask>, stop: Stop) {
        loop {
            let head = tokio::select! {
                head = self.look() => head,
                () = stop.asked() => return,
            };
            let moved = async {
                let moved = async {
                    match head {
                        Some(seqno) => self.chain.moved_beyond(seqno).await,
                        None => std::future::pending().await,
                    }
                };
                let _either = tokio::time::timeout(self.poll, moved).await;
            };
            tokio::select! {
                () = moved => {}
                ask = asked.recv() => {
                    let Some(ask) = ask else { return };
                    self.take(ask);
                    while let Ok(ask) = asked.try_recv() {
                        self.take(ask);
                    }
                }
                () = stop.asked() => return,
            }
        }
    }

    fn take(&mut self, ask: Ask) {
        match ask {
            Ask::Order(order) => {
                let label = order.label;
                if let Err(fault) = self.purse.order(*order) {
                    let outcome = Outcome::NotSent { reason: fault.to_string() };
                    let _ = self.reports.send(Report { label, outcome });
                }
            }
            Ask::Cancel(label) => {
                self.purse.cancel(label);
            }
        }
    }

    /// One look at the wallet and at the receivers; the head, when the chain answered.
    async fn look(&mut self) -> Option<u32> {
        let seen = self.wallet().await;
        let mut acts = Vec::new();
        let head = match seen {
            Ok((account, transactions)) => {
                let passed: Vec<Passed> = transactions.iter().map(passed).collect();
                let head = account.head.seqno;
                self.purse.observed(sighting(account), &passed, self.now_ms(), &mut acts);
                Some(head)
            }
            Err(ChainFault::Forgotten { .. }) => {
                tracing::error!("the wallet's history no longer reaches back to what was sent");
                self.purse.history_lost(&mut acts);
                self.follower =
                    Follower::from_now(Arc::clone(&self.chain), self.purse.address(), self.poll);
                None
            }
            // The line says that the chain is away.
            Err(_) => {
                self.purse.tick(self.now_ms(), &mut acts);
                None
            }
        };
        self.perform(acts).await;
        if head.is_some() {
            self.look_out().await;
        }
        self.status.send_if_modified(|status| {
            let now = self.purse.status();
            let is_changed = *status != now;
            *status = now;
            is_changed
        });
        head
    }

    /// The account, and all its transactions since the last look.
    async fn wallet(&mut self) -> Result<(Account, Vec<TransactionRecord>), ChainFault> {
        let mut all = Vec::new();
        loop {
            let step = self.follower.look().await?;
            let newest_lt = step.account.last.map_or(0, |last| last.lt);
            let reached = step.transactions.last().is_none_or(|last| last.id.lt >= newest_lt);
            all.extend(step.transactions);
            if reached {
                return Ok((step.account, all));
            }
        }
    }

    /// Looks for messages at their receivers.
    async fn look_out(&mut self) {
        for lookout in self.purse.lookouts() {
            let Some(delivery) = find(self.chain.as_ref(), &lookout).await else { return };
            let mut acts = Vec::new();
            self.purse.looked(lookout.label, delivery, &mut acts);
            self.perform(acts).await;
        }
    }

    async fn perform(&mut self, acts: Vec<Act>) {
        for act in acts {
            match act {
                Act::Keep(bytes) => self.keep(bytes).await,
                Act::Send(message) => {
                    if let Err(fault) = self.chain.send(message).await {
                        tracing::warn!(%fault, "the wallet's message was not taken; again later");
                    }
                }
                Act::Report(report) => {
                    // A node that ended no longer listens.
                    let _ = self.reports.send(report);
                }
                Act::Note(note) => log(&note, self.purse.address()),
            }
        }
    }

    /// Nothing after it may happen before it is on disk, so it is tried for ever.
    async fn keep(&self, bytes: Vec<u8>) {
        let bytes = Arc::new(bytes);
        loop {
            let (file, bytes) = (self.file.clone(), Arc::clone(&bytes));
            let written = tokio::task::spawn_blocking(move || write(&file, &bytes)).await;
            match written {
                Ok(Ok(())) => return,
                Ok(Err(fault)) => {
                    let file = self.file.display();
                    tracing::error!(%file, %fault, "nothing is sent before this can be written");
                }
                Err(fault) => tracing::error!(%fault, "writing what the wallet has on its way"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Looks through a receiver's transactions; `None` when the chain does not answer.
async fn find(chain: &dyn Chain, lookout: &Lookout) -> Option<Delivery> {
    let mut after_lt = lookout.after_lt;
    for _ in 0..PAGES_MAX {
        let page = match chain.transactions_since(lookout.account, after_lt, PAGE).await {
            Ok(page) => page,
            Err(ChainFault::Forgotten { .. }) => return Some(Delivery::Forgotten),
            Err(_) => return None,
        };
        let is_it =
            |message: &MessageRecord| message.cell.repr_hash().as_array() == &lookout.message.0;
        let found = page.iter().find(|record| record.in_msg.as_ref().is_some_and(is_it));
        if let Some(record) = found {
            let (lt, exit_code) = (record.id.lt, record.exit_code);
            return Some(Delivery::Found { lt, exit_code, is_aborted: record.is_aborted });
        }
        let Some(last) = page.last() else { break };
        after_lt = last.id.lt;
        if page.len() < PAGE {
            break;
        }
    }
    Some(Delivery::NotUpTo { lt: after_lt })
}

fn sighting(account: Account) -> Sighting {
    Sighting {
        standing: match account.status {
            AccountStatus::Absent | AccountStatus::Uninit => WalletStanding::Uninit,
            AccountStatus::Active => WalletStanding::Active,
            AccountStatus::Frozen => WalletStanding::Frozen,
        },
        balance: account.balance,
        data: account.data,
        last_lt: account.last.map_or(0, |last| last.lt),
        time_s: account.head.time.0,
    }
}

fn passed(record: &TransactionRecord) -> Passed {
    let external = record.in_msg.as_ref().filter(|message| message.source.is_none());
    let sent = record.out_msgs.iter().filter_map(|message| {
        let to = message.destination?;
        Some(Sent { message: hash(&message.cell), to, body: hash(&message.body) })
    });
    Passed {
        lt: record.id.lt,
        external_body: external.map(|message| hash(&message.body)),
        is_aborted: record.is_aborted,
        exit_code: record.exit_code,
        sent: sent.collect(),
    }
}

fn hash(cell: &cocoon_contract::cell::Cell) -> Hash {
    Hash(*cell.repr_hash().as_array())
}

/// Replaces the file: written aside, made durable, renamed.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir)?;
    let fresh = path.with_extension("new");
    let mut file = std::fs::File::create(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    std::fs::File::open(dir)?.sync_all()
}

fn log(note: &cocoon_purse::Note, wallet: Address) {
    use cocoon_purse::Note;
    let wallet = wallet.to_raw();
    match note {
        Note::Lacking(lacking) => tracing::error!("{lacking}"),
        Note::Funded => tracing::info!(wallet, "the wallet can pay again"),
        Note::Deploying => tracing::info!(wallet, "deploying the wallet"),
        Note::SignedAnew { seqno } => {
            tracing::warn!(wallet, seqno, "the chain did not take the wallet's order in time");
        }
        Note::Failed { seqno, exit_code } => {
            tracing::error!(wallet, seqno, exit_code, "the wallet's contract failed");
        }
        Note::Stranger { seqno } => {
            tracing::error!(wallet, seqno, "another program spends from this wallet: stop it");
        }
        Note::Blocked => tracing::error!(wallet, "the wallet's owner has blocked it"),
        Note::Frozen => tracing::error!(wallet, "the wallet is frozen for unpaid storage"),
        Note::NotOurs => {
            tracing::error!(wallet, "another contract stands at the wallet's address");
        }
    }
}
