//! How a confidential guest asks the enclave on its host for a lasting key (protocol notes
//! 6.4).
//!
//! Over a virtual socket, host 2, port 12345: a little-endian length of at most
//! [`MESSAGE_BYTES_MAX`] and one object, in each direction once. The quote and the report are
//! checked elsewhere; here are the messages and what is hashed.

use sha2::{Digest as _, Sha256};

use crate::TlFault;
use crate::tl::{Blob, Text, decode, encode};

/// Largest object, in bytes, without its length.
pub const MESSAGE_BYTES_MAX: usize = 16_536;
/// Port of the enclave on the host.
pub const VSOCK_PORT: u32 = 12_345;
/// Bytes of a TDX report in the request.
pub const REPORT_BYTES: usize = 1024;
/// Bytes of a P-256 public key, X then Y, both little-endian.
pub const PUBLIC_KEY_BYTES: usize = 64;
/// Bytes of the answered secret: the enclave's public key and 32 encrypted bytes.
pub const SECRET_BYTES: usize = 96;
/// Longest name of a key, in bytes.
pub const NAME_BYTES_MAX: usize = 256;

tl_struct! {
    /// A guest asks for the key of a name.
    #[derive(Clone, Debug, PartialEq, Default)]
    GetPersistentKey<'tl> = "getPersistentKey" 0x317a_821c {
        /// Report whose data is SHA-256 of the public key and 32 zero bytes.
        tdx_report: Blob<'tl>,
        /// P-256 public key made for this request.
        public_key: Blob<'tl>,
        /// Name of the key, 1 to 256 bytes.
        key_name: Text<'tl>,
    }

    /// The enclave answers.
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    PersistentKey<'tl> = "persistentKey" 0x163a_179a {
        /// Quote whose report data are the hashes of the guest's key and of the secret.
        sgx_quote: Blob<'tl>,
        /// The enclave's public key and the encrypted key.
        encrypted_secret: Blob<'tl>,
    }
}

/// Reads a request and checks its sizes; `None` when one of them is wrong.
///
/// # Errors
/// [`TlFault`]: close the connection.
pub fn decode_request(bytes: &[u8]) -> Result<Option<GetPersistentKey<'_>>, TlFault> {
    let request: GetPersistentKey<'_> = decode(bytes)?;
    let fits = request.tdx_report.0.len() == REPORT_BYTES
        && request.public_key.0.len() == PUBLIC_KEY_BYTES
        && (1..=NAME_BYTES_MAX).contains(&request.key_name.as_bytes().len());
    Ok(fits.then_some(request))
}

/// Reads an answer and checks the size of the secret; `None` when it is wrong.
///
/// # Errors
/// [`TlFault`]: close the connection.
pub fn decode_answer(bytes: &[u8]) -> Result<Option<PersistentKey<'_>>, TlFault> {
    let answer: PersistentKey<'_> = decode(bytes)?;
    Ok((answer.encrypted_secret.0.len() == SECRET_BYTES).then_some(answer))
}

/// Writes a request behind its length; fields of their sizes stay below the limit.
#[must_use]
pub fn encode_request(request: &GetPersistentKey<'_>) -> Vec<u8> {
    prefixed(&encode(request))
}

/// Writes an answer behind its length. A quote above 16 kB would pass the limit of the
/// receiver; real ones have about 5 kB.
#[must_use]
pub fn encode_answer(answer: &PersistentKey<'_>) -> Vec<u8> {
    prefixed(&encode(answer))
}

/// Puts the length in front.
fn prefixed(object: &[u8]) -> Vec<u8> {
    let length = u32::try_from(object.len()).unwrap_or(u32::MAX);
    [&length.to_le_bytes(), object].concat()
}

/// Report data of the request: SHA-256 of the guest's public key and 32 zero bytes.
#[must_use]
pub fn request_report_data(public_key: &[u8; PUBLIC_KEY_BYTES]) -> [u8; 64] {
    report_data(public_key, None)
}

/// Report data of the answer: hashes of the guest's public key and of the secret.
#[must_use]
pub fn answer_report_data(
    public_key: &[u8; PUBLIC_KEY_BYTES],
    encrypted_secret: &[u8; SECRET_BYTES],
) -> [u8; 64] {
    report_data(public_key, Some(encrypted_secret))
}

/// One or two hashes.
fn report_data(first: &[u8], second: Option<&[u8; SECRET_BYTES]>) -> [u8; 64] {
    let mut data = [0; 64];
    data[..32].copy_from_slice(&Sha256::digest(first));
    if let Some(second) = second {
        data[32..].copy_from_slice(&Sha256::digest(second));
    }
    data
}

/// The lasting key itself, as the enclave derives it. Another image, machine state, security
/// version or name gives another key.
#[must_use]
pub fn derive(
    sealing_key: &[u8; 16],
    tee_info_hash: &[u8; 48],
    tee_tcb_info_hash: &[u8; 48],
    key_name: &str,
) -> crate::tl::SecretKey {
    let hash = Sha256::new()
        .chain_update(sealing_key)
        .chain_update(tee_info_hash)
        .chain_update(tee_tcb_info_hash)
        .chain_update(Sha256::digest(key_name.as_bytes()));
    crate::tl::SecretKey::new(hash.finalize().into())
}
