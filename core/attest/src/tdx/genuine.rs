//! Is the quote Intel's, at which level of patches, and of which platform?

use dcap_qvl::policy::QuoteClaims;
use dcap_qvl::verify::QuoteVerifier;

use super::collateral::{check_signatures, collateral_dates, trusted_root};
use super::report::TdReport;
use crate::chain;
use crate::collateral::{CollateralNeed, PckIssuer, TdxCollateral};
use crate::digest::Digest48;
use crate::draft::Obstacle;
use crate::evidence::QUOTE_LIMIT;
use crate::fault::{BadEvidence, CannotCheck};
use crate::roots::TrustRoots;

const QUOTE: &str = "the TDX quote";

/// A quote whose signatures lead to a trusted root.
pub(super) struct Genuine {
    pub claims: QuoteClaims,
    pub root: Digest48,
    /// Until when the collateral allows to say so, Unix seconds.
    pub valid_until_s: u64,
    /// From when it is known which patches there are, Unix seconds.
    pub patches_s: u64,
}

/// Takes everything from a caller that verified and leaves the judgement to us.
struct ClaimsOnly;

impl dcap_qvl::Policy for ClaimsOnly {
    fn validate(&self, _claims: &QuoteClaims) -> Result<(), anyhow::Error> {
        Ok(())
    }
}

/// Verifies the signatures of `quote` and matches its platform with the collateral.
pub(super) fn genuine(
    quote: &[u8],
    report: &TdReport,
    collateral: Option<&TdxCollateral>,
    roots: &TrustRoots,
    now_s: u64,
) -> Result<Genuine, Obstacle> {
    report.attributes()?;
    if roots.tdx.is_empty() {
        return Err(CannotCheck::NoRoot { what: "TDX" }.into());
    }
    let parsed = parse(quote)?;
    let root = quote_root(&parsed, roots)?;
    let fmspc = dcap_qvl::intel::quote_fmspc(&parsed).map_err(|error| malformed(&error))?;
    let missing = CannotCheck::NoCollateral { what: "the collateral of this TDX platform" };
    let collateral = collateral.ok_or_else(|| missing.clone())?;
    let dates = collateral_dates(collateral, now_s)?;
    if dates.fmspc != fmspc {
        return Err(missing.into());
    }
    let root_der = trusted_root(collateral, roots)?;
    // Before the quote: what fails afterwards is the peer's fault, and the library never sees
    // a revocation list that nobody signed (it asserts on some that are malformed).
    check_signatures(collateral, &root_der)?;
    // Debug guests pass here so that the claim "debug off" can fail by itself.
    let claims = QuoteVerifier::new(root_der)
        .allow_debug(true)
        .verify_with_policy(quote, &collateral.dcap, now_s, &ClaimsOnly)
        .map_err(|error| blame(&error))?;
    let valid_until_s = dates.next_update_s.min(claims.earliest_expiration_date);
    Ok(Genuine { claims, root, valid_until_s, patches_s: dates.patches_s })
}

/// Returns what to fetch for a quote.
pub(crate) fn collateral_need(quote: &[u8]) -> Result<CollateralNeed, BadEvidence> {
    TdReport::read(quote)?;
    let parsed = parse(quote)?;
    let fmspc = dcap_qvl::intel::quote_fmspc(&parsed).map_err(|error| malformed(&error))?;
    let ca = dcap_qvl::intel::quote_ca(&parsed).map_err(|error| malformed(&error))?;
    let issuer = match ca.as_id_str() {
        "processor" => PckIssuer::Processor,
        _ => PckIssuer::Platform,
    };
    Ok(CollateralNeed::Tdx { fmspc, issuer })
}

pub(crate) fn parse(quote: &[u8]) -> Result<dcap_qvl::quote::Quote, BadEvidence> {
    if quote.len() > QUOTE_LIMIT {
        return Err(BadEvidence::TooLong { what: QUOTE, len: quote.len(), limit: QUOTE_LIMIT });
    }
    dcap_qvl::quote::Quote::parse(quote).map_err(|error| malformed(&error))
}

/// Checks that the quote's own chain ends in a trusted key, before anything is fetched for it.
pub(crate) fn quote_root(
    quote: &dcap_qvl::quote::Quote,
    roots: &TrustRoots,
) -> Result<Digest48, BadEvidence> {
    let unreadable =
        |detail: String| BadEvidence::Malformed { what: "the PCK certificate chain", detail };
    let chain =
        dcap_qvl::intel::extract_cert_chain(quote).map_err(|error| unreadable(words(&error)))?;
    let last = chain.last().ok_or_else(|| unreadable("it is empty".to_owned()))?;
    let digest = chain::point_digest(&chain::certificate(last).map_err(unreadable)?);
    if roots.tdx.contains(&digest) {
        Ok(digest)
    } else {
        Err(BadEvidence::UntrustedRoot { what: QUOTE, found: digest.to_string() })
    }
}

/// Names the fault of a quote that failed although the collateral is sound.
pub(crate) fn blame(error: &anyhow::Error) -> Obstacle {
    let detail = words(error);
    // The library reads the root more strictly than we do; the root came with the collateral.
    if detail.contains("Failed to load root ca") {
        return CannotCheck::UntrustedCollateral { what: "the trusted root", detail }.into();
    }
    let bad = if detail.contains("TCB status is invalid: Revoked") {
        BadEvidence::Tcb { status: "Revoked".to_owned(), advisories: Vec::new() }
    } else if detail.contains("No matching TCB level") || detail.contains("below minimum required")
    {
        BadEvidence::Tcb { status: "below every listed level".to_owned(), advisories: Vec::new() }
    } else if detail.contains("CertRevoked") {
        BadEvidence::Certificate { what: "the PCK certificate chain", detail: "revoked".to_owned() }
    } else if detail.contains("CertExpired") || detail.contains("CertNotValidYet") {
        BadEvidence::Certificate { what: "the PCK certificate chain", detail }
    } else {
        BadEvidence::Signature { what: QUOTE, detail }
    };
    bad.into()
}

fn malformed(error: &anyhow::Error) -> BadEvidence {
    BadEvidence::Malformed { what: QUOTE, detail: words(error) }
}

/// The library's own words. The reader of DER below it ends its texts with the place in its sources,
/// which depends on the machine that built it.
fn words(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    match text.find(" @/") {
        Some(end) => text.get(..end).unwrap_or(&text).to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_depends_on_where_this_was_built() {
        let error = anyhow::anyhow!("not a valid sequence @/home/me/src/typed/sequence.rs:130");
        assert_eq!(words(&error.context("Failed")), "Failed: not a valid sequence");
    }
}
