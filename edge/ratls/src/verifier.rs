//! The certificate verifier handed to the TLS library: our rules, then the policy.
//!
//! One verifier serves one connection and keeps what it found, so that the verdict reaches
//! the caller without a second reading of the certificate. The library's own verification
//! is not used: it refuses version 1, unknown critical extensions and self-signed leaves.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, PeerMisbehaved,
    SignatureScheme,
};

use crate::certificate::{CertificateRules, PeerCertificate, PeerSide};
use crate::fault::{CertificateFault, Fault};
use crate::policy::{PeerIdentity, PeerPolicy};

/// Judges the certificate of one connection's peer.
#[derive(Debug)]
pub(crate) struct CertificateJudge {
    side: PeerSide,
    rules: CertificateRules,
    policy: Arc<dyn PeerPolicy>,
    algorithms: WebPkiSupportedAlgorithms,
    finding: Mutex<Option<Result<PeerIdentity, Fault>>>,
}

impl CertificateJudge {
    pub(crate) fn new(
        side: PeerSide,
        rules: CertificateRules,
        policy: Arc<dyn PeerPolicy>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Self {
        Self { side, rules, policy, algorithms, finding: Mutex::new(None) }
    }

    /// Takes what was found; nothing if the peer never showed a certificate.
    pub(crate) fn take_finding(&self) -> Option<Result<PeerIdentity, Fault>> {
        self.finding.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn judge(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let finding = self.find(certificate, intermediates, now);
        let refusal = finding.as_ref().err().map(ToString::to_string);
        *self.finding.lock().unwrap_or_else(PoisonError::into_inner) = Some(finding);
        match refusal {
            None => Ok(()),
            Some(reason) => Err(Error::InvalidCertificate(CertificateError::Other(OtherError(
                Arc::new(Refused(reason)),
            )))),
        }
    }

    fn find(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<PeerIdentity, Fault> {
        if !intermediates.is_empty() {
            let certificates = intermediates.len() + 1;
            return Err(CertificateFault::Chain { certificates }.into());
        }
        let peer = PeerCertificate::read(certificate)?;
        peer.judge(self.side, now.as_secs(), &self.rules)?;
        Ok(self.policy.check(&peer, now.as_secs())?)
    }

    fn verify_possession(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let peer = PeerCertificate::read(certificate)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let key_info = SubjectPublicKeyInfoDer::from(peer.public_key_info_der());
        rustls::crypto::verify_tls13_signature_with_raw_key(
            message,
            &key_info,
            signed,
            &self.algorithms,
        )
    }
}

/// The reason as the TLS library carries it; the typed fault stays in the judge.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

/// TLS 1.2 is never offered, so nobody can ask for its signatures.
fn no_tls12() -> Result<HandshakeSignatureValid, Error> {
    Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into())
}

impl ServerCertVerifier for CertificateJudge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge(end_entity, intermediates, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_possession(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for CertificateJudge {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.judge(end_entity, intermediates, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_possession(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
