//! TEEs of real machines, as Linux gives them.

mod device;
mod files;
mod measure;
mod nvml;
mod tsm;

pub use device::{QuotingService, TdxDevice, VsockQuotingService};
pub use files::{KernelFiles, TsmFiles};
pub use measure::{is_measured, measure_gpu};
pub use nvml::Nvml;
pub use tsm::{ConfigfsTsm, EVENT_LOG, EXTEND_PATH, extend_rtmr3};
