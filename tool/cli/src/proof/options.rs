//! What can be typed to have something proved.

use clap::{Args, Subcommand, ValueEnum};
use cocoon_proof::Requirement;
use std::path::PathBuf;

/// Options of `cocoon verify`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Claims: hardware, tcb, image, debug_off, gpu, weights, freshness, key_binding, site, network,
receipt_key, boot_log, event_log, vtpm of machines; registry, date, proxies, workers. Write worker.gpu
for workers alone.
Exit codes: 0 every required claim holds and none fails, 1 not so, 2 a mistake in the command.")]
pub(crate) struct VerifyOptions {
    /// The gateway whose machines are to be verified.
    #[arg(value_name = "URL", env = "COCOON_GATEWAY_URL", conflicts_with_all = ["offline", "quote"])]
    pub(crate) gateway: Option<String>,
    /// Verify a saved bundle at its own date instead.
    #[arg(long, value_name = "BUNDLE", conflicts_with = "quote")]
    pub(crate) offline: Option<PathBuf>,
    /// Verify a raw TDX quote, with --collateral and --at, instead.
    #[arg(long, value_name = "FILE", requires = "collateral")]
    pub(crate) quote: Option<PathBuf>,
    /// Collateral of the quote (JSON, as PCCS clients write it).
    #[arg(long, value_name = "FILE", requires = "quote")]
    pub(crate) collateral: Option<PathBuf>,
    /// Ed25519 key that the quote is about.
    #[arg(long, value_name = "HEX", requires = "quote")]
    pub(crate) public_key: Option<String>,
    /// The machine's boot log beside the quote: the kernel's /sys/firmware/acpi/tables/data/CCEL.
    #[arg(long, value_name = "FILE", requires = "quote")]
    pub(crate) boot_log: Option<PathBuf>,
    /// Show what the machines measured, event by event; --json always does.
    #[arg(long)]
    pub(crate) events: bool,
    /// Save the evidence, with all that is needed to judge it again.
    #[arg(long, value_name = "BUNDLE")]
    pub(crate) save: Option<PathBuf>,
    /// Save rules, roots and registry, to verify elsewhere: with --trust, or in a browser.
    #[arg(long, value_name = "FILE")]
    pub(crate) save_trust: Option<PathBuf>,
    /// Nonce that you drew for the saved bundle; without it nobody knows how fresh it was.
    #[arg(long, value_name = "HEX", requires = "offline")]
    pub(crate) nonce: Option<String>,
    /// Claims that must hold, separated by commas, instead of the usual ones.
    #[arg(long, value_name = "CLAIM", value_delimiter = ',')]
    pub(crate) require: Vec<Requirement>,
    #[command(flatten)]
    pub(crate) trust: TrustOptions,
    #[command(flatten)]
    pub(crate) output: OutputOptions,
}

/// Commands about receipts.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ReceiptCommand {
    /// Show what a receipt says.
    Show(ShowOptions),
    /// Check a receipt: who vouches for it, and that it is about this request and answer.
    Verify(ReceiptVerifyOptions),
}

/// Options of `cocoon receipt show`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ShowOptions {
    /// Id of a receipt that the gateway keeps, or a file.
    #[arg(value_name = "ID|FILE")]
    pub(crate) receipt: String,
    /// The gateway.
    #[arg(long, value_name = "URL", env = "COCOON_GATEWAY_URL")]
    pub(crate) gateway: Option<String>,
    /// Save the file, with the evidence that vouches for it.
    #[arg(long, value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) output: OutputOptions,
}

/// Options of `cocoon receipt verify`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ReceiptVerifyOptions {
    /// Id of a receipt that the gateway keeps, or a file.
    #[arg(value_name = "ID|FILE")]
    pub(crate) receipt: String,
    /// Body of the request, byte for byte.
    #[arg(long, value_name = "FILE")]
    pub(crate) request: Option<PathBuf>,
    /// Body of the answer, byte for byte.
    #[arg(long, value_name = "FILE")]
    pub(crate) answer: Option<PathBuf>,
    /// The gateway.
    #[arg(long, value_name = "URL", env = "COCOON_GATEWAY_URL")]
    pub(crate) gateway: Option<String>,
    /// Claims that must hold, separated by commas, instead of the usual ones.
    #[arg(long, value_name = "CLAIM", value_delimiter = ',')]
    pub(crate) require: Vec<Requirement>,
    #[command(flatten)]
    pub(crate) trust: TrustOptions,
    #[command(flatten)]
    pub(crate) output: OutputOptions,
}

/// Which network is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Chain {
    /// The network of `cocoon up` on this machine: simulated machines, its own registry.
    Local,
}

/// What is trusted, and what evidence is compared with.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct TrustOptions {
    /// Take registry, roots and gateway from the network of `cocoon up`.
    #[arg(long, value_name = "NETWORK")]
    pub(crate) chain: Option<Chain>,
    /// Directory of `cocoon up`, with --chain local.
    #[arg(long, value_name = "DIR", env = "COCOON_DATA_DIR", requires = "chain")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Configuration of your own gateway: registry, root contract and roots are taken from it.
    #[arg(long, value_name = "FILE", conflicts_with = "chain")]
    pub(crate) gateway_config: Option<PathBuf>,
    /// Rules, roots and registry that you saved before (--save-trust). Keep it yourself: one that
    /// comes with the evidence proves nothing.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["chain", "gateway_config"])]
    pub(crate) trust: Option<PathBuf>,
    /// Rules (JSON policy) instead of the strict ones; may name GPU firmware and platforms.
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// Date to judge at: 2026-02-18T22:58:00Z or Unix seconds.
    #[arg(long, value_name = "DATE", value_parser = super::date::parse)]
    pub(crate) at: Option<super::date::At>,
}

impl TrustOptions {
    /// Whether a network was named, by whose registry and roots machines are judged.
    pub(crate) fn name_a_network(&self) -> bool {
        self.chain.is_some() || self.gateway_config.is_some() || self.trust.is_some()
    }
}

/// How it is printed.
#[derive(Clone, Debug, Args)]
pub(crate) struct OutputOptions {
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    /// API key, where the gateway asks for one.
    #[arg(long, env = "OPENAI_API_KEY", hide_env_values = true, default_value = "")]
    pub(crate) key: String,
}
