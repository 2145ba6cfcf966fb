//! `cocoon gateway keys`: API keys of a gateway, made and revoked in its file.

use anyhow::Result;
use cocoon_gateway::keys::{KeyFile, KeyLimits, KeyRecord, KeyTotals, KeysFault};
use cocoon_units::Nanoton;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::arguments::{KeysCommand, KeysOptions, LimitOptions};
use crate::mistake;
use crate::roles;

const NANOTON_PER_TON: u64 = 1_000_000_000;

pub(crate) fn run(options: &KeysOptions) -> Result<()> {
    let path = match &options.keys_file {
        Some(path) => path.clone(),
        None => configured(options)?,
    };
    let now_s = now_s();
    match &options.command {
        KeysCommand::Create { name, limits } => {
            let mut wanted = KeyLimits::default();
            change(limits, &mut wanted, now_s)?;
            let (key, record) = open(&path)?.create(name, wanted, now_s).map_err(told)?;
            if options.json {
                let mut shown = shown(&record, None);
                shown["key"] = key.into();
                println!("{shown}");
            } else {
                println!("{key}");
                eprintln!(
                    "Made {} for {name}. The key is shown this once and kept nowhere: {} holds only \
                     its hash.",
                    record.id,
                    path.display()
                );
            }
        }
        KeysCommand::List => list(options, &path, None, false)?,
        KeysCommand::Usage { id } => list(options, &path, id.as_deref(), true)?,
        KeysCommand::Revoke { id } => {
            open(&path)?.revoke(id, now_s).map_err(told)?;
            say(options, &json!({"id": id, "revoked": true}), &format!("{id} is revoked."));
        }
        KeysCommand::Limit { id, limits } => {
            // Read twice rather than changed half: a mistake must leave everything as it was.
            change(limits, &mut KeyLimits::default(), now_s)?;
            let record = open(&path)?
                .limit(id, |current| {
                    let _ = change(limits, current, now_s);
                })
                .map_err(told)?;
            let limits = words(&record, now_s);
            say(options, &shown(&record, None), &format!("{id}: {limits}"));
        }
    }
    Ok(())
}

/// The file of keys that the gateway itself would use.
fn configured(options: &KeysOptions) -> Result<PathBuf> {
    if options.config.is_none() {
        return Err(mistake(
            "say which gateway: --config with its configuration, or --keys-file with its file of keys",
        ));
    }
    let node = roles::gateway_node(options.config.as_deref())?;
    Ok(roles::keys_file(&node))
}

fn open(path: &std::path::Path) -> Result<KeyFile> {
    KeyFile::open(path).map_err(told)
}

/// An unknown id is the user's mistake, a file that cannot be used is not.
fn told(fault: KeysFault) -> anyhow::Error {
    match fault {
        KeysFault::Unknown { .. } => mistake(fault),
        other => other.into(),
    }
}

fn list(
    options: &KeysOptions,
    path: &std::path::Path,
    only: Option<&str>,
    with_usage: bool,
) -> Result<()> {
    let file = KeyFile::read(path).map_err(told)?;
    let usage = KeyFile::usage(path).map_err(told)?;
    let chosen: Vec<&KeyRecord> =
        file.list().iter().filter(|record| only.is_none_or(|id| record.id == id)).collect();
    if let (Some(id), true) = (only, chosen.is_empty()) {
        return Err(told(KeysFault::Unknown { id: id.to_owned() }));
    }
    if options.json {
        let all: Vec<Value> =
            chosen.iter().map(|record| shown(record, usage.get(&record.id))).collect();
        println!("{}", Value::Array(all));
        return Ok(());
    }
    if chosen.is_empty() {
        println!("There are no keys in {} yet: make one with `create`.", path.display());
    }
    for record in chosen {
        let about = if with_usage {
            used(usage.get(&record.id).copied().unwrap_or_default())
        } else {
            words(record, now_s())
        };
        println!("{}  {:<16}  {about}", record.id, record.name);
    }
    Ok(())
}

fn say(options: &KeysOptions, value: &Value, text: &str) {
    if options.json { println!("{value}") } else { println!("{text}") }
}

/// A key for programs; never the key itself.
fn shown(record: &KeyRecord, usage: Option<&KeyTotals>) -> Value {
    json!({
        "id": record.id,
        "name": record.name,
        "created_s": record.created_s,
        "revoked_s": record.revoked_s,
        "limits": record.limits,
        "usage": usage.copied().unwrap_or_default(),
    })
}

fn used(totals: KeyTotals) -> String {
    format!(
        "{} requests, {}, {} prompt and {} completion tokens",
        totals.requests,
        ton(totals.cost_nanoton),
        totals.prompt_tokens,
        totals.completion_tokens
    )
}

fn ton(nanoton: u64) -> String {
    cocoon_gateway::failure::ton(Nanoton(nanoton))
}

/// A key's state and limits for people.
fn words(record: &KeyRecord, now_s: u64) -> String {
    let limits = &record.limits;
    let mut parts = Vec::new();
    if record.revoked_s.is_some() {
        parts.push("revoked".to_owned());
    }
    if let Some(until) = limits.expires_s {
        parts.push(match until.checked_sub(now_s).filter(|left| *left > 0) {
            Some(left) => format!("expires in {} h", left.div_ceil(3_600)),
            None => "expired".to_owned(),
        });
    }
    if let Some(budget) = limits.budget_nanoton {
        parts.push(format!("budget {}", ton(budget)));
    }
    if let Some(rate) = limits.requests_per_minute {
        parts.push(format!("{rate} requests a minute"));
    }
    if !limits.models.is_empty() {
        parts.push(format!("only {}", limits.models.join(", ")));
    }
    if parts.is_empty() { "no limits".to_owned() } else { parts.join(", ") }
}

/// Lays the options over the limits.
fn change(options: &LimitOptions, limits: &mut KeyLimits, now_s: u64) -> Result<()> {
    let unless = |text: &str, none: &str| (text != none).then(|| text.to_owned());
    if let Some(text) = &options.budget {
        limits.budget_nanoton = unless(text, "none").map(|text| nanoton(&text)).transpose()?;
    }
    if let Some(text) = &options.rate {
        let rate = |text: String| {
            text.parse().map_err(|_| mistake(format_args!("--rate {text} is no whole number")))
        };
        limits.requests_per_minute = unless(text, "none").map(rate).transpose()?;
    }
    if let Some(text) = &options.models {
        let names = unless(text, "all").unwrap_or_default();
        let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
        limits.models = names.map(str::to_owned).collect();
    }
    if let Some(text) = &options.expires {
        let seconds = unless(text, "never").map(|text| seconds(&text)).transpose()?;
        limits.expires_s = seconds.map(|seconds| now_s.saturating_add(seconds));
    }
    Ok(())
}

/// An amount in TON with at most nine digits behind the point.
fn nanoton(text: &str) -> Result<u64> {
    let wrong = || mistake(format_args!("--budget {text} is no amount of TON, as in 2.5"));
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if rest.len() > 9 || whole.is_empty() || !digits(whole) || !digits(rest) {
        return Err(wrong());
    }
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let rest: u64 = format!("{rest:0<9}").parse().map_err(|_| wrong())?;
    whole
        .checked_mul(NANOTON_PER_TON)
        .and_then(|nanoton| nanoton.checked_add(rest))
        .ok_or_else(wrong)
}

/// A time as in `30d`, `12h`, `10m`.
fn seconds(text: &str) -> Result<u64> {
    let wrong = || mistake(format_args!("--expires {text} is no time, as in 30d, 12h or 10m"));
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit_s = match unit {
        "d" => 86_400,
        "h" => 3_600,
        "m" => 60,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit_s).ok_or_else(wrong)
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails says where")]

    use super::*;

    #[test]
    fn amounts_and_times_are_read() {
        assert_eq!(nanoton("2.5").unwrap(), 2_500_000_000);
        assert_eq!(nanoton("0.000000001").unwrap(), 1);
        assert_eq!(nanoton("7").unwrap(), 7_000_000_000);
        for bad in ["", ".5", "1.0000000001", "-1", "a", "1e9", "99999999999999999999"] {
            assert!(nanoton(bad).is_err(), "{bad}");
        }
        assert_eq!((seconds("30d").unwrap(), seconds("10m").unwrap()), (2_592_000, 600));
        for bad in ["", "d", "10", "10s", "1.5h", "ж"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn limits_are_laid_over_each_other() {
        let option = |text: &str| Some(text.to_owned());
        let mut limits = KeyLimits::default();
        let first = LimitOptions {
            budget: option("1"),
            rate: option("60"),
            models: option("a, b"),
            expires: option("1h"),
        };
        change(&first, &mut limits, 100).unwrap();
        assert_eq!(limits.models, ["a", "b"]);
        assert_eq!((limits.requests_per_minute, limits.expires_s), (Some(60), Some(3_700)));
        let second = LimitOptions {
            budget: option("none"),
            rate: None,
            models: option("all"),
            expires: None,
        };
        change(&second, &mut limits, 100).unwrap();
        let left = KeyLimits {
            requests_per_minute: Some(60),
            expires_s: Some(3_700),
            ..KeyLimits::default()
        };
        assert_eq!(limits, left);
    }
}
