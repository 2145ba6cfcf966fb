//! `cocoon doctor`: looks at this machine, for any role or for one with its settings, and explains
//! each thing that keeps a node from working.

mod check;
mod hands;
mod judge;
mod role;

use anyhow::{Result, bail};
use clap::Args;
use std::io::Write as _;
use std::path::PathBuf;

use role::{Role, Settings};

/// Options of `cocoon doctor`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DoctorOptions {
    /// What the machine is to be; nothing looks at the machine alone.
    #[arg(value_enum)]
    role: Option<Role>,
    /// The node's configuration file (TOML).
    #[arg(long, short, value_name = "FILE", requires = "role")]
    config: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// `cocoon doctor`
pub(crate) fn run(options: &DoctorOptions) -> Result<()> {
    let settings = match options.role {
        None => None,
        Some(role) => Some(Settings::read(role, options.config.as_deref())?),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let checks = judge::judge(&runtime.block_on(hands::examine(settings.as_ref())));
    let role = options.role.map_or("", Role::word);
    let said = match options.json {
        true => check::json_text(role, &checks) + "\n",
        false => check::text(role, &checks),
    };
    // Whoever reads may have left.
    let _ = std::io::stdout().write_all(said.as_bytes());
    match check::failed(&checks) {
        0 => Ok(()),
        1 => bail!("1 check failed"),
        count => bail!("{count} checks failed"),
    }
}
