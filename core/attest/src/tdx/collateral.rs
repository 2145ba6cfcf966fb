//! The collateral alone: its dates, its platform, and whether it is what Intel signed.

use serde::Deserialize;

use crate::chain;
use crate::collateral::TdxCollateral;
use crate::fault::CannotCheck;
use crate::roots::TrustRoots;
use crate::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

const TCB_INFO: &str = "the TCB info";
const QE_IDENTITY: &str = "the QE identity";
const ROOT_CRL: &str = "the root revocation list";
const PCK_CRL: &str = "the PCK revocation list";

/// From when until when a set of collateral counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TdxDates {
    /// Latest issue date of its items, Unix seconds.
    pub issued_s: u64,
    /// Earliest `nextUpdate` of its items, Unix seconds.
    pub next_update_s: u64,
    /// Issue date of what says which patches there are: the older of TCB info and QE identity, Unix
    /// seconds.
    pub patches_s: u64,
    /// FMSPC the TCB info is about, lower-case hex.
    pub fmspc: [u8; 6],
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dated {
    issue_date: String,
    next_update: String,
    #[serde(default)]
    fmspc: String,
}

/// Checks the dates of `collateral` at `now_s`; its signatures are not looked at.
///
/// # Errors
/// [`CannotCheck`]: an item is unreadable, stale or from the future; fetch it again.
pub fn collateral_dates(collateral: &TdxCollateral, now_s: u64) -> Result<TdxDates, CannotCheck> {
    let dcap = &collateral.dcap;
    let tcb = dated(TCB_INFO, &dcap.tcb_info, now_s)?;
    let qe = dated(QE_IDENTITY, &dcap.qe_identity, now_s)?;
    let fmspc = hex::decode(&tcb.2)
        .ok()
        .and_then(|bytes| <[u8; 6]>::try_from(bytes).ok())
        .ok_or_else(|| untrusted(TCB_INFO, "its fmspc cannot be read"))?;
    let root = list_dates(ROOT_CRL, &dcap.root_ca_crl, now_s)?;
    let pck = list_dates(PCK_CRL, &dcap.pck_crl, now_s)?;
    Ok(TdxDates {
        issued_s: tcb.0.max(qe.0).max(root.0).max(pck.0),
        next_update_s: tcb.1.min(qe.1).min(root.1).min(pck.1),
        patches_s: tcb.0.min(qe.0),
        fmspc,
    })
}

/// Returns the DER of the trusted root that the issuer chain of the TCB info ends in.
pub(crate) fn trusted_root(
    collateral: &TdxCollateral,
    roots: &TrustRoots,
) -> Result<Vec<u8>, CannotCheck> {
    let chain = chain_of(TCB_INFO, &collateral.dcap.tcb_info_issuer_chain)?;
    let root = chain.last().ok_or_else(|| untrusted(TCB_INFO, "its issuer chain is empty"))?;
    let certificate = chain::certificate(root).map_err(|detail| untrusted(TCB_INFO, detail))?;
    let digest = chain::point_digest(&certificate);
    if roots.tdx.contains(&digest) {
        Ok(root.clone())
    } else {
        Err(untrusted(TCB_INFO, format!("its issuer chain ends in the key {digest}")))
    }
}

/// Checks every signature of the collateral by itself, before a quote is looked at.
pub(crate) fn check_signatures(collateral: &TdxCollateral, root: &[u8]) -> Result<(), CannotCheck> {
    let dcap = &collateral.dcap;
    let signed = [
        (TCB_INFO, &dcap.tcb_info_issuer_chain, &dcap.tcb_info, &dcap.tcb_info_signature),
        (
            QE_IDENTITY,
            &dcap.qe_identity_issuer_chain,
            &dcap.qe_identity,
            &dcap.qe_identity_signature,
        ),
    ];
    let root = chain::certificate(root).map_err(|detail| untrusted(TCB_INFO, detail))?;
    // The key is pinned; this keeps the rest of the certificate as its maker wrote it.
    chain::issued_by(&root, &root).map_err(|detail| untrusted(TCB_INFO, detail))?;
    for (what, chain_pem, text, signature) in signed {
        let chain = chain_of(what, chain_pem)?;
        let leaf = chain.first().ok_or_else(|| untrusted(what, "its issuer chain is empty"))?;
        let leaf = chain::certificate(leaf).map_err(|detail| untrusted(what, detail))?;
        chain::issued_by(&leaf, &root).map_err(|detail| untrusted(what, detail))?;
        let key = &leaf.public_key().subject_public_key.data;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key)
            .verify(text.as_bytes(), signature)
            .map_err(|_| untrusted(what, "its signature does not verify"))?;
    }
    let list =
        chain::revocation_list(&dcap.root_ca_crl).map_err(|detail| untrusted(ROOT_CRL, detail))?;
    chain::list_issued_by(&list, &root).map_err(|detail| untrusted(ROOT_CRL, detail))?;
    let issuer = chain_of(PCK_CRL, &dcap.pck_crl_issuer_chain)?;
    let issuer = issuer.first().ok_or_else(|| untrusted(PCK_CRL, "its issuer chain is empty"))?;
    let issuer = chain::certificate(issuer).map_err(|detail| untrusted(PCK_CRL, detail))?;
    chain::issued_by(&issuer, &root).map_err(|detail| untrusted(PCK_CRL, detail))?;
    let list =
        chain::revocation_list(&dcap.pck_crl).map_err(|detail| untrusted(PCK_CRL, detail))?;
    chain::list_issued_by(&list, &issuer).map_err(|detail| untrusted(PCK_CRL, detail))
}

fn chain_of(what: &'static str, pem: &str) -> Result<Vec<Vec<u8>>, CannotCheck> {
    chain::certificates_of_pem(pem.as_bytes()).map_err(|detail| untrusted(what, detail))
}

/// Reads the dates of a signed JSON document: issue date, next update, FMSPC.
fn dated(what: &'static str, json: &str, now_s: u64) -> Result<(u64, u64, String), CannotCheck> {
    let dated: Dated = serde_json::from_str(json)
        .map_err(|error| untrusted(what, format!("it cannot be read: {error}")))?;
    let issued_s = seconds(&dated.issue_date).ok_or_else(|| untrusted(what, "bad issueDate"))?;
    let next_s = seconds(&dated.next_update).ok_or_else(|| untrusted(what, "bad nextUpdate"))?;
    in_dates(what, issued_s, next_s, now_s)?;
    Ok((issued_s, next_s, dated.fmspc))
}

fn list_dates(what: &'static str, der: &[u8], now_s: u64) -> Result<(u64, u64), CannotCheck> {
    let list = chain::revocation_list(der).map_err(|detail| untrusted(what, detail))?;
    let issued_s = u64::try_from(list.last_update().timestamp()).unwrap_or(0);
    let next = list.next_update().ok_or_else(|| untrusted(what, "it has no nextUpdate"))?;
    let next_s = u64::try_from(next.timestamp()).unwrap_or(0);
    in_dates(what, issued_s, next_s, now_s)?;
    Ok((issued_s, next_s))
}

/// Checks one item's dates.
pub(crate) fn in_dates(
    what: &'static str,
    issued_s: u64,
    next_update_s: u64,
    now_s: u64,
) -> Result<(), CannotCheck> {
    if now_s < issued_s {
        return Err(CannotCheck::EarlyCollateral { what, issued_s });
    }
    if now_s > next_update_s {
        return Err(CannotCheck::StaleCollateral { what, next_update_s });
    }
    Ok(())
}

fn untrusted(what: &'static str, detail: impl Into<String>) -> CannotCheck {
    CannotCheck::UntrustedCollateral { what, detail: detail.into() }
}

/// Reads `YYYY-MM-DDTHH:MM:SSZ`, the only form Intel writes.
fn seconds(text: &str) -> Option<u64> {
    let bytes: &[u8; 20] = text.as_bytes().try_into().ok()?;
    let [
        y0,
        y1,
        y2,
        y3,
        b'-',
        m0,
        m1,
        b'-',
        d0,
        d1,
        b'T',
        h0,
        h1,
        b':',
        i0,
        i1,
        b':',
        s0,
        s1,
        b'Z',
    ] = *bytes
    else {
        return None;
    };
    let number = |digits: &[u8]| {
        digits.iter().try_fold(0u64, |sum, digit| {
            digit.is_ascii_digit().then(|| sum * 10 + u64::from(digit - b'0'))
        })
    };
    let (year, month, day) = (number(&[y0, y1, y2, y3])?, number(&[m0, m1])?, number(&[d0, d1])?);
    let (hour, minute, second) = (number(&[h0, h1])?, number(&[i0, i1])?, number(&[s0, s1])?);
    let valid = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 61;
    valid.then(|| days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Days since 1970-01-01 of a date of the Gregorian calendar, by the count of days in eras
/// of 400 years beginning in March.
fn days_from_civil(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year / 400;
    let year_of_era = year % 400;
    let shifted = (month + 9) % 12;
    let day_of_year = (153 * shifted + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).saturating_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn dates_count_from_the_epoch() {
        assert_eq!(seconds("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(seconds("2000-02-29T12:34:56Z"), Some(951_827_696));
        assert_eq!(seconds("2026-02-18T22:58:00Z"), Some(1_771_455_480));
        assert_eq!(seconds("2026-02-18 22:58:00Z"), None);
        assert_eq!(seconds("2026-13-18T22:58:00Z"), None);
        assert_eq!(seconds("2026-02-18T22:58:00+1"), None);
    }
}
