//! Chores of this repository, each one command: `cargo xtask tidy`, `licences`, `sim`, `fuzz`.

mod house;
mod licences;
mod promises;
mod source;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Chores of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Read the sources and enforce the house: floors, sizes, names, forbidden words; and that each
    /// promise names a test that is there.
    Tidy,
    /// Check that every dependency has a licence this project accepts.
    Licences,
    /// Run the simulator: `cargo xtask sim --seed N`, `cargo xtask sim --seeds A..B`.
    #[command(disable_help_flag = true)]
    Sim {
        /// What the simulator takes; see `cargo xtask sim --help`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run decoders on made-up bytes: `cargo xtask fuzz --seconds 2`, see its `--help`.
    #[command(disable_help_flag = true)]
    Fuzz {
        /// What the fuzzer takes; see `cargo xtask fuzz --help`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    let root = root();
    let faults = match Arguments::parse().chore {
        Chore::Tidy => tidy(&root),
        Chore::Licences => licences::check(&root),
        Chore::Sim { arguments } => return hand_over(&root, "cocoon-sim", &arguments),
        Chore::Fuzz { arguments } => return hand_over(&root, "cocoon-fuzz", &arguments),
    };
    match faults {
        Ok(faults) if faults.is_empty() => ExitCode::SUCCESS,
        Ok(faults) => {
            for fault in &faults {
                eprintln!("{fault}");
            }
            eprintln!("{} found", faults.len());
            ExitCode::FAILURE
        }
        Err(fault) => {
            eprintln!("{fault:#}");
            ExitCode::from(2)
        }
    }
}

/// Hands over to another tool, built for speed with the features of the whole workspace, so that
/// no library is built twice.
fn hand_over(root: &Path, tool: &str, arguments: &[String]) -> ExitCode {
    let run = || {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = std::process::Command::new(cargo);
        build.args(["build", "--release", "--workspace", "--quiet", "--bin", tool]);
        if !build.current_dir(root).status()?.success() {
            return Ok(false);
        }
        let folder = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
        let program = root.join(folder).join("release").join(tool);
        Ok(std::process::Command::new(program).args(arguments).status()?.success())
    };
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(fault) => {
            let fault: std::io::Error = fault;
            eprintln!("{tool}: {fault}");
            ExitCode::from(2)
        }
    }
}

fn tidy(root: &Path) -> Result<Vec<String>> {
    let plan = house::Plan::read(root)?;
    let crates = house::crates(root)?;
    let mut faults = house::imports(&plan, &crates);
    faults.extend(source::check(root, &plan)?);
    faults.extend(promises::check(root)?);
    Ok(faults)
}

/// The repository: two folders above this crate.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}
