//! How answers look: lines for people, one JSON object for scripts, from the same fields.

use cocoon_contract::cell::Hash;
use cocoon_units::{Address, AddressForm, Nanoton, UnixSeconds};
use serde_json::{Map, Value, json};
use std::io::{BufRead as _, IsTerminal as _, Write as _};

use crate::mistake;

/// One value.
#[derive(Clone, Debug)]
pub(crate) enum Field {
    Amount(Nanoton),
    /// Of one token: too small to be read in TON.
    Price(Nanoton),
    Account(Address),
    Hash(Hash),
    Number(u64),
    Text(String),
    Flag(bool),
    Time(UnixSeconds),
    /// Nothing to say: null in JSON, left out of the text.
    Nothing,
    Group(Fields),
    List(Vec<Fields>),
    /// Short texts in one line each.
    Lines(Vec<String>),
}

/// Named values in the order they are shown. Names are words with spaces.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(Vec<(&'static str, Field)>);

impl Fields {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn add(mut self, name: &'static str, field: impl Into<Field>) -> Self {
        self.0.push((name, field.into()));
        self
    }

    /// Amounts and times carry their unit in the name, as everywhere in this product.
    pub(crate) fn to_json(&self) -> Value {
        let mut object = Map::new();
        for (name, field) in &self.0 {
            let name = name.replace([' ', '-'], "_");
            let (suffix, value) = match field {
                Field::Amount(amount) | Field::Price(amount) => ("_nanoton", json!(amount.0)),
                Field::Account(address) => ("", json!(address.to_raw())),
                Field::Hash(hash) => ("", json!(hash.to_string())),
                Field::Number(number) => ("", json!(number)),
                Field::Text(text) => ("", json!(text)),
                Field::Flag(flag) => ("", json!(flag)),
                Field::Time(time) => ("_s", json!(time.0)),
                Field::Nothing => ("", Value::Null),
                Field::Group(fields) => ("", fields.to_json()),
                Field::List(list) => ("", list.iter().map(Self::to_json).collect()),
                Field::Lines(lines) => ("", json!(lines)),
            };
            object.insert(format!("{name}{suffix}"), value);
        }
        Value::Object(object)
    }

    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text, 0);
        text
    }

    fn write(&self, text: &mut String, indent: usize) {
        let is_line = |field: &Field| {
            !matches!(field, Field::Nothing | Field::Group(_) | Field::List(_) | Field::Lines(_))
        };
        let width = self.0.iter().filter(|(_, field)| is_line(field));
        let width = width.map(|(name, _)| name.len()).max().unwrap_or(0);
        let pad = " ".repeat(indent);
        for (name, field) in &self.0 {
            let line = match field {
                Field::Nothing => continue,
                Field::Group(fields) => {
                    text.push_str(&format!("{pad}{name}\n"));
                    fields.write(text, indent + 2);
                    continue;
                }
                Field::List(list) => {
                    text.push_str(&format!(
                        "{pad}{name}{}\n",
                        if list.is_empty() { ": none" } else { "" }
                    ));
                    for (number, fields) in list.iter().enumerate() {
                        if number > 0 {
                            text.push('\n');
                        }
                        fields.write(text, indent + 2);
                    }
                    continue;
                }
                Field::Lines(lines) => {
                    text.push_str(&format!(
                        "{pad}{name}{}\n",
                        if lines.is_empty() { ": none" } else { "" }
                    ));
                    for line in lines {
                        text.push_str(&format!("{pad}  {line}\n"));
                    }
                    continue;
                }
                Field::Amount(amount) => amount.to_string(),
                Field::Price(amount) => format!("{} nanoton", amount.0),
                Field::Account(address) => address.to_string(),
                Field::Hash(hash) => hash.to_string(),
                Field::Number(number) => number.to_string(),
                Field::Text(text) => text.clone(),
                Field::Flag(flag) => (if *flag { "yes" } else { "no" }).to_owned(),
                Field::Time(time) => utc(*time),
            };
            text.push_str(&format!("{pad}{name:<width$}  {line}\n"));
        }
    }
}

impl From<Nanoton> for Field {
    fn from(amount: Nanoton) -> Self {
        Self::Amount(amount)
    }
}

impl From<Address> for Field {
    fn from(address: Address) -> Self {
        Self::Account(address)
    }
}

impl From<Hash> for Field {
    fn from(hash: Hash) -> Self {
        Self::Hash(hash)
    }
}

impl From<u64> for Field {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<u32> for Field {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<bool> for Field {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<UnixSeconds> for Field {
    fn from(time: UnixSeconds) -> Self {
        Self::Time(time)
    }
}

impl From<&str> for Field {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Field {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Fields> for Field {
    fn from(fields: Fields) -> Self {
        Self::Group(fields)
    }
}

impl From<Vec<Fields>> for Field {
    fn from(list: Vec<Fields>) -> Self {
        Self::List(list)
    }
}

impl From<Vec<String>> for Field {
    fn from(lines: Vec<String>) -> Self {
        Self::Lines(lines)
    }
}

impl<T: Into<Self>> From<Option<T>> for Field {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Nothing, Into::into)
    }
}

/// Prints an answer.
pub(crate) fn answer(json: bool, fields: &Fields) {
    if json {
        println!("{}", fields.to_json());
    } else {
        print!("{}", fields.to_text());
    }
}

/// The four text forms of an address.
pub(crate) fn forms(address: Address) -> Fields {
    let (bounce, plain) = (AddressForm::BOUNCEABLE, AddressForm::NON_BOUNCEABLE);
    Fields::new()
        .add("raw", address.to_raw())
        .add("for wallets", address.to_friendly(plain))
        .add("for contracts", address.to_friendly(bounce))
        .add("testnet, for wallets", address.to_friendly(plain.on_testnet(true)))
        .add("testnet, for contracts", address.to_friendly(bounce.on_testnet(true)))
}

/// A moment as `2026-11-22 00:40:32 UTC` (proleptic Gregorian calendar).
pub(crate) fn utc(time: UnixSeconds) -> String {
    let (days, second) = (time.0 / 86_400, time.0 % 86_400);
    // Days since 0000-03-01, so that the leap day ends a year; 400 years have 146,097 days.
    let days = days.saturating_add(719_468);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second % 3600 / 60, second % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// How long, in the largest fitting unit.
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Whether there is an answer to "shall I?"; found out before anything is shown.
pub(crate) fn somebody(yes: bool) -> anyhow::Result<()> {
    if yes || std::io::stdin().is_terminal() {
        return Ok(());
    }
    Err(mistake("nobody is there to be asked: say --yes, or --dry-run to only see"))
}

/// Asks before something is done; `--yes` answers for scripts.
pub(crate) fn confirm(yes: bool, question: &str) -> anyhow::Result<()> {
    somebody(yes)?;
    if yes {
        return Ok(());
    }
    eprint!("{question} [y/N] ");
    std::io::stderr().flush()?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    if line.trim().eq_ignore_ascii_case("y") || line.trim().eq_ignore_ascii_case("yes") {
        return Ok(());
    }
    Err(mistake("stopped: nothing was sent"))
}

#[cfg(test)]
mod tests {
    use super::{Fields, span, utc};
    use cocoon_units::{Nanoton, UnixSeconds};

    #[test]
    fn moments_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_795_307_232, "2026-11-22 00:27:12 UTC"),
            (4_107_542_399, "2100-02-28 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(utc(UnixSeconds(seconds)), text);
        }
        assert_eq!(
            (span(90), span(7_199), span(86_400)),
            ("90 s".into(), "119 min".into(), "24 h".into())
        );
    }

    #[test]
    fn people_and_scripts_read_the_same() {
        let fields = Fields::new()
            .add("name", "main")
            .add("balance", Nanoton(1_500_000_000))
            .add("owner", None::<String>)
            .add("parts", vec![Fields::new().add("a", 1_u32), Fields::new().add("a", 2_u32)]);
        assert_eq!(fields.to_text(), "name     main\nbalance  1.5 TON\nparts\n  a  1\n\n  a  2\n");
        assert_eq!(
            fields.to_json().to_string(),
            r#"{"name":"main","balance_nanoton":1500000000,"owner":null,"parts":[{"a":1},{"a":2}]}"#
        );
    }
}
