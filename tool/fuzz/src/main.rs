//! Builds the targets with coverage and runs them.

#![allow(
    clippy::print_stdout,
    reason = "the list of targets is an answer; what happens is told on standard error"
)]

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use cocoon_fuzz::{TARGETS, Target, corpus, find};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// Set while cargo builds: this program then stands in front of rustc for our own crates.
const WRAPPER: &str = "COCOON_FUZZ_WRAPPER";
/// What libFuzzer needs to see which paths an input takes.
const COVERAGE: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions=on",
];
/// Longest time for one input, seconds: beyond it a decoder hangs.
const HANG_S: u32 = 10;
/// Most memory of one target, MiB: beyond it a decoder grows without limit.
const MEMORY_MIB: u32 = 1024;

/// Runs decoders on made-up bytes until one breaks a law, and says which input did it.
///
/// Examples:
///   cargo xtask fuzz --seconds 2                     all targets, two seconds each
///   cargo xtask fuzz --runs 10000000 --keep          all, ten million inputs each
///   cargo xtask fuzz wire-objects --seconds 600      one, ten minutes
///   cargo xtask fuzz wire-objects --input crash-...  one input again
#[derive(Parser)]
#[command(name = "cargo xtask fuzz", verbatim_doc_comment)]
struct Arguments {
    /// Targets; all when none is named.
    targets: Vec<String>,
    /// Inputs to try for each target.
    #[arg(long, default_value_t = 1_000_000)]
    runs: u64,
    /// Seconds for each target, whatever is over first.
    #[arg(long)]
    seconds: Option<u64>,
    /// Adds what was found, made small, to the corpora in the repository.
    #[arg(long)]
    keep: bool,
    /// Runs the targets on this one file only.
    #[arg(long)]
    input: Option<PathBuf>,
    /// Lists the targets.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    if std::env::var_os(WRAPPER).is_some() {
        return wrap();
    }
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(fault) => {
            eprintln!("{fault:#}");
            ExitCode::from(2)
        }
    }
}

/// Calls rustc with coverage. Build scripts run on their own and need none.
fn wrap() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(rustc) = arguments.next() else { return ExitCode::from(2) };
    let mut command = Command::new(rustc);
    let arguments: Vec<_> = arguments.collect();
    let is_build_script = arguments.iter().any(|argument| argument == "build_script_build");
    command.args(&arguments);
    if !is_build_script {
        command.args(COVERAGE);
    }
    eprintln!("rustc: {}", command.exec());
    ExitCode::from(2)
}

/// Returns whether all targets held.
fn run(arguments: &Arguments) -> Result<bool> {
    if arguments.list {
        TARGETS.iter().for_each(|target| println!("{}", target.name));
        return Ok(true);
    }
    let mut chosen = Vec::new();
    for name in &arguments.targets {
        chosen.push(find(name).with_context(|| format!("no target {name}: see --list"))?);
    }
    if chosen.is_empty() {
        chosen.extend(TARGETS);
    }
    let program = build()?;
    let mut held = true;
    for target in chosen {
        held &= fuzz(&program, target, arguments)?;
    }
    Ok(held)
}

/// Builds the program with coverage of our own crates; the libraries are those of every build.
fn build() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let myself = std::env::current_exe().context("this program's own path")?;
    let status = Command::new(cargo)
        .args(["build", "--release", "--workspace", "--locked", "--bin", "cocoon-fuzz-one"])
        .env("RUSTC_WORKSPACE_WRAPPER", &myself)
        .env(WRAPPER, "1")
        .current_dir(root())
        .status()
        .context("cargo")?;
    if !status.success() {
        bail!("the targets do not build");
    }
    let built = myself.with_file_name("cocoon-fuzz-one");
    // The next plain build replaces it.
    let program = myself.with_file_name("cocoon-fuzz-coverage");
    std::fs::copy(&built, &program).with_context(|| built.display().to_string())?;
    Ok(program)
}

/// Runs one target; returns whether it held.
fn fuzz(program: &Path, target: &Target, arguments: &Arguments) -> Result<bool> {
    let kept = corpus::path(target.name);
    let folder = tempfile::tempdir()?;
    for (number, input) in corpus::read(&kept)?.iter().enumerate() {
        std::fs::write(folder.path().join(format!("{number:06}")), input)?;
    }
    let found = root().join("target/fuzz").join(target.name);
    std::fs::create_dir_all(&found)?;
    let mut command = command(program, target);
    command.arg(format!("-artifact_prefix={}/", found.display()));
    match &arguments.input {
        Some(input) => command.arg(input),
        None => command.arg(format!("-runs={}", arguments.runs)).arg(folder.path()),
    };
    if let Some(seconds) = arguments.seconds {
        command.arg(format!("-max_total_time={seconds}"));
    }
    let output = command.output().context("the fuzzer")?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        eprintln!("{}: BROKEN\n{text}", target.name);
        return Ok(false);
    }
    let done = text.lines().find(|line| line.starts_with("Done ")).unwrap_or("done");
    eprintln!("{:<20} {done}, {} kept inputs", target.name, corpus::read(&kept)?.len());
    if arguments.keep {
        keep(program, target, folder.path(), &kept)?;
    }
    Ok(true)
}

fn command(program: &Path, target: &Target) -> Command {
    let mut command = Command::new(program);
    command
        .env("COCOON_FUZZ_TARGET", target.name)
        .arg(format!("-max_len={}", target.len_max))
        .arg(format!("-timeout={HANG_S}"))
        .arg(format!("-rss_limit_mb={MEMORY_MIB}"))
        .stdin(Stdio::null());
    command
}

/// Leaves one input for each path that was found.
fn keep(program: &Path, target: &Target, folder: &Path, kept: &Path) -> Result<()> {
    let small = tempfile::tempdir()?;
    let merged =
        command(program, target).args(["-merge=1"]).arg(small.path()).arg(folder).output()?;
    if !merged.status.success() {
        bail!("{}: {}", target.name, String::from_utf8_lossy(&merged.stderr));
    }
    let mut inputs = Vec::new();
    for file in small.path().read_dir()? {
        inputs.push(std::fs::read(file?.path())?);
    }
    corpus::write(kept, inputs)
}

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}
