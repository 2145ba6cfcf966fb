//! Quotes of SGX enclaves: only of the one that seals keys on the host of a TDX guest
//! (protocol notes 6.4). As a peer's evidence an SGX quote is never accepted.

use dcap_qvl::verify::QuoteVerifier;
use subtle::ConstantTimeEq as _;

use crate::collateral::TdxCollateral;
use crate::digest::Digest32;
use crate::draft::Obstacle;
use crate::fault::{BadEvidence, CannotCheck};
use crate::roots::TrustRoots;
use crate::tdx::{blame, check_signatures, collateral_dates, parse, quote_root, trusted_root};

/// Why an enclave is not trusted.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum EnclaveFault {
    /// Its quote is wrong: do not use its answer.
    #[error("the enclave is refused: {0}")]
    Bad(#[from] BadEvidence),
    /// It cannot be checked now: fetch what is missing and ask again.
    #[error("the enclave cannot be checked now: {0}")]
    Cannot(#[from] CannotCheck),
}

impl From<Obstacle> for EnclaveFault {
    fn from(obstacle: Obstacle) -> Self {
        match obstacle {
            Obstacle::Bad(bad) => Self::Bad(bad),
            Obstacle::Cannot(cannot) => Self::Cannot(cannot),
        }
    }
}

/// Checks that `quote` is of a genuine, current, undebuggable enclave with this measurement
/// and covers `report_data`.
///
/// `collateral` holds the TCB info and the QE identity for SGX, in the same structure as for
/// TDX. `now_s` is Unix seconds.
///
/// # Errors
/// [`EnclaveFault`], by whose fault it is.
pub fn check_enclave(
    quote: &[u8],
    collateral: &TdxCollateral,
    roots: &TrustRoots,
    mr_enclave: &Digest32,
    report_data: &[u8; 64],
    now_s: u64,
) -> Result<(), EnclaveFault> {
    let parsed = parse(quote)?;
    let Some(enclave) = parsed.report.as_sgx() else {
        return Err(BadEvidence::WrongTee { tee_type: parsed.header.tee_type }.into());
    };
    quote_root(&parsed, roots)?;
    collateral_dates(collateral, now_s)?;
    let root = trusted_root(collateral, roots)?;
    check_signatures(collateral, &root)?;
    let verified = QuoteVerifier::new(root)
        .verify(quote, &collateral.dcap, now_s)
        .map_err(|error| blame(&error))?;
    if verified.status != "UpToDate" {
        let (status, advisories) = (verified.status, verified.advisory_ids);
        return Err(BadEvidence::Tcb { status, advisories }.into());
    }
    if enclave.mr_enclave != mr_enclave.0 {
        let found = hex::encode(enclave.mr_enclave);
        return Err(BadEvidence::Measurement { register: "MRENCLAVE", found }.into());
    }
    if !bool::from(enclave.report_data.ct_eq(report_data)) {
        return Err(BadEvidence::NotBound { expected: "the request and the answer" }.into());
    }
    Ok(())
}
