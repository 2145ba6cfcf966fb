//! The reference's evidence without hardware, to talk to its test nodes.
//!
//! Anybody can make it: it proves nothing. It exists only in builds with the feature
//! `dangerous-fake-evidence` and only under policies of mode `fake_tee`, and every claim it
//! makes says in its source that it is fake.

use crate::binding::certificate_report_data;
use crate::digest::Digest48;
use crate::draft::{Draft, Obstacle};
use crate::evidence::PeerEvidence;
use crate::fault::BadEvidence;
use crate::measurement::{Measurement, TdMeasurement};
use crate::policy::Policy;
use crate::snp::REPORT_LEN;
use crate::verdict::{ClaimKind, Source};

/// Length of the fake quote of the older line: the report data alone (protocol notes 2.4).
pub const BASE_QUOTE_LEN: usize = 64;

/// Length of the fake quote of the newer line: 384 zero bytes, report data, 48 zero bytes.
pub const LIVE_QUOTE_LEN: usize = 496;

const RESTING: [ClaimKind; 3] = [ClaimKind::Hardware, ClaimKind::Image, ClaimKind::KeyBinding];

/// Returns the fake quote of the older line.
#[must_use]
pub fn base_quote(public_key: &[u8; 32]) -> Vec<u8> {
    certificate_report_data(public_key).to_vec()
}

/// Returns the fake quote of the newer line.
#[must_use]
pub fn live_quote(public_key: &[u8; 32]) -> Vec<u8> {
    let mut quote = vec![0; 384];
    quote.extend_from_slice(&certificate_report_data(public_key));
    quote.extend_from_slice(&[0; 48]);
    quote
}

/// Returns the fake SEV report: zeros except the report data (protocol notes 10.2, 25).
#[must_use]
pub fn sev_report(public_key: &[u8; 32]) -> Vec<u8> {
    let mut report = vec![0; 0x50];
    report.extend_from_slice(&certificate_report_data(public_key));
    report.resize(REPORT_LEN, 0);
    report
}

/// Judges fake evidence: the key must match, every measurement is zero.
pub(crate) fn judge(evidence: &PeerEvidence, policy: &Policy, draft: &mut Draft) {
    let source = Source::FakeEvidence;
    let measurement = match measured(evidence) {
        Ok(measurement) => measurement,
        Err(bad) => return draft.obstructed(&RESTING, source, &Obstacle::Bad(bad)),
    };
    let hash = measurement.image_hash();
    draft.measured(measurement);
    draft.holds(ClaimKind::KeyBinding, source, "the fake report covers the key; it proves nothing");
    crate::binding::image(evidence, hash, policy, false, source, draft);
}

fn measured(evidence: &PeerEvidence) -> Result<Measurement, BadEvidence> {
    if evidence.claims_tdx() && evidence.claims_sev() {
        return Err(BadEvidence::TwoPlatforms);
    }
    let expected = certificate_report_data(&evidence.public_key);
    let (found, measurement) = if let Some(quote) = &evidence.tdx_quote {
        let found = match quote.len() {
            BASE_QUOTE_LEN => quote.as_slice(),
            LIVE_QUOTE_LEN => quote.get(384..448).unwrap_or_default(),
            len => {
                let detail = format!("{len} bytes");
                return Err(BadEvidence::Malformed { what: "the fake quote", detail });
            }
        };
        (found, Measurement::Td(Box::<TdMeasurement>::default()))
    } else if let Some(report) = &evidence.sev_report {
        (report.get(0x50..0x90).unwrap_or_default(), Measurement::Snp(Digest48::ZERO))
    } else {
        return Err(BadEvidence::Missing { what: "fake evidence" });
    };
    if found == expected {
        Ok(measurement)
    } else {
        Err(BadEvidence::NotBound { expected: "the key of this certificate" })
    }
}
