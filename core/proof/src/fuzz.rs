//! Entry points for fuzzers: every reader on arbitrary bytes.
//!
//! Each function returns normally for every input or panics on a broken law.

use cocoon_attest::{Digest32, Policy};

use crate::bundle::Bundle;
use crate::examine::{Asker, examine};
use crate::receipt::SignedReceipt;
use crate::receipt_check::{Compared, ReceiptFile, check_receipt};
use crate::report_lines::Standing;
use crate::trust::Trust;

fn asker() -> Asker {
    Asker {
        policy: Policy::tee(),
        nonce: Some(Digest32::ZERO),
        root: None,
        now_ms: 1_800_000_000_000,
        date_is_now: true,
    }
}

/// Any signed receipt.
///
/// # Panics
/// When a receipt has two encodings.
pub fn receipt(data: &[u8]) {
    if let Ok(signed) = SignedReceipt::read(data) {
        let encoded = signed.receipt.encode();
        assert_eq!(data.get(..encoded.len()), Some(encoded.as_slice()));
        assert_eq!(data.len(), encoded.len() + 64);
    }
}

/// Any bundle.
///
/// # Panics
/// When a bundle that was read does not read back, or arbitrary hardware is believed.
pub fn bundle(data: &[u8]) {
    let Ok(bundle) = Bundle::read(data) else { return };
    let written = bundle.write().unwrap_or_default();
    assert_eq!(Bundle::read(&written).as_ref(), Ok(&bundle));
    let found = examine(&bundle, &asker());
    let believed =
        |line: &&crate::ClaimLine| line.claim == "hardware" && line.verdict == Standing::Holds;
    assert!(found.claims.iter().find(believed).is_none(), "arbitrary evidence was believed");
}

/// Any file of a receipt.
pub fn receipt_file(data: &[u8]) {
    if let Ok((file, signed)) = ReceiptFile::read(data) {
        let _ = check_receipt(&file, &signed, Compared::default(), &asker());
    }
}

/// Any trust file.
///
/// # Panics
/// When trust that was read does not read back.
pub fn trust(data: &[u8]) {
    if let Ok(trust) = Trust::read(data) {
        let written = trust.write().unwrap_or_default();
        assert_eq!(Trust::read(&written), Ok(trust));
    }
}
