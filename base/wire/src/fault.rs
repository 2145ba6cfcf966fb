//! What can be wrong with bytes from a peer, and with our own.

use thiserror::Error;

/// Bytes that are no TL object of the expected kind. The peer is guilty: on a connection
/// the caller closes it (protocol notes 1.3), in a query it answers with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TlFault {
    /// The object ends in the middle of a value.
    #[error("object ends at byte {offset}: {needed} more bytes are needed, {left} are left")]
    Truncated {
        /// Where the value starts.
        offset: usize,
        /// Bytes the value needs from there.
        needed: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// A constructor id that cannot stand here.
    #[error("wrong constructor {id:08x} at byte {offset}")]
    UnknownConstructor {
        /// Where the id stands.
        offset: usize,
        /// The id found.
        id: u32,
    },
    /// Bytes behind the object.
    #[error("{left} bytes follow the object, which ends at byte {offset}")]
    TrailingBytes {
        /// Where the object ends.
        offset: usize,
        /// Bytes behind it.
        left: usize,
    },
    /// A vector that promises more elements than there are bytes.
    #[error("vector at byte {offset} announces {count} elements but only {left} bytes are left")]
    VectorTooLong {
        /// Where the count stands.
        offset: usize,
        /// Elements announced.
        count: u32,
        /// Bytes behind the count.
        left: usize,
    },
    /// Bit 31 of a `flags` word is set.
    #[error("flags at byte {offset} are {flags:#010x}; bit 31 must be clear")]
    NegativeFlags {
        /// Where the word stands.
        offset: usize,
        /// The word.
        flags: u32,
    },
}

/// A frame that breaks the protocol, or one of ours that cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameFault {
    /// The peer announces an impossible length; close the connection.
    #[error("frame announces {length} payload bytes; 4..=16777216 are allowed")]
    Length {
        /// Length announced.
        length: u32,
    },
    /// The peer skipped or repeated a frame; close the connection.
    #[error("frame has sequence number {found}, expected {expected}")]
    Seqno {
        /// Number found.
        found: u32,
        /// Number expected.
        expected: u32,
    },
    /// Our payload is too short or too long. Nothing was written; fail the request, keep the
    /// connection.
    #[error("payload has {length} bytes; a frame holds 4..=16777216")]
    TooLarge {
        /// Bytes of the payload.
        length: usize,
    },
    /// Our encoder lied about its size: a fault of ours. Nothing was written.
    #[error("encoder announced {length} bytes and wrote {written}; please report this")]
    Misfilled {
        /// Bytes announced.
        length: usize,
        /// Bytes written.
        written: usize,
    },
}

/// A proof-of-work message of a peer that cannot be used; close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PowFault {
    /// Not a proof-of-work message: the peer is something else.
    #[error(
        "proof of work starts with {found:08x}, expected {expected:08x}; is this a Cocoon port?"
    )]
    Magic {
        /// Number found.
        found: u32,
        /// Number expected.
        expected: u32,
    },
    /// The peer demands more work than we do, or a negative amount.
    #[error("peer demands {demanded} zero bits of work, at most {maximum} are accepted")]
    Difficulty {
        /// Zero bits demanded.
        demanded: i32,
        /// Our limit.
        maximum: u32,
    },
}

/// A peer-info blob of our own router that cannot be used; close the connection and check
/// that router and node belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PeerInfoFault {
    /// More than 16536 bytes.
    #[error(
        "peer info has {length} bytes, at most 16536 are allowed; does the router serialize it?"
    )]
    TooLarge {
        /// Bytes announced.
        length: usize,
    },
    /// The first number belongs to the other line.
    #[error("peer info starts with {first}; router and node are of different lines")]
    Line {
        /// Number found.
        first: i32,
    },
    /// An unknown kind of machine.
    #[error("peer info names machine kind {kind}; 0 and 1 are known")]
    Kind {
        /// Number found.
        kind: i32,
    },
    /// The key is no Ed25519 key.
    #[error("peer info holds a public key of {length} bytes, expected 32")]
    PublicKey {
        /// Bytes found.
        length: usize,
    },
    /// A field is cut or bytes follow.
    #[error("peer info: {0}")]
    Fields(#[from] TlFault),
    /// Ours: this line has no form for this attestation.
    #[error("{line:?} peer info cannot express this attestation")]
    Unrepresentable {
        /// The line asked for.
        line: crate::peer_info::Line,
    },
}

/// A SOCKS message that cannot be served; close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SocksFault {
    /// Not version 5 (or not version 1 of the user-name message).
    #[error("SOCKS version is {version}, expected 5; check the configured port")]
    Version {
        /// Version found.
        version: u8,
    },
    /// The router accepts none of our methods.
    #[error("SOCKS router chose method {method:#04x}; allow connections without authentication")]
    Method {
        /// Method found.
        method: u8,
    },
    /// A command other than CONNECT.
    #[error("SOCKS command {command} is not CONNECT")]
    Command {
        /// Command found.
        command: u8,
    },
    /// An address that is not IPv4.
    #[error("SOCKS address type {kind} is not IPv4")]
    AddressType {
        /// Type found.
        kind: u8,
    },
    /// The router refused.
    #[error("SOCKS router refused with code {code}")]
    Refused {
        /// Code found.
        code: u8,
    },
}

/// A configuration that cannot be read. The operator corrects the file; values are not
/// shown, since they may be keys.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigFault {
    /// No JSON.
    #[error("configuration is no JSON at line {line}, column {column}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// A field of another kind.
    #[error("{place} must be {expected}")]
    Field {
        /// Name of the field.
        place: String,
        /// What it must be.
        expected: &'static str,
    },
}

/// End-to-end encryption that failed. The request is answered with the error; nothing of its
/// content is in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum E2eFault {
    /// A key came with a request that is not encrypted.
    #[error("encryption key is provided, but request is unencrypted")]
    Unencrypted,
    /// Only some of the four fields are there.
    #[error("not all encryption-related fields are present")]
    MissingFields,
    /// No private key came with an encrypted request.
    #[error("cannot find private key for an encrypted request")]
    NoPrivateKey,
    /// The text is for another key, or from another sender.
    #[error("public key mismatch")]
    OtherKey,
    /// A string without a known prefix.
    #[error("bad encryption method: a string starts with neither ENC_ nor DEC_")]
    Method,
    /// A public key that is none.
    #[error("public key is not 32 bytes of a point on the curve, in hex or base64")]
    PublicKey,
    /// Not hexadecimal behind the prefix.
    #[error("encrypted string is not hexadecimal")]
    Hex,
    /// No whole number of blocks.
    #[error("encrypted string has {length} bytes; expected 16 and a multiple of 16")]
    Length {
        /// Bytes found.
        length: usize,
    },
    /// The id does not match: changed on the way, or encrypted with another secret.
    #[error("encrypted string was changed or belongs to another key")]
    Changed,
    /// The decrypted bytes are no UTF-8.
    #[error("decrypted string is not UTF-8")]
    NotText,
    /// Only JSON objects can be encrypted.
    #[error("only a JSON object can be encrypted")]
    NotAnObject,
}

impl E2eFault {
    /// Code of the error answer, see protocol notes 1.7 and 4.8.
    #[must_use]
    pub const fn code(&self) -> i32 {
        match self {
            Self::Method => 621,
            _ => 602,
        }
    }
}
