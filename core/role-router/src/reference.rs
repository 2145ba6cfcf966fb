//! The reference's configuration file (protocol notes, wire 2.11).
//!
//! As everywhere in its files a number or a flag may stand as text, and unknown members are
//! ignored. Two members of a port that the reference parses and then overwrites, the bits of
//! work, are obeyed here (protocol notes, wire 8.2).

use cocoon_attest::{Digest32, Digest48};
use serde_json::{Map, Value};

use crate::fault::RouterFault;
use crate::policy::{PolicyKind, PolicySpec};
use crate::port::{Destination, PortMode, PortSpec};

/// Most ports and policies in a file.
const ENTRIES_MAX: usize = 1024;

/// What stands in such a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReferenceFile {
    /// Beginning of the names of certificate and key; empty makes a fresh certificate.
    pub cert_base_name: String,
    /// Threads; 0 chooses.
    pub threads: u16,
    /// Policies with their names.
    pub policies: Vec<(String, PolicySpec)>,
    /// Ports.
    pub ports: Vec<PortSpec>,
}

impl ReferenceFile {
    /// Reads a file.
    ///
    /// # Errors
    /// [`RouterFault`] names the member.
    pub fn read(text: &str) -> Result<Self, RouterFault> {
        let value: Value = serde_json::from_str(text)
            .map_err(|fault| RouterFault::Json { detail: fault.to_string() })?;
        let Value::Object(file) = &value else {
            return Err(wrong("the router's file", "an object"));
        };
        let policies = list(file, "policies")?.iter().enumerate();
        let ports = list(file, "ports")?.iter().enumerate();
        Ok(Self {
            cert_base_name: string(file, "", "cert_base_name")?,
            threads: number(file, "", "threads")?.unwrap_or(0),
            policies: policies
                .map(|(at, value)| policy(value, &format!("policies[{at}]")))
                .collect::<Result<_, _>>()?,
            ports: ports
                .map(|(at, value)| port(value, &format!("ports[{at}]")))
                .collect::<Result<_, _>>()?,
        })
    }
}

fn policy(value: &Value, place: &str) -> Result<(String, PolicySpec), RouterFault> {
    let Value::Object(policy) = value else { return Err(wrong(place, "an object")) };
    let name = string(policy, place, "name")?;
    if name.is_empty() {
        return Err(wrong(&format!("{place}.name"), "a name"));
    }
    let mut spec = PolicySpec::of(PolicyKind::read(&string(policy, place, "type")?)?);
    for member in ["tdx_config", "sev_config"] {
        let here = format!("{place}.{member}");
        let config = match policy.get(member) {
            None | Some(Value::Null) => continue,
            Some(Value::Object(config)) => config,
            Some(_) => return Err(wrong(&here, "an object")),
        };
        for member in ["allowed_image_hashes", "allowed_image_hash", "allowed_image_id"] {
            for text in strings(config, &here, member)? {
                let hash = Digest32::read("image hash", &text)
                    .map_err(|_| wrong(&format!("{here}.{member}"), "image hashes in hex"))?;
                spec.image_hashes.push(hash);
            }
        }
        spec.mr_td.extend(registers(config, &here, "allowed_mrtd")?);
        spec.measurements.extend(registers(config, &here, "allowed_measurement")?);
        spec.collateral_roots.extend(registers(config, &here, "allowed_collateral_root_hashes")?);
        spec.rtmr.extend(register_sets(config, &here)?);
    }
    Ok((name, spec))
}

fn port(value: &Value, place: &str) -> Result<PortSpec, RouterFault> {
    let Value::Object(port) = value else { return Err(wrong(place, "an object")) };
    let to = || -> Result<Destination, RouterFault> {
        let host = string(port, place, "destination_host")?;
        let host = if host.is_empty() { "127.0.0.1".to_owned() } else { host };
        let number: Option<u16> = number(port, place, "destination_port")?;
        let number = number.filter(|port| *port > 0);
        let port = number.ok_or_else(|| wrong(&format!("{place}.destination_port"), "a port"))?;
        Ok(Destination { host, port })
    };
    let kind = string(port, place, "type")?;
    let from_name = flag(port, place, "allow_policy_from_username")?;
    let mode = match kind.as_str() {
        "socks5" => PortMode::Socks5 { policy_from_username: from_name },
        "forward" => PortMode::Forward(to()?),
        "reverse" => PortMode::Reverse(to()?),
        _ => return Err(wrong(&format!("{place}.type"), "socks5, forward or reverse")),
    };
    let policy = string(port, place, "policy_name")?;
    Ok(PortSpec {
        port: number(port, place, "port")?
            .filter(|port: &u16| *port >= 1024)
            .ok_or_else(|| wrong(&format!("{place}.port"), "a port from 1024 on"))?,
        mode,
        policy: if policy.is_empty() { "tee".to_owned() } else { policy },
        serialize_info: flag(port, place, "serialize_info")?,
        work_bits: bits(port, place, "pow_difficulty")?,
        work_bits_max: bits(port, place, "max_pow_difficulty")?,
    })
}

type Object = Map<String, Value>;

fn list<'a>(object: &'a Object, name: &str) -> Result<&'a [Value], RouterFault> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(values)) if values.len() <= ENTRIES_MAX => Ok(values),
        Some(_) => Err(wrong(name, "a list of at most 1024 entries")),
    }
}

fn string(object: &Object, place: &str, name: &str) -> Result<String, RouterFault> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(wrong(&below(place, name), "a text")),
    }
}

fn number<T: TryFrom<u64>>(
    object: &Object,
    place: &str,
    name: &str,
) -> Result<Option<T>, RouterFault> {
    let read = match object.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => number.as_u64(),
        Some(Value::String(text)) => text.parse().ok(),
        Some(_) => None,
    };
    read.and_then(|number| T::try_from(number).ok())
        .map(Some)
        .ok_or_else(|| wrong(&below(place, name), "a number in its range"))
}

fn bits(object: &Object, place: &str, name: &str) -> Result<Option<u8>, RouterFault> {
    match number(object, place, name)? {
        Some(bits) if bits > 64 => Err(wrong(&below(place, name), "0 to 64 bits")),
        bits => Ok(bits),
    }
}

fn flag(object: &Object, place: &str, name: &str) -> Result<bool, RouterFault> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(Value::String(text)) if text == "true" => Ok(true),
        Some(Value::String(text)) if text == "false" => Ok(false),
        Some(_) => Err(wrong(&below(place, name), "true or false")),
    }
}

/// A text or a list of them; a text may hold several with commas between.
fn strings(object: &Object, place: &str, name: &str) -> Result<Vec<String>, RouterFault> {
    let expected = "a text, or a list of at most 1024";
    let texts: Vec<&Value> = match object.get(name) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(values)) if values.len() <= ENTRIES_MAX => values.iter().collect(),
        Some(text @ Value::String(_)) => vec![text],
        Some(_) => return Err(wrong(&below(place, name), expected)),
    };
    let mut found = Vec::new();
    for value in texts {
        let Value::String(text) = value else { return Err(wrong(&below(place, name), expected)) };
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        found.extend(parts.map(str::to_owned));
    }
    Ok(found)
}

fn register(text: &str, place: &str) -> Result<Digest48, RouterFault> {
    Digest48::read("register", text).map_err(|_| wrong(place, "48 bytes in hex"))
}

fn registers(object: &Object, place: &str, name: &str) -> Result<Vec<Digest48>, RouterFault> {
    let here = below(place, name);
    strings(object, place, name)?.iter().map(|text| register(text, &here)).collect()
}

fn register_sets(object: &Object, place: &str) -> Result<Vec<[Digest48; 4]>, RouterFault> {
    let (name, expected) = ("allowed_rtmr", "lists of four registers in hex");
    let here = below(place, name);
    let mut sets = Vec::new();
    for value in list(object, name)? {
        let Value::Array(set) = value else { return Err(wrong(&here, expected)) };
        let set: Vec<Digest48> = set
            .iter()
            .take(5)
            .map(|value| register(value.as_str().unwrap_or_default(), &here))
            .collect::<Result<_, _>>()?;
        sets.push(set.try_into().map_err(|_| wrong(&here, expected))?);
    }
    Ok(sets)
}

fn below(place: &str, name: &str) -> String {
    if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") }
}

fn wrong(place: &str, expected: &'static str) -> RouterFault {
    RouterFault::Member { place: place.to_owned(), expected }
}
