//! Values that every floor speaks of: money, tokens, prices, addresses, ids, secrets.
//!
//! Nothing here reads a clock, a file or a socket. Every type carries its unit in its
//! name, arithmetic is checked or saturating by name, and no value is ever made from a
//! floating-point number outside [`adjust`], the one formula that is defined on doubles.

mod address;
mod fault;
mod ids;
mod money;
mod pricing;
mod secret;
#[cfg(feature = "serde")]
mod serial;
mod time;

pub use address::{Address, AddressForm};
pub use fault::{AddressFault, AmountFault, IdFault, PriceFault};
pub use ids::{ImageHash, ModelName, ProtoVersion, PublicKey, RequestId, Role};
pub use money::Nanoton;
pub use pricing::{
    AdjustedUsage, Coefficient, Multiplier, PriceTable, Tokens, Usage, adjust, reserve_tokens,
    reserve_tokens_worst_case,
};
pub use secret::{Secret, SecretBytes};
pub use time::{UnixMs, UnixSeconds};
