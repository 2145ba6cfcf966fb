//! How connections are secured: what both sides share, and the limits of each.

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ServerConfig};

use crate::certificate::{CertificateRules, PeerSide};
use crate::credentials::CredentialsHolder;
use crate::fault::Fault;
use crate::policy::PeerPolicy;
use crate::verifier::CertificateJudge;

/// Bits of work demanded of connecting peers, the reference's default (protocol notes 2.2).
pub const WORK_BITS: u8 = 20;

/// Bits of work done for accepting peers, the reference's default (protocol notes 2.2).
pub const WORK_BITS_MAX: u8 = 28;

/// Time an accepted peer has for work and TLS together. A reference peer solves 20 bits in
/// 1 to 6 s on one busy core.
pub const ACCEPT_DEADLINE: Duration = Duration::from_secs(10);

/// Time a dialled connection has for work and TLS together: enough for 28 bits on four slow
/// cores.
pub const DIAL_DEADLINE: Duration = Duration::from_secs(120);

/// The clock by which certificates are judged.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Clock {
    /// A clock that returns Unix seconds.
    pub fn new(now_unix_s: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now_unix_s))
    }

    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        fn now_unix_s() -> u64 {
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
        }
        Self::new(now_unix_s)
    }

    /// Unix seconds now.
    #[must_use]
    pub fn now_unix_s(&self) -> u64 {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Clock")
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.now_unix_s())))
    }
}

/// What both sides of a connection need.
#[derive(Clone, Debug)]
pub struct Security {
    /// Key and certificate we show.
    pub credentials: CredentialsHolder,
    /// Who is admitted.
    pub policy: Arc<dyn PeerPolicy>,
    /// How strictly certificates are judged.
    pub rules: CertificateRules,
    /// The clock by which they are judged.
    pub clock: Clock,
}

impl Security {
    /// Shows `credentials`, admits by `policy`, with default rules and the machine's clock.
    #[must_use]
    pub fn new(credentials: CredentialsHolder, policy: Arc<dyn PeerPolicy>) -> Self {
        Self { credentials, policy, rules: CertificateRules::default(), clock: Clock::system() }
    }

    /// The TLS configuration of one accepted connection, and its judge.
    pub(crate) fn server(&self) -> Result<(Arc<ServerConfig>, Arc<CertificateJudge>), Fault> {
        let judge = self.judge(PeerSide::Connecting);
        let mut config =
            ServerConfig::builder_with_details(provider(), Arc::new(self.clock.clone()))
                .with_protocol_versions(&[&rustls::version::TLS13])
                .map_err(Fault::Tls)?
                .with_client_cert_verifier(judge.clone())
                .with_cert_resolver(Arc::new(self.credentials.clone()));
        // A resumed session would skip the evidence: no tickets, no sessions, no early data.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.max_early_data_size = 0;
        Ok((Arc::new(config), judge))
    }

    /// The TLS configuration of one dialled connection, and its judge.
    pub(crate) fn client(&self) -> Result<(Arc<ClientConfig>, Arc<CertificateJudge>), Fault> {
        let judge = self.judge(PeerSide::Accepting);
        let mut config =
            ClientConfig::builder_with_details(provider(), Arc::new(self.clock.clone()))
                .with_protocol_versions(&[&rustls::version::TLS13])
                .map_err(Fault::Tls)?
                .dangerous()
                .with_custom_certificate_verifier(judge.clone())
                .with_client_cert_resolver(Arc::new(self.credentials.clone()));
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        config.enable_sni = false;
        Ok((Arc::new(config), judge))
    }

    fn judge(&self, side: PeerSide) -> Arc<CertificateJudge> {
        Arc::new(CertificateJudge::new(
            side,
            self.rules.clone(),
            self.policy.clone(),
            provider().signature_verification_algorithms,
        ))
    }
}

/// The suites of protocol notes 2.3 in their order; the hybrid post-quantum group first, and
/// X25519 for peers that lack it.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        Arc::new(CryptoProvider {
            cipher_suites: vec![
                cipher_suite::TLS13_AES_128_GCM_SHA256,
                cipher_suite::TLS13_AES_256_GCM_SHA384,
            ],
            kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519],
            ..default_provider()
        })
    });
    PROVIDER.clone()
}
