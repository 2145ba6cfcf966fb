//! Configuration files as they are published for TON's networks.

use std::net::{Ipv4Addr, SocketAddr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::VerifyingKey;
use serde::Deserialize;
use tycho_types::cell::HashBytes;
use tycho_types::models::{BlockId, ShardIdent};

/// Mainnet's servers and first trusted block; origin in `res/README.md`.
const MAINNET: &str = include_str!("../../res/mainnet.global.json");
/// Testnet's.
const TESTNET: &str = include_str!("../../res/testnet.global.json");
/// Most servers read from a file.
const SERVERS_MAX: usize = 256;

/// Why a configuration file is of no use: give one as published for the network.
#[derive(Debug, thiserror::Error)]
pub enum GlobalFault {
    /// Not the JSON it should be.
    #[error("not a global configuration: {0}")]
    Form(#[from] serde_json::Error),
    /// A field holds no hash or key.
    #[error("{field} is malformed: {value}")]
    Field {
        /// Which field.
        field: &'static str,
        /// Its value.
        value: String,
    },
    /// Names no lite server that could be asked.
    #[error("names no lite server")]
    NoServer,
}

/// A lite server: where it is and which key it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiteServer {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its Ed25519 key, 32 bytes.
    pub key: VerifyingKey,
}

/// What a light client needs to know of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GlobalConfig {
    /// Servers to ask.
    pub servers: Vec<LiteServer>,
    /// The state before the first block: names the network.
    pub zero_state: BlockId,
    /// A key block to start proofs from.
    pub init_block: BlockId,
}

/// Networks known by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// TON.
    Mainnet,
    /// TON's test network.
    Testnet,
}

impl GlobalConfig {
    /// What is known of a network without asking anybody. Servers come and go: prefer a file
    /// published recently, where there is one.
    ///
    /// # Errors
    /// Never for the files in this crate; a test reads both.
    pub fn preset(network: Network) -> Result<Self, GlobalFault> {
        Self::parse(match network {
            Network::Mainnet => MAINNET,
            Network::Testnet => TESTNET,
        })
    }

    /// Reads a configuration file. Servers whose key or address has a form unknown here are
    /// passed over.
    ///
    /// # Errors
    /// [`GlobalFault`] says what is missing.
    pub fn parse(text: &str) -> Result<Self, GlobalFault> {
        let file: File = serde_json::from_str(text)?;
        let servers: Vec<_> =
            file.liteservers.iter().take(SERVERS_MAX).filter_map(Server::read).collect();
        if servers.is_empty() {
            return Err(GlobalFault::NoServer);
        }
        Ok(Self {
            servers,
            zero_state: file.validator.zero_state.read()?,
            init_block: file.validator.init_block.read()?,
        })
    }
}

#[derive(Deserialize)]
struct File {
    liteservers: Vec<Server>,
    validator: Validator,
}

#[derive(Deserialize)]
struct Server {
    ip: i64,
    port: u16,
    id: Key,
}

#[derive(Deserialize)]
struct Key {
    key: String,
}

#[derive(Deserialize)]
struct Validator {
    zero_state: Block,
    init_block: Block,
}

#[derive(Deserialize)]
struct Block {
    workchain: i32,
    shard: i64,
    seqno: u32,
    root_hash: String,
    file_hash: String,
}

impl Server {
    fn read(&self) -> Option<LiteServer> {
        // Written as a signed number; some write it unsigned.
        let ip = i32::try_from(self.ip)
            .map(i32::cast_unsigned)
            .or_else(|_| u32::try_from(self.ip))
            .ok()?;
        let key: [u8; 32] = STANDARD.decode(&self.id.key).ok()?.try_into().ok()?;
        Some(LiteServer {
            address: SocketAddr::from((Ipv4Addr::from_bits(ip), self.port)),
            key: VerifyingKey::from_bytes(&key).ok()?,
        })
    }
}

impl Block {
    fn read(&self) -> Result<BlockId, GlobalFault> {
        let shard = ShardIdent::new(self.workchain, self.shard.cast_unsigned());
        Ok(BlockId {
            shard: shard.ok_or_else(|| GlobalFault::Field {
                field: "shard",
                value: self.shard.to_string(),
            })?,
            seqno: self.seqno,
            root_hash: hash("root_hash", &self.root_hash)?,
            file_hash: hash("file_hash", &self.file_hash)?,
        })
    }
}

fn hash(field: &'static str, text: &str) -> Result<HashBytes, GlobalFault> {
    let bytes = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.map(HashBytes).ok_or_else(|| GlobalFault::Field { field, value: text.to_owned() })
}
