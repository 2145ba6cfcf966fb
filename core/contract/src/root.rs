//! The root contract's state: the registry of the network (protocol notes 2.3).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;

use cocoon_units::{Address, PublicKey};
use tycho_types::cell::{CellBuilder, CellDataBuilder, CellSlice, HashBytes, Store};
use tycho_types::dict::{Dict, RawDict};

use crate::Fault;
use crate::address::Network;
use crate::cell::{Cell, Hash, Reader, Writer};
use crate::params::{Params, Selector};

/// Most image or model hashes read from a registry.
pub const MAX_HASHES: usize = 65_536;

/// Most proxy entries read from a registry.
pub const MAX_PROXIES: usize = 65_536;

/// Most bytes in the text of a proxy entry.
pub const MAX_ENDPOINT_BYTES: usize = 127;

/// The structure version that added the key manager.
const KEY_MANAGER_SINCE: u8 = 4;

const WHAT: &str = "root contract";
const WHAT_DATA: &str = "root contract: registry";

/// Where a proxy listens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProxyEndpoint {
    /// For workers.
    pub workers: SocketAddrV4,
    /// For clients.
    pub clients: SocketAddrV4,
}

impl ProxyEndpoint {
    /// Reads `ip:port` (both the same) or `ip:port ip:port` (workers, clients); IPv4 only, each
    /// part may stand in square brackets.
    ///
    /// # Errors
    /// [`Fault::Endpoint`]: skip the entry on chain, refuse it in configuration.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let fault = || Fault::Endpoint { text: text.chars().take(MAX_ENDPOINT_BYTES).collect() };
        let part = |text: &str| {
            let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
            bare.parse::<SocketAddrV4>().map_err(|_| fault())
        };
        match text.split_once(' ') {
            Some((workers, clients)) => {
                Ok(Self { workers: part(workers)?, clients: part(clients)? })
            }
            None => part(text).map(|both| Self { workers: both, clients: both }),
        }
    }

    /// The text for the registry.
    #[must_use]
    pub fn text(&self) -> String {
        if self.workers == self.clients {
            return self.workers.to_string();
        }
        format!("{} {}", self.workers, self.clients)
    }
}

/// One entry as it stands on chain, readable or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredProxy {
    /// Kind bit; only `false` is defined.
    pub kind: bool,
    /// The text, at most [`MAX_ENDPOINT_BYTES`].
    pub text: Vec<u8>,
}

impl RegisteredProxy {
    /// An entry for this endpoint.
    #[must_use]
    pub fn new(endpoint: &ProxyEndpoint) -> Self {
        Self { kind: false, text: endpoint.text().into_bytes() }
    }

    /// The endpoint, when the entry can be read.
    ///
    /// # Errors
    /// [`Fault::Endpoint`]: skip the entry.
    pub fn endpoint(&self) -> Result<ProxyEndpoint, Fault> {
        let text = String::from_utf8_lossy(&self.text);
        if self.kind {
            return Err(Fault::Endpoint { text: text.into_owned() });
        }
        ProxyEndpoint::parse(&text)
    }

    pub(crate) fn write(&self, writer: Writer) -> Writer {
        let bytes = self.text.get(..self.text.len().min(MAX_ENDPOINT_BYTES)).unwrap_or_default();
        writer.bit(self.kind).uint(bytes.len() as u64, 7).bytes(bytes)
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        let kind = reader.bit()?;
        let length = reader.uint(7)?;
        Ok(Self { kind, text: reader.text(length)? })
    }
}

/// Who hands out keys for end-to-end encryption; from structure version 4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyManager {
    /// Keys that requests may be encrypted to: kind and expiry, Unix seconds.
    pub public_keys: BTreeMap<Hash, (u8, u32)>,
    /// Its own key.
    pub public_key: PublicKey,
    /// The image it runs.
    pub image_hash: Hash,
    /// Where it listens, an entry of the same form as a proxy's.
    pub address: RegisteredProxy,
}

/// Most public keys read from a key manager.
pub const MAX_PUBLIC_KEYS: usize = 65_536;

const WHAT_KEYS: &str = "root contract: key manager";

impl KeyManager {
    fn parse(cell: &Cell) -> Result<Self, Fault> {
        let mut reader = Reader::new(WHAT_KEYS, cell)?;
        let mut public_keys = BTreeMap::new();
        let dict = reader.maybe_reference()?;
        read_dict::<256>(WHAT_KEYS, dict, MAX_PUBLIC_KEYS, |key, value| {
            let key = Reader::of_slice(WHAT_KEYS, key.as_data_slice()).hash()?;
            let mut value = Reader::of_slice(WHAT_KEYS, value);
            public_keys.insert(key, (value.u8()?, value.u32()?));
            Ok(())
        })?;
        let manager = Self {
            public_keys,
            public_key: reader.public_key()?,
            image_hash: reader.hash()?,
            address: RegisteredProxy::read(&mut reader)?,
        };
        reader.end()?;
        Ok(manager)
    }

    fn cell(&self) -> Result<Cell, Fault> {
        let mut dict = Dict::<HashBytes, Raw>::new();
        for (key, (kind, expires_s)) in &self.public_keys {
            let value = Raw(Writer::new(WHAT_KEYS).u8(*kind).u32(*expires_s).build()?);
            dict.set(HashBytes(key.0), value)
                .map_err(|reason| Fault::Build { what: WHAT_KEYS, reason })?;
        }
        let writer = Writer::new(WHAT_KEYS)
            .maybe_reference(dict.into_root())
            .public_key(&self.public_key)
            .hash(&self.image_hash);
        self.address.write(writer).build()
    }
}

/// The registry and parameters of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootState {
    /// Who may change it.
    pub owner: Address,
    /// Grows with every change. Apply a state only when this is larger than what is known.
    pub version: u32,
    /// Image hashes a proxy may run.
    pub proxy_hashes: BTreeSet<Hash>,
    /// Proxies by number.
    pub registered_proxies: BTreeMap<u32, RegisteredProxy>,
    /// The number given last.
    pub last_proxy_seqno: u32,
    /// Image hashes a worker may run.
    pub worker_hashes: BTreeSet<Hash>,
    /// SHA-256 of the full model names that may be served.
    pub model_hashes: BTreeSet<Hash>,
    /// Parameters and codes.
    pub network: Network,
    /// The key manager, from structure version 4.
    pub key_manager: Option<KeyManager>,
}

impl RootState {
    /// Reads the data cell of the root contract.
    ///
    /// Entries of proxies that cannot be read stay in the map; skip them when choosing one.
    ///
    /// # Errors
    /// [`Fault::StructVersion`] for a newer structure: stop operating, keep running, and tell the
    /// operator to update. Another [`Fault`]: keep the last good state and log the cell's hash.
    pub fn parse(cell: &Cell) -> Result<Self, Fault> {
        let mut reader = Reader::new(WHAT, cell)?;
        let owner = reader.address()?;
        let version = reader.u32()?;
        let data = reader.reference()?;
        // Parameters first: a newer structure must be told apart from a damaged one.
        let (params, codes) = Params::parse(&reader.reference()?)?;
        let key_manager = if params.struct_version >= KEY_MANAGER_SINCE {
            Some(KeyManager::parse(&reader.reference()?)?)
        } else {
            None
        };
        reader.end()?;
        let mut reader = Reader::new(WHAT_DATA, &data)?;
        let proxy_hashes = read_hashes("proxy hashes", reader.maybe_reference()?)?;
        let registered_proxies = read_proxies(reader.maybe_reference()?)?;
        let last_proxy_seqno = reader.u32()?;
        let worker_hashes = read_hashes("worker hashes", reader.maybe_reference()?)?;
        let model_hashes = read_hashes("model hashes", reader.maybe_reference()?)?;
        reader.end()?;
        let network = Network { params, codes };
        Ok(Self {
            owner,
            version,
            proxy_hashes,
            registered_proxies,
            last_proxy_seqno,
            worker_hashes,
            model_hashes,
            network,
            key_manager,
        })
    }

    /// Builds the data cell.
    ///
    /// # Errors
    /// [`Fault::CodeIsHashOnly`] when a code cell is not at hand.
    pub fn cell(&self) -> Result<Cell, Fault> {
        let params = self.network.params.cell(Selector::Root, &self.network.codes)?;
        let writer = Writer::new(WHAT)
            .address(&self.owner)
            .u32(self.version)
            .reference(self.data_cell()?)
            .reference(params);
        match &self.key_manager {
            Some(manager) => writer.reference(manager.cell()?),
            None => writer,
        }
        .build()
    }

    /// The registry cell, the first reference of the state.
    ///
    /// # Errors
    /// [`Fault::Build`] when a dictionary cannot be built: a bug.
    pub fn data_cell(&self) -> Result<Cell, Fault> {
        Writer::new(WHAT_DATA)
            .maybe_reference(write_hashes(&self.proxy_hashes)?)
            .maybe_reference(self.write_proxies()?)
            .u32(self.last_proxy_seqno)
            .maybe_reference(write_hashes(&self.worker_hashes)?)
            .maybe_reference(write_hashes(&self.model_hashes)?)
            .build()
    }

    /// The proxies that can be read, in order of their number.
    pub fn endpoints(&self) -> impl Iterator<Item = (u32, ProxyEndpoint)> + '_ {
        self.registered_proxies
            .iter()
            .filter_map(|(seqno, entry)| entry.endpoint().ok().map(|endpoint| (*seqno, endpoint)))
    }

    fn write_proxies(&self) -> Result<Option<Cell>, Fault> {
        let mut dict = Dict::<u32, Raw>::new();
        for (seqno, entry) in &self.registered_proxies {
            let value = Raw(entry.write(Writer::new(WHAT_DATA)).build()?);
            dict.set(*seqno, value).map_err(|reason| Fault::Build { what: WHAT_DATA, reason })?;
        }
        Ok(dict.into_root())
    }
}

/// A value whose bits and references go straight into the dictionary.
struct Raw(Cell);

impl Store for Raw {
    fn store_into(
        &self,
        builder: &mut CellBuilder,
        _: &dyn tycho_types::cell::CellContext,
    ) -> Result<(), tycho_types::error::Error> {
        builder.store_slice(self.0.as_slice()?)
    }
}

fn write_hashes(hashes: &BTreeSet<Hash>) -> Result<Option<Cell>, Fault> {
    let mut dict = Dict::<HashBytes, ()>::new();
    for hash in hashes {
        dict.set(HashBytes(hash.0), ())
            .map_err(|reason| Fault::Build { what: WHAT_DATA, reason })?;
    }
    Ok(dict.into_root())
}

/// Walks a dictionary, at most `limit` entries: one shared cell may stand for many of them.
fn read_dict<const BITS: u16>(
    what: &'static str,
    root: Option<Cell>,
    limit: usize,
    mut entry: impl FnMut(&CellDataBuilder, CellSlice<'_>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let dict = RawDict::<BITS>::from(root);
    for (index, item) in dict.iter().enumerate() {
        if index >= limit {
            return Err(Fault::TooMany { what, limit });
        }
        let (key, value) = item.map_err(|reason| Fault::Layout { what, reason })?;
        entry(&key, value)?;
    }
    Ok(())
}

fn read_hashes(what: &'static str, root: Option<Cell>) -> Result<BTreeSet<Hash>, Fault> {
    let mut hashes = BTreeSet::new();
    read_dict::<256>(what, root, MAX_HASHES, |key, _| {
        hashes.insert(Reader::of_slice(what, key.as_data_slice()).hash()?);
        Ok(())
    })?;
    Ok(hashes)
}

fn read_proxies(root: Option<Cell>) -> Result<BTreeMap<u32, RegisteredProxy>, Fault> {
    let what = "registered proxies";
    let mut proxies = BTreeMap::new();
    read_dict::<32>(what, root, MAX_PROXIES, |key, value| {
        let seqno = Reader::of_slice(what, key.as_data_slice()).u32()?;
        // An unreadable value is one bad entry, not a bad registry.
        if let Ok(entry) = RegisteredProxy::read(&mut Reader::of_slice(what, value)) {
            proxies.insert(seqno, entry);
        }
        Ok(())
    })?;
    Ok(proxies)
}
