//! The order of protocol notes 2.1 on one connection: work, then TLS, then the verdict.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::fault::Fault;
use crate::policy::PeerIdentity;
use crate::settings::{ACCEPT_DEADLINE, DIAL_DEADLINE, Security, WORK_BITS, WORK_BITS_MAX};
use crate::verifier::CertificateJudge;
use crate::work;

/// Label of the `tls-exporter` channel binding (RFC 9266 2).
const CHANNEL_BINDING_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// Secures accepted connections.
#[derive(Clone, Debug)]
pub struct Acceptor {
    /// What we show and whom we admit.
    pub security: Security,
    /// Bits of work demanded, 0 to 64; 0 demands none but keeps the exchange.
    pub work_bits: u8,
    /// Time for everything.
    pub deadline: Duration,
}

/// Secures dialled connections.
#[derive(Clone, Debug)]
pub struct Connector {
    /// What we show and whom we admit.
    pub security: Security,
    /// Most bits of work done for a peer.
    pub work_bits_max: u8,
    /// Threads that share the work.
    pub work_threads: usize,
    /// Time for everything.
    pub deadline: Duration,
}

/// A connection that stands, and what is known about its peer.
#[derive(Debug)]
pub struct Secured<S> {
    /// The bytes inside TLS.
    pub stream: TlsStream<S>,
    /// What is known about the peer.
    pub identity: PeerIdentity,
}

impl Acceptor {
    /// Demands 20 bits within 10 s.
    #[must_use]
    pub fn new(security: Security) -> Self {
        Self { security, work_bits: WORK_BITS, deadline: ACCEPT_DEADLINE }
    }

    /// Sends a challenge of its own, checks the work, does the TLS handshake as the server.
    ///
    /// # Errors
    /// See [`Fault`]; the stream is closed in every case.
    pub async fn accept<S>(&self, mut stream: S) -> Result<Secured<S>, Fault>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let handshake = Box::pin(async {
            work::demand(&mut stream, self.work_bits).await?;
            let (config, judge) = self.security.server()?;
            let stream = TlsAcceptor::from(config).accept(stream).await;
            secured(stream.map(TlsStream::from), &judge)
        });
        within(self.deadline, handshake).await
    }
}

impl Connector {
    /// Does up to 28 bits of work on up to four threads, within two minutes.
    #[must_use]
    pub fn new(security: Security) -> Self {
        Self {
            security,
            work_bits_max: WORK_BITS_MAX,
            work_threads: work::default_threads(),
            deadline: DIAL_DEADLINE,
        }
    }

    /// Reads the challenge, does the work, does the TLS handshake as the client.
    ///
    /// # Errors
    /// See [`Fault`]; the stream is closed in every case. A peer that refuses our certificate
    /// may say so only after this returned, with the first read.
    pub async fn connect<S>(&self, mut stream: S) -> Result<Secured<S>, Fault>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let handshake = Box::pin(async {
            work::perform(&mut stream, self.work_bits_max, self.work_threads).await?;
            let (config, judge) = self.security.client()?;
            // An address literal, so that no server name goes over the wire.
            let name = ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into());
            let stream = TlsConnector::from(config).connect(name, stream).await;
            secured(stream.map(TlsStream::from), &judge)
        });
        within(self.deadline, handshake).await
    }
}

/// Derives bytes that only the two ends of this connection know (RFC 8446 7.5), to bind
/// evidence or statements to it.
///
/// # Errors
/// [`Fault::Tls`] when the handshake is not over or `output` is longer than 255 digests:
/// never go on without the binding.
pub fn export_keying_material<S>(
    stream: &TlsStream<S>,
    label: &[u8],
    context: &[u8],
    output: &mut [u8],
) -> Result<(), Fault> {
    let exported = match stream {
        TlsStream::Client(stream) => {
            stream.get_ref().1.export_keying_material(output, label, Some(context))
        }
        TlsStream::Server(stream) => {
            stream.get_ref().1.export_keying_material(output, label, Some(context))
        }
    };
    exported.map(drop).map_err(Fault::Tls)
}

async fn within<T>(
    limit: Duration,
    handshake: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    tokio::time::timeout(limit, handshake)
        .await
        .unwrap_or(Err(Fault::TooSlow { stage: "the handshake", limit }))
}

/// Joins the library's result with the judge's finding.
fn secured<S>(
    handshake: io::Result<TlsStream<S>>,
    judge: &Arc<CertificateJudge>,
) -> Result<Secured<S>, Fault> {
    match (handshake, judge.take_finding()) {
        (Ok(stream), Some(Ok(mut identity))) => {
            let mut binding = [0; 32];
            export_keying_material(&stream, CHANNEL_BINDING_LABEL, &[], &mut binding)?;
            identity.channel_binding = Some(binding);
            Ok(Secured { stream, identity })
        }
        (Err(_), Some(Err(fault))) => Err(fault),
        (Err(error), _) => Err(fault_of(error, "the TLS handshake")),
        (Ok(_), _) => Err(Fault::Internal("TLS ended without a verdict about the peer")),
    }
}

/// Sorts what reading or writing a secured stream gave by who is guilty.
pub fn fault_of(error: io::Error, stage: &'static str) -> Fault {
    use io::ErrorKind;
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if let Some(tls) = tls {
        return Fault::Tls(tls.clone());
    }
    match error.kind() {
        ErrorKind::UnexpectedEof
        | ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe => Fault::PeerGone { stage },
        _ => Fault::Io { stage, source: error },
    }
}
