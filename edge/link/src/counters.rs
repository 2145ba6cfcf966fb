//! Counters of everything that happens to connections, for metrics and tests.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($( $(#[$doc:meta])* $name:ident, )*) => {
        /// Counters that only rise; shared by all connections of one [`crate::Links`].
        #[derive(Debug, Default)]
        pub struct Counters {
            $( $(#[$doc])* pub(crate) $name: AtomicU64, )*
        }

        /// The values of [`Counters`] at one moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct CounterValues {
            $( $(#[$doc])* pub $name: u64, )*
        }

        impl Counters {
            /// Reads all counters, one after the other.
            #[must_use]
            pub fn values(&self) -> CounterValues {
                CounterValues { $( $name: self.$name.load(Ordering::Relaxed), )* }
            }
        }

        impl CounterValues {
            /// Names and values, for a metrics page.
            #[must_use]
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$( (stringify!($name), self.$name), )*]
            }
        }
    };
}

counters! {
    /// TCP connections accepted.
    accepted,
    /// Accepted connections dropped because too many were open.
    refused_connections,
    /// Accepted connections dropped because their address had too many.
    refused_address,
    /// Accepted connections dropped because too many handshakes were running.
    refused_handshakes,
    /// Dialling attempts.
    dialled,
    /// Dialling attempts that failed.
    dial_failures,
    /// Handshakes that failed on bad proof of work.
    failed_work,
    /// Handshakes that failed on the peer's certificate.
    failed_certificate,
    /// Handshakes that the policy refused.
    failed_policy,
    /// Handshakes that failed inside TLS.
    failed_tls,
    /// Handshakes that ran out of time.
    failed_slow,
    /// Handshakes that failed otherwise: the peer went away, the router is none.
    failed_otherwise,
    /// Connections that became ready.
    opened,
    /// Connections that ended after they were ready.
    closed,
    /// Connections ended by a peer that broke the protocol.
    violations,
    /// Connections ended because the peer did not read.
    slow_readers,
    /// Connections ended because the peer was silent.
    silent_peers,
    /// Events handed to the node: messages, queries, answers.
    received_events,
    /// Commands written to peers.
    sent_commands,
    /// Commands that the session refused after they were queued.
    refused_commands,
    /// Commands refused because a peer's queue was full.
    stuck_commands,
    /// Bytes read from peers, inside TLS.
    received_bytes,
    /// Bytes written to peers, inside TLS.
    sent_bytes,
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    add(counter, 1);
}

/// Adds `amount`.
pub(crate) fn add(counter: &AtomicU64, amount: u64) {
    if amount > 0 {
        counter.fetch_add(amount, Ordering::Relaxed);
    }
}
