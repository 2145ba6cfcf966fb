//! What an operator can set.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::batches::BatchConfig;
use crate::idempotency::IdempotencyConfig;

/// Settings of the gateway's HTTP side. Every field has a default; unknown fields are refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GatewayConfig {
    /// Address to listen on. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Certificates of our own TLS listener; plain HTTP when absent.
    pub tls: Option<TlsFiles>,
    /// A reverse proxy in front of us ends TLS: lifts the demand for certificates on addresses
    /// other than loopback.
    pub behind_trusted_proxy: bool,
    /// Addresses of that reverse proxy: connections from other machines are refused, so that
    /// nobody walks around it. Empty: whoever reaches the port is taken for the proxy.
    pub trusted_proxies: Vec<IpAddr>,
    /// Whether API keys are required. Absent: yes on every address but loopback.
    pub require_keys: Option<bool>,
    /// File of the API keys. Needed when keys are required.
    pub keys_file: Option<PathBuf>,
    /// Word that the operator's requests (`POST /request/...`) need as `?access_hash=`. Empty: only
    /// programs on this machine may ask, and nobody where keys are required or another server
    /// stands in front.
    pub http_access_hash: String,
    /// Web origins whose pages may call us, `*` for all. Empty: pages from loopback, and all
    /// pages when keys are required. Programs that are no browsers send no origin and always may.
    pub allowed_origins: Vec<String>,
    /// Other names for models: what users ask for, what the network is asked for.
    pub model_aliases: BTreeMap<String, String>,
    /// Where files and batches are kept; absent: there are none.
    pub batches: Option<BatchConfig>,
    /// Where keyed requests and their answers are kept; absent: in memory, so that a restart
    /// forgets them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency: Option<IdempotencyConfig>,
    /// What is known of models beyond what the network tells, by name.
    pub models: BTreeMap<String, ModelFacts>,
    /// Limits on users.
    pub limits: Limits,
    /// What holds when a request does not say.
    pub defaults: Defaults,
}

/// What an operator knows of a model; the network's protocol has no place for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelFacts {
    /// Longest context, tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_tokens: Option<u64>,
    /// What it can do: `chat`, `completions`, `embeddings`, `tools`, `json_schema`, `vision`,
    /// `audio`, `transcription`, `speech`, `image`. When given, requests for an endpoint it does
    /// not serve are refused with the names of the models that do.
    pub capabilities: Vec<String>,
}

/// A certificate chain and its key, PEM files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The chain, own certificate first.
    pub certificates: PathBuf,
    /// The private key: PKCS #8, PKCS #1 or SEC 1.
    pub private_key: PathBuf,
}

/// Limits that keep one user from exhausting the gateway.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Open connections. For a further one the connection is closed that was without a request
    /// longest, or whose user keeps it waiting; it is answered 503 while all are being served.
    pub connections: usize,
    /// Open connections of one address other than loopback (of one /64 of IPv6), likewise; 0 for no
    /// limit.
    pub connections_per_address: usize,
    /// Inference requests a minute from one address other than loopback, as many at once after a
    /// pause; 0 for no limit. Behind a trusted proxy the address is the last one in
    /// `X-Forwarded-For`. Further ones are answered 429.
    pub requests_per_minute_per_address: u32,
    /// Requests running at once; further ones are answered 429.
    pub requests: usize,
    /// Largest request body, bytes.
    pub body_bytes: usize,
    /// Largest request head, bytes.
    pub head_bytes: usize,
    /// Most header lines in a request head.
    pub head_lines: usize,
    /// Longest time from the first byte of a request to the end of its head.
    pub head_deadline_ms: u64,
    /// Longest pause within a request body.
    pub body_pause_ms: u64,
    /// Longest pause between two requests on a connection.
    pub idle_ms: u64,
    /// Longest time in which a user takes none of the answer.
    pub write_stall_ms: u64,
    /// Longest deadline a request may ask for.
    pub timeout_ms_max: u64,
    /// Largest event of an answer's stream, bytes.
    pub event_bytes: usize,
    /// Answers that are no streams are kept up to this size so that their cost can stand in a
    /// header; longer ones are sent in chunks without it.
    pub kept_answer_bytes: usize,
    /// Answers kept for repeated `Idempotency-Key`s.
    pub idempotent_answers: usize,
    /// Those of one API key, so that no key pushes out the answers of others; 0 for no limit.
    pub idempotent_answers_per_key: usize,
    /// How long such an answer is kept.
    pub idempotent_ms: u64,
    /// How long running requests may take to end after a shutdown was asked for.
    pub drain_ms: u64,
}

/// What holds when a request does not say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Defaults {
    /// Price cap in thousandths (`max_coefficient`, protocol notes 3.5).
    pub max_coefficient: u32,
    /// Answer tokens to reserve and to write into the body when the user names no limit
    /// (protocol notes 4.2).
    pub max_tokens: u64,
    /// Whether that limit is written into the body. Without it an answer may outgrow what was
    /// reserved, and nodes may cut it off.
    pub insert_max_tokens: bool,
    /// Deadline of a request.
    pub timeout_ms: u64,
    /// Pause in a stream after which a comment shows that we live; 0 for never.
    pub keepalive_ms: u64,
    /// Wait for the first part of an answer before its head goes out, so that a failure until
    /// then gets a proper status.
    pub head_wait_ms: u64,
}

impl Default for GatewayConfig {
    fn default() -> GatewayConfig {
        GatewayConfig {
            // The reference's client port (protocol notes 4.1), on loopback.
            listen: SocketAddr::from(([127, 0, 0, 1], 10_000)),
            tls: None,
            behind_trusted_proxy: false,
            trusted_proxies: Vec::new(),
            require_keys: None,
            keys_file: None,
            http_access_hash: String::new(),
            allowed_origins: Vec::new(),
            model_aliases: BTreeMap::new(),
            batches: None,
            idempotency: None,
            models: BTreeMap::new(),
            limits: Limits::default(),
            defaults: Defaults::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 4096,
            connections_per_address: 256,
            requests_per_minute_per_address: 0,
            requests: 4096,
            // Pictures travel in base64 inside the body.
            body_bytes: 16 * 1024 * 1024,
            head_bytes: 32 * 1024,
            head_lines: 100,
            head_deadline_ms: 10_000,
            body_pause_ms: 30_000,
            idle_ms: 75_000,
            write_stall_ms: 60_000,
            timeout_ms_max: 3_600_000,
            event_bytes: 16 * 1024 * 1024,
            kept_answer_bytes: 4 * 1024 * 1024,
            idempotent_answers: 1024,
            idempotent_answers_per_key: 256,
            idempotent_ms: 24 * 3_600_000,
            drain_ms: 5_000,
        }
    }
}

impl Default for Defaults {
    fn default() -> Defaults {
        Defaults {
            max_coefficient: 4000,
            max_tokens: 10_000,
            insert_max_tokens: true,
            timeout_ms: 120_000,
            keepalive_ms: 20_000,
            head_wait_ms: 10_000,
        }
    }
}

impl GatewayConfig {
    /// True when every request needs an API key.
    pub fn keys_required(&self) -> bool {
        self.require_keys.unwrap_or_else(|| !self.listen.ip().is_loopback())
    }

    /// Checks what the types cannot. The error says what to change.
    pub fn check(&self) -> Result<(), ConfigFault> {
        let public = !self.listen.ip().is_loopback();
        if public && self.tls.is_none() && !self.behind_trusted_proxy {
            return Err(ConfigFault::PlainOnPublicAddress { listen: self.listen });
        }
        if !self.trusted_proxies.is_empty() && !self.behind_trusted_proxy {
            return Err(ConfigFault::ProxiesWithoutTrust);
        }
        if self.keys_required() && self.keys_file.is_none() {
            return Err(ConfigFault::NoKeysFile);
        }
        for (name, value) in [
            ("limits.connections", self.limits.connections),
            ("limits.requests", self.limits.requests),
            ("limits.body_bytes", self.limits.body_bytes),
            ("limits.event_bytes", self.limits.event_bytes),
        ] {
            if value == 0 {
                return Err(ConfigFault::Zero { name });
            }
        }
        // hyper cannot parse heads in less.
        if self.limits.head_bytes < 8192 {
            return Err(ConfigFault::HeadTooSmall { bytes: self.limits.head_bytes });
        }
        Ok(())
    }
}

/// A setting that cannot hold. The operator is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigFault {
    /// Prompts and keys would cross a network in the clear.
    #[error(
        "{listen} is not loopback, so TLS is required: set `tls`, or `behind_trusted_proxy` when a \
         reverse proxy ends TLS"
    )]
    PlainOnPublicAddress {
        /// The address asked for.
        listen: SocketAddr,
    },
    /// Proxies are listed, but nothing says that one stands in front.
    #[error("`trusted_proxies` is set, but `behind_trusted_proxy` is not: set it to true")]
    ProxiesWithoutTrust,
    /// Keys are required, but nothing says where they are.
    #[error("API keys are required, but `keys_file` is not set")]
    NoKeysFile,
    /// A limit of zero would refuse everything.
    #[error("`{name}` is 0, so nothing would be served")]
    Zero {
        /// The setting.
        name: &'static str,
    },
    /// A head limit below what the HTTP parser needs.
    #[error("`limits.head_bytes` is {bytes}; it must be at least 8192")]
    HeadTooSmall {
        /// The value given.
        bytes: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_needs_nothing_and_other_addresses_need_keys_and_tls() {
        let loopback = GatewayConfig::default();
        assert!(!loopback.keys_required());
        assert_eq!(loopback.check(), Ok(()));
        let public = GatewayConfig { listen: ([0, 0, 0, 0], 80).into(), ..loopback };
        assert!(public.keys_required());
        assert!(matches!(public.check(), Err(ConfigFault::PlainOnPublicAddress { .. })));
        let proxied = GatewayConfig { behind_trusted_proxy: true, ..public };
        assert_eq!(proxied.check(), Err(ConfigFault::NoKeysFile));
    }

    #[test]
    fn the_defaults_survive_a_round_trip() {
        let text = serde_json::to_string(&GatewayConfig::default()).unwrap();
        assert_eq!(serde_json::from_str::<GatewayConfig>(&text).unwrap(), GatewayConfig::default());
        assert!(serde_json::from_str::<GatewayConfig>("{\"lisen\":1}").is_err());
    }
}
