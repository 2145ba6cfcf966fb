//! ADNL over TCP: the encrypted channel between a lite client and a lite server.
//!
//! ```text
//!   client: server's key id, own key, SHA-256 of parameters, parameters (encrypted): 256 bytes
//!   then both ways, encrypted: length u32 | nonce 32 | payload | SHA-256(nonce, payload)
//!   server begins with an empty payload
//! ```

use aes::Aes256;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit as _, StreamCipher as _};
use curve25519_dalek::montgomery::MontgomeryPoint;
use ed25519_dalek::{SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Size of a handshake, in bytes.
const HANDSHAKE_BYTES: usize = 256;
/// Size of the parameters that both ciphers come from, in bytes.
const PARAMETER_BYTES: usize = 160;
/// Nonce and checksum, in bytes.
const FRAME_OVERHEAD: usize = 64;
/// TL constructor of an Ed25519 public key (`pub.ed25519`).
const PUB_ED25519: [u8; 4] = [0xc6, 0xb4, 0x13, 0x48];

type Cipher = Ctr128BE<Aes256>;

/// Why a channel ended. The peer or the network is guilty; connect again or elsewhere.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChannelFault {
    /// The connection broke.
    #[error("connection broke: {0}")]
    Broken(#[from] std::io::Error),
    /// The peer is not who it should be, or sends garbage.
    #[error("{0}")]
    Garbage(&'static str),
}

/// How a server's key is named: SHA-256 of its TL form.
fn key_id(key: &VerifyingKey) -> [u8; 32] {
    hash_of_key(key.as_bytes())
}

/// SHA-256 of an Ed25519 key in its TL form: how servers and validators are named.
pub(crate) fn hash_of_key(key: &[u8; 32]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(PUB_ED25519);
    hasher.update(key);
    hasher.finalize().into()
}

/// The receiving half.
pub(crate) struct Receiver<R> {
    stream: R,
    cipher: Cipher,
    frame_bytes_max: usize,
}

/// The sending half.
pub(crate) struct Sender<W> {
    stream: W,
    cipher: Cipher,
}

impl<R: AsyncRead + Unpin> Receiver<R> {
    /// The next payload, checked.
    pub(crate) async fn receive(&mut self) -> Result<Vec<u8>, ChannelFault> {
        let mut len = [0; 4];
        self.stream.read_exact(&mut len).await?;
        self.cipher.apply_keystream(&mut len);
        let len = usize::try_from(u32::from_le_bytes(len)).unwrap_or(usize::MAX);
        if !(FRAME_OVERHEAD..=self.frame_bytes_max).contains(&len) {
            return Err(ChannelFault::Garbage("frame of impossible length"));
        }
        // Read as it comes, so that a length alone reserves nothing.
        let mut frame = Vec::new();
        let wanted = u64::try_from(len).unwrap_or(u64::MAX);
        (&mut self.stream).take(wanted).read_to_end(&mut frame).await?;
        if frame.len() != len {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
        self.cipher.apply_keystream(&mut frame);
        let (body, checksum) = frame.split_at(len.saturating_sub(32));
        if Sha256::digest(body).as_slice() != checksum {
            return Err(ChannelFault::Garbage("frame with a wrong checksum"));
        }
        Ok(body.get(32..).unwrap_or_default().to_vec())
    }
}

impl<W: AsyncWrite + Unpin> Sender<W> {
    /// Sends one payload.
    pub(crate) async fn send(&mut self, payload: &[u8]) -> Result<(), ChannelFault> {
        let len = payload.len().saturating_add(FRAME_OVERHEAD);
        let len = u32::try_from(len).map_err(|_| ChannelFault::Garbage("payload too large"))?;
        let nonce: [u8; 32] = rand::random();
        let mut frame = Vec::with_capacity(payload.len().saturating_add(FRAME_OVERHEAD + 4));
        frame.extend_from_slice(&len.to_le_bytes());
        frame.extend_from_slice(&nonce);
        frame.extend_from_slice(payload);
        let mut hasher = Sha256::new();
        hasher.update(nonce);
        hasher.update(payload);
        frame.extend_from_slice(&hasher.finalize());
        self.cipher.apply_keystream(&mut frame);
        self.stream.write_all(&frame).await?;
        Ok(self.stream.flush().await?)
    }
}

/// Opens a channel to the server that owns `server`.
pub(crate) async fn connect<R, W>(
    read: R,
    mut write: W,
    server: &VerifyingKey,
    frame_bytes_max: usize,
) -> Result<(Receiver<R>, Sender<W>), ChannelFault>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let own = SigningKey::from_bytes(&rand::random());
    let mut parameters = [0; PARAMETER_BYTES];
    rand::RngCore::fill_bytes(&mut rand::thread_rng(), &mut parameters);
    let (incoming, outgoing) = ciphers(&parameters);
    let checksum: [u8; 32] = Sha256::digest(parameters).into();
    let shared = server.to_montgomery().mul_clamped(own.to_scalar_bytes());
    handshake_cipher(&shared, &checksum).apply_keystream(&mut parameters);
    let mut hello = Vec::with_capacity(HANDSHAKE_BYTES);
    hello.extend_from_slice(&key_id(server));
    hello.extend_from_slice(own.verifying_key().as_bytes());
    hello.extend_from_slice(&checksum);
    hello.extend_from_slice(&parameters);
    write.write_all(&hello).await?;
    write.flush().await?;
    let mut receiver = Receiver { stream: read, cipher: incoming, frame_bytes_max };
    if !receiver.receive().await?.is_empty() {
        return Err(ChannelFault::Garbage("the server's first frame is not empty"));
    }
    Ok((receiver, Sender { stream: write, cipher: outgoing }))
}

/// Accepts a channel as the owner of `own`.
pub(crate) async fn accept<R, W>(
    mut read: R,
    write: W,
    own: &SigningKey,
    frame_bytes_max: usize,
) -> Result<(Receiver<R>, Sender<W>), ChannelFault>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut hello = [0; HANDSHAKE_BYTES];
    read.read_exact(&mut hello).await?;
    let parameters = open_hello(&hello, own)?;
    let (outgoing, incoming) = ciphers(&parameters);
    let mut sender = Sender { stream: write, cipher: outgoing };
    sender.send(&[]).await?;
    Ok((Receiver { stream: read, cipher: incoming, frame_bytes_max }, sender))
}

/// Decrypts a handshake's parameters.
fn open_hello(
    hello: &[u8; HANDSHAKE_BYTES],
    own: &SigningKey,
) -> Result<[u8; PARAMETER_BYTES], ChannelFault> {
    let cut = || ChannelFault::Garbage("handshake cut short");
    let (id, rest) = hello.split_first_chunk::<32>().ok_or_else(cut)?;
    let (peer, rest) = rest.split_first_chunk::<32>().ok_or_else(cut)?;
    let (checksum, rest) = rest.split_first_chunk::<32>().ok_or_else(cut)?;
    let mut parameters: [u8; PARAMETER_BYTES] = rest.try_into().map_err(|_| cut())?;
    if *id != key_id(&own.verifying_key()) {
        return Err(ChannelFault::Garbage("handshake for another server"));
    }
    let peer = VerifyingKey::from_bytes(peer)
        .map_err(|_| ChannelFault::Garbage("handshake with an impossible key"))?;
    let shared = peer.to_montgomery().mul_clamped(own.to_scalar_bytes());
    handshake_cipher(&shared, checksum).apply_keystream(&mut parameters);
    if Sha256::digest(parameters).as_slice() != checksum {
        return Err(ChannelFault::Garbage("handshake with a wrong checksum"));
    }
    Ok(parameters)
}

/// The ciphers that the parameters name: server to client, client to server.
fn ciphers(parameters: &[u8; PARAMETER_BYTES]) -> (Cipher, Cipher) {
    let mut fields = [[0_u8; 32]; 3];
    for (field, bytes) in fields.iter_mut().zip(parameters.chunks_exact(32)) {
        field.copy_from_slice(bytes);
    }
    let [to_client, to_server, nonces] = fields;
    let (first, second) = nonces.split_at(16);
    let cipher = |key: &[u8; 32], nonce: &[u8]| {
        let mut iv = [0_u8; 16];
        iv.copy_from_slice(nonce);
        Cipher::new(key.into(), &iv.into())
    };
    (cipher(&to_client, first), cipher(&to_server, second))
}

/// The cipher of the handshake itself: halves of the shared secret and of the checksum.
fn handshake_cipher(shared: &MontgomeryPoint, checksum: &[u8; 32]) -> Cipher {
    let shared = shared.as_bytes();
    let mut key = [0_u8; 32];
    let mut iv = [0_u8; 16];
    key[..16].copy_from_slice(&shared[..16]);
    key[16..].copy_from_slice(&checksum[16..]);
    iv[..4].copy_from_slice(&checksum[..4]);
    iv[4..].copy_from_slice(&shared[20..]);
    Cipher::new(&key.into(), &iv.into())
}
