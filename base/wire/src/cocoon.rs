//! Our own additions to the protocol; `docs/protocol.md` is their specification.
//!
//! An addition is used only when both sides announced its bit in the `flags` word of their
//! `params`. A reference node ignores these bits, so it never sees the messages.

use cocoon_units::{RequestId, Role};

use crate::tl::{self, Blob, Constructor as _, Extensions, Text};
use crate::{client, key_manager, worker};

/// Bit 16 of `params.flags`: the sender understands [`CancelQuery`].
pub const CANCEL_QUERY: Extensions = Extensions(1 << 16);

/// Bit 17 of `params.flags`: the sender runs the attested handshake ([`Attest`]) on this
/// connection. Announced by whoever owns the TLS session, since only it can bind evidence to it.
pub const ATTESTED_CHANNEL: Extensions = Extensions(1 << 17);

/// Bit 18 of `params.flags`: the sender understands [`OnlyWorkers`].
pub const ONLY_WORKERS: Extensions = Extensions(1 << 18);

/// Bit 20 of `params.flags`: the sender understands [`Leaving`].
pub const LEAVING: Extensions = Extensions(1 << 20);

/// Bit 22: the sender understands [`Receipt`].
pub const RECEIPTS: Extensions = Extensions(1 << 22);

/// Bit 23: the sender understands [`ListWorkers`] and [`GetReport`].
pub const REPORTS: Extensions = Extensions(1 << 23);

/// Bit 24: the sender reads an owner's endorsement behind evidence, in offers of the attested
/// handshake and in reports, and understands [`GetEndorsedReport`].
pub const ENDORSEMENTS: Extensions = Extensions(1 << 24);

/// Bit 25: the sender reads the registers of a vTPM behind evidence, in offers of the attested
/// handshake and in reports, and understands [`GetFullReport`].
pub const VTPM_QUOTES: Extensions = Extensions(1 << 25);

/// Longest receipt that travels, bytes.
pub const RECEIPT_LEN_MAX: usize = 16 << 10;

/// Longest report that travels, bytes.
pub const REPORT_LEN_MAX: usize = 256 << 10;

/// Most workers that one [`OnlyWorkers`] may name.
pub const ONLY_WORKERS_MAX: usize = 64;

/// The additions that roles announce on every connection.
pub const ANNOUNCED: Extensions = Extensions(
    CANCEL_QUERY.0
        | ONLY_WORKERS.0
        | LEAVING.0
        | RECEIPTS.0
        | REPORTS.0
        | ENDORSEMENTS.0
        | VTPM_QUOTES.0,
);

/// Bits set aside for additions; others are neither announced nor interpreted.
pub const RESERVED_BITS: Extensions = Extensions(0x7fff_0000);

tl_struct! {
    /// Ends a running request early. One-way, from the asker to the one that runs it.
    ///
    /// The receiver stops the work and ends the request as it ends every request: with the
    /// last message of the answer, which carries what was used until then. There is no reply
    /// of its own; an id that does not run is ignored.
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    CancelQuery = "cocoon.cancelQuery" 0x3918_b1ac {
        /// The asker's id of the request.
        request_id: RequestId,
    }

    /// Names the only workers that the client's next request may go to. One-way, client to proxy,
    /// directly before `client.runQueryEx` with the same id. The request goes to one of them or
    /// to nobody, also when it has to move to another worker.
    #[derive(Clone, Debug, PartialEq, Default)]
    OnlyWorkers = "cocoon.onlyWorkers" 0x8c56_390a {
        /// The client's id of the request.
        request_id: RequestId,
        /// The proxy's names of the workers' connections; at least one.
        workers: Vec<i64>,
    }

    /// One message of the attested handshake, as `cocoon-attest` writes it. One-way; sent after
    /// both sides introduced themselves and before anything else, and again before the evidence
    /// expires.
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    Attest<'tl> = "cocoon.attest" 0x3b99_0e9e {
        /// The message.
        data: Blob<'tl>,
    }

    /// What a worker signed about an answer. One-way, worker to proxy to client, before the
    /// last message of the answer. The proxy exchanges the ids and reads nothing else.
    #[derive(Clone, Debug, PartialEq, Default)]
    Receipt<'tl> = "cocoon.receipt" 0x2822_0e9e {
        /// The asker's id of the request on this connection.
        request_id: RequestId,
        /// The proxy's name of the worker's connection, for [`GetReport`]; a worker writes 0.
        worker: i64,
        /// The receipt, as `docs/receipts.md` describes it.
        receipt: Blob<'tl>,
    }

    /// One worker behind a proxy.
    #[derive(Clone, Debug, PartialEq, Default)]
    Worker<'tl> = "cocoon.worker" 0xbd95_6226 {
        /// The proxy's name of the worker's connection.
        worker: i64,
        /// Full name of the model, by the worker's word.
        model: Text<'tl>,
    }

    /// The workers that can be asked for a report.
    #[derive(Clone, Debug, PartialEq, Default)]
    Workers<'tl> = "cocoon.workers" 0x0988_a6ca {
        /// One entry for each connection.
        workers: Vec<Worker<'tl>>,
    }

    /// What a worker's TEE says about the worker.
    #[derive(Clone, Debug, PartialEq, Default)]
    Report<'tl> = "cocoon.report" 0x9bae_d871 {
        /// The report, as `docs/receipts.md` describes it.
        report: Blob<'tl>,
    }

    /// Asks a proxy for the workers that can be asked for a report.
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    ListWorkers = "cocoon.listWorkers" 0x1ecb_ac9e {

    }

    /// Asks a worker for a report over a nonce; client to proxy to worker. The proxy passes
    /// question and answer on unread.
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    GetReport = "cocoon.getReport" 0x86fa_0594 {
        /// Which worker, by the proxy's name; 0 towards the worker itself.
        worker: i64,
        /// Drawn by the client for this question.
        nonce: [u8; 32],
    }

    /// The same as [`GetReport`]; the answer may hold an owner's endorsement. A proxy asks a worker
    /// that does not know it by [`GetReport`].
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    GetEndorsedReport = "cocoon.getEndorsedReport" 0x1b2c_9723 {
        /// Which worker, by the proxy's name; 0 towards the worker itself.
        worker: i64,
        /// Drawn by the client for this question.
        nonce: [u8; 32],
    }

    /// The same as [`GetReport`]; the answer may hold whatever the client reads. A proxy asks a worker
    /// that does not know it by [`GetEndorsedReport`] or [`GetReport`].
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    GetFullReport = "cocoon.getFullReport" 0xc6f8_bf9e {
        /// Which worker, by the proxy's name; 0 towards the worker itself.
        worker: i64,
        /// Drawn by the client for this question.
        nonce: [u8; 32],
        /// What the client reads behind evidence: bits of [`Extensions`] such as [`ENDORSEMENTS`] and
        /// [`VTPM_QUOTES`]. A worker looks at those it knows.
        reads: i32,
    }

    /// Introduces a proxy or a worker to a key manager, before it asks for keys: what
    /// `connectToProxy` is towards a proxy. A key manager of the reference does not know it and is
    /// asked for keys all the same, where evidence in certificates will do.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    Introduce = "cocoon.introduce" 0xd384_f16b {
        /// What the sender announces: bits of [`Extensions`].
        flags: i32,
        /// 2 for a proxy, 3 for a worker.
        role: i32,
    }

    /// A key manager's answer to [`Introduce`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    Introduced = "cocoon.introduced" 0x8829_578c {
        /// What the key manager announces: bits of [`Extensions`].
        flags: i32,
    }
}

/// Which side an introduction comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Introduction {
    /// The side that dialled, and as what: `connectToProxy` of a client or a worker, or
    /// [`Introduce`]; a query.
    Dialling(Role),
    /// The side that was dialled: `connectedToProxy` or [`Introduced`], the answer.
    Dialled,
}

/// Where the `flags` word of an introduction stands: behind the constructor, because its first
/// field is that word, or a bare `params` object of which it is the first field.
const FLAGS: std::ops::Range<usize> = 4..8;

/// Returns which introduction this boxed object is and what it announces; nothing for any other
/// object. Whether the rest of it can be read is for the role to find out.
#[must_use]
pub fn introduction(object: &[u8]) -> Option<(Introduction, Extensions)> {
    let side = match tl::constructor_id(object)? {
        client::ConnectToProxy::ID => Introduction::Dialling(Role::Client),
        worker::ConnectToProxy::ID => Introduction::Dialling(Role::Worker),
        Introduce::ID => Introduction::Dialling(tl::decode::<Introduce>(object).ok()?.role()?),
        client::ConnectedToProxy::ID | worker::ConnectedToProxy::ID | Introduced::ID => {
            Introduction::Dialled
        }
        _ => return None,
    };
    let flags = object.get(FLAGS)?.try_into().ok()?;
    Some((side, Extensions(u32::from_le_bytes(flags))))
}

/// Returns as what a peer asks for keys that has not introduced itself; nothing for any other query.
#[must_use]
pub fn asks_for_keys(object: &[u8]) -> Option<Role> {
    match tl::constructor_id(object)? {
        key_manager::GetProxyPrivateKeys::ID | key_manager::GetProxyPrivateKeysBase::ID => {
            Some(Role::Proxy)
        }
        key_manager::GetWorkerPrivateKeys::ID | key_manager::GetWorkerPrivateKeysBase::ID => {
            Some(Role::Worker)
        }
        _ => None,
    }
}

/// Announces one of [`RESERVED_BITS`] more in an introduction; leaves any other object alone.
pub fn announce(object: &mut [u8], bits: Extensions) {
    let Some((_, before)) = introduction(object) else { return };
    let after = before.with(Extensions(bits.0 & RESERVED_BITS.0));
    if let Some(flags) = object.get_mut(FLAGS) {
        flags.copy_from_slice(&after.0.to_le_bytes());
    }
}

impl Introduce {
    /// Introduces a proxy or a worker.
    #[must_use]
    pub const fn as_role(role: Role) -> Self {
        let role = match role {
            Role::Worker => 3,
            _ => 2,
        };
        Self { flags: READS_EVIDENCE, role }
    }

    /// As what it introduces the sender; nothing for a number that means neither.
    #[must_use]
    pub const fn role(&self) -> Option<Role> {
        match self.role {
            2 => Some(Role::Proxy),
            3 => Some(Role::Worker),
            _ => None,
        }
    }
}

impl Default for Introduced {
    fn default() -> Self {
        Self { flags: READS_EVIDENCE }
    }
}

/// What both sides of a connection to a key manager read behind evidence.
const READS_EVIDENCE: i32 = (ENDORSEMENTS.0 | VTPM_QUOTES.0).cast_signed();

tl_struct! {
    /// The proxy is about to end: send it nothing new. One-way, proxy to client.
    ///
    /// What runs goes on to its end. The client closes the connection when nothing of its own
    /// runs on it any more; a request that crossed this message is refused, and was not begun.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    Leaving = "cocoon.leaving" 0xce18_a1e5 {}
}
