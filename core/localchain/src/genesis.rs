//! What a chain is born with: configuration, seed, time, limits.

use ed25519_dalek::{Signer as _, SigningKey};
use sha2::{Digest as _, Sha256};
use std::num::NonZeroU16;
use tycho_executor::ParsedConfig;
use tycho_types::boc::Boc;
use tycho_types::cell::{Cell, CellBuilder, CellFamily as _, CellSlice, HashBytes, Load as _};
use tycho_types::dict::Dict;
use tycho_types::models::{
    Block, BlockId, BlockchainConfig, BlockchainConfigParams, ConfigParam0, ValidatorDescription,
    ValidatorSet,
};

use crate::Fault;
use crate::fault::Doing as _;

/// Mainnet's parameters as data; origin in `res/README.md`.
const MAINNET_CONFIG: &[u8] = include_bytes!("../res/config-52956904.boc");
/// Configuration parameter of the workchains.
const PARAM_WORKCHAINS: u32 = 12;
/// Configuration parameter of the current validators.
const PARAM_VALIDATORS: u32 = 34;
/// Tag of a workchain description with a state split depth, which the executor does not know yet.
const WORKCHAIN_V2: u8 = 0xa7;
/// Tag of a workchain description without.
const WORKCHAIN_V1: u8 = 0xa6;
/// TL constructor of an Ed25519 public key (`pub.ed25519`).
const PUB_ED25519: [u8; 4] = [0xc6, 0xb4, 0x13, 0x48];

/// Limits of a chain; each is there so that nothing that comes from outside grows without end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// External messages and faucet orders that may wait for the next block.
    pub waiting_messages: u32,
    /// Transactions in one block; what is left over waits in the queue for the next one.
    pub block_transactions: u32,
    /// Blocks kept with their states, for proofs and look-ups; older ones are forgotten.
    pub kept_blocks: u32,
    /// Transactions kept in all, and in all kept blocks; the oldest are forgotten.
    pub kept_transactions: u32,
    /// Largest amount the faucet gives at once, in nanoton.
    pub faucet_nanoton: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            waiting_messages: 65_536,
            block_transactions: 16_384,
            kept_blocks: 4_096,
            kept_transactions: 200_000,
            faucet_nanoton: 1_000_000_000_000_000,
        }
    }
}

/// Everything that decides how a chain begins. Two chains with equal geneses and equal inputs
/// are equal to the bit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genesis {
    /// Source of the validator's key and of every block's random seed.
    pub seed: [u8; 32],
    /// Time of the first block, milliseconds since 1970.
    pub now_ms: u64,
    /// Network number in blocks (mainnet -239, testnet -3). A number of our own by default, so
    /// that nobody mistakes a local block for a real one.
    pub global_id: i32,
    /// Configuration as a bag of cells holding the dictionary of parameters; `None` takes
    /// mainnet's, which is part of this crate.
    pub config: Option<Vec<u8>>,
    /// Limits.
    pub limits: Limits,
}

impl Genesis {
    /// A chain with mainnet's fees and limits.
    #[must_use]
    pub fn new(seed: [u8; 32], now_ms: u64) -> Self {
        Self { seed, now_ms, global_id: -217, config: None, limits: Limits::default() }
    }

    pub(crate) fn network(&self) -> Result<Network, Fault> {
        let bytes = self.config.as_deref().unwrap_or(MAINNET_CONFIG);
        let root = Boc::decode(bytes).map_err(|error| Fault::Config {
            doing: "decoding its bag of cells",
            reason: error.to_string(),
        })?;
        let validator = Validator::from_seed(&self.seed);
        Network::build(root, self.global_id, validator, self.now_ms).map_err(|fault| match fault {
            Fault::Cells { doing, source } => Fault::Config { doing, reason: source.to_string() },
            other => other,
        })
    }
}

/// The one validator: its signature makes block proofs checkable as on the real network.
pub(crate) struct Validator {
    key: SigningKey,
}

impl Validator {
    fn from_seed(seed: &[u8; 32]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(b"cocoon local chain: validator key");
        hasher.update(seed);
        Self { key: SigningKey::from_bytes(&hasher.finalize().into()) }
    }

    fn public_key(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    /// SHA-256 of the key in its TL form: how signatures name their signer.
    pub(crate) fn node_id_short(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(PUB_ED25519);
        hasher.update(self.public_key());
        hasher.finalize().into()
    }

    /// Signs a masterchain block as validators do.
    pub(crate) fn sign(&self, block: &BlockId) -> [u8; 64] {
        self.key.sign(&Block::build_data_for_sign(block)).to_bytes()
    }
}

/// The configuration, ready for the executor, and the validator.
pub(crate) struct Network {
    pub(crate) parsed: ParsedConfig,
    /// The configuration as it stands in masterchain blocks.
    pub(crate) published: BlockchainConfig,
    pub(crate) validator: Validator,
    /// Short hash of the validator list, as blocks carry it.
    pub(crate) validators_hash_short: u32,
}

/// Catchain session of every block: the validators never change.
pub(crate) const CATCHAIN_SEQNO: u32 = 1;

impl Network {
    fn build(root: Cell, global_id: i32, validator: Validator, now_ms: u64) -> Result<Self, Fault> {
        let mut params = BlockchainConfigParams::from_raw(root);
        params.set_global_id(global_id).doing("setting the global id")?;
        let set = ValidatorSet {
            utime_since: 0,
            utime_until: u32::MAX,
            main: NonZeroU16::MIN,
            total_weight: 1,
            list: vec![ValidatorDescription {
                public_key: HashBytes(validator.public_key()),
                weight: 1,
                adnl_addr: None,
                mc_seqno_since: 0,
                prev_total_weight: 0,
            }],
        };
        let cell = CellBuilder::build_from(&set).doing("building the validator set")?;
        params.set_raw(PARAM_VALIDATORS, cell).doing("setting the validators")?;
        let hash_short = set.compute_mc_subset(CATCHAIN_SEQNO, false).map(|(_, hash)| hash);

        let address = params
            .get::<ConfigParam0>()
            .doing("reading the config address")?
            .unwrap_or(HashBytes([0x55; 32]));
        let published = BlockchainConfig { address, params: params.clone() };
        if let Some(cell) = params.get_raw_cell(PARAM_WORKCHAINS).doing("reading workchains")? {
            let cell = downgrade_workchains(&cell).doing("rewriting workchains")?;
            params.set_raw(PARAM_WORKCHAINS, cell).doing("setting workchains")?;
        }
        let now = u32::try_from(now_ms / 1000).unwrap_or(u32::MAX);
        let mut parsed = ParsedConfig::parse(BlockchainConfig { address, params }, now)
            .doing("reading fees and limits")?;
        parsed.raw = published.clone();
        Ok(Self {
            parsed,
            published,
            validator,
            validators_hash_short: hash_short.unwrap_or_default(),
        })
    }
}

/// The executor reads only the older form of workchain descriptions; the newer one adds fields
/// at its end, so replacing the tag is enough.
fn downgrade_workchains(cell: &Cell) -> Result<Cell, tycho_types::error::Error> {
    let mut slice = cell.as_slice()?;
    let dict = Dict::<i32, CellSlice<'_>>::load_from(&mut slice)?;
    let mut result = Dict::<i32, Cell>::new().into_root();
    let mut rewritten = Dict::<i32, CellSlice<'_>>::from_raw(result.take());
    let mut values = Vec::new();
    for entry in dict.iter() {
        let (id, mut value) = entry?;
        let tag = value.load_u8()?;
        let mut builder = CellBuilder::new();
        builder.store_u8(if tag == WORKCHAIN_V2 { WORKCHAIN_V1 } else { tag })?;
        builder.store_slice(value)?;
        values.push((id, builder.build()?));
    }
    for (id, value) in &values {
        rewritten.set(*id, value.as_slice()?)?;
    }
    let mut builder = CellBuilder::new();
    tycho_types::cell::Store::store_into(&rewritten, &mut builder, Cell::empty_context())?;
    builder.build()
}
