//! The reference's evidence without hardware, for its test nodes.
//!
//! Anybody can make it: it proves nothing. Only in builds with the feature
//! `dangerous-fake-evidence`.

use cocoon_attest::{Measurement, TdMeasurement, fake};

use crate::fault::EvidenceFault;
use crate::provider::{EvidenceProvider, QuoteSubject, TeeEvidence, TeeKind};

/// Which release line of the reference the peers are of; their fakes differ in length
/// (protocol notes 2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FakeLine {
    /// The older line: 64 bytes.
    Base,
    /// The newer line: 496 bytes.
    Live,
}

/// A TEE that is none.
#[derive(Clone, Copy, Debug)]
pub struct FakeTee(pub FakeLine);

impl EvidenceProvider for FakeTee {
    fn kind(&self) -> TeeKind {
        TeeKind::Tdx
    }

    fn quote(&self, subject: QuoteSubject<'_>) -> Result<TeeEvidence, EvidenceFault> {
        let QuoteSubject::CertificateKey(key) = subject else {
            let found = "a fake TEE, which has no part in channel statements".to_owned();
            return Err(EvidenceFault::NoTee { found });
        };
        let quote = match self.0 {
            FakeLine::Base => fake::base_quote(key),
            FakeLine::Live => fake::live_quote(key),
        };
        Ok(TeeEvidence { tdx_quote: Some(quote), ..TeeEvidence::default() })
    }

    fn measurement(&self) -> Result<Measurement, EvidenceFault> {
        Ok(Measurement::Td(Box::<TdMeasurement>::default()))
    }
}

#[cfg(test)]
mod tests {
    use cocoon_attest::{Collateral, Outcome, Policy, verify};

    use super::*;

    #[test]
    fn fakes_pass_only_where_fakes_are_asked_for() {
        let key = [5; 32];
        for line in [FakeLine::Base, FakeLine::Live] {
            let evidence = FakeTee(line).quote(QuoteSubject::CertificateKey(&key)).unwrap();
            let peer = evidence.to_peer_evidence(&key);
            let collateral = Collateral::default();
            let outcome = |policy| verify(&peer, &collateral, &policy, 1_795_262_400_000).outcome();
            assert_eq!(outcome(Policy::fake_tee()), Outcome::Accept);
            assert!(matches!(outcome(Policy::tee()), Outcome::Refuse(_)));
        }
    }
}
