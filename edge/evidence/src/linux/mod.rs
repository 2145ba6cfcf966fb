//! TEEs of real machines, as Linux gives them.

mod device;
mod files;
mod tsm;

pub use device::{QuotingService, TdxDevice, VsockQuotingService};
pub use files::{KernelFiles, TsmFiles};
pub use tsm::{ConfigfsTsm, EXTEND_PATH, extend_rtmr3};
