//! `cocoon router`: attested TLS for programs that do not speak it.

use anyhow::Result;
use clap::Args;
use cocoon_host::config::Layers;
use cocoon_role_router::{PolicyTable, PortSpec, ReferenceFile};
use cocoon_router::RouterConfig;
use std::path::PathBuf;

use crate::arguments::ProcessOptions;
use crate::mistake;
use crate::roles::run_node;

/// Options of `cocoon router`.
#[derive(Clone, Debug, Args)]
pub(crate) struct RouterOptions {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Configuration file of the reference's router (JSON), as it is.
    #[arg(long, short = 'c', value_name = "FILE")]
    reference_config: Option<PathBuf>,
    /// A policy: name:type[:imagehash,...], type any, tee, tdx.
    #[arg(long = "policy", short = 'P', value_name = "NAME:TYPE[:HASH,..]")]
    policies: Vec<String>,
    /// A SOCKS5 port: port[@policy[:imagehash]].
    #[arg(long = "socks", short = 'S', value_name = "PORT[@POLICY]")]
    socks: Vec<String>,
    /// A port of this machine that comes out at a fixed place: port:host:port[@policy].
    #[arg(long = "forward", short = 'F', value_name = "PORT:HOST:PORT[@POLICY]")]
    forward: Vec<String>,
    /// A port of the network that comes out at a fixed place here: port:host:port[@policy].
    #[arg(long = "reverse", short = 'R', value_name = "PORT:HOST:PORT[@POLICY]")]
    reverse: Vec<String>,
    /// A port in the older form: port:type[:policy[:host:port]].
    #[arg(long = "port", short = 'p', value_name = "PORT:TYPE[..]")]
    legacy: Vec<String>,
    /// Whether programs at ports of the command line are told who their peer is.
    #[arg(long, short = 's', value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    serialize_info: bool,
    /// Beginning of the names of certificate and key: BASE_cert.pem, BASE_key.pem.
    #[arg(long, short = 'C', value_name = "BASE")]
    cert_base_name: Option<String>,
    /// Bits of work demanded of peers.
    #[arg(long, short = 'd', value_name = "BITS")]
    work_bits: Option<u8>,
    /// Most bits of work done for peers.
    #[arg(long, short = 'm', value_name = "BITS")]
    work_bits_max: Option<u8>,
    /// Threads that serve; 0 chooses.
    #[arg(long, short = 't', value_name = "N", default_value_t = 0)]
    threads: u16,
    /// Digests of root keys that end TDX quotes instead of Intel's, for policies of this line.
    #[arg(long = "collateral-hash", value_name = "HEX", value_delimiter = ',')]
    collateral_roots: Vec<String>,
    /// Set one member: --set limits.idle_ms=0. May be repeated.
    #[arg(long = "set", value_name = "MEMBER=VALUE")]
    settings: Vec<String>,
    /// Print the effective configuration and end.
    #[arg(long, short = 'g')]
    print_config: bool,
    /// Check the configuration and end.
    #[arg(long)]
    check_config: bool,
    #[command(flatten)]
    process: ProcessOptions,
}

/// `cocoon router`
pub(crate) fn run(options: &RouterOptions) -> Result<()> {
    let (config, threads) = configuration(options)?;
    if options.print_config {
        print!("{}", Layers::defaults(&config).map_err(mistake)?.print());
        return Ok(());
    }
    config.check().map_err(mistake)?;
    if options.check_config {
        println!("configuration is usable");
        return Ok(());
    }
    let mut process = options.process.clone();
    let wanted = [options.threads, threads].into_iter().find(|threads| *threads > 0);
    process.threads = process.threads.or(wanted);
    run_node(&process, async |stop| match Box::pin(cocoon_router::run(&config, &stop)).await {
        Ok(()) => Ok(()),
        Err(fault @ cocoon_router::RunFault::Listen { .. }) => Err(fault.into()),
        Err(fault) => Err(mistake(fault)),
    })
}

/// Defaults or the reference's file, then the file, the environment, the flags.
fn configuration(options: &RouterOptions) -> Result<(RouterConfig, u16)> {
    let (defaults, threads) = match &options.reference_config {
        None => (RouterConfig::default(), 0),
        Some(path) => {
            let named = |fault: &dyn std::fmt::Display| {
                mistake(format_args!("{}: {fault}", path.display()))
            };
            let text = std::fs::read_to_string(path).map_err(|fault| named(&fault))?;
            let file = ReferenceFile::read(&text).map_err(|fault| named(&fault))?;
            let threads = file.threads;
            (RouterConfig::from_reference(file), threads)
        }
    };
    let mut layers = Layers::defaults(&defaults).map_err(mistake)?;
    if let Some(path) = &options.config {
        layers = layers.file(path).map_err(mistake)?;
    }
    layers = layers
        .environment("COCOON_ROUTER_", std::env::vars())
        .and_then(|layers| layers.flag("cert_base_name", options.cert_base_name.as_ref()))
        .and_then(|layers| layers.flag("work_bits", options.work_bits))
        .and_then(|layers| layers.flag("work_bits_max", options.work_bits_max))
        .map_err(mistake)?;
    for setting in &options.settings {
        layers = layers.set(setting).map_err(mistake)?;
    }
    let mut config: RouterConfig = layers.build().map_err(mistake)?;
    ports(options, &mut config)?;
    policies(options, &mut config)?;
    Ok((config, threads))
}

fn ports(options: &RouterOptions, config: &mut RouterConfig) -> Result<()> {
    type Read = fn(&str, bool) -> Result<PortSpec, cocoon_role_router::RouterFault>;
    let kinds: [(&[String], Read); 4] = [
        (&options.socks, PortSpec::socks),
        (&options.forward, PortSpec::forward),
        (&options.reverse, PortSpec::reverse),
        (&options.legacy, PortSpec::legacy),
    ];
    for (texts, read) in kinds {
        for text in texts {
            config.ports.push(read(text, options.serialize_info).map_err(mistake)?);
        }
    }
    Ok(())
}

fn policies(options: &RouterOptions, config: &mut RouterConfig) -> Result<()> {
    let mut table = PolicyTable::default();
    for text in &options.policies {
        table.put_text(text).map_err(mistake)?;
        let name = text.split(':').next().unwrap_or_default();
        config.policies.insert(name.to_owned(), table.find(name).map_err(mistake)?);
    }
    if options.collateral_roots.is_empty() {
        return Ok(());
    }
    let roots: Vec<cocoon_attest::Digest48> = options
        .collateral_roots
        .iter()
        .map(|text| cocoon_attest::Digest48::read("--collateral-hash", text).map_err(mistake))
        .collect::<Result<_>>()?;
    for name in ["tee", "tdx"] {
        let spec = table.find(name).map_err(mistake)?;
        config.policies.entry(name.to_owned()).or_insert(spec);
    }
    for spec in config.policies.values_mut().filter(|spec| spec.collateral_roots.is_empty()) {
        spec.collateral_roots.clone_from(&roots);
    }
    Ok(())
}
