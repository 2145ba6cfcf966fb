//! The roots of the simulated platform, in the structure of the three makers.

use std::path::Path;

use cocoon_attest::{Digest48, TrustRoots};
use serde::{Deserialize, Serialize};

use super::key::{KeyKind, SigningKey};
use super::x509::{CertificateForm, certificate, revocation_list};
use crate::fault::EvidenceFault;

pub(super) const INTEL_ROOT: &str = "Simulated SGX Root CA";
pub(super) const PCK_CA: &str = "Simulated SGX PCK Platform CA";
pub(super) const TCB_SIGNER: &str = "Simulated SGX TCB Signing";
pub(super) const ARK: &str = "ARK-Simulated";
pub(super) const ASK: &str = "SEV-Simulated";
pub(super) const GPU_ROOT: &str = "Simulated Device Identity CA";

/// How long certificates of the PKI live, in seconds: twenty years.
pub(super) const LIFE_S: u64 = 20 * 365 * 86_400;

/// Serial number of the AMD-like intermediate, so that it can be revoked.
const ASK_SERIAL: u64 = 0x10_001;

/// A key with its certificate.
pub(super) struct Identity {
    pub key: SigningKey,
    pub der: Vec<u8>,
}

/// Development roots, drawn once and shared by everything that is to trust each other.
///
/// Whoever holds one makes evidence at will: it belongs into tests and trials on one
/// machine, and its roots never into the policy of a node that serves people.
pub struct DevPki {
    pub(super) intel_root: Identity,
    pub(super) pck_ca: Identity,
    pub(super) tcb_signer: Identity,
    pub(super) ark: Identity,
    pub(super) ask: Identity,
    pub(super) gpu_root: Identity,
    /// First second of its certificates.
    pub(super) from_s: u64,
}

/// What is kept of one identity.
#[derive(Serialize, Deserialize)]
struct Kept {
    pkcs8: String,
    der: String,
}

/// What is kept of a PKI.
#[derive(Serialize, Deserialize)]
struct KeptPki {
    from_s: u64,
    intel_root: Kept,
    pck_ca: Kept,
    tcb_signer: Kept,
    ark: Kept,
    ask: Kept,
    gpu_root: Kept,
}

impl DevPki {
    /// Draws new roots that count from a day before `now_s` (Unix seconds). Takes a second
    /// or two, for AMD's authorities use RSA of 4096 bits.
    ///
    /// # Errors
    /// The cryptographic library failed.
    pub fn generate(now_s: u64) -> Result<Self, EvidenceFault> {
        Self::draw(now_s.saturating_sub(86_400), KeyKind::Rsa)
    }

    /// Draws roots that nobody trusts, for machines of another maker. AMD's authorities
    /// have quick keys, since no check gets as far as their kind.
    pub(super) fn generate_foreign(from_s: u64) -> Result<Self, EvidenceFault> {
        Self::draw(from_s, KeyKind::P384)
    }

    fn draw(from_s: u64, amd: KeyKind) -> Result<Self, EvidenceFault> {
        let own = |kind, subject| -> Result<Identity, EvidenceFault> {
            let key = SigningKey::generate(kind)?;
            let der = certificate(&authority(subject, 1, from_s), &key, subject, &key)?;
            Ok(Identity { key, der })
        };
        let intel_root = own(KeyKind::P256, INTEL_ROOT)?;
        let ark = own(amd, ARK)?;
        let gpu_root = own(KeyKind::P384, GPU_ROOT)?;
        let below = |kind, form: &CertificateForm<'_>, issuer, parent: &Identity| {
            let key = SigningKey::generate(kind)?;
            let der = certificate(form, &key, issuer, &parent.key)?;
            Ok::<_, EvidenceFault>(Identity { key, der })
        };
        let pck_ca = below(KeyKind::P256, &authority(PCK_CA, 2, from_s), INTEL_ROOT, &intel_root)?;
        let signer = CertificateForm { authority: false, ..authority(TCB_SIGNER, 3, from_s) };
        let tcb_signer = below(KeyKind::P256, &signer, INTEL_ROOT, &intel_root)?;
        let ask = below(amd, &authority(ASK, ASK_SERIAL, from_s), ARK, &ark)?;
        Ok(Self { intel_root, pck_ca, tcb_signer, ark, ask, gpu_root, from_s })
    }

    /// Reads the PKI kept at `path`, or draws one and keeps it there (mode 0600), so that
    /// several processes on one machine trust each other.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn load_or_generate(path: &Path, now_s: u64) -> Result<Self, EvidenceFault> {
        match std::fs::read(path) {
            Ok(bytes) => Self::from_json(&bytes)
                .map_err(|detail| EvidenceFault::Pki { path: path.to_owned(), detail }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let pki = Self::generate(now_s)?;
                pki.save(path)?;
                Ok(pki)
            }
            Err(source) => {
                let what = "reading the development PKI";
                Err(EvidenceFault::Device { what, path: path.to_owned(), source })
            }
        }
    }

    /// Returns the digests by which a policy trusts this PKI and nothing else.
    #[must_use]
    pub fn roots(&self) -> TrustRoots {
        TrustRoots {
            tdx: vec![Digest48::sha384(&[self.intel_root.key.public()])],
            snp: vec![Digest48::sha384(&[&self.ark.key.spki()])],
            gpu: vec![Digest48::sha384(&[&self.gpu_root.key.spki()])],
        }
    }

    /// Returns AMD's revocation list for these seconds.
    pub(super) fn amd_list(
        &self,
        dates: (u64, u64),
        revoke_ask: bool,
    ) -> Result<Vec<u8>, EvidenceFault> {
        let revoked: &[u64] = if revoke_ask { &[ASK_SERIAL] } else { &[] };
        revocation_list(ARK, &self.ark.key, dates, revoked)
    }

    fn save(&self, path: &Path) -> Result<(), EvidenceFault> {
        let keep = |identity: &Identity| Kept {
            pkcs8: hex::encode(identity.key.pkcs8()),
            der: hex::encode(&identity.der),
        };
        let kept = KeptPki {
            from_s: self.from_s,
            intel_root: keep(&self.intel_root),
            pck_ca: keep(&self.pck_ca),
            tcb_signer: keep(&self.tcb_signer),
            ark: keep(&self.ark),
            ask: keep(&self.ask),
            gpu_root: keep(&self.gpu_root),
        };
        let bytes = serde_json::to_vec(&kept).map_err(|error| EvidenceFault::Pki {
            path: path.to_owned(),
            detail: error.to_string(),
        })?;
        write_private(path, &bytes)
    }

    fn from_json(bytes: &[u8]) -> Result<Self, String> {
        let kept: KeptPki = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let read = |kind, kept: &Kept| -> Result<Identity, String> {
            let pkcs8 = hex::decode(&kept.pkcs8).map_err(|error| error.to_string())?;
            let der = hex::decode(&kept.der).map_err(|error| error.to_string())?;
            let key = SigningKey::from_pkcs8(kind, pkcs8).map_err(|error| error.to_string())?;
            Ok(Identity { key, der })
        };
        Ok(Self {
            intel_root: read(KeyKind::P256, &kept.intel_root)?,
            pck_ca: read(KeyKind::P256, &kept.pck_ca)?,
            tcb_signer: read(KeyKind::P256, &kept.tcb_signer)?,
            ark: read(KeyKind::Rsa, &kept.ark)?,
            ask: read(KeyKind::Rsa, &kept.ask)?,
            gpu_root: read(KeyKind::P384, &kept.gpu_root)?,
            from_s: kept.from_s,
        })
    }
}

impl std::fmt::Debug for DevPki {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("DevPki").field("roots", &self.roots()).finish_non_exhaustive()
    }
}

/// Returns the form of an authority.
pub(super) fn authority(subject: &str, serial: u64, from_s: u64) -> CertificateForm<'_> {
    CertificateForm {
        subject,
        serial,
        from_s,
        until_s: from_s + LIFE_S,
        authority: true,
        extensions: Vec::new(),
    }
}

/// Writes a file that only its owner may read, whole or not at all.
fn write_private(path: &Path, bytes: &[u8]) -> Result<(), EvidenceFault> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let what = "writing the development PKI";
    let fault = |source| EvidenceFault::Device { what, path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        // The first program of a new user finds no cache folder.
        std::fs::create_dir_all(folder).map_err(fault)?;
    }
    let draft = path.with_extension(format!("draft-{}", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    let mut file =
        options.write(true).create(true).truncate(true).mode(0o600).open(&draft).map_err(fault)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(fault)?;
    std::fs::rename(&draft, path).map_err(fault)
}
