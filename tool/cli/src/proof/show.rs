//! Findings for people and for programs.

use anyhow::{Result, bail};
use cocoon_proof::{ClaimLine, Examination, Requirement, Standing};
use std::io::{IsTerminal as _, Write as _};

/// Prints what was found; fails when it is not good enough.
pub(crate) fn verdict(
    what: &str,
    found: &Examination,
    required: &[Requirement],
    as_json: bool,
) -> Result<()> {
    let answer = found.answer(what, required);
    if as_json {
        say(&serde_json::to_string(&answer)?);
    } else {
        text(what, found);
    }
    match answer.objections.as_slice() {
        [] => {
            if !as_json {
                say("\nEvery required claim holds.");
            }
            Ok(())
        }
        [only] => bail!("not verified: {only}"),
        [first, rest @ ..] => bail!("not verified: {first} (and {} more)", rest.len()),
    }
}

fn text(what: &str, found: &Examination) {
    say(what);
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let mut subject = "";
    for line in &found.claims {
        if line.subject != subject {
            subject = &line.subject;
            say(&format!("\n{subject}"));
        }
        say(&one(line, colour));
    }
}

/// Prints what the machines measured.
pub(crate) fn events(found: &Examination) {
    let mut subject = "";
    for line in &found.events {
        if line.subject != subject {
            subject = &line.subject;
            say(&format!("{subject} measured"));
        }
        // Of what is only told, a reader must not take the text for measured.
        let word = if line.is_measured { "measured" } else { "told" };
        let digest = line.digest.get(..16).unwrap_or_default();
        say(&format!("  {} {digest}… {word:<8} {} {}", line.register, line.kind, line.text));
    }
    if found.events.is_empty() {
        say("no machine showed a log that a genuine quote agrees with");
    }
    say("");
}

fn one(line: &ClaimLine, colour: bool) -> String {
    let (mark, code) = match line.verdict {
        Standing::Holds => ("✓", "32"),
        Standing::Fails => ("✗", "31"),
        Standing::Unknown => ("?", "33"),
        Standing::NotClaimed => ("-", "2"),
    };
    let mark = if colour { format!("\u{1b}[{code}m{mark}\u{1b}[0m") } else { mark.to_owned() };
    let age = line.age_ms.map_or(String::new(), |ms| format!(", collateral {} old", age(ms)));
    let (claim, word) = (&line.claim, line.verdict.word());
    format!("  {mark} {claim:<12} {word:<12} {} [{}{age}]", line.reason, line.source)
}

/// An age in the largest unit that fits.
fn age(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// A closed standard output changes no verdict.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
