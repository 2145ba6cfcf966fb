//! Attacks on the extensions of a certificate, as the TLS edge hands them over.

use cocoon_attest::snp::SnpProduct;
use cocoon_attest::{
    BadEvidence, ClaimKind, ExtensionFault, ExtensionKind, ExtensionUse, PeerEvidence,
};
use cocoon_evidence::sim::{Misbehave, SimulatedPlatform};
use cocoon_evidence::{EvidenceProvider as _, QuoteSubject};

use super::stage::{KEY, accepted, fails, judge, judge_evidence, snp, tdx};

fn extensions(platform: &SimulatedPlatform) -> Vec<(ExtensionKind, Vec<u8>)> {
    let evidence = platform.quote(QuoteSubject::CertificateKey(&KEY)).unwrap();
    evidence.certificate_extensions(&KEY)
}

#[test]
fn extensions_of_an_honest_certificate_pass() {
    for platform in [tdx(None), snp(SnpProduct::Genoa, None)] {
        let mut taken = PeerEvidence::new(KEY);
        for (kind, value) in extensions(&platform) {
            let use_ = taken.take_extension(&kind.oid(), true, &value);
            assert_eq!(use_, Ok(ExtensionUse::Kept(kind)));
        }
        assert_eq!(taken.take_extension(&[0x55, 0x1d, 0x0f], true, &[]), Ok(ExtensionUse::Foreign));
        accepted(&judge_evidence(&platform, &taken, &platform.policy()));
    }
}

#[test]
fn non_critical_extensions_count_as_no_evidence() {
    let platform = tdx(None);
    let mut taken = PeerEvidence::new(KEY);
    for (kind, value) in extensions(&platform) {
        let use_ = taken.take_extension(&kind.oid(), false, &value);
        assert_eq!(use_, Ok(ExtensionUse::NotCritical(kind)));
    }
    let verdict = judge_evidence(&platform, &taken, &platform.policy());
    assert!(matches!(fails(&verdict, ClaimKind::Hardware), BadEvidence::Missing { .. }));
}

#[test]
fn duplicated_extensions_refuse_the_certificate() {
    let list = extensions(&tdx(None));
    for first_critical in [false, true] {
        for second_critical in [false, true] {
            let mut taken = PeerEvidence::new(KEY);
            let (kind, value) = &list[0];
            taken.take_extension(&kind.oid(), first_critical, value).unwrap();
            let fault = taken.take_extension(&kind.oid(), second_critical, value).unwrap_err();
            assert_eq!(fault, ExtensionFault::Duplicate { kind: *kind });
        }
    }
}

#[test]
fn oversized_extensions_are_refused_unread() {
    for kind in ExtensionKind::ALL {
        let mut taken = PeerEvidence::new(KEY);
        let fault =
            taken.take_extension(&kind.oid(), true, &vec![0; kind.limit() + 1]).unwrap_err();
        assert!(matches!(fault, ExtensionFault::TooLong { .. }), "{fault}");
    }
}

#[test]
fn both_tdx_and_snp() {
    for platform in [
        tdx(Some(Misbehave::BothPlatforms)),
        snp(SnpProduct::Genoa, Some(Misbehave::BothPlatforms)),
    ] {
        let verdict = judge(&platform, &platform.policy());
        assert_eq!(fails(&verdict, ClaimKind::Hardware), BadEvidence::TwoPlatforms);
    }
}

#[test]
fn a_platform_that_the_policy_does_not_admit() {
    let platform = tdx(None);
    let policy = cocoon_attest::Policy { tdx: None, ..platform.policy() };
    let verdict = judge(&platform, &policy);
    assert!(matches!(fails(&verdict, ClaimKind::Hardware), BadEvidence::PlatformRefused { .. }));
}
