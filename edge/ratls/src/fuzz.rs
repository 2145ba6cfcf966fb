//! Entry points for fuzzers: a peer's certificate as arbitrary bytes.

use crate::certificate::{CertificateRules, PeerCertificate, PeerSide};

/// Reads and judges `data` as a certificate, at a time that its first bytes choose.
pub fn certificate(data: &[u8]) {
    let (now, certificate) = data.split_first_chunk().unwrap_or((&[0; 4], data));
    let now_unix_s = u64::from(u32::from_le_bytes(*now));
    if let Ok(peer) = PeerCertificate::read(certificate) {
        let rules = CertificateRules::default();
        let _ = peer.judge(PeerSide::Connecting, now_unix_s, &rules);
        let _ = peer.judge(PeerSide::Accepting, now_unix_s, &rules);
    }
}
