//! Chores of this repository, each one command: `cargo xtask tidy`, `licences`, `sim`.

mod house;
mod licences;
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
    /// Read the sources and enforce the house: floors, sizes, names, forbidden words.
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
}

fn main() -> ExitCode {
    let root = root();
    let faults = match Arguments::parse().chore {
        Chore::Tidy => tidy(&root),
        Chore::Licences => licences::check(&root),
        Chore::Sim { arguments } => return simulate(&root, &arguments),
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

/// Hands over to the simulator, built for speed.
fn simulate(root: &Path, arguments: &[String]) -> ExitCode {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = std::process::Command::new(cargo)
        .args([
            "run",
            "--release",
            "--quiet",
            "--package",
            "cocoon-sim",
            "--bin",
            "cocoon-sim",
            "--",
        ])
        .args(arguments)
        .current_dir(root)
        .status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(fault) => {
            eprintln!("cargo: {fault}");
            ExitCode::from(2)
        }
    }
}

fn tidy(root: &Path) -> Result<Vec<String>> {
    let plan = house::Plan::read(root)?;
    let crates = house::crates(root)?;
    let mut faults = house::imports(&plan, &crates);
    faults.extend(source::check(root, &plan)?);
    Ok(faults)
}

/// The repository: two folders above this crate.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}
