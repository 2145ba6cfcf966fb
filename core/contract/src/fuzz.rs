//! Entry points for fuzzing: all readers of the crate on bytes of anybody.

use crate::boc;
use crate::cell::Cell;
use crate::message::{Body, peek, read_comment};
use crate::params::Params;
use crate::payment::SignedPayment;
use crate::root::RootState;
use crate::state::{ClientState, ProxyState, WalletState, WorkerState};
use crate::timelock::TimelockState;
use crate::wallet::CocoonOrder;

/// Reads bytes as a bag of cells, and what it holds.
///
/// # Panics
/// When a reader is wrong: see [`cell`].
pub fn bag(bytes: &[u8]) {
    if let Ok(root) = boc::decode(bytes, boc::Limits::STATE) {
        cell(&root);
    }
    let _ = SignedPayment::from_boc(bytes);
}

/// Runs every reader on one cell.
///
/// # Panics
/// When a reader is wrong: a body that was read must be written and read again as the same.
pub fn cell(cell: &Cell) {
    if let Ok(body) = Body::parse(cell) {
        let again = body.cell().and_then(|cell| Body::parse(&cell));
        // Of a bounced body only operation and query id are kept.
        let is_same = again.as_ref() == Ok(&body) || matches!(body, Body::Bounced(_));
        assert!(is_same, "{body:?} was written and read again as {again:?}");
    }
    let _ = peek(cell);
    let _ = read_comment(cell);
    let _ = SignedPayment::parse(cell);
    let _ = Params::parse(cell);
    let _ = RootState::parse(cell);
    let _ = ProxyState::parse(cell);
    let _ = WorkerState::parse(cell);
    let _ = ClientState::parse(cell);
    let _ = WalletState::parse(cell);
    let _ = TimelockState::parse(cell);
    let _ = CocoonOrder::parse(cell);
}
