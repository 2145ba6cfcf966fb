//! Identifiers: hashes, keys, names, roles, versions.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use base64::{alphabet, engine::DecodePaddingMode};
use sha2::{Digest as _, Sha256};

use crate::IdFault;

/// Reads standard base64 with or without padding.
const ANY_PADDING: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD_ANY: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, ANY_PADDING);
const URL_SAFE_ANY: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, ANY_PADDING);

/// Reads 32 bytes in hex or either base64 alphabet.
fn thirty_two(text: &str, what: &'static str) -> Result<[u8; 32], IdFault> {
    let text = text.trim();
    let bytes = match text.len() {
        64 => hex::decode(text).ok(),
        43 | 44 if text.contains(['-', '_']) => URL_SAFE_ANY.decode(text).ok(),
        43 | 44 => STANDARD_ANY.decode(text).ok(),
        _ => None,
    };
    bytes
        .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
        .ok_or(IdFault::NotThirtyTwoBytes { what })
}

macro_rules! thirty_two_byte_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// Reads 32 bytes in hex, standard base64 or URL-safe base64.
            ///
            /// # Errors
            /// [`IdFault::NotThirtyTwoBytes`] when the text is none of them.
            pub fn parse(text: &str) -> Result<Self, IdFault> {
                thirty_two(text, $what).map(Self)
            }

            /// Writes standard base64, 44 characters.
            #[must_use]
            pub fn to_base64(self) -> String {
                STANDARD.encode(self.0)
            }

            /// Whether all bytes are zero, the wire's "none".
            #[must_use]
            pub fn is_zero(&self) -> bool {
                self.0 == [0; 32]
            }
        }

        impl From<[u8; 32]> for $name {
            fn from(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            /// Writes 64 lower-case hex digits.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = IdFault;

            fn from_str(text: &str) -> Result<Self, IdFault> {
                Self::parse(text)
            }
        }
    };
}

thirty_two_byte_id!(
    /// Hash of what a confidential machine has measured at start (protocol notes 2.7).
    ImageHash,
    "image hash"
);
thirty_two_byte_id!(
    /// Random id of one request on one connection.
    RequestId,
    "request id"
);
thirty_two_byte_id!(
    /// An Ed25519 public key.
    PublicKey,
    "public key"
);

/// Full name of a model: `name@commit:hash`, at most 1024 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelName(String);

impl ModelName {
    /// Longest name accepted, in bytes.
    pub const MAX_BYTES: usize = 1024;

    /// Checks and keeps a name. The part behind `@` may be missing, as in a request.
    ///
    /// # Errors
    /// [`IdFault::EmptyModel`] or [`IdFault::LongModel`].
    pub fn new(text: impl Into<String>) -> Result<Self, IdFault> {
        let text = text.into();
        if text.is_empty() {
            return Err(IdFault::EmptyModel);
        }
        if text.len() > Self::MAX_BYTES {
            return Err(IdFault::LongModel { length: text.len() });
        }
        Ok(Self(text))
    }

    /// The full text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the first `@`: the name that clients ask for.
    #[must_use]
    pub fn base(&self) -> &str {
        self.0.split_once('@').map_or(self.0.as_str(), |(base, _)| base)
    }

    /// The part between `@` and the next `:`, when both are there.
    #[must_use]
    pub fn commit(&self) -> Option<&str> {
        self.0.split_once('@').and_then(|(_, rest)| rest.split_once(':')).map(|(commit, _)| commit)
    }

    /// The part behind `@commit:`, when it is the root of a hash tree: 64 hex digits. Other text
    /// there promises nothing about bytes.
    #[must_use]
    pub fn root(&self) -> Option<&str> {
        let (_, root) = self.0.split_once('@').and_then(|(_, rest)| rest.split_once(':'))?;
        (root.len() == 64 && root.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(root)
    }

    /// SHA-256 of the full text, as listed in the root contract.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ModelName {
    type Err = IdFault;

    fn from_str(text: &str) -> Result<Self, IdFault> {
        Self::new(text)
    }
}

/// What a node is in the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum Role {
    /// Takes users' requests and pays.
    Client,
    /// Brings clients and workers together and keeps the books.
    Proxy,
    /// Runs a model.
    Worker,
    /// Hands out keys for end-to-end encryption.
    KeyManager,
}

impl Role {
    /// The name used in configuration and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Proxy => "proxy",
            Self::Worker => "worker",
            Self::KeyManager => "key-manager",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = IdFault;

    fn from_str(text: &str) -> Result<Self, IdFault> {
        [Self::Client, Self::Proxy, Self::Worker, Self::KeyManager]
            .into_iter()
            .find(|role| role.name() == text)
            .ok_or(IdFault::Role)
    }
}

/// Application protocol version, negotiated per connection (protocol notes 1.8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct ProtoVersion(pub i32);

impl ProtoVersion {
    /// The old dialect without `Ex` messages; also a peer that announces nothing.
    pub const V0: Self = Self(0);
    /// `Ex` messages with `final_info`.
    pub const V1: Self = Self(1);
    /// `final_info` carries four time stamps.
    pub const V2: Self = Self(2);
    /// Queries may carry end-to-end keys.
    pub const V3: Self = Self(3);
    /// A proxy may ask a worker to change its model.
    pub const V4: Self = Self(4);

    /// Whether queries and answers use the `Ex` messages.
    #[must_use]
    pub const fn has_final_info(self) -> bool {
        self.0 >= 1
    }

    /// Whether `final_info` carries time stamps.
    #[must_use]
    pub const fn has_times(self) -> bool {
        self.0 >= 2
    }

    /// Whether queries may carry keys.
    #[must_use]
    pub const fn has_keys(self) -> bool {
        self.0 >= 3
    }

    /// Whether `worker.changeModel` exists.
    #[must_use]
    pub const fn has_change_model(self) -> bool {
        self.0 >= 4
    }

    /// The version a proxy chooses: the smaller maximum, or `None` when it lies below
    /// either minimum or the ranges are empty.
    #[must_use]
    pub fn choose(own: (Self, Self), peer: (Self, Self)) -> Option<Self> {
        let version = own.1.min(peer.1);
        (version >= own.0 && version >= peer.0).then_some(version)
    }
}

impl fmt::Display for ProtoVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
