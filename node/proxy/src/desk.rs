//! What pages ask the loop.

use cocoon_role_proxy::{Command, Counts, Status};
use cocoon_units::Nanoton;
use tokio::sync::{mpsc, oneshot};

/// Questions that may wait for the loop.
const QUESTIONS_MAX: usize = 64;

/// A question to the loop.
pub(crate) enum Question {
    /// The whole state.
    Status(oneshot::Sender<Box<Whole>>),
    /// An operator's command.
    Command(Command, oneshot::Sender<Result<String, String>>),
    /// An operator's request to the chain.
    Chain(ChainCommand, oneshot::Sender<Result<String, String>>),
}

/// What an operator may ask of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChainCommand {
    /// Send what the proxy has earned to its owner.
    Withdraw,
    /// Add coins of the wallet to the stake.
    AddStake(Nanoton),
    /// Add what the stake misses to this much: asked for twice, it happens once.
    StakeUntil(Nanoton),
    /// Close the contract for good.
    Close,
}

/// The state of the node.
pub(crate) struct Whole {
    pub(crate) status: Status,
    pub(crate) rates: crate::rates::Rates,
    pub(crate) links: cocoon_link::CounterValues,
    /// Effects that wait for the disk.
    pub(crate) held: usize,
    /// Bytes that recovery would read.
    pub(crate) journal_bytes: u64,
    pub(crate) root: std::sync::Arc<cocoon_contract::root::RootState>,
    pub(crate) chain: Option<crate::chain::ChainWhole>,
    pub(crate) uptime_ms: u64,
}

impl Whole {
    pub(crate) fn counts(&self) -> &Counts {
        &self.status.counts
    }
}

/// The pages' end.
#[derive(Clone)]
pub(crate) struct Desk {
    questions: mpsc::Sender<Question>,
}

impl Desk {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Question>) {
        let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
        (Self { questions }, asked)
    }

    /// The whole state; `None` when the loop has ended.
    pub(crate) async fn status(&self) -> Option<Box<Whole>> {
        let (reply, answer) = oneshot::channel();
        self.questions.send(Question::Status(reply)).await.ok()?;
        answer.await.ok()
    }

    /// Has a request to the chain carried out; `None` when the loop has ended.
    pub(crate) async fn chain(&self, command: ChainCommand) -> Option<Result<String, String>> {
        let (reply, answer) = oneshot::channel();
        self.questions.send(Question::Chain(command, reply)).await.ok()?;
        answer.await.ok()
    }

    /// Has a command carried out; `None` when the loop has ended.
    pub(crate) async fn command(&self, command: Command) -> Option<Result<String, String>> {
        let (reply, answer) = oneshot::channel();
        self.questions.send(Question::Command(command, reply)).await.ok()?;
        answer.await.ok()
    }
}
