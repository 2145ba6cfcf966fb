//! Each node alone.

use anyhow::{Context as _, Result};
use cocoon_client::{ClientConfig, Network};
use cocoon_engine::{EngineConfig, EngineEvent};
use cocoon_gateway::{GatewayConfig, IdempotencyConfig};
use cocoon_host::chain::{ChainConfig, ChainKind};
use cocoon_host::config::{ConfigFault, Layers};
use cocoon_host::{Stop, dumps, keys, memory, telemetry};
use cocoon_proxy::ProxyConfig;
use cocoon_units::{Address, Secret};
use cocoon_wire::config::{ClientRunner, ProxyRunner, WorkerRunner};
use cocoon_wire::config_json;
use cocoon_worker::WorkerConfig;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::arguments::{
    EngineOptions, GatewayCommand, GatewayOptions, ProcessOptions, RoleOptions,
};
use crate::mistake;
use crate::money::arguments::ChannelRole;
use crate::money::running::{self, Announced};

/// Time for an orderly end after the parent is gone; then the process ends anyhow.
const PARENT_GRACE: Duration = Duration::from_secs(5);

/// Both faces of the gateway.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct GatewayNode {
    /// Towards users: HTTP.
    pub(crate) http: GatewayConfig,
    /// Towards the network: proxies.
    pub(crate) network: ClientConfig,
}

/// `cocoon gateway`
pub(crate) fn gateway(options: &GatewayOptions) -> Result<()> {
    let options = match &options.command {
        Some(GatewayCommand::Keys(keys)) => return crate::keys::run(keys),
        None => &options.role,
    };
    let defaults = match &options.reference_config {
        None => GatewayNode::default(),
        Some(path) => {
            let mut node = reference_gateway(path)?;
            without_chain(&mut node.network.chain, options);
            node
        }
    };
    // Secrets never stand among the members that layers print.
    let (secret, key) = (defaults.network.secret.clone(), defaults.network.wallet_key.clone());
    let place = Place { network_file: "network.network_file", data_dir: "network.data_dir" };
    let Some(mut config) = configure("COCOON_GATEWAY_", defaults, place, options)? else {
        return Ok(());
    };
    config.network.secret = secret;
    config.network.wallet_key = key;
    config.network.check().map_err(|fault| mistake(fault.within("network")))?;
    if config.http.keys_required() {
        config.http.keys_file = Some(keys_file(&config));
    }
    if config.http.limits.idempotent_answers > 0 {
        let folder = config.network.data_dir.join("idempotency");
        let beside = || IdempotencyConfig { folder, key_file: None };
        config.http.idempotency.get_or_insert_with(beside);
    }
    config.http.check().map_err(mistake)?;
    if options.check_config {
        return checked();
    }
    run_node(&options.process, async |stop| {
        let http = config.http.tls.is_none().then_some(config.http.listen);
        let network = &config.network;
        let held = (&network.chain, network.owner.as_str(), network.wallet_key.as_ref());
        let _noted = note(ChannelRole::Client, http, held, &network.data_dir)?;
        let Some(network) = Network::open(&config.network, &stop).await? else { return Ok(()) };
        let upstream = Arc::new(network.clone());
        // The network lives until the last user has got the last answer.
        let served = cocoon_gateway::serve(config.http.clone(), upstream, stop.asked()).await;
        network.close().await;
        Ok(served?)
    })
}

/// A gateway's settings from its file and the environment, for commands beside it.
pub(crate) fn gateway_node(config: Option<&Path>) -> Result<GatewayNode> {
    let mut layers = Layers::defaults(&GatewayNode::default()).map_err(mistake)?;
    if let Some(path) = config {
        layers = layers.file(path).map_err(mistake)?;
    }
    let layers = layers.environment("COCOON_GATEWAY_", std::env::vars()).map_err(mistake)?;
    layers.build().map_err(mistake)
}

/// The file of a gateway's API keys: as set, or beside its books.
pub(crate) fn keys_file(node: &GatewayNode) -> PathBuf {
    let beside = || node.network.data_dir.join("api-keys.json");
    node.http.keys_file.clone().unwrap_or_else(beside)
}

/// `cocoon proxy`
pub(crate) fn proxy(options: &RoleOptions) -> Result<()> {
    let defaults = match &options.reference_config {
        None => ProxyConfig::default(),
        Some(path) => {
            let text = read(path)?;
            let file: ProxyRunner<'static> = config_json::read(&text).map_err(mistake)?;
            let mut config = ProxyConfig::from_reference(&file).map_err(mistake)?;
            without_chain(&mut config.chain, options);
            config
        }
    };
    // Keys never stand among the members that layers print.
    let (key, wallet_key) = (defaults.proxy_key.clone(), defaults.wallet_key.clone());
    let place = Place { network_file: "network_file", data_dir: "data_dir" };
    let Some(mut config) = configure("COCOON_PROXY_", defaults, place, options)? else {
        return Ok(());
    };
    (config.proxy_key, config.wallet_key) = (key, wallet_key);
    config.check().map_err(mistake)?;
    if options.check_config {
        return checked();
    }
    run_node(&options.process, async |stop| {
        let held = (&config.chain, config.owner.as_str(), config.wallet_key.as_ref());
        let _noted = note(ChannelRole::Proxy, config.http, held, &config.data_dir)?;
        cocoon_proxy::run(config, stop).await?;
        Ok(())
    })
}

/// `cocoon worker`
pub(crate) fn worker(options: &RoleOptions) -> Result<()> {
    let defaults = match &options.reference_config {
        None => WorkerConfig::default(),
        Some(path) => {
            let text = read(path)?;
            let file: WorkerRunner<'static> = config_json::read(&text).map_err(mistake)?;
            let mut config = WorkerConfig::from_reference(&file).map_err(mistake)?;
            without_chain(&mut config.chain, options);
            config
        }
    };
    // Keys never stand among the members that layers print.
    let wallet_key = defaults.wallet_key.clone();
    let place = Place { network_file: "network_file", data_dir: "data_dir" };
    let Some(mut config) = configure("COCOON_WORKER_", defaults, place, options)? else {
        return Ok(());
    };
    config.wallet_key = wallet_key;
    config.check().map_err(mistake)?;
    if options.check_config {
        return checked();
    }
    run_node(&options.process, async |stop| {
        let held = (&config.chain, config.owner.as_str(), config.wallet_key.as_ref());
        let _noted = note(ChannelRole::Worker, config.http, held, &config.data_dir)?;
        cocoon_worker::serve(&config, &stop).await?;
        Ok(())
    })
}

/// `cocoon engine`
pub(crate) fn engine(options: &EngineOptions) -> Result<()> {
    let missing = |(name, _): &&(&str, &str)| std::env::var_os(name).is_none();
    if cocoon_engine::PROCESS_ENVIRONMENT.iter().any(|pair| missing(&pair)) {
        // The engine's thread library reads these before `main`: start again with them.
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let fault = std::process::Command::new(program)
            .args(std::env::args_os().skip(1))
            .envs(cocoon_engine::PROCESS_ENVIRONMENT.iter().filter(missing).copied())
            .exec();
        return Err(fault).context("cannot start the engine's process");
    }
    let (path, name, sha256) = match &options.model_file {
        Some(path) => {
            let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
            (path.clone(), stem.unwrap_or_else(|| "model".into()), options.sha256.clone())
        }
        None => {
            let store = cocoon_engine::store::ModelStore::from_env()?;
            let preset = &cocoon_engine::preset::PRESETS[0];
            let path = store.obtain(preset, &mut |_| {})?;
            (path, preset.name.to_owned(), Some(preset.sha256.to_owned()))
        }
    };
    let mut config = EngineConfig::new(path, options.model.clone().unwrap_or(name));
    config.sha256 = sha256.map(|text| text.parse()).transpose().map_err(mistake)?;
    config.listen = options.listen;
    config.threads = options.threads.unwrap_or(config.threads);
    config.context_tokens = options.context_tokens.unwrap_or(config.context_tokens);
    config.max_sequences = options.max_sequences.unwrap_or(config.max_sequences);
    config.validate().map_err(mistake)?;
    run_node(&options.process, async |stop| {
        let observer = Arc::new(|event: EngineEvent| {
            if let EngineEvent::Ready { addr, .. } = event {
                tracing::info!(%addr, "engine ready");
            }
        });
        cocoon_engine::run(config, observer, stop.asked()).await?;
        Ok(())
    })
}

/// Says to other commands of this user that a node runs here and whose wallet it holds.
fn note(
    role: ChannelRole,
    http: Option<std::net::SocketAddr>,
    (chain, owner, key): (&ChainConfig, &str, Option<&Secret<[u8; 32]>>),
    data_dir: &Path,
) -> Result<Option<Announced>> {
    if !chain.is_real() {
        return Ok(None);
    }
    let key = match key {
        Some(key) => key.clone(),
        None => keys::load_or_make(&data_dir.join("wallet.key"))?,
    };
    let owner = Address::parse(owner).map_err(mistake)?;
    let wallet = cocoon_client::node_wallet(owner, &key)
        .context("the node wallet's address cannot be derived")?;
    Ok(Some(running::announce(role, http, wallet)))
}

/// The C++ node's `--disable-ton FILE` beside its own configuration: the registry is that file.
fn without_chain(chain: &mut ChainConfig, options: &RoleOptions) {
    if options.network_file.is_some() {
        chain.kind = ChainKind::None;
    }
}

/// Where a role keeps two members that have flags of their own.
struct Place {
    network_file: &'static str,
    data_dir: &'static str,
}

/// Lays the layers over the defaults. `None` when the configuration was only to be printed.
fn configure<T: Serialize + DeserializeOwned>(
    prefix: &str,
    defaults: T,
    place: Place,
    options: &RoleOptions,
) -> Result<Option<T>> {
    let layers = layers(prefix, &defaults, &place, options).map_err(mistake)?;
    if options.print_config {
        print!("{}", layers.print());
        return Ok(None);
    }
    Ok(Some(layers.build().map_err(mistake)?))
}

fn layers<T: Serialize>(
    prefix: &str,
    defaults: &T,
    place: &Place,
    options: &RoleOptions,
) -> Result<Layers, ConfigFault> {
    let mut layers = Layers::defaults(defaults)?;
    if let Some(path) = &options.config {
        layers = layers.file(path)?;
    }
    layers = layers
        .environment(prefix, std::env::vars())?
        .flag(place.network_file, options.network_file.as_ref())?
        .flag(place.data_dir, options.data_dir.as_ref())?;
    for setting in &options.settings {
        layers = layers.set(setting)?;
    }
    Ok(layers)
}

fn reference_gateway(path: &Path) -> Result<GatewayNode> {
    let text = read(path)?;
    let file: ClientRunner<'static> = config_json::read(&text).map_err(mistake)?;
    let owner = Address::parse(&file.owner_address.sanitized()).map_err(mistake)?;
    let wallet = cocoon_client::node_wallet(owner, &file.node_wallet_key)
        .context("the node wallet's address cannot be derived")?;
    let http = GatewayConfig {
        http_access_hash: String::from_utf8_lossy(file.http_access_hash.expose()).into_owned(),
        listen: ([127, 0, 0, 1], u16::try_from(file.http_port).map_err(mistake)?).into(),
        ..GatewayConfig::default()
    };
    let mut network = ClientConfig::from_reference(&file, wallet).map_err(mistake)?;
    network.owner = owner.to_raw();
    network.wallet_key = Some(file.node_wallet_key.clone());
    Ok(GatewayNode { http, network })
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path)
        .map_err(|fault| mistake(format_args!("{}: {fault}", path.display())))
}

fn checked() -> Result<()> {
    println!("configuration is usable");
    Ok(())
}

/// Runs a node until a signal, or until the parent is gone.
pub(crate) fn run_node(
    options: &ProcessOptions,
    node: impl AsyncFnOnce(Stop) -> Result<()>,
) -> Result<()> {
    let format = if options.log_json { telemetry::Format::Json } else { telemetry::Format::Text };
    telemetry::start(&options.log, format).map_err(mistake)?;
    if options.core_dumps {
        tracing::warn!("core dumps are allowed: they hold prompts, answers and keys in clear");
    } else {
        dumps::forbid().context("cannot forbid core dumps")?;
    }
    let mut builder = match options.threads {
        Some(1) => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if let Some(threads) = options.threads.filter(|threads| *threads > 1) {
        builder.worker_threads(threads.into());
    }
    let runtime = builder.enable_all().build().context("cannot start the runtime")?;
    let outcome = runtime.block_on(async {
        let stop = Stop::new();
        stop.on_signals().context("cannot listen for signals")?;
        memory::give_back_for_ever();
        if options.with_parent {
            stop.on_parent_gone();
            end_after_parent(&stop);
        }
        node(stop).await
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

/// A node that hangs must not outlive its parent either.
fn end_after_parent(stop: &Stop) {
    let stop = stop.clone();
    tokio::spawn(async move {
        stop.asked().await;
        std::thread::spawn(|| {
            std::thread::sleep(PARENT_GRACE);
            std::process::exit(1);
        });
    });
}
