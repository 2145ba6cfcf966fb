//! The SOCKS5 conversation with a program on this machine (protocol notes, wire 2.9; RFC 1928,
//! RFC 1929).
//!
//! The reference drops a connection that asks for anything else than an IPv4 address; here it is
//! told why with RFC 1928's reply first, and an address written as a name of digits is taken.

use std::net::SocketAddrV4;

use cocoon_wire::{SocksFault, socks};

/// Codes of replies (RFC 1928, 6).
pub mod reply {
    /// Something else failed here.
    pub const FAILED: u8 = 1;
    /// The policy that the user name asks for is not there.
    pub const NOT_ALLOWED: u8 = 2;
    /// The host cannot be reached.
    pub const HOST_UNREACHABLE: u8 = 4;
    /// Nobody listens there.
    pub const REFUSED: u8 = 5;
    /// Not CONNECT.
    pub const COMMAND: u8 = 7;
    /// Not IPv4.
    pub const ADDRESS_TYPE: u8 = 8;
}

/// Largest message of the conversation: user and password of 255 bytes each.
const MESSAGE_BYTES_MAX: usize = 513;

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocksStep {
    /// Read more from the program.
    More,
    /// Write these bytes, then go on with what is there already.
    Write(Vec<u8>),
    /// The program asks for this place. Answer with [`SocksServer::granted`] or
    /// [`SocksServer::refused`]; bytes after the request stay in [`SocksServer::rest`].
    Connect {
        /// Where to.
        target: SocketAddrV4,
        /// User name, when the program gave one.
        user: Option<Vec<u8>>,
    },
    /// Write these bytes and close: the program asks for something that is not there.
    Refuse(Vec<u8>, SocksFault),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Greeting,
    User,
    Request,
    Done,
}

/// The router's side of one conversation. Holds at most one message.
#[derive(Debug)]
pub struct SocksServer {
    take_user: bool,
    state: State,
    buffer: Vec<u8>,
    user: Option<Vec<u8>>,
}

impl SocksServer {
    /// A conversation where a user name is taken, or not.
    #[must_use]
    pub const fn new(take_user: bool) -> Self {
        Self { take_user, state: State::Greeting, buffer: Vec::new(), user: None }
    }

    /// Bytes that may be read before the next step.
    #[must_use]
    pub fn room(&self) -> usize {
        MESSAGE_BYTES_MAX.saturating_sub(self.buffer.len())
    }

    /// Takes bytes of the program, at most [`room`](Self::room); call [`step`](Self::step) then.
    pub fn push(&mut self, bytes: &[u8]) {
        let taken = bytes.get(..bytes.len().min(self.room())).unwrap_or_default();
        self.buffer.extend_from_slice(taken);
    }

    /// Says what is next; call it again after writing.
    pub fn step(&mut self) -> SocksStep {
        let step = match self.state {
            State::Greeting => self.greeting(),
            State::User => self.user(),
            State::Request => self.request(),
            State::Done => Ok(SocksStep::More),
        };
        step.unwrap_or_else(|fault| {
            self.state = State::Done;
            let message = match fault {
                SocksFault::Method { .. } => socks::encode_method(0xff).to_vec(),
                SocksFault::Command { .. } => Self::refused(reply::COMMAND).to_vec(),
                SocksFault::AddressType { .. } => Self::refused(reply::ADDRESS_TYPE).to_vec(),
                SocksFault::Version { .. } | SocksFault::Refused { .. } => Vec::new(),
            };
            SocksStep::Refuse(message, fault)
        })
    }

    /// What the program sent after its request: the first bytes for its peer.
    #[must_use]
    pub fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    /// The reply that lets the program go on.
    #[must_use]
    pub fn granted(bound: SocketAddrV4) -> [u8; socks::REQUEST_BYTES] {
        socks::encode_granted(bound)
    }

    /// The reply that ends the conversation with a code of [`reply`].
    #[must_use]
    pub const fn refused(code: u8) -> [u8; socks::REQUEST_BYTES] {
        [5, code, 0, 1, 0, 0, 0, 0, 0, 0]
    }

    fn greeting(&mut self) -> Result<SocksStep, SocksFault> {
        let Some((methods, taken)) = socks::decode_greeting(&self.buffer)? else {
            return Ok(SocksStep::More);
        };
        let method = if self.take_user && methods.contains(&socks::METHOD_USER) {
            self.state = State::User;
            socks::METHOD_USER
        } else if methods.contains(&socks::METHOD_NONE) {
            self.state = State::Request;
            socks::METHOD_NONE
        } else {
            return Err(SocksFault::Method { method: methods.first().copied().unwrap_or(0xff) });
        };
        self.buffer.drain(..taken);
        Ok(SocksStep::Write(socks::encode_method(method).to_vec()))
    }

    fn user(&mut self) -> Result<SocksStep, SocksFault> {
        let Some((user, taken)) = socks::decode_user(&self.buffer)? else {
            return Ok(SocksStep::More);
        };
        self.user = Some(user.to_vec());
        self.buffer.drain(..taken);
        self.state = State::Request;
        // Whether the name is a policy is said by the reply to the request.
        Ok(SocksStep::Write(vec![1, 0]))
    }

    fn request(&mut self) -> Result<SocksStep, SocksFault> {
        // Anything but an IPv4 CONNECT can be refused by its first four bytes; a name of digits
        // is as long as it says.
        let (target, taken) = match *self.buffer.as_slice() {
            [5, 1, _, 3, length, ref rest @ ..] => {
                let length = usize::from(length);
                let (Some(name), Some([p, q])) = (rest.get(..length), rest.get(length..length + 2))
                else {
                    return Ok(SocksStep::More);
                };
                let ip = std::str::from_utf8(name).ok().and_then(|text| text.parse().ok());
                let ip = ip.ok_or(SocksFault::AddressType { kind: 3 })?;
                (SocketAddrV4::new(ip, u16::from_be_bytes([*p, *q])), 5 + length + 2)
            }
            [5, 1, _, kind, ..] if kind != 1 && kind != 3 => {
                return Err(SocksFault::AddressType { kind });
            }
            [5, command, ..] if command != 1 => return Err(SocksFault::Command { command }),
            [version, ..] if version != 5 => return Err(SocksFault::Version { version }),
            _ => match self.buffer.first_chunk() {
                Some(bytes) => (socks::decode_connect(bytes)?, bytes.len()),
                None => return Ok(SocksStep::More),
            },
        };
        self.buffer.drain(..taken);
        self.state = State::Done;
        Ok(SocksStep::Connect { target, user: self.user.take() })
    }
}
