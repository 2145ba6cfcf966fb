//! What has to be fetched before evidence can be checked, and in which form it is kept.

use serde::{Deserialize, Serialize};

use crate::evidence::PeerEvidence;
use crate::fault::{BadEvidence, CannotCheck};
use crate::snp::SnpProduct;
use crate::tdx::TdxDates;

/// Collateral of a TDX platform in the structure of Intel's DCAP: TCB info, QE identity and
/// two revocation lists with their issuer chains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TdxCollateral {
    /// The items as PCCS gives them.
    pub dcap: dcap_qvl::QuoteCollateralV3,
    /// When they were fetched, Unix milliseconds.
    pub fetched_ms: u64,
}

/// Certificates and revocation list of one generation of AMD processors, all DER.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnpCollateral {
    /// The generation.
    pub product: SnpProduct,
    /// AMD root key certificate.
    #[serde(with = "crate::text")]
    pub ark: Vec<u8>,
    /// AMD SEV key certificate.
    #[serde(with = "crate::text")]
    pub ask: Vec<u8>,
    /// Revocation list signed by the root.
    #[serde(with = "crate::text")]
    pub crl: Vec<u8>,
    /// When they were fetched, Unix milliseconds.
    pub fetched_ms: u64,
}

/// What a verification may use. An item that is absent makes claims unknown, never good.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collateral {
    /// For TDX quotes.
    pub tdx: Option<TdxCollateral>,
    /// For SEV-SNP reports.
    pub snp: Option<SnpCollateral>,
}

/// From when until when collateral counts, Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CollateralDates {
    /// Latest issue date of its items.
    pub issued_s: u64,
    /// Earliest date by which an item is to be renewed.
    pub next_update_s: u64,
}

impl Collateral {
    /// Checks the dates of everything inside at `now_s`; signatures are looked at only
    /// together with evidence.
    ///
    /// # Errors
    /// [`CannotCheck`]: an item is absent, unreadable, stale or from the future.
    pub fn dates(&self, now_s: u64) -> Result<CollateralDates, CannotCheck> {
        let mut dates = Vec::new();
        if let Some(tdx) = &self.tdx {
            let TdxDates { issued_s, next_update_s, .. } =
                crate::tdx::collateral_dates(tdx, now_s)?;
            dates.push(CollateralDates { issued_s, next_update_s });
        }
        if let Some(snp) = &self.snp {
            dates.push(crate::snp::collateral_dates(snp, now_s)?);
        }
        dates
            .into_iter()
            .reduce(|left, right| CollateralDates {
                issued_s: left.issued_s.max(right.issued_s),
                next_update_s: left.next_update_s.min(right.next_update_s),
            })
            .ok_or(CannotCheck::NoCollateral { what: "the collateral" })
    }
}

/// Issuer of a PCK certificate, as PCCS names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PckIssuer {
    /// Multi-package platforms.
    Platform,
    /// Single-package platforms.
    Processor,
}

/// What has to be fetched for a piece of evidence.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CollateralNeed {
    /// Nothing: the peer claims no hardware.
    Nothing,
    /// TCB info for this FMSPC and the revocation list of this issuer.
    Tdx {
        /// Family, model, stepping, platform and custom SKU.
        fmspc: [u8; 6],
        /// Who issued the PCK certificate.
        issuer: PckIssuer,
    },
    /// Certificates and revocation list of this generation.
    Snp {
        /// The generation.
        product: SnpProduct,
    },
}

impl CollateralNeed {
    /// Returns what has to be fetched before `evidence` can be verified.
    ///
    /// Reads the platform's name out of unverified bytes: use it only to choose what to
    /// fetch, from a source of one's own choice.
    ///
    /// # Errors
    /// Evidence that cannot even be read: refuse the peer.
    pub fn of(evidence: &PeerEvidence) -> Result<Self, BadEvidence> {
        if let Some(quote) = &evidence.tdx_quote {
            return crate::tdx::collateral_need(quote);
        }
        if let Some(vcek) = &evidence.sev_vcek_pem {
            return crate::snp::collateral_need(vcek);
        }
        Ok(Self::Nothing)
    }
}
