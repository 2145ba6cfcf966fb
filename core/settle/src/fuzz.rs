//! Entry point for fuzzing: the journal's records on bytes of anybody.

use crate::{ClientSite, SettleRecord, WorkerSite};

/// Reads bytes as a record, and what it holds.
///
/// # Panics
/// When the reader is wrong: a record that was read must be written and read again as the same.
pub fn record(bytes: &[u8]) {
    let Some(record) = SettleRecord::decode(bytes) else { return };
    assert_eq!(SettleRecord::decode(&record.encode()).as_ref(), Some(&record));
    if let SettleRecord::Opened(site) = &record {
        let _ = ClientSite::from_record(site);
        let _ = WorkerSite::from_record(site);
    }
}
