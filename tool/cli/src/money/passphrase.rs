//! Secrets from people: asked without echo, or from a file; never from the command line.

use anyhow::{Context as _, Result};
use cocoon_units::Secret;
use std::fs::File;
use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroize as _;

use super::arguments::Unlock;
use crate::mistake;

/// Longest file read, bytes.
const LEN_MAX: u64 = 4096;
/// Shortest passphrase for a new wallet, characters.
const LEN_MIN: usize = 8;

/// The passphrase of a wallet that exists.
pub(crate) fn ask(unlock: &Unlock, name: &str) -> Result<Secret<String>> {
    match given(unlock)? {
        Some(passphrase) => Ok(passphrase),
        None => prompt(&format!("Passphrase of wallet {name}: ")),
    }
}

/// A passphrase for a new wallet, typed twice.
pub(crate) fn choose(unlock: &Unlock, name: &str) -> Result<Secret<String>> {
    let given = given(unlock)?;
    let is_typed = given.is_none();
    let passphrase = match given {
        Some(passphrase) => passphrase,
        None => prompt(&format!("New passphrase for wallet {name}: "))?,
    };
    if passphrase.expose().chars().count() < LEN_MIN {
        return Err(mistake(format_args!("the passphrase is shorter than {LEN_MIN} characters")));
    }
    if is_typed && prompt("The same again: ")?.expose() != passphrase.expose() {
        return Err(mistake("the two passphrases differ: nothing was written"));
    }
    Ok(passphrase)
}

/// The 24 words of a wallet, or the text of a key.
pub(crate) fn words(file: Option<&Path>) -> Result<Secret<String>> {
    match file {
        Some(path) => read(path),
        None if std::io::stdin().is_terminal() => prompt("The 24 words (they are not shown): "),
        None => {
            let mut text = String::new();
            std::io::stdin().take(LEN_MAX).read_to_string(&mut text).context("standard input")?;
            Ok(Secret::new(text))
        }
    }
}

fn given(unlock: &Unlock) -> Result<Option<Secret<String>>> {
    let path = match (&unlock.passphrase_file, unlock.passphrase_fd) {
        (Some(path), _) => path.clone(),
        (None, Some(number)) => PathBuf::from(format!("/dev/fd/{number}")),
        (None, None) => return Ok(None),
    };
    let text = read(&path)?;
    Ok(Some(Secret::new(text.expose().lines().next().unwrap_or_default().to_owned())))
}

fn read(path: &Path) -> Result<Secret<String>> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(LEN_MAX).read_to_string(&mut text));
    let text = Secret::new(std::mem::take(&mut text));
    read.map_err(|fault| mistake(format_args!("{}: {fault}", path.display())))?;
    Ok(text)
}

fn prompt(question: &str) -> Result<Secret<String>> {
    let mut typed = rpassword::prompt_password(question).map_err(|_| {
        mistake("no terminal to ask for the passphrase: say --passphrase-file or --passphrase-fd")
    })?;
    let secret = Secret::new(typed.clone());
    typed.zeroize();
    Ok(secret)
}
