//! The `cocoon-bench` program: `mock`, `load`, `path`, `money`.

mod arguments;

use anyhow::{Context as _, Result};
use arguments::{
    Arguments, Command, Format, LoadArguments, MockArguments, MoneyArguments, PathArguments,
};
use clap::Parser as _;
use cocoon_bench::{load, machine, mock::Mock, money, path};
use std::fs::File;
use std::io::{Read as _, Write as _, stdin, stdout};
use std::process::ExitCode;

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Mock(arguments) => serve(arguments),
        Command::Load(arguments) => generate(arguments),
        Command::Path(arguments) => measure(arguments),
        Command::Money(arguments) => money(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            let _ = writeln!(std::io::stderr(), "error: {fault:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: MockArguments) -> Result<()> {
    let with_parent = arguments.with_parent;
    let mock = Mock::start(arguments.into())?;
    let hello = serde_json::json!({ "listen": mock.address().to_string() });
    writeln!(stdout(), "{hello}")?;
    stdout().flush()?;
    if with_parent {
        let mut rest = [0; 64];
        while stdin().read(&mut rest).context("cannot read standard input")? > 0 {}
        return Ok(());
    }
    loop {
        std::thread::park();
    }
}

fn generate(arguments: LoadArguments) -> Result<()> {
    let format = arguments.format;
    let report = load::run(&arguments.into())?;
    match format {
        Format::Json => writeln!(stdout(), "{}", serde_json::to_string(&report)?)?,
        Format::Table => write!(stdout(), "{report}")?,
    }
    anyhow::ensure!(report.requests > 0, "no request was answered");
    Ok(())
}

fn money(arguments: &MoneyArguments) -> Result<()> {
    let report = money::run(arguments.patience())?;
    match arguments.format {
        Format::Json => writeln!(stdout(), "{}", serde_json::to_string(&report)?)?,
        Format::Table => write!(stdout(), "Machine: {}.\n\n{report}", machine::line())?,
    }
    Ok(())
}

fn measure(arguments: PathArguments) -> Result<()> {
    let json = arguments.json.clone();
    let options = arguments.options()?;
    warn_of_few_descriptors(options.connections.iter().copied().max().unwrap_or(0));
    let results = path::run(&options, &mut stdout())?;
    if let Some(file) = json {
        let name = file.display().to_string();
        let file = File::create(file).with_context(|| format!("cannot write {name}"))?;
        serde_json::to_writer_pretty(file, &results)?;
    }
    Ok(())
}

/// A gateway needs two descriptors for a request; the limit is inherited by all children.
fn warn_of_few_descriptors(connections: usize) {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<usize>().ok());
    let needed = connections * 2 + 200;
    if let Some(soft) = soft.filter(|soft| *soft < needed) {
        let _ = writeln!(
            std::io::stderr(),
            "warning: {soft} open files are allowed and {connections} connections need {needed}: \
             raise the limit with `ulimit -n {needed}`"
        );
    }
}
