//! The one command: the whole network on this machine, and every role alone.

#![allow(clippy::print_stdout, reason = "what a command prints is its answer")]

mod arguments;
mod books;
mod chain;
mod chat;
mod doctor;
mod evidence;
mod http_get;
mod key_manager;
mod keys;
mod model;
mod money;
mod output;
mod proof;
mod roles;
mod router;
mod up;

use arguments::{Arguments, Command};
use clap::{CommandFactory as _, Parser as _};
use std::process::ExitCode;

/// Exit code of a mistake of the user: nothing was started, nothing was lost.
pub(crate) const USER_MISTAKE: u8 = 2;

fn main() -> ExitCode {
    output::while_read(|| run(Arguments::parse()))
}

fn run(arguments: Arguments) -> ExitCode {
    let outcome = match arguments.command {
        Command::Up(options) => up::run(options),
        Command::Chat(options) => chat::run(options),
        Command::Doctor(options) => doctor::run(&options),
        Command::Verify(options) => proof::verify(&options),
        Command::Receipt(command) => proof::receipt(&command),
        Command::Endorsement(command) => proof::endorsement(&command),
        Command::Gateway(options) => roles::gateway(&options),
        Command::Proxy(options) => roles::proxy(&options),
        Command::Worker(options) => roles::worker(&options),
        Command::Engine(options) => roles::engine(&options),
        Command::Chain(options) => chain::run(&options),
        Command::Books(command) => books::run(&command),
        Command::Model(options) => model::run(options),
        Command::Router(options) => router::run(&options),
        Command::KeyManager(options) => key_manager::run(&options),
        Command::GenCert(options) => evidence::gen_cert(&options),
        Command::MeasureGpu(options) => evidence::measure_gpu(&options),
        Command::ImageHash(options) => evidence::image_hash(&options),
        Command::Wallet(command) => money::wallet::run_command(command),
        Command::Channel(command) => money::channel::run_command(command),
        Command::Root(command) => money::root::run_command(command),
        Command::Completions { shell } => {
            let (mut command, mut script) = (Arguments::command(), Vec::new());
            clap_complete::generate(shell, &mut command, "cocoon", &mut script);
            print!("{}", String::from_utf8_lossy(&script));
            Ok(())
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => report(&fault),
    }
}

/// Says in one paragraph what went wrong; the exit code tells a user's mistake from the rest.
fn report(fault: &anyhow::Error) -> ExitCode {
    eprintln!("cocoon: {fault:#}");
    if fault.downcast_ref::<Mistake>().is_some() {
        return ExitCode::from(USER_MISTAKE);
    }
    ExitCode::FAILURE
}

/// Marks a fault as the user's mistake.
#[derive(Debug)]
pub(crate) struct Mistake(pub(crate) String);

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Mistake {}

/// A user's mistake with this text.
pub(crate) fn mistake(text: impl std::fmt::Display) -> anyhow::Error {
    anyhow::Error::new(Mistake(text.to_string()))
}
