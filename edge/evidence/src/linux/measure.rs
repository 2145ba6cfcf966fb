//! A GPU's evidence, measured once while the image boots.
//!
//! The digest goes into RTMR3 before the workload starts, so that nobody can show another GPU later
//! (decision 12). Whatever restarts afterwards reads the evidence from the file that the boot left: a
//! new one would have another nonce, and no second digest can be measured.

use std::path::Path;

use cocoon_attest::gpu::GpuEvidence;
use cocoon_attest::tdx::{EventLog, GPU_EVENT, READY_EVENT};

use super::files::TsmFiles;
use super::tsm::extend_rtmr3;
use crate::fault::EvidenceFault;

/// Extends RTMR3 with the digest of `gpu`, and appends the event to the log. A crash between the two
/// leaves a log that does not replay: the machine shows no image then, and has to boot again.
///
/// # Errors
/// [`EvidenceFault::Gpu`]: a GPU was measured before, or the image is set up already; boot again.
/// [`EvidenceFault::Device`], [`EvidenceFault::Unusable`]: log or register cannot be used.
pub fn measure_gpu(
    files: &dyn TsmFiles,
    (register, log): (&Path, &Path),
    gpu: &GpuEvidence,
) -> Result<(), EvidenceFault> {
    let mut text = match files.read(log) {
        Ok(text) => text,
        Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(source) => {
            let path = log.to_owned();
            return Err(EvidenceFault::Device { what: "reading the event log", path, source });
        }
    };
    let known = EventLog::read(&text)?;
    let late = |detail: &str| Err(EvidenceFault::Gpu { detail: detail.to_owned() });
    if known.contains_prefix(GPU_EVENT) {
        return late("a GPU was measured since this machine booted; only one can be");
    }
    if known.contains(READY_EVENT) {
        return late("the image is set up already; a GPU is measured while it boots");
    }
    let event = format!("{GPU_EVENT}{}", gpu.digest());
    extend_rtmr3(files, register, &event)?;
    if !text.is_empty() && !text.ends_with(b"\n") {
        text.push(b'\n');
    }
    text.extend_from_slice(event.as_bytes());
    text.push(b'\n');
    files.write(log, &text).map_err(|source| EvidenceFault::Device {
        what: "writing the event log",
        path: log.to_owned(),
        source,
    })
}

/// Whether a log says that this GPU was measured before the image was set up.
#[must_use]
pub fn is_measured(log: &[u8], gpu: &GpuEvidence) -> bool {
    let digest = gpu.digest().to_string();
    EventLog::read(log).is_ok_and(|log| log.value_before(GPU_EVENT, READY_EVENT) == Some(&digest))
}
