//! What can be wrong with cells, messages, states and payments, sorted by who is guilty.

use crate::cell::Hash;

/// Why a cell, message, state or payment was refused.
///
/// Nothing here carries a secret: keys, secrets and message bodies never enter the text.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
pub enum Fault {
    // The peer, or whoever wrote these bytes to the chain.
    /// A bag of cells is not one, or exceeds the limits. Refuse the input.
    #[error("the bag of cells is refused: {reason}")]
    Boc {
        /// What is wrong with it.
        reason: String,
    },
    /// A cell does not have the layout its name promises. Refuse the input.
    #[error("{what}: the cell does not have this layout ({reason})")]
    Layout {
        /// The structure that was being read.
        what: &'static str,
        /// What the reader met.
        reason: tycho_types::error::Error,
    },
    /// Bits or references are left over where the layout ends. Refuse the input.
    #[error("{what}: {bits} bits and {refs} references are left over")]
    Leftover {
        /// The structure that was being read.
        what: &'static str,
        /// Bits after the end.
        bits: u16,
        /// References after the end.
        refs: u8,
    },
    /// A field holds a value outside its range. Refuse the input.
    #[error("{what}: field {field} holds {found}, which is out of range")]
    Range {
        /// The structure that was being read.
        what: &'static str,
        /// The field.
        field: &'static str,
        /// What it holds.
        found: u64,
    },
    /// An address is not of the form `addr_std` without anycast. Refuse the input.
    #[error("{what}: the address is not a standard one without anycast")]
    AddressForm {
        /// The structure that was being read.
        what: &'static str,
    },
    /// An operation nobody knows. Ignore the message.
    #[error("unknown operation {op:#010x}")]
    UnknownOp {
        /// The first 32 bits of the body.
        op: u32,
    },
    /// Another operation than the one expected here. Ignore the message.
    #[error("operation {found:#010x} where {expected:#010x} is due")]
    UnexpectedOp {
        /// What is due.
        expected: u32,
        /// What came.
        found: u32,
    },
    /// A text command nobody knows. Ignore the message.
    #[error("unknown text command")]
    UnknownText,
    /// The signed part repeats the outer operation or query id differently.
    /// Treat the payment as not made.
    #[error("the signed part does not repeat the outer operation and query id")]
    EnvelopeMismatch,
    /// The payment is signed for another contract. Treat it as not made.
    #[error("the payment is signed for contract {found}, not for {expected}")]
    Target {
        /// The contract it should name, raw form.
        expected: String,
        /// The contract it names, raw form.
        found: String,
    },
    /// The signature does not verify under the proxy's key. Treat the payment as not made.
    #[error("the signature is not the proxy's")]
    Signature,
    /// A dictionary has more entries than any honest registry. Refuse the state.
    #[error("{what}: more than {limit} entries")]
    TooMany {
        /// The dictionary.
        what: &'static str,
        /// How many are read.
        limit: usize,
    },
    /// A registry entry of a proxy is not `ip:port` or `ip:port ip:port`. Skip the entry.
    #[error("proxy entry {text:?} is not `ip:port` or `ip:port ip:port`")]
    Endpoint {
        /// The text, at most 127 bytes, lossy.
        text: String,
    },

    // Configuration: the network's, or ours.
    /// The parameters have a structure newer than this program. Stop operating on this network
    /// until the program is updated; the state is not wrong.
    #[error(
        "the network's parameters have structure version {found}; this program knows up to \
         {newest}: update it"
    )]
    StructVersion {
        /// What the network uses.
        found: u8,
        /// The newest version known here.
        newest: u8,
    },
    /// The parameters hold no code for this contract. Nothing can be derived from them.
    #[error("the parameters hold no {role} code")]
    NoCode {
        /// Whose code.
        role: &'static str,
    },
    /// The code is known by hash and depth only, a deployment needs the cell itself.
    #[error("the {role} code {hash} is known by its hash only; load the cell first")]
    CodeIsHashOnly {
        /// Whose code.
        role: &'static str,
        /// Its representation hash.
        hash: Hash,
    },

    /// The root's changes do not wait behind a timelock that is good enough. Warn, or keep the last
    /// state, as the operator's policy demands.
    #[error("changes of the root may come without notice: {reason}")]
    NotGuarded {
        /// What is missing.
        reason: &'static str,
    },

    // Us.
    /// A structure does not fit into a cell: a bug of the caller.
    #[error("{what} does not fit into a cell ({reason})")]
    Build {
        /// The structure that was being written.
        what: &'static str,
        /// What the builder met.
        reason: tycho_types::error::Error,
    },
    /// A wallet order holds more messages than one external message can carry: split it.
    #[error("{found} messages in one order, at most {limit} fit")]
    TooManyMessages {
        /// How many were asked for.
        found: usize,
        /// How many this wallet takes.
        limit: usize,
    },
}
