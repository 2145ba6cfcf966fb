//! The firmware's boot log, as Linux hands it on from the ACPI table CCEL.
//!
//! Sources: ACPI 6.5, 5.2.34 (the table); Linux, `Documentation/ABI/testing/sysfs-firmware-acpi`
//! (`tables/data`). Table and log are the host's word until a quote's registers agree.

use std::io;
use std::path::{Path, PathBuf};

use cocoon_attest::BadEvidence;
use cocoon_attest::tdx::BootLog;

use super::files::TsmFiles;
use crate::fault::EvidenceFault;

/// Where the kernel shows the tables of ACPI.
pub const ACPI_TABLES: &str = "/sys/firmware/acpi/tables";

/// Largest area for a log that is read, bytes: firmware of 2026 takes up to 256 KiB.
const AREA_LIMIT: u64 = 4 << 20;
const TABLE_LEN: usize = 56;
/// The kind of confidential machine that the table is about.
const TDX: u8 = 2;

/// Reads the boot log of a TDX guest, without the padding behind it. None where the firmware has left
/// none, or where the kernel hands none on.
///
/// # Errors
/// [`EvidenceFault::Device`], [`EvidenceFault::Unusable`]: there is a table, but no log that can be
/// read. Whoever serves people goes on without it, and says so to the operator.
pub fn read_boot_log(
    files: &dyn TsmFiles,
    tables: &Path,
) -> Result<Option<Vec<u8>>, EvidenceFault> {
    let Some(table) = read(files, tables.join("CCEL"))? else { return Ok(None) };
    let area_len = area_len(&table)?;
    if area_len > AREA_LIMIT {
        return Err(malformed(format!("an area of {area_len} bytes")).into());
    }
    let Some(area) = read(files, tables.join("data/CCEL"))? else { return Ok(None) };
    Ok(Some(BootLog::trim(&area)?.to_vec()))
}

/// Returns how long the area of the log is, in bytes, by the table.
pub(crate) fn area_len(table: &[u8]) -> Result<u64, BadEvidence> {
    let early = || malformed("it ends early".to_owned());
    let table = table.get(..TABLE_LEN).ok_or_else(early)?;
    if table.get(..4) != Some(b"CCEL") {
        return Err(malformed("it has another name".to_owned()));
    }
    match table.get(36) {
        Some(&TDX) => {}
        kind => return Err(malformed(format!("it is about machines of the kind {kind:?}"))),
    }
    let len = table.get(40..48).and_then(|len| len.try_into().ok());
    len.map(u64::from_le_bytes).ok_or_else(early)
}

fn read(files: &dyn TsmFiles, path: PathBuf) -> Result<Option<Vec<u8>>, EvidenceFault> {
    match files.read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(EvidenceFault::Device { what: "reading the boot log", path, source }),
    }
}

fn malformed(detail: String) -> BadEvidence {
    BadEvidence::Malformed { what: "the ACPI table CCEL", detail }
}
