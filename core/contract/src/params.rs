//! The network's parameters, fixed into every contract (protocol notes 2.2).

use cocoon_units::{Multiplier, Nanoton, PriceTable};

use crate::Fault;
use crate::cell::{Cell, CellId, Reader, Writer};
use crate::code::{Code, Codes};

/// The newest structure version this program reads. Version 4 leaves the parameters as they are
/// and adds the key manager to the root's state.
pub const NEWEST_STRUCT_VERSION: u8 = 4;

/// The structure version the deployed contracts and ours read.
pub const CONTRACT_STRUCT_VERSION: u8 = 3;

/// Which codes a parameters cell carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Selector {
    /// All three, as in the root contract (selector 7).
    Root,
    /// Worker and client, as in a proxy contract (selector 6).
    Proxy,
    /// None, as in worker and client contracts (selector 0).
    Leaf,
}

/// Prices, multipliers, delays and stakes of the network.
///
/// A change of any of them gives every contract a new address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params {
    /// Layout of the cell, 0 to [`NEWEST_STRUCT_VERSION`].
    pub struct_version: u8,
    /// Grows with every change of the parameters.
    pub params_version: u32,
    /// Tells networks apart.
    pub unique_id: u32,
    /// A network for trying out.
    pub is_test: bool,
    /// Price of one adjusted token.
    pub price_per_token: Nanoton,
    /// The worker's part of the price.
    pub worker_fee_per_token: Nanoton,
    /// Prompt tokens count this much, in 1/10000. From structure version 3.
    pub prompt_multiplier: Multiplier,
    /// Cached prompt tokens count this much, in 1/10000. From structure version 2.
    pub cached_multiplier: Multiplier,
    /// Completion tokens count this much, in 1/10000. From structure version 3.
    pub completion_multiplier: Multiplier,
    /// Reasoning tokens count this much, in 1/10000. From structure version 2.
    pub reasoning_multiplier: Multiplier,
    /// Seconds between a proxy's wish to close and its completion.
    pub proxy_delay_s: u32,
    /// Seconds between a client's request and its forced refund.
    pub client_delay_s: u32,
    /// Least stake of a proxy. From structure version 1.
    pub min_proxy_stake: Nanoton,
    /// Stake of a new client contract. From structure version 1.
    pub min_client_stake: Nanoton,
}

/// The stake when a structure version does not name one.
pub const DEFAULT_STAKE: Nanoton = Nanoton(1_000_000_000);

const WHAT: &str = "parameters";

impl Params {
    /// Reads a parameters cell with the codes it carries.
    ///
    /// # Errors
    /// [`Fault::StructVersion`] for a newer structure: stop operating on this network until the
    /// program is updated. Another [`Fault`] when the cell is not a parameters cell.
    pub fn parse(cell: &Cell) -> Result<(Self, Codes), Fault> {
        let mut reader = Reader::new(WHAT, cell)?;
        let struct_version = reader.u8()?;
        if struct_version > NEWEST_STRUCT_VERSION {
            return Err(Fault::StructVersion {
                found: struct_version,
                newest: NEWEST_STRUCT_VERSION,
            });
        }
        let since = |version: u8| struct_version >= version;
        let multiplier = |reader: &mut Reader<'_>, version: u8| {
            if since(version) { reader.u32().map(Multiplier) } else { Ok(Multiplier::ONE) }
        };
        let params = Self {
            struct_version,
            params_version: reader.u32()?,
            unique_id: reader.u32()?,
            is_test: reader.bit()?,
            price_per_token: reader.coins()?,
            worker_fee_per_token: reader.coins()?,
            prompt_multiplier: multiplier(&mut reader, 3)?,
            cached_multiplier: multiplier(&mut reader, 2)?,
            completion_multiplier: multiplier(&mut reader, 3)?,
            reasoning_multiplier: multiplier(&mut reader, 2)?,
            proxy_delay_s: reader.u32()?,
            client_delay_s: reader.u32()?,
            min_proxy_stake: if since(1) { reader.coins()? } else { DEFAULT_STAKE },
            min_client_stake: if since(1) { reader.coins()? } else { DEFAULT_STAKE },
        };
        let codes = Codes {
            proxy: reader.maybe_reference()?.map(Code::from),
            worker: reader.maybe_reference()?.map(Code::from),
            client: reader.maybe_reference()?.map(Code::from),
        };
        reader.end()?;
        Ok((params, codes))
    }

    /// Builds the cell with the codes the selector names.
    ///
    /// Codes that `codes` lacks are written as absent, as the root contract does.
    ///
    /// # Errors
    /// [`Fault::CodeIsHashOnly`] when a selected code is known by hash only;
    /// [`Fault::StructVersion`] for a version this program cannot write.
    pub fn cell(&self, selector: Selector, codes: &Codes) -> Result<Cell, Fault> {
        let writer =
            selected(selector, codes).iter().try_fold(self.fields()?, |writer, slot| {
                let cell = slot.code.map(|code| code.require_cell(slot.role)).transpose()?;
                Ok::<_, Fault>(writer.maybe_reference(cell))
            })?;
        writer.build()
    }

    /// The identity of the cell with the codes the selector names; hashes of codes suffice.
    ///
    /// # Errors
    /// [`Fault::StructVersion`] for a version this program cannot write.
    pub fn id(&self, selector: Selector, codes: &Codes) -> Result<CellId, Fault> {
        let slots = selected(selector, codes);
        let writer =
            slots.iter().fold(self.fields()?, |writer, slot| writer.bit(slot.code.is_some()));
        let refs: Vec<CellId> = slots.iter().filter_map(|slot| slot.code.map(Code::id)).collect();
        writer.identify(&refs)
    }

    /// The prices and multipliers, for the books.
    #[must_use]
    pub fn price_table(&self) -> PriceTable {
        PriceTable {
            price_per_token: self.price_per_token,
            worker_fee_per_token: self.worker_fee_per_token,
            prompt: self.prompt_multiplier,
            cached: self.cached_multiplier,
            completion: self.completion_multiplier,
            reasoning: self.reasoning_multiplier,
        }
    }

    fn fields(&self) -> Result<Writer, Fault> {
        let version = self.struct_version;
        if version > NEWEST_STRUCT_VERSION {
            return Err(Fault::StructVersion { found: version, newest: NEWEST_STRUCT_VERSION });
        }
        let multiplier = |writer: Writer, since: u8, value: Multiplier| {
            if version >= since { writer.u32(value.0) } else { writer }
        };
        let mut writer = Writer::new(WHAT)
            .u8(version)
            .u32(self.params_version)
            .u32(self.unique_id)
            .bit(self.is_test)
            .coins(self.price_per_token)
            .coins(self.worker_fee_per_token);
        writer = multiplier(writer, 3, self.prompt_multiplier);
        writer = multiplier(writer, 2, self.cached_multiplier);
        writer = multiplier(writer, 3, self.completion_multiplier);
        writer = multiplier(writer, 2, self.reasoning_multiplier);
        writer = writer.u32(self.proxy_delay_s).u32(self.client_delay_s);
        if version >= 1 {
            writer = writer.coins(self.min_proxy_stake).coins(self.min_client_stake);
        }
        Ok(writer)
    }
}

struct Slot<'a> {
    role: &'static str,
    code: Option<&'a Code>,
}

fn selected(selector: Selector, codes: &Codes) -> [Slot<'_>; 3] {
    let has_proxy = selector == Selector::Root;
    let has_others = selector != Selector::Leaf;
    [
        Slot { role: "proxy", code: codes.proxy.as_ref().filter(|_| has_proxy) },
        Slot { role: "worker", code: codes.worker.as_ref().filter(|_| has_others) },
        Slot { role: "client", code: codes.client.as_ref().filter(|_| has_others) },
    ]
}
