//! A wallet in a file, and the directory of all wallets.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use cocoon_contract::boc;
use cocoon_contract::cell::{Cell, CellId, Hash};
use cocoon_units::{Address, PublicKey, Secret};
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use crate::kind::MAINNET_ID;
use crate::seal::{Fresh, SealCost, SealFault, Sealed};
use crate::{FileFault, Mnemonic, Wallet, WalletKind};

/// Names the form of the file; another form is refused, not guessed.
const FORM: &str = "cocoon-wallet-1";
/// Largest file read, bytes.
const LEN_MAX: u64 = 64 * 1024;
/// Longest name, bytes.
const NAME_LEN_MAX: usize = 40;
const EXTENSION: &str = "wallet.json";
const TAG_WORDS: u8 = 1;
const TAG_SEED: u8 = 2;

/// Where a wallet's key comes from.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// From 24 words.
    Words(Mnemonic),
    /// A bare Ed25519 seed, as nodes keep it.
    Seed(Secret<[u8; 32]>),
}

impl KeySource {
    /// The key.
    #[must_use]
    pub fn key(&self) -> SigningKey {
        match self {
            Self::Words(words) => words.key(),
            Self::Seed(seed) => SigningKey::from_bytes(seed.expose()),
        }
    }

    /// Its public half.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.key().verifying_key().to_bytes())
    }

    fn to_bytes(&self) -> Secret<Vec<u8>> {
        let (tag, bytes) = match self {
            Self::Words(words) => (TAG_WORDS, words.words().as_bytes()),
            Self::Seed(seed) => (TAG_SEED, seed.expose().as_slice()),
        };
        // One allocation of the final size: growing would leave copies of the secret behind.
        let mut all = Vec::with_capacity(bytes.len().saturating_add(1));
        all.push(tag);
        all.extend_from_slice(bytes);
        Secret::new(all)
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (tag, rest) = bytes.split_first()?;
        match *tag {
            TAG_WORDS => Mnemonic::parse(std::str::from_utf8(rest).ok()?).ok().map(Self::Words),
            TAG_SEED => Some(Self::Seed(Secret::new(rest.try_into().ok()?))),
            _ => None,
        }
    }
}

/// A wallet's file, read. The key stays sealed until [`WalletFile::unlock`].
#[derive(Clone, Debug)]
pub struct WalletFile {
    wallet: Wallet,
    sealed: Sealed,
}

/// The file as JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    form: String,
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    network_id: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code_hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code_depth: Option<u16>,
    public_key: String,
    address: String,
    sealed: Sealed,
}

impl WalletFile {
    /// Seals a key for a wallet. `fresh` are uniform random bytes used for nothing else.
    ///
    /// # Errors
    /// [`FileFault::Damaged`] when the cost is out of range: the caller's bug.
    pub fn seal(
        kind: WalletKind,
        source: &KeySource,
        passphrase: &Secret<String>,
        cost: SealCost,
        fresh: Fresh,
    ) -> Result<Self, FileFault> {
        let wallet = Wallet { kind, public_key: source.public_key() };
        let secret = source.to_bytes();
        let sealed = Sealed::close(secret.expose(), &bound(&wallet), passphrase, cost, fresh)
            .map_err(damaged)?;
        Ok(Self { wallet, sealed })
    }

    /// Contract and public key.
    #[must_use]
    pub fn wallet(&self) -> Wallet {
        self.wallet
    }

    /// Opens the seal.
    ///
    /// # Errors
    /// [`FileFault::Passphrase`] when it is another one; [`FileFault::Damaged`].
    pub fn unlock(&self, passphrase: &Secret<String>) -> Result<KeySource, FileFault> {
        let secret = self.sealed.open(&bound(&self.wallet), passphrase).map_err(damaged)?;
        let source = KeySource::from_bytes(secret.expose())
            .filter(|source| source.public_key() == self.wallet.public_key);
        source.ok_or_else(|| damaged(SealFault::Form("its key is not that of its address")))
    }

    /// Reads a file's bytes.
    ///
    /// # Errors
    /// [`FileFault::Damaged`] says what is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, FileFault> {
        let refuse = |reason: String| FileFault::Damaged { path: PathBuf::new(), reason };
        let form: Form =
            serde_json::from_slice(bytes).map_err(|fault| refuse(fault.to_string()))?;
        if form.form != FORM {
            return Err(refuse("it is no wallet, or one of a newer version".into()));
        }
        let wallet = form.wallet().ok_or_else(|| refuse("a field is malformed".into()))?;
        let address = wallet.address().map_err(|fault| refuse(fault.to_string()))?;
        if Address::parse(&form.address).ok() != Some(address) {
            return Err(refuse("its address is not that of its key".into()));
        }
        form.sealed.check().map_err(damaged)?;
        Ok(Self { wallet, sealed: form.sealed })
    }

    /// The file's text.
    #[must_use]
    pub fn to_json(&self) -> String {
        let (network_id, owner, code) = match self.wallet.kind {
            WalletKind::V5R1 { network_id } => (Some(network_id), None, None),
            WalletKind::Cocoon { owner, code } => (None, Some(owner.to_raw()), Some(code)),
            WalletKind::V3R2 | WalletKind::V4R2 => (None, None, None),
        };
        let form = Form {
            form: FORM.into(),
            version: self.wallet.kind.name().into(),
            network_id,
            owner,
            code_hash: code.map(|code| code.hash.to_string()),
            code_depth: code.map(|code| code.depth),
            public_key: hex::encode(self.wallet.public_key.0),
            address: self.wallet.address().map(Address::to_raw).unwrap_or_default(),
            sealed: self.sealed.clone(),
        };
        // Strings and numbers only: writing them cannot fail.
        serde_json::to_string_pretty(&form).unwrap_or_default()
    }
}

impl Form {
    fn wallet(&self) -> Option<Wallet> {
        let hash = |text: &str| {
            let mut bytes = [0; 32];
            hex::decode_to_slice(text, &mut bytes).ok().map(|()| bytes)
        };
        let kind = match self.version.as_str() {
            "v3r2" => WalletKind::V3R2,
            "v4r2" => WalletKind::V4R2,
            "v5r1" => WalletKind::V5R1 { network_id: self.network_id.unwrap_or(MAINNET_ID) },
            "cocoon" => WalletKind::Cocoon {
                owner: Address::parse(self.owner.as_deref()?).ok()?,
                code: CellId {
                    hash: Hash(hash(self.code_hash.as_deref()?)?),
                    depth: self.code_depth?,
                },
            },
            _ => return None,
        };
        Some(Wallet { kind, public_key: PublicKey(hash(&self.public_key)?) })
    }
}

/// What the seal is bound to: a changed version, owner or key does not open.
fn bound(wallet: &Wallet) -> Vec<u8> {
    let kind = match wallet.kind {
        WalletKind::V5R1 { network_id } => format!("v5r1 {network_id}"),
        WalletKind::Cocoon { owner, code } => format!("cocoon {} {}", owner.to_raw(), code.hash),
        other => other.name().to_owned(),
    };
    format!("{FORM} {kind} {}", hex::encode(wallet.public_key.0)).into_bytes()
}

fn damaged(fault: SealFault) -> FileFault {
    match fault {
        SealFault::Passphrase => FileFault::Passphrase,
        SealFault::Form(reason) => {
            FileFault::Damaged { path: PathBuf::new(), reason: reason.to_owned() }
        }
    }
}

/// The directory with all wallets of a person, and the codes of contracts met before.
#[derive(Clone, Debug)]
pub struct WalletDir(PathBuf);

impl WalletDir {
    /// A directory; it is made when the first wallet is written.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The file of a wallet.
    ///
    /// # Errors
    /// [`FileFault::Name`].
    pub fn file(&self, name: &str) -> Result<PathBuf, FileFault> {
        let begins_well = name.starts_with(|first: char| first.is_ascii_alphanumeric());
        let is_plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if !begins_well || !is_plain || name.len() > NAME_LEN_MAX {
            return Err(FileFault::Name { name: name.to_owned() });
        }
        Ok(self.0.join(format!("{name}.{EXTENSION}")))
    }

    /// Reads a wallet.
    ///
    /// # Errors
    /// [`FileFault`].
    pub fn load(&self, name: &str) -> Result<WalletFile, FileFault> {
        let path = self.file(name)?;
        let bytes = match read(&path) {
            Err(FileFault::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                return Err(FileFault::Absent { name: name.into(), directory: self.0.clone() });
            }
            bytes => bytes?,
        };
        WalletFile::parse(&bytes).map_err(|fault| match fault {
            FileFault::Damaged { reason, .. } => FileFault::Damaged { path, reason },
            other => other,
        })
    }

    /// Writes a new wallet, readable by its owner only and safe on disk before this returns. A
    /// wallet that exists is never overwritten.
    ///
    /// # Errors
    /// [`FileFault::Exists`], [`FileFault::Name`], [`FileFault::Io`].
    pub fn create(&self, name: &str, file: &WalletFile) -> Result<PathBuf, FileFault> {
        let path = self.file(name)?;
        self.write(&path, file.to_json().as_bytes()).map_err(|fault| match fault {
            FileFault::Io { source, .. } if source.kind() == ErrorKind::AlreadyExists => {
                FileFault::Exists { name: name.to_owned() }
            }
            other => other,
        })?;
        Ok(path)
    }

    /// The names of all wallets, sorted.
    ///
    /// # Errors
    /// [`FileFault::Io`]; a directory that does not exist holds none.
    pub fn names(&self) -> Result<Vec<String>, FileFault> {
        let io = |source| FileFault::Io { path: self.0.clone(), source };
        let entries = match self.0.read_dir() {
            Err(fault) if fault.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(io)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let file = entry.map_err(io)?.file_name().to_string_lossy().into_owned();
            names.extend(file.strip_suffix(&format!(".{EXTENSION}")).map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }

    /// A contract's code kept from an earlier meeting.
    #[must_use]
    pub fn code(&self, id: CellId) -> Option<Cell> {
        let bytes = read(&self.code_path(id)).ok()?;
        let cell = boc::decode(&bytes, boc::Limits::STATE).ok()?;
        (CellId::of(&cell) == id).then_some(cell)
    }

    /// Keeps a contract's code for later.
    ///
    /// # Errors
    /// [`FileFault::Io`]; a code that is kept already is no error.
    pub fn keep_code(&self, code: &Cell) -> Result<(), FileFault> {
        let path = self.code_path(CellId::of(code));
        match self.write(&path, &boc::encode(code)) {
            Err(FileFault::Io { source, .. }) if source.kind() == ErrorKind::AlreadyExists => {
                Ok(())
            }
            done => done,
        }
    }

    fn code_path(&self, id: CellId) -> PathBuf {
        self.0.join("codes").join(format!("{}.boc", id.hash))
    }

    /// Writes aside, then links: the file appears whole or not at all, and never over another.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), FileFault> {
        let io = |source| FileFault::Io { path: path.to_owned(), source };
        let directory = path.parent().unwrap_or(&self.0);
        std::fs::create_dir_all(directory).map_err(io)?;
        let aside = path.with_extension(format!("new-{}", std::process::id()));
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&aside)
            .map_err(io)?;
        let written = file
            .write_all(bytes)
            .and_then(|()| file.sync_all())
            .and_then(|()| std::fs::hard_link(&aside, path))
            .and_then(|()| File::open(directory)?.sync_all());
        // What was written aside is no longer needed, whether it was linked or not.
        let _ = std::fs::remove_file(&aside);
        written.map_err(io)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, FileFault> {
    let io = |source| FileFault::Io { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(io)?.take(LEN_MAX + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > LEN_MAX {
        let reason = format!("it is larger than {LEN_MAX} bytes");
        return Err(FileFault::Damaged { path: path.to_owned(), reason });
    }
    Ok(bytes)
}
