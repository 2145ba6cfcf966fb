//! What can be typed.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

use crate::books::BooksCommand;
use crate::money::arguments::{ChainCommand, ChannelCommand, RootCommand, WalletCommand};
use crate::proof::{EndorsementCommand, ReceiptCommand, VerifyOptions};

/// Cocoon: private AI from a network of attested machines, paid by the token.
///
/// Try everything on this machine, for free: `cocoon up`. Then talk to it: `cocoon chat`.
#[derive(Debug, Parser)]
#[command(name = "cocoon", version, propagate_version = true, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  cocoon up                                    the whole network on this machine
  cocoon up --engine http://127.0.0.1:8000     with your own vLLM, SGLang or llama-server
  cocoon chat \"What is attestation?\"           one question
  cocoon verify --chain local                  is it what it says? every claim with its verdict
  cocoon worker --config worker.toml           earn with this machine's GPU
  cocoon gateway --config gateway.toml         an OpenAI endpoint in front of the network
  cocoon wallet new                            a wallet for TON; try it with cocoon chain

Settings come from defaults, then the configuration file, then COCOON_* variables, then flags; a
later one wins. Exit codes: 0 done, 1 failed, 2 a mistake in the command or its settings.";

const WALLET_EXAMPLES: &str = "\
Try it for free, on a chain of your own:
  cocoon chain &                       a local TON network
  cocoon wallet new                    24 new words, sealed under a passphrase
  cocoon chain faucet main 100         make-believe coins
  cocoon wallet send UQ... 1.5         0.5 s later they are there
  cocoon wallet history

With real coins say --chain mainnet, and fund the wallet: cocoon wallet receive --chain mainnet";

const ENDORSEMENT_EXAMPLES: &str = "\
The claim `site` of cocoon verify names the platform and the id of each machine. The owner signs
both together; the node shows the file (endorsement_file in its settings); whoever verifies names
the owner's key in a policy (owners).

  cocoon endorsement key owner.key             the owner's key; prints its public half
  cocoon endorsement sign --key owner.key --platform intel_ppid:6a.. --id EQ.. --root EQ.. \\
      --out worker.endorsement
  cocoon endorsement show worker.endorsement   what it says, and whether it counts";

const CHANNEL_EXAMPLES: &str = "\
ADDRESS is a contract, or the proxy contract it belongs to. Every command says what it costs and
what comes back before it acts; --dry-run shows the exact outcome and sends nothing.

  cocoon channel open PROXY --deposit 20       as a client: contract and first deposit
  cocoon channel status PROXY                  what is there, what comes next
  cocoon channel topup PROXY 5                 5 TON more
  cocoon channel withdraw PROXY                take back what exceeds the stake
  cocoon channel close PROXY --wait            everything back, through the delay
  cocoon channel topup PROXY 10 --role proxy   add to a proxy's stake
  cocoon channel withdraw PROXY --role proxy   a proxy's earnings to its owner

A node does all of this by itself while it runs; by hand it is for looking, leaving, and for when a
node is gone.";

const CHAIN_EXAMPLES: &str = "\
Examples:
  cocoon chain                                 run one, in memory
  cocoon chain --data-dir ./chain              run one that is kept
  cocoon chain explore                         accounts of the running one, newest first
  cocoon chain explore ADDRESS --chain mainnet one account of TON itself
  cocoon chain faucet main 100                 coins for the wallet \"main\"
  cocoon chain advance 2d                      let two days pass";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a whole network on this machine: proxy, workers, gateway and a model.
    Up(UpOptions),
    /// Talk to a model in the terminal.
    Chat(ChatOptions),
    /// Examine this machine, for any role or for one with its settings, and say what to mend.
    Doctor(crate::doctor::DoctorOptions),
    /// Verify the machines behind a gateway: the chain of evidence from your key to the weights.
    Verify(VerifyOptions),
    /// Receipts: what a worker's TEE signed about an answer.
    #[command(subcommand)]
    Receipt(ReceiptCommand),
    /// Endorsements: an owner's signature that a machine speaks for its contract or worker.
    #[command(subcommand, after_help = ENDORSEMENT_EXAMPLES)]
    Endorsement(EndorsementCommand),
    /// Run the client node: an OpenAI-compatible API in front of the network.
    Gateway(GatewayOptions),
    /// Run a proxy: between clients and workers, keeper of the books.
    Proxy(RoleOptions),
    /// Run a worker: in front of a model server.
    Worker(RoleOptions),
    /// Run the embedded model server.
    Engine(EngineOptions),
    /// Run a local TON network (toncenter's API, lite server, faucet), or look into a chain.
    Chain(ChainOptions),
    /// Check or export the books of a node that does not run.
    #[command(subcommand)]
    Books(BooksCommand),
    /// Run a router: attested TLS for programs that do not speak it.
    Router(crate::router::RouterOptions),
    /// Run a key manager: keys of end-to-end encryption for attested nodes.
    KeyManager(crate::key_manager::KeyManagerOptions),
    /// Make a key and a certificate with evidence for it.
    GenCert(crate::evidence::GenCertOptions),
    /// While an image boots: check the GPU, extend its evidence into RTMR3, keep it for the node.
    MeasureGpu(crate::evidence::MeasureGpuOptions),
    /// Compute the image hash of a quote, a report or measurements, part by part.
    ImageHash(crate::evidence::ImageHashOptions),
    /// Say which bytes a model is: hash, verify, pack.
    Model(crate::model::ModelOptions),
    /// Wallets: make, fund, send.
    #[command(subcommand, after_help = WALLET_EXAMPLES)]
    Wallet(WalletCommand),
    /// Channels: the contracts through which requests are paid. Open, top up, withdraw, close.
    #[command(subcommand, after_help = CHANNEL_EXAMPLES)]
    Channel(ChannelCommand),
    /// The registry of a network: see it, compare versions, propose and apply changes.
    #[command(subcommand)]
    Root(RootCommand),
    /// Print a completion script for a shell.
    Completions {
        /// bash, zsh, fish, elvish or powershell.
        shell: clap_complete::Shell,
    },
}

/// Options of `cocoon up`.
#[derive(Clone, Debug, Args)]
pub(crate) struct UpOptions {
    /// Where everything is kept: keys, books, logs. A second start goes on from there.
    #[arg(long, value_name = "DIR", env = "COCOON_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Forget the network of an earlier start, its keys and books.
    #[arg(long)]
    pub(crate) fresh: bool,
    /// How many workers to start.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=32))]
    pub(crate) workers: u16,
    /// Use this OpenAI-compatible model server instead of the embedded one: http://host:port.
    #[arg(long, value_name = "URL")]
    pub(crate) engine: Option<String>,
    /// Name of the model at --engine; asked from the server when left out.
    #[arg(long, value_name = "NAME", requires = "engine")]
    pub(crate) engine_model: Option<String>,
    /// GGUF file for the embedded model server instead of the default model.
    #[arg(long, value_name = "FILE", conflicts_with = "engine")]
    pub(crate) model_file: Option<PathBuf>,
    /// Port of the OpenAI endpoint on 127.0.0.1.
    #[arg(long, value_name = "PORT", default_value_t = 10_000)]
    pub(crate) port: u16,
    /// Threads of the embedded model server; never more than cores.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<u32>,
    /// Price of an adjusted token in nanoTON.
    #[arg(long, value_name = "NANOTON", default_value_t = 20, hide = true)]
    pub(crate) price: u32,
    /// A network without a chain, as the reference's tests use it: nothing is settled.
    #[arg(long)]
    pub(crate) pseudo: bool,
    /// Print one JSON object a line instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Options of `cocoon chat`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ChatOptions {
    /// The question. Without one a conversation starts.
    pub(crate) question: Vec<String>,
    /// The gateway.
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:10000",
        env = "COCOON_GATEWAY_URL"
    )]
    pub(crate) gateway: String,
    /// The model; the first one offered when left out.
    #[arg(long, short, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// Instructions for the model.
    #[arg(long, value_name = "TEXT", default_value = "You are a helpful assistant.")]
    pub(crate) system: String,
    /// Most tokens of an answer.
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub(crate) max_tokens: u32,
    /// API key, where the gateway asks for one.
    #[arg(long, env = "OPENAI_API_KEY", hide_env_values = true, default_value = "")]
    pub(crate) key: String,
    /// Do not print cost, time and worker after an answer.
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Print one JSON object for each answer.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Options of `cocoon gateway`.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct GatewayOptions {
    #[command(subcommand)]
    pub(crate) command: Option<GatewayCommand>,
    #[command(flatten)]
    pub(crate) role: RoleOptions,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum GatewayCommand {
    /// Make, list, limit and revoke the API keys of a gateway. It need not be restarted.
    Keys(KeysOptions),
}

/// Options of `cocoon gateway keys`.
#[derive(Clone, Debug, Args)]
pub(crate) struct KeysOptions {
    #[command(subcommand)]
    pub(crate) command: KeysCommand,
    /// The gateway's configuration file, which names the file of keys.
    #[arg(long, short, value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,
    /// The file of keys itself, instead of what the configuration says.
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) keys_file: Option<PathBuf>,
    /// Print JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a key and print it, this once.
    Create {
        /// Whose it is, for your own lists.
        name: String,
        #[command(flatten)]
        limits: LimitOptions,
    },
    /// List all keys with their limits.
    List,
    /// Refuse a key from now on.
    Revoke {
        /// The key's id, as `list` shows it.
        id: String,
    },
    /// Change what a key may do; what is not named stays.
    Limit {
        /// The key's id, as `list` shows it.
        id: String,
        #[command(flatten)]
        limits: LimitOptions,
    },
    /// Show what each key has used.
    Usage {
        /// Only this key's id.
        id: Option<String>,
    },
}

/// Limits of a key.
#[derive(Clone, Debug, Args)]
pub(crate) struct LimitOptions {
    /// Most that all its requests may cost, in TON, as in 2.5; "none" for no limit.
    #[arg(long, value_name = "TON")]
    pub(crate) budget: Option<String>,
    /// Requests a minute; "none" for no limit.
    #[arg(long, value_name = "N")]
    pub(crate) rate: Option<String>,
    /// Only these models, separated by commas; "all" for every one.
    #[arg(long, value_name = "NAMES")]
    pub(crate) models: Option<String>,
    /// How long it is good from now, as in 30d, 12h or 10m; "never" for no end.
    #[arg(long, value_name = "TIME")]
    pub(crate) expires: Option<String>,
}

/// Options of every node.
#[derive(Clone, Debug, Args)]
pub(crate) struct RoleOptions {
    /// Configuration file (TOML).
    #[arg(long, short, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Configuration file of the C++ node (JSON), as it is.
    #[arg(long, value_name = "FILE")]
    pub(crate) reference_config: Option<PathBuf>,
    /// Registry file of a network without a chain (JSON, `rootConfig.pseudo`).
    #[arg(long, value_name = "FILE", visible_alias = "disable-ton")]
    pub(crate) network_file: Option<PathBuf>,
    /// Directory for keys and books.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Set one member: --set limits.connections=100. May be repeated.
    #[arg(long = "set", value_name = "MEMBER=VALUE")]
    pub(crate) settings: Vec<String>,
    /// Print the effective configuration and end.
    #[arg(long)]
    pub(crate) print_config: bool,
    /// Check the configuration and end.
    #[arg(long)]
    pub(crate) check_config: bool,
    #[command(flatten)]
    pub(crate) process: ProcessOptions,
}

/// How the process behaves.
#[derive(Clone, Debug, Args)]
pub(crate) struct ProcessOptions {
    /// What to log: error, warn, info, debug, trace, or a list like info,cocoon_link=debug.
    #[arg(long, value_name = "FILTER", default_value = "info", env = "COCOON_LOG")]
    pub(crate) log: String,
    /// Log JSON lines.
    #[arg(long)]
    pub(crate) log_json: bool,
    /// Threads that serve; one for each core when left out.
    #[arg(long = "node-threads", value_name = "N", env = "COCOON_NODE_THREADS", id = "node_threads", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Allow core dumps, for a debugger: they hold prompts, answers and keys in clear.
    #[arg(long, env = "COCOON_CORE_DUMPS")]
    pub(crate) core_dumps: bool,
    /// End when standard input closes.
    #[arg(long, hide = true)]
    pub(crate) with_parent: bool,
}

/// Options of `cocoon engine`.
#[derive(Clone, Debug, Args)]
pub(crate) struct EngineOptions {
    /// GGUF file to serve; the default model when left out.
    #[arg(long, value_name = "FILE")]
    pub(crate) model_file: Option<PathBuf>,
    /// SHA-256 the file must have. Always checked for the default model.
    #[arg(long, value_name = "HEX", requires = "model_file")]
    pub(crate) sha256: Option<String>,
    /// Name that clients ask for; the file's own name when left out.
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8000")]
    pub(crate) listen: std::net::SocketAddr,
    /// Threads; never more than cores.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<u32>,
    /// Context of one sequence, tokens.
    #[arg(long, value_name = "TOKENS")]
    pub(crate) context_tokens: Option<u32>,
    /// Answers made at the same time.
    #[arg(long, value_name = "N")]
    pub(crate) max_sequences: Option<u32>,
    #[command(flatten)]
    pub(crate) process: ProcessOptions,
}

/// Options of `cocoon chain`.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true, after_help = CHAIN_EXAMPLES)]
pub(crate) struct ChainOptions {
    #[command(subcommand)]
    pub(crate) command: Option<ChainCommand>,
    /// Where the HTTP interface listens; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    pub(crate) http: std::net::SocketAddr,
    /// Where the lite server listens; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub(crate) lite: std::net::SocketAddr,
    /// Where the chain is kept; in memory only when left out.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Milliseconds between two blocks.
    #[arg(long, value_name = "MS")]
    pub(crate) block_ms: Option<u64>,
    /// Go on from the last good block of a damaged DIR; damaged files are kept beside.
    #[arg(long, requires = "data_dir")]
    pub(crate) repair: bool,
    #[command(flatten)]
    pub(crate) process: ProcessOptions,
}

#[cfg(test)]
mod tests {
    use super::Arguments;
    use clap::{CommandFactory as _, Parser as _};

    #[test]
    fn the_commands_are_consistent() {
        Arguments::command().debug_assert();
    }

    /// Words of a line, with double quotes around those that hold spaces.
    fn words(line: &str) -> Vec<String> {
        let outside_and_inside = line.split('"').enumerate();
        outside_and_inside
            .flat_map(|(number, part)| match number % 2 {
                0 => part.split_whitespace().map(str::to_owned).collect(),
                _ => vec![part.to_owned()],
            })
            .collect()
    }

    #[test]
    fn every_command_in_the_page_about_money_can_be_typed() {
        let page = include_str!("../../../docs/money.md");
        let lines: Vec<_> = page
            .lines()
            .map(|line| line.trim().trim_end_matches(" &"))
            .filter(|line| line.starts_with("cocoon "))
            .collect();
        assert!(lines.len() > 30, "{} commands", lines.len());
        for line in lines {
            if let Err(fault) = Arguments::try_parse_from(words(line)) {
                panic!("{line}: {fault}");
            }
        }
    }
}
