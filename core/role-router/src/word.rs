//! What a program is told about its peer before the first byte (protocol notes, wire 2.6).

use std::net::SocketAddr;

use cocoon_attest::{Measurement, TdMeasurement, Verdict, certificate_report_data};
use cocoon_units::PublicKey;
use cocoon_wire::PeerInfoFault;
use cocoon_wire::image_hash::TdxMeasurements;
use cocoon_wire::peer_info::{Attestation, Line, PeerInfo};
use cocoon_wire::tl::Text;

/// Both ends of the connection over the network.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// Who connected.
    pub source: SocketAddr,
    /// Who accepted.
    pub destination: SocketAddr,
}

/// The blob about a peer, with its length before it.
///
/// `verdict` is that of a policy that looked at evidence. Without one the older line is told that
/// nothing is known, and the newer, which has no form for that, all zeros; `is_sev` says whether
/// these stand in the form of SEV-SNP, as the reference writes them for a certificate with such
/// extensions (protocol notes, wire 10.2, note 8).
///
/// # Errors
/// [`PeerInfoFault::Unrepresentable`]: the older line has no form for SEV-SNP; close the
/// connection, or run the program's newer line.
pub fn word(
    verdict: Option<&Verdict>,
    (public_key, is_sev): (&[u8; 32], bool),
    ends: Ends,
    line: Line,
) -> Result<Vec<u8>, PeerInfoFault> {
    let measured = verdict.and_then(|verdict| verdict.measurement.as_ref());
    let report_data = Box::new(match measured {
        Some(_) => certificate_report_data(public_key),
        None => [0; 64],
    });
    let attestation = match (measured, line) {
        (Some(Measurement::Td(td)), _) => Attestation::Tdx { measurements: tdx(td), report_data },
        (Some(Measurement::Snp(measurement)), _) => {
            Attestation::Sev { measurement: measurement.0, report_data }
        }
        (None, Line::Base) => Attestation::None,
        (None, Line::Live) if is_sev => Attestation::Sev { measurement: [0; 48], report_data },
        (None, Line::Live) => {
            Attestation::Tdx { measurements: Box::new(TdxMeasurements::ZERO), report_data }
        }
    };
    let root = verdict.and_then(|verdict| verdict.root).map(|root| root.0);
    let (source_ip, destination_ip) =
        (ends.source.ip().to_string(), ends.destination.ip().to_string());
    let info = PeerInfo {
        attestation,
        collateral_root: root,
        public_key: PublicKey(*public_key),
        source_ip: Text::from(source_ip.as_str()),
        source_port: ends.source.port().into(),
        destination_ip: Text::from(destination_ip.as_str()),
        destination_port: ends.destination.port().into(),
    };
    let mut out = Vec::with_capacity(640);
    info.encode_prefixed(&mut out, line)?;
    Ok(out)
}

fn tdx(td: &TdMeasurement) -> Box<TdxMeasurements> {
    Box::new(TdxMeasurements {
        mr_td: td.mr_td.0,
        mr_config_id: td.mr_config_id.0,
        mr_owner: td.mr_owner.0,
        mr_owner_config: td.mr_owner_config.0,
        rtmr: td.rtmr.map(|register| register.0),
    })
}
