//! One connection's life: hello, queries and answers, pings, deadlines.
//!
//! A machine without hands. Bytes and the time go in, [`Event`]s and bytes come out; the
//! socket, the clock and the random ids belong to the caller. One [`Connection`] is one
//! connection from its first frame to its end (protocol notes 1.1, 1.3 and 1.4).
//!
//! Laws, each held by a test in `tests/laws.rs`:
//! - what one side sends arrives at the other in order, however the bytes are cut;
//! - every accepted query ends in exactly one answer or failure, a lost connection included;
//! - any bytes from the peer give events or a fault, and memory stays within the limits;
//! - after [`Event::Closed`] there are no more events.
//!
//! ```
//! use cocoon_session::{Connection, Encoded, Event, Limits, Side};
//!
//! let mut ours = Connection::new(Side::Connecting { connect_id: 7 }, Limits::connecting(), 0);
//! let mut theirs = Connection::new(Side::Accepting, Limits::accepting(), 0);
//!
//! theirs.input().extend_from_slice(ours.output());
//! ours.written(ours.output().len(), 1);
//! assert_eq!(theirs.poll_event(1), Some(Event::Ready { peer_connect_id: 7 }));
//!
//! ours.input().extend_from_slice(theirs.output());
//! assert_eq!(ours.poll_event(2), Some(Event::Ready { peer_connect_id: 7 }));
//! assert!(ours.message(&Encoded(b"four"), 2).is_ok());
//! ```

mod connection;
mod encoded;
mod event;
mod fault;
pub mod fuzz;
mod input;
mod limits;
mod output;
mod passage;
mod queries;

pub use connection::{Connection, Side};
pub use encoded::Encoded;
pub use event::{Event, code};
pub use fault::{Fault, Refusal};
pub use limits::Limits;
pub use passage::{Arrival, Passage};
