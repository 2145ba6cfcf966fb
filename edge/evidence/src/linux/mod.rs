//! TEEs of real machines, as Linux gives them.

mod bootlog;
mod device;
mod files;
mod measure;
mod nvml;
mod tsm;

pub(crate) use bootlog::area_len;
pub use bootlog::{ACPI_TABLES, read_boot_log};
pub(crate) use device::quote_in;
pub use device::{QuotingService, TdxDevice, VsockQuotingService};
pub use files::{KernelFiles, TsmFiles};
pub use measure::{is_measured, measure_gpu};
pub use nvml::Nvml;
pub(crate) use tsm::vcek;
pub use tsm::{ConfigfsTsm, EVENT_LOG, EXTEND_PATH, extend_rtmr3};
