//! The router's configuration, and how the reference's own file becomes one.

use cocoon_host::config::ConfigFault;
use cocoon_host::evidence::EvidenceConfig;
use cocoon_role_router::{PolicySpec, PolicyTable, PortSpec, ReferenceFile, RouterFault};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// Which form of the word about a peer the program understands (protocol notes, wire 2.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LineConfig {
    /// The older form.
    Base,
    /// The present form.
    #[default]
    Live,
}

/// The router's settings. See `docs/router.md` for each with examples.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RouterConfig {
    /// Beginning of the names `_cert.pem` and `_key.pem`, read again when they change. Empty makes
    /// a certificate here, with the evidence of `evidence`, and a key that lasts as long as the
    /// process.
    pub cert_base_name: String,
    /// Evidence to show in a certificate made here, and whose roots are trusted.
    pub evidence: EvidenceConfig,
    /// Where collateral is fetched: a PCCS, or a cache of AMD's service, over plain HTTP on this
    /// machine. Empty fetches none: evidence of real hardware can then not be checked.
    pub collateral_url: String,
    /// Which form of the word about a peer the programs here understand.
    pub line: LineConfig,
    /// Bits of work demanded of peers.
    pub work_bits: u8,
    /// Most bits of work done for peers.
    pub work_bits_max: u8,
    /// Address on which reverse ports listen; all others listen on 127.0.0.1.
    pub reverse_listen: IpAddr,
    /// Seconds between two looks at certificate and key.
    pub reload_every_s: u64,
    /// Seconds that open connections get to end when the router is asked to stop.
    pub drain_s: u64,
    /// Bounds.
    pub limits: RouterLimits,
    /// Policies by name, besides `any`, `tee` and `tdx`.
    pub policies: BTreeMap<String, PolicySpec>,
    /// Ports.
    pub ports: Vec<PortSpec>,
}

/// Bounds of each port and connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RouterLimits {
    /// Connections open at once at one port.
    pub connections: usize,
    /// Connections open at once from one address, at reverse ports.
    pub connections_per_address: usize,
    /// Handshakes at once at one reverse port.
    pub handshakes: usize,
    /// Handshakes at once from one address, at reverse ports.
    pub handshakes_per_address: usize,
    /// Milliseconds for the SOCKS conversation.
    pub socks_ms: u64,
    /// Milliseconds for a TCP connection to come to be.
    pub connect_ms: u64,
    /// Milliseconds for work and TLS of a peer that comes in.
    pub accept_ms: u64,
    /// Milliseconds for work and TLS with a peer we dial.
    pub dial_ms: u64,
    /// Milliseconds in which somebody who is sent bytes must take them.
    pub stall_ms: u64,
    /// Milliseconds without a byte after one direction has ended.
    pub half_closed_ms: u64,
    /// Milliseconds without a byte in either direction; 0 waits for ever.
    pub idle_ms: u64,
}

impl Default for RouterLimits {
    fn default() -> Self {
        Self {
            connections: 4_096,
            connections_per_address: 256,
            handshakes: 1_024,
            handshakes_per_address: 64,
            socks_ms: 10_000,
            connect_ms: 10_000,
            accept_ms: 10_000,
            dial_ms: 120_000,
            stall_ms: 60_000,
            half_closed_ms: 60_000,
            // Nodes ping each other every few seconds.
            idle_ms: 300_000,
        }
    }
}

impl Default for RouterConfig {
    fn default() -> Self {
        Self {
            cert_base_name: String::new(),
            evidence: EvidenceConfig::None,
            collateral_url: String::new(),
            line: LineConfig::Live,
            work_bits: 20,
            work_bits_max: 28,
            reverse_listen: Ipv4Addr::UNSPECIFIED.into(),
            reload_every_s: 60,
            drain_s: 10,
            limits: RouterLimits::default(),
            policies: BTreeMap::new(),
            ports: Vec::new(),
        }
    }
}

impl RouterConfig {
    /// Takes what the reference's file says; its threads are the process's.
    #[must_use]
    pub fn from_reference(file: ReferenceFile) -> Self {
        Self {
            cert_base_name: file.cert_base_name,
            policies: file.policies.into_iter().collect(),
            ports: file.ports,
            ..Self::default()
        }
    }

    /// Checks what can be checked without starting anything, and gives the policies by name.
    ///
    /// # Errors
    /// [`ConfigFault`] names the member and what to write.
    pub fn check(&self) -> Result<PolicyTable, ConfigFault> {
        let member = |member, reason: String| ConfigFault::Member { member, reason };
        if self.ports.is_empty() {
            let reason = "write at least one port, or --socks, --forward, --reverse";
            return Err(member("ports", reason.to_owned()));
        }
        let mut table = PolicyTable::default();
        for (name, spec) in &self.policies {
            let put = table.put(name, spec.clone());
            put.map_err(|fault| member("policies", fault.to_string()))?;
        }
        for port in &self.ports {
            table.find(&port.policy).map_err(|fault| ports(&fault))?;
        }
        let bits = self.ports.iter().flat_map(|port| [port.work_bits, port.work_bits_max]);
        let bits = bits.flatten().chain([self.work_bits, self.work_bits_max]);
        if bits.max().is_some_and(|bits| bits > 64) {
            return Err(member("work_bits, work_bits_max", "0 to 64 bits".to_owned()));
        }
        if self.reload_every_s == 0 {
            return Err(member("reload_every_s", "must be at least 1".to_owned()));
        }
        let listed = &self.limits;
        let least = [listed.connections, listed.connections_per_address, listed.handshakes];
        let deadlines =
            [listed.socks_ms, listed.connect_ms, listed.accept_ms, listed.dial_ms, listed.stall_ms];
        if least.contains(&0) || listed.handshakes_per_address == 0 || deadlines.contains(&0) {
            let reason = "only limits.idle_ms and limits.half_closed_ms may be 0".to_owned();
            return Err(member("limits", reason));
        }
        Ok(table)
    }
}

fn ports(fault: &RouterFault) -> ConfigFault {
    ConfigFault::Member { member: "ports", reason: fault.to_string() }
}
