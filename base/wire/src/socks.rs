//! The SOCKS5 messages between a node and its own router (protocol notes 2.9, RFC 1928/1929).
//!
//! Only CONNECT to an IPv4 address exists. The router refuses by closing the connection.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::SocksFault;

/// Protocol version byte.
const VERSION: u8 = 5;
/// Method without authentication: the port's own policy applies.
pub const METHOD_NONE: u8 = 0;
/// Method with user name: the name chooses the policy.
pub const METHOD_USER: u8 = 2;
/// Greeting of a node: one method, no authentication.
pub const GREETING: [u8; 3] = [VERSION, 1, METHOD_NONE];
/// Bytes of the answer to the greeting.
pub const METHOD_BYTES: usize = 2;
/// Bytes of a request and of its reply.
pub const REQUEST_BYTES: usize = 10;

/// The router's choice of a method.
#[must_use]
pub const fn encode_method(method: u8) -> [u8; METHOD_BYTES] {
    [VERSION, method]
}

/// Reads the router's choice.
///
/// # Errors
/// [`SocksFault`]: the router is none or refuses; check `connect_to_proxy_via`.
pub const fn decode_method(bytes: [u8; METHOD_BYTES]) -> Result<u8, SocksFault> {
    match bytes {
        [VERSION, method @ (METHOD_NONE | METHOD_USER)] => Ok(method),
        [VERSION, method] => Err(SocksFault::Method { method }),
        [version, _] => Err(SocksFault::Version { version }),
    }
}

/// Reads a greeting from the start of `bytes`: the methods offered and the bytes it takes,
/// or `None` when it is not complete. It has at most 257 bytes.
///
/// # Errors
/// [`SocksFault::Version`]: close the connection.
pub fn decode_greeting(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, SocksFault> {
    match bytes {
        [VERSION, count, rest @ ..] => {
            let count = usize::from(*count);
            Ok(rest.get(..count).map(|methods| (methods, 2 + count)))
        }
        [VERSION] | [] => Ok(None),
        [version, ..] => Err(SocksFault::Version { version: *version }),
    }
}

/// Reads the user name of an authentication (RFC 1929) from the start of `bytes`, with the
/// bytes it takes, or `None` when it is not complete. The password is ignored.
///
/// # Errors
/// [`SocksFault::Version`]: close the connection.
pub fn decode_user(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, SocksFault> {
    match bytes {
        [] => Ok(None),
        [1, rest @ ..] => {
            let Some((length, rest)) = rest.split_first() else { return Ok(None) };
            let length = usize::from(*length);
            let (Some(user), Some(password_length)) = (rest.get(..length), rest.get(length)) else {
                return Ok(None);
            };
            let total = 3 + length + usize::from(*password_length);
            Ok((bytes.len() >= total).then_some((user, total)))
        }
        [version, ..] => Err(SocksFault::Version { version: *version }),
    }
}

/// Writes a request to connect to `target`.
#[must_use]
pub fn encode_connect(target: SocketAddrV4) -> [u8; REQUEST_BYTES] {
    message(1, target)
}

/// Reads a request.
///
/// # Errors
/// [`SocksFault`]: another command, another address type or another version; close.
pub fn decode_connect(bytes: &[u8; REQUEST_BYTES]) -> Result<SocketAddrV4, SocksFault> {
    match *bytes {
        [VERSION, 1, _, 1, a, b, c, d, p, q] => {
            Ok(SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([p, q])))
        }
        [VERSION, 1, _, kind, ..] => Err(SocksFault::AddressType { kind }),
        [VERSION, command, ..] => Err(SocksFault::Command { command }),
        [version, ..] => Err(SocksFault::Version { version }),
    }
}

/// Writes the reply "granted" with the router's own end. It says only that the outgoing
/// connection was started, not that the target was reached.
#[must_use]
pub fn encode_granted(bound: SocketAddrV4) -> [u8; REQUEST_BYTES] {
    message(0, bound)
}

/// Reads the reply.
///
/// # Errors
/// [`SocksFault`]: the router is none or refuses.
pub fn decode_granted(bytes: &[u8; REQUEST_BYTES]) -> Result<SocketAddrV4, SocksFault> {
    match *bytes {
        [VERSION, 0, _, 1, a, b, c, d, p, q] => {
            Ok(SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([p, q])))
        }
        [VERSION, 0, _, kind, ..] => Err(SocksFault::AddressType { kind }),
        [VERSION, code, ..] => Err(SocksFault::Refused { code }),
        [version, ..] => Err(SocksFault::Version { version }),
    }
}

/// A request or reply with an IPv4 address.
fn message(code: u8, address: SocketAddrV4) -> [u8; REQUEST_BYTES] {
    let [a, b, c, d] = address.ip().octets();
    let [p, q] = address.port().to_be_bytes();
    [VERSION, code, 0, 1, a, b, c, d, p, q]
}
