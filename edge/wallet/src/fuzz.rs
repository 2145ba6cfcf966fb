//! Entry points for fuzzing: all readers of the crate on bytes of anybody.

use crate::{Mnemonic, WalletFile};

/// Reads bytes as a wallet file and as words.
///
/// # Panics
/// When a reader is wrong: a file that was read must be written and read again as the same.
pub fn bytes(bytes: &[u8]) {
    if let Ok(file) = WalletFile::parse(bytes) {
        let again = WalletFile::parse(file.to_json().as_bytes());
        assert!(again.is_ok_and(|again| again.wallet() == file.wallet()), "read again as another");
    }
    let _ = Mnemonic::parse(&String::from_utf8_lossy(bytes));
}
