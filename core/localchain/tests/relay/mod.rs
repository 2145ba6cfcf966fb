//! A contract for tests, made by hand: it accepts coins, and sends whatever message an external
//! message carries, unless the mode is above 100, which it refuses before accepting.

use cocoon_units::Address;
use tycho_types::boc::Boc;
use tycho_types::cell::{Cell, CellBuilder, HashBytes};
use tycho_types::models::{
    ExtInMsgInfo, IntAddr, MsgInfo, OwnedMessage, OwnedRelaxedMessage, RelaxedIntMsgInfo,
    RelaxedMsgInfo, StateInit, StdAddr,
};
use tycho_types::num::Tokens;

/// SETCP0 DUP IFNOTRET INC DUP IFRET DROP LDREF 8 LDU DROP DUP 100 PUSHINT GREATER 35 THROWIF
/// ACCEPT SENDRAWMSG: internal messages end at once, get-methods leave their number plus one.
const CODE: [u8; 21] = [
    0xff, 0x00, 0x20, 0xdd, 0xa4, 0x20, 0xdc, 0x30, 0xd4, 0xd3, 0x07, 0x30, 0x20, 0x80, 0x64, 0xbc,
    0xf2, 0x63, 0xf8, 0x00, 0xfb,
];

/// Mode 1: the sender pays the fees.
pub(crate) const PAY_FEES: u8 = 1;

pub(crate) fn code() -> Cell {
    let mut builder = CellBuilder::new();
    builder.store_raw(&CODE, 168).unwrap();
    builder.store_u8(0).unwrap();
    builder.build().unwrap()
}

pub(crate) fn state_init(number: u32) -> StateInit {
    StateInit {
        code: Some(code()),
        data: Some(CellBuilder::build_from(number).unwrap()),
        ..StateInit::default()
    }
}

pub(crate) fn address(number: u32) -> Address {
    let init = CellBuilder::build_from(state_init(number)).unwrap();
    Address::new(0, init.repr_hash().0)
}

pub(crate) fn std_addr(address: Address) -> StdAddr {
    StdAddr::new(address.workchain, HashBytes(address.hash))
}

/// A simple transfer, as the contract sends it.
pub(crate) fn transfer(to: Address, nanoton: u64, bounce: bool) -> Cell {
    let message = OwnedRelaxedMessage {
        info: RelaxedMsgInfo::Int(RelaxedIntMsgInfo {
            bounce,
            dst: IntAddr::Std(std_addr(to)),
            value: Tokens::new(u128::from(nanoton)).into(),
            ..RelaxedIntMsgInfo::default()
        }),
        init: None,
        body: Default::default(),
        layout: None,
    };
    CellBuilder::build_from(message).unwrap()
}

/// The external message that makes contract `number` send `message`; `salt` tells equal ones
/// apart, `deploy` adds the contract's code.
pub(crate) fn order(number: u32, message: Cell, mode: u8, salt: u64, deploy: bool) -> Vec<u8> {
    let mut body = CellBuilder::new();
    body.store_u8(mode).unwrap();
    body.store_u64(salt).unwrap();
    body.store_reference(message).unwrap();
    let body = body.build().unwrap();
    let message = OwnedMessage {
        info: MsgInfo::ExtIn(ExtInMsgInfo {
            src: None,
            dst: IntAddr::Std(std_addr(address(number))),
            import_fee: Tokens::ZERO,
        }),
        init: deploy.then(|| state_init(number)),
        body: body.into(),
        layout: None,
    };
    Boc::encode(CellBuilder::build_from(message).unwrap())
}
