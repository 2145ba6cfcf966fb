//! What can be typed about money.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Which chain.
#[derive(Clone, Debug, Args)]
pub(crate) struct ChainChoice {
    /// The chain: local, mainnet, testnet, the URL of a toncenter-style server, the directory of
    /// a local chain, or a global configuration file. mainnet, testnet and files are read through
    /// lite servers, and every answer is proven; a URL is believed.
    #[arg(long, value_name = "CHAIN", default_value = "local", env = "COCOON_CHAIN")]
    pub(crate) chain: String,
}

/// Where wallets are kept.
#[derive(Clone, Debug, Args)]
pub(crate) struct WalletHome {
    /// Where wallets are kept; ~/.local/share/cocoon/wallets when left out.
    #[arg(long, value_name = "DIR", env = "COCOON_WALLET_DIR")]
    pub(crate) wallet_dir: Option<PathBuf>,
}

/// How the passphrase comes in. It is never taken from the command line: others could see it.
#[derive(Clone, Debug, Args)]
pub(crate) struct Unlock {
    /// Read the passphrase from the first line of this file instead of asking.
    #[arg(long, value_name = "FILE", env = "COCOON_PASSPHRASE_FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Read the passphrase from the first line of this open file descriptor.
    #[arg(long, value_name = "N", conflicts_with = "passphrase_file")]
    pub(crate) passphrase_fd: Option<u32>,
}

/// The wallet that pays for an action, and how to act.
#[derive(Clone, Debug, Args)]
pub(crate) struct Payer {
    /// The wallet that acts.
    #[arg(long, short, value_name = "NAME", default_value = "main")]
    pub(crate) wallet: String,
    #[command(flatten)]
    pub(crate) home: WalletHome,
    #[command(flatten)]
    pub(crate) unlock: Unlock,
    #[command(flatten)]
    pub(crate) chain: ChainChoice,
    /// Code of a standard wallet for its first order, which this program does not carry: a bag of
    /// cells, or the address of any account that has it.
    #[arg(long, value_name = "FILE|ADDRESS")]
    pub(crate) wallet_code: Option<PathBuf>,
    /// Only show what would happen: everything runs on a copy of the accounts' current state.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask before acting.
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `cocoon wallet`
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum WalletCommand {
    /// Make a wallet: 24 new words, sealed under a passphrase.
    New(NewOptions),
    /// Bring a wallet from its 24 words, or a node's key.
    Import(ImportOptions),
    /// Show wallets: address in all forms, balance.
    Show(ShowOptions),
    /// Show a QR code for a deposit and wait until it arrives.
    Receive(ReceiveOptions),
    /// Send coins.
    Send(SendOptions),
    /// Show the last transactions of a wallet.
    History(HistoryOptions),
    /// Show the 24 words. Whoever reads them has the coins.
    Export(ExportOptions),
}

/// The contract of a new wallet.
#[derive(Clone, Debug, Args)]
pub(crate) struct KindOptions {
    /// cocoon: the wallet of Cocoon nodes; its owner, by default the v4r2 wallet of the same
    /// words, can always pull everything out. v3r2, v4r2, v5r1: standard wallets.
    #[arg(long, value_name = "CONTRACT", default_value = "cocoon", value_parser = ["cocoon", "v3r2", "v4r2", "v5r1"])]
    pub(crate) contract: String,
    /// Owner of a cocoon wallet: may pull everything out and block it.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) owner: Option<String>,
    /// Network of a v5r1 wallet, whose address depends on it.
    #[arg(long, value_name = "NETWORK", default_value = "mainnet", value_parser = ["mainnet", "testnet"])]
    pub(crate) network: String,
}

/// `cocoon wallet new`
#[derive(Clone, Debug, Args)]
pub(crate) struct NewOptions {
    /// Its name.
    #[arg(value_name = "NAME", default_value = "main")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) kind: KindOptions,
    #[command(flatten)]
    pub(crate) home: WalletHome,
    #[command(flatten)]
    pub(crate) unlock: Unlock,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `cocoon wallet import`
#[derive(Clone, Debug, Args)]
pub(crate) struct ImportOptions {
    /// Its name.
    #[arg(value_name = "NAME", default_value = "main")]
    pub(crate) name: String,
    /// Read the 24 words from this file instead of asking.
    #[arg(long, value_name = "FILE")]
    pub(crate) words_file: Option<PathBuf>,
    /// Read a bare key (64 hex digits) from this file, as nodes keep it.
    #[arg(long, value_name = "FILE", conflicts_with = "words_file")]
    pub(crate) key_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) kind: KindOptions,
    #[command(flatten)]
    pub(crate) home: WalletHome,
    #[command(flatten)]
    pub(crate) unlock: Unlock,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `cocoon wallet show`
#[derive(Clone, Debug, Args)]
pub(crate) struct ShowOptions {
    /// Which wallet; all when left out.
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) home: WalletHome,
    #[command(flatten)]
    pub(crate) chain: ChainChoice,
    /// Do not ask the chain for balances.
    #[arg(long)]
    pub(crate) offline: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `cocoon wallet receive`
#[derive(Clone, Debug, Args)]
pub(crate) struct ReceiveOptions {
    /// Which wallet.
    #[arg(value_name = "NAME", default_value = "main")]
    pub(crate) name: String,
    /// How much is expected: it stands in the QR code, and that much is waited for.
    #[arg(long, value_name = "TON")]
    pub(crate) amount: Option<String>,
    /// Give up after so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    pub(crate) timeout_s: u64,
    /// Only show the address and the QR code.
    #[arg(long)]
    pub(crate) no_wait: bool,
    #[command(flatten)]
    pub(crate) home: WalletHome,
    #[command(flatten)]
    pub(crate) chain: ChainChoice,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `cocoon wallet send`
#[derive(Clone, Debug, Args)]
pub(crate) struct SendOptions {
    /// Who gets the coins.
    #[arg(value_name = "ADDRESS")]
    pub(crate) to: String,
    /// How many TON: 1.5, "20 nanoton", or all.
    #[arg(value_name = "AMOUNT")]
    pub(crate) amount: String,
    /// A text for the receiver; everybody can read it.
    #[arg(long, value_name = "TEXT")]
    pub(crate) comment: Option<String>,
    #[command(flatten)]
    pub(crate) payer: Payer,
}

/// `cocoon wallet history`
#[derive(Clone, Debug, Args)]
pub(crate) struct HistoryOptions {
    /// Which wallet.
    #[arg(value_name = "NAME", default_value = "main")]
    pub(crate) name: String,
    /// How many transactions.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) limit: u16,
    #[command(flatten)]
    pub(crate) home: WalletHome,
    #[command(flatten)]
    pub(crate) chain: ChainChoice,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `cocoon wallet export`
#[derive(Clone, Debug, Args)]
pub(crate) struct ExportOptions {
    /// Which wallet.
    #[arg(value_name = "NAME", default_value = "main")]
    pub(crate) name: String,
    /// Show the bare key (64 hex digits) instead of the words.
    #[arg(long)]
    pub(crate) key: bool,
    /// Do not ask before showing.
    #[arg(long, short)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) home: WalletHome,
    #[command(flatten)]
    pub(crate) unlock: Unlock,
}

/// What else `cocoon chain` does.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ChainCommand {
    /// Show accounts, transactions, messages and what the contracts hold.
    Explore(ExploreOptions),
    /// Take make-believe coins from a local chain's faucet.
    Faucet(FaucetOptions),
    /// Show how a local chain stands: blocks, coins, what waits, troubles switched on.
    State(LocalOptions),
    /// Let the clock of a local chain jump: to see what happens after a delay of days.
    Advance(AdvanceOptions),
    /// Switch failures of a local chain on or off.
    Trouble(TroubleOptions),
}

/// `cocoon chain explore`
#[derive(Clone, Debug, Args)]
pub(crate) struct ExploreOptions {
    /// Which account; on a local chain, those that moved last when left out.
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: Option<String>,
    /// How many transactions, or accounts.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) limit: u16,
    #[command(flatten)]
    pub(crate) chain: ChainChoice,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `cocoon chain faucet`
#[derive(Clone, Debug, Args)]
pub(crate) struct FaucetOptions {
    /// Who gets the coins: an address, or the name of a wallet.
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: String,
    /// How many TON.
    #[arg(value_name = "AMOUNT")]
    pub(crate) amount: String,
    #[command(flatten)]
    pub(crate) home: WalletHome,
    #[command(flatten)]
    pub(crate) local: LocalOptions,
}

/// A local chain.
#[derive(Clone, Debug, Args)]
pub(crate) struct LocalOptions {
    #[command(flatten)]
    pub(crate) chain: ChainChoice,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `cocoon chain advance`
#[derive(Clone, Debug, Args)]
pub(crate) struct AdvanceOptions {
    /// How far: seconds, or with a unit: 90s, 5min, 3h, 2d.
    #[arg(value_name = "TIME")]
    pub(crate) by: String,
    #[command(flatten)]
    pub(crate) local: LocalOptions,
}

/// `cocoon chain trouble`
#[derive(Clone, Debug, Args)]
pub(crate) struct TroubleOptions {
    /// No blocks are made.
    #[arg(long, value_name = "BOOL")]
    pub(crate) standing_still: Option<bool>,
    /// Least milliseconds between two blocks.
    #[arg(long, value_name = "MS")]
    pub(crate) late_ms: Option<u64>,
    /// Lose so many of the next external messages.
    #[arg(long, value_name = "N")]
    pub(crate) lose_externals: Option<u32>,
    #[command(flatten)]
    pub(crate) local: LocalOptions,
}

/// `cocoon root`
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum RootCommand {
    /// Show the registry: prices, codes, images, models, proxies, and what waits to change.
    Show(RootShowOptions),
    /// Show what changed between two versions.
    Diff(RootDiffOptions),
    /// Propose a change: at the timelock, or at the root itself where it has none.
    Propose(RootProposeOptions),
    /// Carry out the oldest change whose time has come. Anyone may.
    Apply(RootApplyOptions),
    /// Withdraw a change that waits.
    Cancel(RootCancelOptions),
    /// Make a root of one's own, guarded by a timelock: a new network.
    New(RootNewOptions),
}

/// Which registry.
#[derive(Clone, Debug, Args)]
pub(crate) struct RootChoice {
    /// The root contract; that of the nodes that run on this machine when left out.
    #[arg(long, value_name = "ADDRESS", env = "COCOON_ROOT")]
    pub(crate) root: Option<String>,
}

/// `cocoon root show`
#[derive(Clone, Debug, Args)]
pub(crate) struct RootShowOptions {
    #[command(flatten)]
    pub(crate) root: RootChoice,
    #[command(flatten)]
    pub(crate) chain: ChainChoice,
    /// Also keep this version in a file, to compare with later: cocoon root diff FILE.
    #[arg(long, value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,
    /// How many of the last changes to list.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) history: u16,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `cocoon root diff`
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
A version is one of:
  now            the root as it is
  @BLOCK         the root after masterchain block BLOCK
  ADDRESS        another root as it is
  ADDRESS@BLOCK  another root after a block
  FILE           kept by `cocoon root show --save FILE`
  change:N       what the root becomes when waiting change N is carried out

Examples:
  cocoon root diff root-of-may.boc
  cocoon root diff @41000000 now
  cocoon root diff now change:3")]
pub(crate) struct RootDiffOptions {
    /// The older version.
    #[arg(value_name = "OLD")]
    pub(crate) old: String,
    /// The newer version.
    #[arg(value_name = "NEW", default_value = "now")]
    pub(crate) new: String,
    #[command(flatten)]
    pub(crate) root: RootChoice,
    #[command(flatten)]
    pub(crate) chain: ChainChoice,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `cocoon root propose`
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
A change is one of:
  allow-worker HASH | allow-proxy HASH       an image, by its hash
  allow-model NAME                           a model, by its full name or hash
  revoke-worker HASH | revoke-proxy HASH | revoke-model NAME | remove-proxy N
                                             take back; at once, without the delay
  add-proxy \"IP:PORT IP:PORT\"                for workers, for clients; one when they are the same
  move-proxy N \"IP:PORT IP:PORT\"
  price PRICE FEE                            of an adjusted token; the worker's part of it
  proxy-delay SECONDS | client-delay SECONDS
  min-proxy-stake TON | min-client-stake TON
  codes ours                                 the codes that this program carries
  owner ADDRESS
  delay SECONDS | admin ADDRESS              of the timelock itself

A change of prices, delays, stakes or codes gives every contract a new address: everybody moves.

Example: cocoon root propose price \"25 nanoton\" \"20 nanoton\" --dry-run")]
pub(crate) struct RootProposeOptions {
    /// The change, see below.
    #[arg(value_name = "CHANGE", required = true, num_args = 1..=3)]
    pub(crate) change: Vec<String>,
    #[command(flatten)]
    pub(crate) root: RootChoice,
    #[command(flatten)]
    pub(crate) payer: Payer,
}

/// `cocoon root apply`
#[derive(Clone, Debug, Args)]
pub(crate) struct RootApplyOptions {
    /// Wait until the change is due.
    #[arg(long)]
    pub(crate) wait: bool,
    #[command(flatten)]
    pub(crate) root: RootChoice,
    #[command(flatten)]
    pub(crate) payer: Payer,
}

/// `cocoon root cancel`
#[derive(Clone, Debug, Args)]
pub(crate) struct RootCancelOptions {
    /// Its number, as `cocoon root show` lists it.
    #[arg(value_name = "N")]
    pub(crate) id: u32,
    #[command(flatten)]
    pub(crate) root: RootChoice,
    #[command(flatten)]
    pub(crate) payer: Payer,
}

/// `cocoon root new`
#[derive(Clone, Debug, Args)]
pub(crate) struct RootNewOptions {
    /// Seconds that a change waits; 0 makes no timelock.
    #[arg(long, value_name = "SECONDS", default_value_t = 172_800)]
    pub(crate) delay_s: u32,
    /// Tells networks apart.
    #[arg(long, value_name = "N", default_value_t = 17)]
    pub(crate) unique_id: u32,
    /// Price of an adjusted token.
    #[arg(long, value_name = "AMOUNT", default_value = "20 nanoton")]
    pub(crate) price: String,
    /// The worker's part of the price.
    #[arg(long, value_name = "AMOUNT", default_value = "19 nanoton")]
    pub(crate) fee: String,
    /// Seconds before a proxy's close completes; at least twice the client delay is wise.
    #[arg(long, value_name = "SECONDS", default_value_t = 172_800)]
    pub(crate) proxy_delay_s: u32,
    /// Seconds before a client can force its refund.
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
    pub(crate) client_delay_s: u32,
    /// Least stake of a proxy, TON.
    #[arg(long, value_name = "TON", default_value = "1")]
    pub(crate) min_proxy_stake: String,
    /// Stake of a new client contract, TON: also its first deposit.
    #[arg(long, value_name = "TON", default_value = "15")]
    pub(crate) min_client_stake: String,
    #[command(flatten)]
    pub(crate) payer: Payer,
}

/// `cocoon channel`
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ChannelCommand {
    /// List the contracts of a wallet: as client, worker or proxy.
    List(ChannelListOptions),
    /// Show one contract, and what comes next.
    Status(ChannelOptions),
    /// Put a contract on chain; a client's gets its first deposit.
    Open(ChannelOpenOptions),
    /// Add coins: to a client's balance, to a proxy's stake.
    Topup(ChannelAmountOptions),
    /// Take coins out: what exceeds a client's stake, a worker's payout, a proxy's earnings.
    Withdraw(ChannelOptions),
    /// Close: a client gets everything back, a proxy its stake; after a delay, without anybody's help.
    Close(ChannelOptions),
    /// Write the last payment that a proxy signed for a worker into a file: with it anybody can have
    /// the worker's owner paid, from any machine, also when the proxy is gone.
    Export(ChannelExportOptions),
}

/// Which running node.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct NodeChoice {
    /// Ask the node that runs here, which holds its own wallet: the address of its HTTP pages.
    /// Nodes of this machine that hold the wallet are found without it.
    #[arg(long, value_name = "URL", env = "COCOON_NODE")]
    pub(crate) node: Option<String>,
    /// File with the access word of that node (its http_access_hash).
    #[arg(long, value_name = "FILE", env = "COCOON_ACCESS_HASH_FILE")]
    pub(crate) access_hash_file: Option<PathBuf>,
}

/// Whose contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ChannelRole {
    /// It pays for requests.
    Client,
    /// It is paid for requests.
    Worker,
    /// It holds the money of both.
    Proxy,
}

impl ChannelRole {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Worker => "worker",
            Self::Proxy => "proxy",
        }
    }
}

/// `cocoon channel list`
#[derive(Clone, Debug, Args)]
pub(crate) struct ChannelListOptions {
    /// The wallet.
    #[arg(long, short, value_name = "NAME", default_value = "main")]
    pub(crate) wallet: String,
    #[command(flatten)]
    pub(crate) home: WalletHome,
    #[command(flatten)]
    pub(crate) chain: ChainChoice,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which contract, and how to act.
#[derive(Clone, Debug, Args)]
pub(crate) struct ChannelOptions {
    /// The contract, or the proxy contract it belongs to.
    #[arg(value_name = "ADDRESS")]
    pub(crate) contract: String,
    /// Whose contract, where the address is a proxy contract's.
    #[arg(long, value_name = "ROLE", default_value = "client")]
    pub(crate) role: ChannelRole,
    /// The proxy's signed payment for a worker (bag of cells), from `cocoon channel export`; when
    /// left out it is looked for in the books of this machine's workers.
    #[arg(long, value_name = "FILE")]
    pub(crate) payment: Option<PathBuf>,
    /// Data directory of a worker that does not run, whose books hold the payment.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Whom a worker's contract pays, when it is neither on chain yet nor this wallet's.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) owner: Option<String>,
    #[command(flatten)]
    pub(crate) node: NodeChoice,
    /// Stay until the end, through delays; interrupted and run again, it goes on.
    #[arg(long)]
    pub(crate) wait: bool,
    #[command(flatten)]
    pub(crate) payer: Payer,
}

/// `cocoon channel open`
#[derive(Clone, Debug, Args)]
pub(crate) struct ChannelOpenOptions {
    /// First deposit of a client, TON; the network's least stake when left out.
    #[arg(long, value_name = "TON")]
    pub(crate) deposit: Option<String>,
    /// Public key of a proxy whose contract is to be opened (64 hex digits). The ADDRESS is the
    /// root contract's then, and the wallet becomes the owner.
    #[arg(long, value_name = "HEX")]
    pub(crate) proxy_key: Option<String>,
    #[command(flatten)]
    pub(crate) channel: ChannelOptions,
}

/// `cocoon channel export`
#[derive(Clone, Debug, Args)]
pub(crate) struct ChannelExportOptions {
    #[command(flatten)]
    pub(crate) channel: ChannelOptions,
    /// The file to write (bag of cells).
    #[arg(long, short, value_name = "FILE", default_value = "payment.boc")]
    pub(crate) out: PathBuf,
}

/// `cocoon channel topup`
#[derive(Clone, Debug, Args)]
pub(crate) struct ChannelAmountOptions {
    #[command(flatten)]
    pub(crate) channel: ChannelOptions,
    /// How many TON.
    #[arg(value_name = "AMOUNT")]
    pub(crate) amount: String,
}
