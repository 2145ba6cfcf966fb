//! What can be shown to others? Receipts of answers, bundles of evidence, and what they prove.
//!
//! A [`Receipt`] is what a worker's TEE signed about one answer. A [`Bundle`] is the evidence of
//! the machines behind a gateway, with everything that is needed to judge it. [`examine`] judges
//! a bundle and says one thing about each claim; [`check_receipt`] does so for a receipt. Both
//! judge by the asker's own [`Trust`].
//!
//! No clock, no randomness, no file, no socket.

#![forbid(unsafe_code)]

mod answer;
mod bundle;
mod events;
mod examine;
pub mod fuzz;
mod receipt;
mod receipt_check;
mod report_lines;
mod trust;

pub use answer::{Answer, Occasion};
pub use bundle::{BUNDLE_LIMIT, Bundle, BundleFault, Machine, MachineRole, RootView, Shown};
pub use events::EventLine;
pub use examine::{Asker, examine};
pub use receipt::{
    Body, Money, RECEIPT_LIMIT, RECEIPT_TAG, Receipt, ReceiptEnd, ReceiptFault, ReceiptKey,
    SignedReceipt, TeeMark,
};
pub use receipt_check::{Compared, ReceiptFile, check_receipt};
pub use report_lines::{ClaimLine, Examination, Requirement, Standing};
pub use trust::{TRUST_LIMIT, Trust, TrustFault};
