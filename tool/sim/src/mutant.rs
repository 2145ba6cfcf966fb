//! Planted faults: proof that the simulator can see.

use std::fmt;
use std::str::FromStr;

macro_rules! mutants {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal,)*) => {
        /// A fault planted into the hands around the machines, or into disk, network or chain.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Mutant {
            $($(#[doc = $doc])* $name,)*
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

mutants! {
    /// No effect waits for the journal.
    EffectsDoNotWait = "effects-do-not-wait",
    /// Answers to queries (statements of balances) do not wait.
    StatementsDoNotWait = "statements-do-not-wait",
    /// Messages to the chain that get lost are not sent again.
    OrdersNotResent = "orders-not-resent",
    /// The machine is told that records are durable when they are written.
    DurableWhenWritten = "durable-when-written",
    /// Effects that waited leave in the wrong order.
    HeldBackwards = "held-backwards",
    /// A finished request is journalled twice.
    FinishTwice = "finish-twice",
    /// A finished request is not journalled.
    FinishForgotten = "finish-forgotten",
    /// The first sight of an account is not journalled.
    AccountForgotten = "account-forgotten",
    /// Confirmed commits are not journalled.
    ConfirmForgotten = "confirm-forgotten",
    /// A snapshot is taken while records wait in the outbox.
    SnapshotTooEarly = "snapshot-too-early",
    /// A snapshot loses its last line.
    SnapshotLosesLine = "snapshot-loses-line",
    /// A restart reads an older state of the journal.
    OldJournal = "old-journal",
    /// Recovery drops the last whole frame along with the torn one.
    RecoveryDropsFrame = "recovery-drops-frame",
    /// The disk reports frames durable that it loses in a crash.
    LyingDisk = "lying-disk",
    /// Payments are signed for the highest total instead of the committed one.
    SignMax = "sign-max",
    /// Payments and totals of another account are sent.
    WrongAccount = "wrong-account",
    /// Whose connection an answer came over is ignored.
    AnyConnection = "any-connection",
    /// The machine is not told that a connection has ended.
    CloseUntold = "close-untold",
    /// The machine's wish to close a connection is ignored.
    CloseIgnored = "close-ignored",
    /// The machine never learns the time.
    NoTicks = "no-ticks",
    /// Every process draws the same numbers: ids and sessions repeat.
    SameSeed = "same-seed",
    /// The last message of an answer is dropped now and then.
    LastPartDropped = "last-part-dropped",
    /// The last message of an answer is handled twice by the client.
    LastPartTwice = "last-part-twice",
    /// The client does not journal what it used.
    ClientForgets = "client-forgets",
    /// The worker does not journal what the proxy stated.
    WorkerForgets = "worker-forgets",
    /// Bytes of a connection overtake each other.
    BytesReordered = "bytes-reordered",
    /// Bytes of a connection come twice.
    BytesTwice = "bytes-twice",
    /// Commits count as seen when they are sent.
    CommitNotAwaited = "commit-not-awaited",
    /// The chain takes the tokens of a charge as new instead of cumulative.
    ChargeNotCumulative = "charge-not-cumulative",
    /// The chain does not check who signed.
    ChainBelieves = "chain-believes",
    /// The model of the contracts keeps what a closing client may take out at once; only the
    /// contracts beside it know better.
    CloseKeepsFree = "close-keeps-free",
    /// A hand that dies does not begin again to wind an old contract down.
    WindingForgotten = "winding-forgotten",
    /// A client's hand that dies forgets that it wants its money back.
    RefundForgotten = "refund-forgotten",
    /// The chain lets clients force a refund without a delay.
    ForcedAtOnce = "forced-at-once",
    /// The chain pays workers their total again instead of what is new.
    PayoutNotCumulative = "payout-not-cumulative",
    /// A proxy contract that closes gives all its coins to the owner.
    CloseTakesAll = "close-takes-all",
    /// A client's contract forgets what a refund fell short of.
    ShortForgotten = "short-forgotten",
    /// A client whose refund fell short does not ask again.
    ShortNotAsked = "short-not-asked",
    /// A worker's contract that was paid in part counts its whole total as paid.
    ShortCountsAsPaid = "short-counts-as-paid",
}

impl Mutant {
    /// Whether only the contracts beside their model show it.
    #[must_use]
    pub fn needs_contracts(self) -> bool {
        self == Self::CloseKeepsFree
    }
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mutant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|mutant| mutant.name() == text);
        found.copied().ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|mutant| mutant.name()).collect();
            format!("no planted fault '{text}'; there are: {}", names.join(", "))
        })
    }
}
