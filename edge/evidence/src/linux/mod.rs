//! TEEs of real machines, as Linux gives them.

mod device;
mod files;
mod nvml;
mod tsm;

pub use device::{QuotingService, TdxDevice, VsockQuotingService};
pub use files::{KernelFiles, TsmFiles};
pub use nvml::Nvml;
pub use tsm::{ConfigfsTsm, EXTEND_PATH, extend_rtmr3};
