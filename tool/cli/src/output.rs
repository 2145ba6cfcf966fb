//! What becomes of a command whose output nobody reads any more, as in `cocoon … | head`.
//!
//! Rust's runtime ignores SIGPIPE, which nodes need: a peer that hangs up must not end them. So a
//! write to a closed pipe fails instead, and `println!` panics. The command has nothing left to say
//! then, and ends here as programs do that the signal ends: quietly.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::ExitCode;

/// What shells show of a program that SIGPIPE (13) ended: 128 + 13.
pub(crate) const READER_GONE: u8 = 141;

/// Runs a command. When its output is closed under it, it ends quietly with [`READER_GONE`]; what
/// it holds is dropped in order, as after any other fault.
///
/// Every other panic goes on as it came.
pub(crate) fn while_read(run: impl FnOnce() -> ExitCode) -> ExitCode {
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !is_reader_gone(panic.payload()) {
            others(panic);
        }
    }));
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(code) => code,
        Err(panic) if is_reader_gone(panic.as_ref()) => ExitCode::from(READER_GONE),
        Err(panic) => resume_unwind(panic),
    }
}

/// Whether `print!` or `eprint!` found its reader gone. The standard library gives no other sign
/// than its words; a test with a real pipe holds them.
fn is_reader_gone(panic: &(dyn Any + Send)) -> bool {
    let words = panic.downcast_ref::<String>().map(String::as_str);
    words.or(panic.downcast_ref::<&str>().copied()).is_some_and(|words| {
        words.starts_with("failed printing to std") && words.contains("Broken pipe")
    })
}
