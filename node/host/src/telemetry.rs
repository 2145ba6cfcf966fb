//! Logs: to standard error, level by `COCOON_LOG` or `--log`, colours on a terminal only.

use std::io::IsTerminal as _;
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging. `filter` is a level or a list like `info,cocoon_link=debug`.
///
/// Fields carry ids, counts and codes; prompts, answers and keys have types that print
/// `[redacted]`.
///
/// # Errors
/// Configuration: the filter cannot be read; the text says what is wrong.
pub fn start(filter: &str, format: Format) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|fault| format!("log filter {filter:?} cannot be read: {fault}"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match format {
        Format::Text => builder.with_target(false).try_init(),
        Format::Json => builder.json().try_init(),
    };
    // A second start, as in tests, keeps the first.
    let _ = started;
    Ok(())
}
