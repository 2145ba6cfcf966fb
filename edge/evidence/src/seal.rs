//! Keys that survive a reboot, sealed to the machine and its image (protocol notes 6.4).
//!
//! The guest draws a P-256 key, shows a TD report over it to an SGX enclave on its host and
//! gets the lasting key encrypted to it, with a quote of the enclave over both.

use aws_lc_rs::agreement::{self, ECDH_P256, PrivateKey, UnparsedPublicKey};
use cocoon_attest::sgx::check_enclave;
use cocoon_attest::{Digest32, TdxCollateral, TrustRoots};
use cocoon_units::Secret;
use cocoon_wire::sealed_key::{
    GetPersistentKey, MESSAGE_BYTES_MAX, NAME_BYTES_MAX, PUBLIC_KEY_BYTES, REPORT_BYTES,
    SECRET_BYTES, answer_report_data, decode_answer, encode_request,
};
use cocoon_wire::tl::{Blob, Text};
use ctr::cipher::{KeyIvInit as _, StreamCipher as _};
use sha2::{Digest as _, Sha256};

use crate::fault::EvidenceFault;

type Cipher = ctr::Ctr128BE<aes::Aes128>;

/// A lasting key.
pub type LastingKey = Secret<[u8; 32]>;

/// Gives lasting keys to a guest.
pub trait SealedKeys: Send + Sync {
    /// Returns the key of this name, 1 to 256 bytes; the same machine with the same image
    /// always gets the same. Blocks.
    ///
    /// # Errors
    /// The enclave cannot be reached or is not the one expected: do not go on with another
    /// key, or the data behind it are lost.
    fn lasting_key(&self, name: &str, now_s: u64) -> Result<LastingKey, EvidenceFault>;
}

/// Makes a TD report for a request of a lasting key.
pub trait SealReporter: Send + Sync {
    /// Returns a TD report (1024 bytes) whose report data are SHA-256 of this public key and
    /// 32 zero bytes. There is no form of this for report data of a caller's choice.
    ///
    /// # Errors
    /// The device failed.
    fn seal_report(
        &self,
        public_key: &[u8; PUBLIC_KEY_BYTES],
    ) -> Result<[u8; REPORT_BYTES], EvidenceFault>;
}

impl<R: SealReporter> SealReporter for std::sync::Arc<R> {
    fn seal_report(
        &self,
        public_key: &[u8; PUBLIC_KEY_BYTES],
    ) -> Result<[u8; REPORT_BYTES], EvidenceFault> {
        R::seal_report(self, public_key)
    }
}

/// A way to the enclave on the host.
pub trait SealChannel: Send + Sync {
    /// Sends one object and returns the one that answers, both without their length.
    ///
    /// # Errors
    /// What the connection said.
    fn exchange(&self, request: &[u8]) -> std::io::Result<Vec<u8>>;
}

/// Which enclave is trusted.
#[derive(Clone, Debug)]
pub struct EnclaveTrust {
    /// Its measurement, part of the image.
    pub mr_enclave: Digest32,
    /// Roots of its quotes.
    pub roots: TrustRoots,
    /// TCB info and QE identity for SGX.
    pub collateral: TdxCollateral,
}

/// Asks an enclave for lasting keys.
#[derive(Debug)]
pub struct SealClient<R, C> {
    reporter: R,
    channel: C,
    trust: EnclaveTrust,
}

impl<R: SealReporter, C: SealChannel> SealClient<R, C> {
    /// Returns a client of the enclave behind `channel`.
    pub const fn new(reporter: R, channel: C, trust: EnclaveTrust) -> Self {
        Self { reporter, channel, trust }
    }
}

impl<R: SealReporter, C: SealChannel> SealedKeys for SealClient<R, C> {
    fn lasting_key(&self, name: &str, now_s: u64) -> Result<LastingKey, EvidenceFault> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(seal(format!("a name of {} bytes", name.len())));
        }
        let pair = SealPair::draw()?;
        let report = self.reporter.seal_report(&pair.public)?;
        let request = encode_request(&GetPersistentKey {
            tdx_report: Blob(&report),
            public_key: Blob(&pair.public),
            key_name: Text::from(name),
        });
        // The length belongs to the connection.
        let request = request.get(4..).unwrap_or_default();
        let answer = self.channel.exchange(request).map_err(|error| seal(error.to_string()))?;
        if answer.len() > MESSAGE_BYTES_MAX {
            return Err(seal(format!("an answer of {} bytes", answer.len())));
        }
        let answer = decode_answer(&answer)
            .map_err(|error| seal(error.to_string()))?
            .ok_or_else(|| seal("a secret of another size".to_owned()))?;
        let secret: [u8; SECRET_BYTES] = answer
            .encrypted_secret
            .0
            .try_into()
            .map_err(|_| seal("a secret of another size".to_owned()))?;
        let trust = &self.trust;
        let expected = answer_report_data(&pair.public, &secret);
        check_enclave(
            answer.sgx_quote.0,
            &trust.collateral,
            &trust.roots,
            &trust.mr_enclave,
            &expected,
            now_s,
        )
        .map_err(|fault| seal(fault.to_string()))?;
        let (peer, encrypted) = secret.split_at(PUBLIC_KEY_BYTES);
        let mut key: [u8; 32] = encrypted.try_into().map_err(|_| EvidenceFault::Crypto)?;
        let peer = peer.try_into().map_err(|_| EvidenceFault::Crypto)?;
        pair.agree(&peer)?.apply_keystream(&mut key);
        Ok(Secret::new(key))
    }
}

/// A P-256 pair for one exchange.
pub(crate) struct SealPair {
    private: PrivateKey,
    /// X and Y, each little endian.
    pub public: [u8; PUBLIC_KEY_BYTES],
}

impl SealPair {
    pub(crate) fn draw() -> Result<Self, EvidenceFault> {
        let private = PrivateKey::generate(&ECDH_P256).map_err(|_| EvidenceFault::Crypto)?;
        let point = private.compute_public_key().map_err(|_| EvidenceFault::Crypto)?;
        let (x, y) = point
            .as_ref()
            .strip_prefix(&[4])
            .and_then(|xy| xy.split_at_checked(32))
            .ok_or(EvidenceFault::Crypto)?;
        let mut public = [0; PUBLIC_KEY_BYTES];
        let reversed = x.iter().rev().chain(y.iter().rev());
        public.iter_mut().zip(reversed).for_each(|(to, from)| *to = *from);
        Ok(Self { private, public })
    }

    /// Returns the cipher that both sides agree on: SHA-256 of the shared X (little endian)
    /// is key and first counter of AES-128-CTR.
    pub(crate) fn agree(&self, peer: &[u8; PUBLIC_KEY_BYTES]) -> Result<Cipher, EvidenceFault> {
        let (x, y) = peer.split_at(32);
        let point: Vec<u8> =
            [4].into_iter().chain(x.iter().rev().copied()).chain(y.iter().rev().copied()).collect();
        let peer = UnparsedPublicKey::new(&ECDH_P256, point);
        agreement::agree(&self.private, peer, seal("a key off the curve".to_owned()), |shared| {
            let little: Vec<u8> = shared.iter().rev().copied().collect();
            let hash: [u8; 32] = Sha256::digest(little).into();
            let (key, counter) = hash.split_at(16);
            Cipher::new_from_slices(key, counter).map_err(|_| EvidenceFault::Crypto)
        })
    }
}

fn seal(detail: String) -> EvidenceFault {
    EvidenceFault::Seal { detail }
}
