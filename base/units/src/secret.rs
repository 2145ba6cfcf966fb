//! Values that must not be shown.

use std::fmt;

use bytes::Bytes;
use zeroize::Zeroize;

/// A secret that is wiped when dropped and never printed.
///
/// It has no `Display`, its `Debug` names no content and it compares only through
/// [`Secret::expose`], which marks the places that look inside.
#[derive(Clone)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Wraps a secret.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The secret itself; keep the borrow short and copy nothing.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl<T: Zeroize> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T: Zeroize + Default> Default for Secret<T> {
    fn default() -> Self {
        Self(T::default())
    }
}

/// Bytes of a user (prompt or answer): shared without copying, never printed.
///
/// The memory belongs to reference-counted buffers, so it is not wiped on drop; keys
/// belong into [`Secret`].
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretBytes(Bytes);

impl SecretBytes {
    /// Wraps bytes.
    #[must_use]
    pub const fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The bytes themselves.
    #[must_use]
    pub const fn expose(&self) -> &Bytes {
        &self.0
    }

    /// Gives the bytes back.
    #[must_use]
    pub fn into_inner(self) -> Bytes {
        self.0
    }

    /// How many bytes there are; the length is no secret.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretBytes({} bytes)", self.0.len())
    }
}

impl From<Bytes> for SecretBytes {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl From<Vec<u8>> for SecretBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}
