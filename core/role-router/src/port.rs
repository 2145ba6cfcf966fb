//! What a port does, and how the reference writes it (protocol notes, wire 2.11).

use serde::{Deserialize, Serialize};

use crate::fault::RouterFault;

/// Smallest port that the reference takes. Zero, a free port, is ours for tests.
const PORT_MIN: u16 = 1024;

/// Where a connection goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Destination {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// What a port does with a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum PortMode {
    /// Programs on this machine say by SOCKS5 where they want to go.
    Socks5 {
        /// Whether a user name chooses the policy; without one the port's own holds.
        #[serde(default)]
        policy_from_username: bool,
    },
    /// Programs on this machine come out at a fixed place of the network.
    Forward(Destination),
    /// The network comes in, and comes out at a fixed place on this side.
    Reverse(Destination),
}

/// A port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortSpec {
    /// Its number; 0 takes a free one.
    pub port: u16,
    /// What it does.
    pub mode: PortMode,
    /// Its policy, as [`PolicyTable::find`](crate::PolicyTable::find) reads it.
    pub policy: String,
    /// Whether the program is told who its peer is before the first byte.
    #[serde(default)]
    pub serialize_info: bool,
    /// Bits of work demanded of peers here; the router's when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work_bits: Option<u8>,
    /// Most bits of work done for peers here; the router's when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work_bits_max: Option<u8>,
}

impl PortSpec {
    /// Reads `port[@policy[:hash]]`, as `-S` takes it. `serialize_info` is the command line's.
    ///
    /// # Errors
    /// [`RouterFault::Form`].
    pub fn socks(text: &str, serialize_info: bool) -> Result<Self, RouterFault> {
        let form = "port[@policy[:hash]] with a port from 1024 on";
        let (port, policy) = split_policy(text, "tee");
        let port = number(port).ok_or_else(|| fault(text, form))?;
        let mode = PortMode::Socks5 { policy_from_username: false };
        Ok(Self::new(port, mode, policy, serialize_info))
    }

    /// Reads `port:host:port[@policy[:hash]]`, as `-F` takes it.
    ///
    /// # Errors
    /// [`RouterFault::Form`].
    pub fn forward(text: &str, serialize_info: bool) -> Result<Self, RouterFault> {
        let (port, to, policy) = fixed(text, "tee")?;
        Ok(Self::new(port, PortMode::Forward(to), policy, serialize_info))
    }

    /// Reads `port:host:port[@policy[:hash]]`, as `-R` takes it.
    ///
    /// # Errors
    /// [`RouterFault::Form`].
    pub fn reverse(text: &str, serialize_info: bool) -> Result<Self, RouterFault> {
        let (port, to, policy) = fixed(text, "any")?;
        Ok(Self::new(port, PortMode::Reverse(to), policy, serialize_info))
    }

    /// Reads the older `port:type[:policy[:host:port]]`, as `-p` takes it.
    ///
    /// # Errors
    /// [`RouterFault::Form`].
    pub fn legacy(text: &str, serialize_info: bool) -> Result<Self, RouterFault> {
        let form = "port:socks5|forward|reverse[:policy[:host:port]]";
        let wrong = || fault(text, form);
        let parts: Vec<&str> = text.split(':').collect();
        let (port, kind) = match parts.as_slice() {
            [port, kind, ..] => (number(port).ok_or_else(wrong)?, *kind),
            _ => return Err(wrong()),
        };
        let to = match parts.get(3..) {
            Some([host, port]) => Some(destination(host, port).ok_or_else(wrong)?),
            None | Some([]) => None,
            Some(_) => return Err(wrong()),
        };
        let mode = match (kind, to) {
            ("socks5", None) => PortMode::Socks5 { policy_from_username: false },
            ("forward", Some(to)) => PortMode::Forward(to),
            ("reverse", Some(to)) => PortMode::Reverse(to),
            _ => return Err(wrong()),
        };
        let policy = parts.get(2).copied().filter(|name| !name.is_empty()).unwrap_or("tee");
        Ok(Self::new(port, mode, policy, serialize_info))
    }

    fn new(port: u16, mode: PortMode, policy: &str, serialize_info: bool) -> Self {
        let policy = policy.to_owned();
        Self { port, mode, policy, serialize_info, work_bits: None, work_bits_max: None }
    }
}

fn split_policy<'a>(text: &'a str, usual: &'a str) -> (&'a str, &'a str) {
    match text.split_once('@') {
        Some((place, policy)) if !policy.is_empty() => (place, policy),
        Some((place, _)) => (place, usual),
        None => (text, usual),
    }
}

fn fixed<'a>(text: &'a str, usual: &'a str) -> Result<(u16, Destination, &'a str), RouterFault> {
    let wrong = || fault(text, "port:host:port[@policy[:hash]] with a port from 1024 on");
    let (place, policy) = split_policy(text, usual);
    let (port, rest) = place.split_once(':').ok_or_else(wrong)?;
    let (host, to) = rest.rsplit_once(':').ok_or_else(wrong)?;
    let to = destination(host, to).ok_or_else(wrong)?;
    Ok((number(port).ok_or_else(wrong)?, to, policy))
}

fn destination(host: &str, port: &str) -> Option<Destination> {
    let sound = !host.is_empty() && host.len() <= 255 && host.bytes().all(|b| b.is_ascii_graphic());
    let port = port.parse().ok().filter(|port| *port > 0)?;
    sound.then(|| Destination { host: host.to_owned(), port })
}

fn number(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port == 0 || *port >= PORT_MIN)
}

fn fault(text: &str, form: &'static str) -> RouterFault {
    RouterFault::Form { text: text.chars().take(200).collect(), form }
}
