//! Logs: to standard error, level by `COCOON_LOG` or `--log`, colours on a terminal only.

use std::fmt::{self, Write as _};
use std::io::IsTerminal as _;
use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

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
/// `[redacted]`. Some carry words of peers: nothing in them ends a line or steers a terminal.
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
        Format::Text => builder.with_target(false).fmt_fields(calm_fields()).try_init(),
        Format::Json => builder.json().try_init(),
    };
    // A second start, as in tests, keeps the first.
    let _ = started;
    Ok(())
}

/// Fields as `name=value`, with everything shown that is not plain text.
fn calm_fields() -> impl for<'w> FormatFields<'w> + Send + Sync + 'static {
    let field = |writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug| {
        if field.name() != "message" {
            write!(writer, "{}=", field.name().trim_start_matches("r#"))?;
        }
        write!(Calm(writer), "{value:?}")
    };
    debug_fn(field).delimited(" ")
}

/// Passes text on, characters that steer a terminal or a reader's eye as escapes.
struct Calm<'a, 'w>(&'a mut Writer<'w>);

impl fmt::Write for Calm<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            // Beside the control characters: those that turn the direction of writing.
            match c {
                '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                    write!(self.0, "{}", c.escape_unicode())?;
                }
                c if c.is_control() => write!(self.0, "{}", c.escape_default())?,
                c => self.0.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn words_of_peers_neither_forge_lines_nor_steer_a_terminal() {
        let out = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&out);
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || Sink(Arc::clone(&sink)))
            .without_time()
            .with_ansi(false)
            .with_target(false)
            .fmt_fields(calm_fields())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let text = "a\u{1b}[2Jb\nERROR forged \u{202e}c\u{9b}d\re";
            let fault = std::io::Error::other(text);
            tracing::warn!(%text, fault = &fault as &dyn std::error::Error, n = 7, "said {text}");
        });
        let out = String::from_utf8(out.lock().unwrap().clone()).unwrap();
        let word = "a\\u{1b}[2Jb\\nERROR forged \\u{202e}c\\u{9b}d\\re";
        assert_eq!(out, format!(" WARN said {word} text={word} fault={word} n=7\n"));
    }
}
