//! Configuration in layers: defaults, then a TOML file, then the environment, then flags. A later
//! layer wins, member by member.
//!
//! The environment names a member by its path: `COCOON_PROXY_LISTEN_CLIENTS` is
//! `listen_clients` of the proxy, `COCOON_PROXY_LIMITS__CONNECTIONS` is `connections` in `[limits]`.
//! Flags set any member with `--set path.to.member=value`.

use cocoon_units::Address;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::net::SocketAddr;
use std::path::Path;
use thiserror::Error;
use toml::{Table, Value};

/// A configuration that cannot be used. The user's mistake: exit code 2, nothing is started.
#[derive(Debug, Error)]
pub enum ConfigFault {
    /// The file cannot be read.
    #[error("configuration file {path}: {reason}")]
    File {
        /// Which file.
        path: String,
        /// Why not.
        reason: String,
    },
    /// A setting is written wrongly.
    #[error("{origin}: {reason}")]
    Setting {
        /// Where it came from: a variable or a flag.
        origin: String,
        /// What is wrong.
        reason: String,
    },
    /// A member has a value that cannot be used.
    #[error("{member}: {reason}")]
    Member {
        /// Which.
        member: &'static str,
        /// What is wrong and what to write instead.
        reason: String,
    },
    /// Settings that have no default and were not given. All at once, so that nobody learns of them
    /// one start after the other.
    #[error(
        "not set yet: {}. Write what is missing into the file of --config, or give --set \
         member=value for each", listed(.0)
    )]
    Missing(Vec<(String, &'static str)>),
    /// The whole does not make a configuration: unknown member, wrong type, missing member.
    #[error("configuration: {reason}")]
    Whole {
        /// What is wrong.
        reason: String,
    },
}

impl ConfigFault {
    /// The same fault where the members stand in a table of the file.
    #[must_use]
    pub fn within(self, table: &str) -> Self {
        let inner = |member: &str| format!("{table}.{member}");
        match self {
            Self::Member { member, reason } => Self::Setting { origin: inner(member), reason },
            Self::Missing(missing) => {
                let missing = missing.into_iter().map(|(member, why)| (inner(&member), why));
                Self::Missing(missing.collect())
            }
            other => other,
        }
    }
}

/// The layers of one role's configuration, collected in order.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    table: Table,
}

impl Layers {
    /// Starts with the defaults.
    ///
    /// # Errors
    /// Us: the defaults cannot be written as TOML.
    pub fn defaults<T: Serialize>(defaults: &T) -> Result<Self, ConfigFault> {
        let table = Table::try_from(defaults)
            .map_err(|fault| ConfigFault::Whole { reason: fault.to_string() })?;
        Ok(Self { table })
    }

    /// Lays a TOML file over it.
    ///
    /// # Errors
    /// [`ConfigFault::File`].
    pub fn file(mut self, path: &Path) -> Result<Self, ConfigFault> {
        let fault = |reason: String| ConfigFault::File { path: path.display().to_string(), reason };
        let text = std::fs::read_to_string(path).map_err(|source| fault(source.to_string()))?;
        self.lay(&text).map_err(|source| {
            // Without the line itself, which may hold a secret.
            let before = source.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            fault(format!("line {line}: {}", source.message().replace('\n', ", ")))
        })?;
        Ok(self)
    }

    /// Lays the variables that start with `prefix` over it.
    ///
    /// # Errors
    /// [`ConfigFault::Setting`].
    pub fn environment(
        mut self,
        prefix: &str,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigFault> {
        let mut found: Vec<(String, String)> =
            variables.filter(|(name, _)| name.starts_with(prefix)).collect();
        found.sort();
        for (name, text) in found {
            let path = name[prefix.len()..].to_ascii_lowercase().replace("__", ".");
            self.put(&path, &text, &format!("variable {name}"))?;
        }
        Ok(self)
    }

    /// Lays one flag over it, `path.to.member=value`.
    ///
    /// # Errors
    /// [`ConfigFault::Setting`].
    pub fn set(mut self, setting: &str) -> Result<Self, ConfigFault> {
        let origin = format!("--set {setting}");
        let Some((path, text)) = setting.split_once('=') else {
            let reason = "write it as member=value".into();
            return Err(ConfigFault::Setting { origin, reason });
        };
        self.put(path.trim(), text, &origin)?;
        Ok(self)
    }

    /// Lays one value over it, when there is one.
    ///
    /// # Errors
    /// [`ConfigFault::Setting`].
    pub fn flag<T: Serialize>(mut self, path: &str, value: Option<T>) -> Result<Self, ConfigFault> {
        let Some(value) = value else { return Ok(self) };
        let origin = format!("--{}", path.replace(['_', '.'], "-"));
        let value = Value::try_from(value)
            .map_err(|fault| ConfigFault::Setting { origin, reason: fault.to_string() })?;
        let mut layer = value;
        for part in path.rsplit('.') {
            layer = Value::Table(Table::from_iter([(part.to_owned(), layer)]));
        }
        if let Value::Table(layer) = layer {
            merge(&mut self.table, layer);
        }
        Ok(self)
    }

    /// The configuration.
    ///
    /// # Errors
    /// [`ConfigFault::Whole`] names the member.
    pub fn build<T: DeserializeOwned>(&self) -> Result<T, ConfigFault> {
        self.table
            .clone()
            .try_into()
            .map_err(|fault: toml::de::Error| ConfigFault::Whole { reason: in_one_line(&fault) })
    }

    /// The effective configuration as TOML, for `--print-config`.
    #[must_use]
    pub fn print(&self) -> String {
        toml::to_string_pretty(&self.table).unwrap_or_default()
    }

    /// Lays the text of a file over it.
    pub(crate) fn lay(&mut self, text: &str) -> Result<(), toml::de::Error> {
        merge(&mut self.table, toml::from_str(text)?);
        Ok(())
    }

    fn put(&mut self, path: &str, text: &str, origin: &str) -> Result<(), ConfigFault> {
        let fault = |reason: &str| ConfigFault::Setting {
            origin: origin.to_owned(),
            reason: reason.to_owned(),
        };
        let mut parts: Vec<&str> = path.split('.').collect();
        let member =
            parts.pop().filter(|name| !name.is_empty()).ok_or_else(|| fault("no member"))?;
        let mut table = &mut self.table;
        for part in parts {
            let entry = table.entry(part.to_owned()).or_insert_with(|| Value::Table(Table::new()));
            table = entry.as_table_mut().ok_or_else(|| fault("is no table"))?;
        }
        let value = typed(text, table.get(member));
        table.insert(member.to_owned(), value);
        Ok(())
    }
}

/// Asks for the settings without a default: each with its value as text and what it is for.
///
/// # Errors
/// [`ConfigFault::Missing`] names every one that is empty.
pub fn required(members: &[(&str, &str, &'static str)]) -> Result<(), ConfigFault> {
    let missing = members.iter().filter(|(_, value, _)| value.is_empty());
    let missing: Vec<_> =
        missing.map(|(member, _, meaning)| ((*member).to_owned(), *meaning)).collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(ConfigFault::Missing(missing)),
    }
}

fn listed(missing: &[(String, &str)]) -> String {
    let each = missing.iter().map(|(member, meaning)| format!("{member} ({meaning})"));
    each.collect::<Vec<_>>().join(", ")
}

/// What is asked of every role: which network it belongs to, by its chain or a registry file, and
/// its root contract.
#[must_use]
pub fn required_network<'a>(
    is_on_chain: bool,
    network_file: &Path,
    root: &'a str,
) -> [(&'static str, &'a str, &'static str); 2] {
    let is_chosen = is_on_chain || !network_file.as_os_str().is_empty();
    let chosen = if is_chosen { "chosen" } else { "" };
    [
        (
            "chain.kind",
            chosen,
            "mainnet, testnet or local; or network_file: a registry without chain",
        ),
        ("root", root, "address of the network's root contract"),
    ]
}

/// Reads an address member.
///
/// # Errors
/// [`ConfigFault::Member`].
pub fn address(member: &'static str, text: &str) -> Result<Address, ConfigFault> {
    Address::parse(text)
        .map_err(|fault| ConfigFault::Member { member, reason: format!("{text:?}: {fault}") })
}

/// Reads a member of the reference's configuration that counts something.
///
/// # Errors
/// [`ConfigFault::Member`] for a negative number.
pub fn count(member: &'static str, value: i32) -> Result<u32, ConfigFault> {
    u32::try_from(value)
        .map_err(|_| ConfigFault::Member { member, reason: format!("{value} cannot be negative") })
}

/// Reads a port of the reference's configuration, on loopback as the reference binds it; 0 is
/// none.
///
/// # Errors
/// [`ConfigFault::Member`] for a number that is no port.
pub fn local_port(member: &'static str, value: i32) -> Result<Option<SocketAddr>, ConfigFault> {
    match u16::try_from(value) {
        Ok(0) => Ok(None),
        Ok(port) => Ok(Some(SocketAddr::from(([127, 0, 0, 1], port)))),
        Err(_) => Err(ConfigFault::Member { member, reason: format!("{value} is no port") }),
    }
}

/// Reads a setting: as TOML when it is a number, a boolean, a list or a quoted string; as plain
/// text otherwise, and always where text stands already.
fn typed(text: &str, before: Option<&Value>) -> Value {
    let plain = || Value::String(text.to_owned());
    if before.is_some_and(Value::is_str) {
        return plain();
    }
    match toml::from_str::<Table>(&format!("value = {text}")) {
        Ok(mut table) => table.remove("value").unwrap_or_else(plain),
        Err(_) => plain(),
    }
}

/// What is wrong with a value, and where: the library puts them on lines of their own.
fn in_one_line(fault: &toml::de::Error) -> String {
    let text = fault.to_string();
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

fn merge(below: &mut Table, above: Table) {
    for (name, value) in above {
        match (below.get_mut(&name), value) {
            (Some(Value::Table(below)), Value::Table(above)) => merge(below, above),
            (_, value) => {
                below.insert(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Layers;
    use serde::{Deserialize, Serialize};
    use std::io::Write as _;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        listen: String,
        workers: u32,
        limits: Limits,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Limits {
        connections: u32,
        names: Vec<String>,
    }

    fn defaults() -> Layers {
        Layers::defaults(&Settings {
            listen: "127.0.0.1:1".into(),
            workers: 1,
            limits: Limits { connections: 10, names: vec![] },
        })
        .unwrap()
    }

    #[test]
    fn later_layers_win_member_by_member() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "listen = \"file\"\nworkers = 2\n[limits]\nconnections = 20").unwrap();
        let variables = [
            ("COCOON_TEST_WORKERS".to_owned(), "3".to_owned()),
            ("COCOON_TEST_LIMITS__NAMES".to_owned(), "[\"a\", \"b\"]".to_owned()),
            ("OTHER".to_owned(), "x".to_owned()),
        ];
        let layers = defaults()
            .file(file.path())
            .unwrap()
            .environment("COCOON_TEST_", variables.into_iter())
            .unwrap()
            .set("listen=8080")
            .unwrap();
        let expected = Settings {
            listen: "8080".into(),
            workers: 3,
            limits: Limits { connections: 20, names: vec!["a".into(), "b".into()] },
        };
        assert_eq!(layers.build::<Settings>().unwrap(), expected);
    }

    #[test]
    fn a_mistake_is_one_line_and_shows_no_value_of_the_file() {
        for setting in ["limits.connections=many", "colour=blue", "workers=-1"] {
            let fault =
                defaults().set(setting).unwrap().build::<Settings>().unwrap_err().to_string();
            let (path, _) = setting.split_once('=').unwrap();
            let name = path.rsplit('.').next().unwrap();
            assert!(fault.lines().count() == 1 && fault.contains(name), "{fault:?}");
            assert_eq!(fault.trim(), fault);
        }
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "workers = 1\nsecret = \"hunter2").unwrap();
        let fault = defaults().file(file.path()).unwrap_err().to_string();
        assert!(fault.lines().count() == 1 && fault.contains("line 2: "), "{fault:?}");
        assert!(!fault.contains("hunter2"), "{fault:?}");
    }

    #[test]
    fn a_mistake_is_named() {
        let wrong = defaults().set("limits.connections=many").unwrap().build::<Settings>();
        assert!(wrong.unwrap_err().to_string().contains("connections"));
        let unknown = defaults().set("colour=blue").unwrap().build::<Settings>();
        assert!(unknown.unwrap_err().to_string().contains("colour"));
        assert!(defaults().set("nothing").is_err());
    }
}
