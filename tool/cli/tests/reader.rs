//! A command whose output nobody reads any more ends quietly, through a real pipe.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};

/// 128 + SIGPIPE, as shells show programs that the signal ended.
const READER_GONE: i32 = 141;

fn cocoon(arguments: &[&str], home: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cocoon"));
    command.args(arguments).env_clear().env("HOME", home).stdin(Stdio::null());
    command
}

/// Runs with a standard output that is a pipe without a reader.
fn unread(command: &mut Command) -> Output {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    command.stdout(writer).stderr(Stdio::piped()).output().expect("the program runs")
}

#[test]
fn a_closed_output_ends_every_kind_of_command_quietly() {
    let home = tempfile::tempdir().expect("directory");
    let at = |name: &str| home.path().join(name).display().to_string();
    std::fs::write(at("model.gguf"), [7; 5_000]).expect("file");
    let (keys, model) = (at("keys.json"), at("model.gguf"));
    for arguments in [
        &["completions", "bash"][..],
        &["gateway", "--print-config"],
        &["model", "hash", &model],
        &["model", "hash", &model, "--json"],
        &["gateway", "keys", "--keys-file", &keys, "create", "a"],
        &["gateway", "keys", "--keys-file", &keys, "--json", "list"],
    ] {
        let said = cocoon(arguments, home.path()).output().expect("the program runs");
        let told = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(said.status.success() && !said.stdout.is_empty(), "{arguments:?}: {told}");
        let ended = unread(&mut cocoon(arguments, home.path()));
        assert_eq!(String::from_utf8_lossy(&ended.stderr), "", "{arguments:?}");
        assert_eq!(ended.status.code(), Some(READER_GONE), "{arguments:?}");
    }
}

#[test]
fn a_mistake_is_a_mistake_though_nobody_reads() {
    let home = tempfile::tempdir().expect("directory");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = cocoon(&["wallet", "show", "nobody"], home.path());
    let ended = command.stdout(Stdio::null()).stderr(writer).status().expect("the program runs");
    assert_eq!(ended.code(), Some(READER_GONE), "its sentence has no reader");
    let ended = unread(&mut cocoon(&["wallet", "show", "nobody"], home.path()));
    assert_eq!(ended.status.code(), Some(2));
    assert!(ended.stderr.starts_with(b"cocoon: "), "{:?}", ended.stderr);
}

#[test]
fn a_reader_that_takes_the_first_line_only_gets_it() {
    let home = tempfile::tempdir().expect("directory");
    let mut child = cocoon(&["completions", "zsh"], home.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let mut line = String::new();
    let mut reader = BufReader::with_capacity(64, child.stdout.take().expect("a pipe"));
    reader.read_line(&mut line).expect("a line");
    drop(reader);
    let ended = child.wait_with_output().expect("an end");
    // A script shorter than a pipe holds may be written whole before the reader is gone.
    assert!(matches!(ended.status.code(), Some(0 | READER_GONE)), "{:?}", ended.status);
    assert_eq!(ended.stderr, b"");
    assert!(line.starts_with("#compdef cocoon"), "{line}");
}
