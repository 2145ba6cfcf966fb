//! Bytes from a peer, the chain or a file never panic, hang or grow memory without limit.

use cocoon_contract::cell::{Cell, Hash};
use cocoon_contract::fuzz;
use cocoon_contract::message::{Body, ClientAction, ClientRequest, RootAction, RootRequest};
use cocoon_contract::params::Params;
use cocoon_contract::payment::{PaymentKind, SignedPayment};
use cocoon_contract::root::{RegisteredProxy, RootState};
use cocoon_contract::timelock::{Receiver, TimelockAction, TimelockRequest};
use cocoon_contract::{Fault, boc};
use cocoon_units::{Address, Nanoton, PublicKey, Tokens};
use ed25519_dalek::SigningKey;
use proptest::prelude::*;
use tycho_types::cell::CellBuilder;

fn cells() -> impl Strategy<Value = Cell> {
    let leaf = (proptest::collection::vec(any::<u8>(), 0..120), 0u8..8);
    let build = |(bytes, cut): (Vec<u8>, u8), refs: Vec<Cell>| {
        let mut builder = CellBuilder::new();
        let bits = (bytes.len() * 8).saturating_sub(usize::from(cut));
        builder.store_raw(&bytes, u16::try_from(bits).expect("fits")).expect("fits");
        refs.into_iter().for_each(|cell| builder.store_reference(cell).expect("fits"));
        builder.build().expect("shallow")
    };
    leaf.clone().prop_map(move |leaf| build(leaf, Vec::new())).prop_recursive(
        4,
        24,
        4,
        move |inner| {
            (leaf.clone(), proptest::collection::vec(inner, 0..=4))
                .prop_map(move |(leaf, refs)| build(leaf, refs))
        },
    )
}

fn with_op(op: u32, rest: &Cell) -> Cell {
    let mut builder = CellBuilder::new();
    builder.store_u32(op).expect("fits");
    let mut slice = rest.as_slice().expect("ordinary");
    if slice.size_bits() > 991 {
        slice.only_first(991, slice.size_refs()).expect("shorter");
    }
    builder.store_slice(slice).expect("fits");
    builder.build().expect("shallow")
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        fuzz::bag(&bytes);
        let mut bag = vec![0xb5, 0xee, 0x9c, 0x72];
        bag.extend_from_slice(&bytes);
        fuzz::bag(&bag);
    }

    #[test]
    fn damaged_bags(cell in cells(), at in any::<prop::sample::Index>(), flip in 1u8..) {
        let mut bag = boc::encode(&cell);
        fuzz::bag(&bag);
        let at = at.index(bag.len());
        bag[at] ^= flip;
        fuzz::bag(&bag);
        fuzz::bag(&bag[..at]);
    }

    #[test]
    fn arbitrary_cells(cell in cells()) {
        fuzz::cell(&cell);
    }

    #[test]
    fn arbitrary_fields_behind_known_operations(
        cell in cells(),
        op in prop::sample::select(OPS.to_vec()),
    ) {
        fuzz::cell(&with_op(op, &cell));
    }

    #[test]
    fn amounts_are_written_minimally_and_read_back(
        amount in any::<u64>(),
        query_id in any::<u64>(),
        hash in any::<[u8; 32]>(),
    ) {
        let request = ClientRequest {
            query_id,
            action: ClientAction::TopUp { amount: Nanoton(amount) },
            excess: Address::new(0, hash),
        };
        let cell = request.cell().expect("cell");
        let bytes = (64 - amount.leading_zeros()).div_ceil(8) as u16;
        prop_assert_eq!(cell.bit_len(), 32 + 64 + 4 + 8 * bytes + 267);
        prop_assert_eq!(Body::parse(&cell), Ok(Body::Client(request)));
    }

    #[test]
    fn payments_survive_the_trip_and_only_the_right_key_makes_them(
        seed in any::<[u8; 32]>(),
        tokens in 0..=Tokens::MAX.0,
        target in any::<[u8; 32]>(),
        query_id in any::<u64>(),
    ) {
        let key = SigningKey::from_bytes(&seed);
        let (target, excess) = (Address::new(0, target), Address::new(-1, [3; 32]));
        let kind = PaymentKind::ClientCharge;
        let payment = SignedPayment::sign(kind, query_id, Tokens(tokens), target, excess, &key);
        let read = SignedPayment::from_boc(&payment.expect("sign").to_boc().expect("bag"));
        let read = read.expect("read");
        let public = PublicKey(key.verifying_key().to_bytes());
        prop_assert_eq!(read.verify(kind, &target, public), Ok(Tokens(tokens)));
        let mut other = seed;
        other[0] ^= 1;
        let other = PublicKey(SigningKey::from_bytes(&other).verifying_key().to_bytes());
        prop_assert_eq!(read.verify(kind, &target, other), Err(Fault::Signature));
    }
}

const OPS: [u32; 18] = [
    0x6544_8ff4,
    0x4d72_5d2c,
    0xbb63_ff93,
    0xa040_ad28,
    0x636a_4391,
    0x9a12_47c0,
    0x927c_7cb5,
    0x9c79_24ba,
    0x022f_a189,
    0xa237_0f61,
    0x4f7c_5789,
    0xf172_e6c2,
    0x8473_b408,
    0x9c69_f376,
    0xffff_ffff,
    0xffff_fffe,
    0x3e1f_0a51,
    0,
];

#[test]
fn too_many_tokens_mean_nothing() {
    let key = SigningKey::from_bytes(&[1; 32]);
    let target = Address::new(0, [2; 32]);
    let kind = PaymentKind::ClientCharge;
    let payment = SignedPayment::sign(kind, 1, Tokens(u64::MAX), target, target, &key);
    let refused = SignedPayment::from_boc(&payment.expect("sign").to_boc().expect("bag"));
    assert!(matches!(refused, Err(Fault::Range { .. })), "{refused:?}");
}

#[test]
fn bags_over_the_limits_are_refused() {
    let mut cell = Cell::default();
    for depth in 0..40u32 {
        let mut builder = CellBuilder::new();
        builder.store_u32(depth).expect("fits");
        builder.store_reference(cell).expect("fits");
        cell = builder.build().expect("shallow");
    }
    let bag = boc::encode(&cell);
    assert!(boc::decode(&bag, boc::Limits::STATE).is_ok());
    let limits = boc::Limits { bytes: 4096, cells: 64, depth: 39 };
    for refused in [
        boc::decode(&bag, limits),
        boc::decode(&bag, boc::Limits { depth: 64, cells: 40, ..limits }),
        boc::decode(&bag, boc::Limits { bytes: bag.len() - 1, ..boc::Limits::STATE }),
    ] {
        assert!(matches!(refused, Err(Fault::Boc { .. })), "{refused:?}");
    }
}

/// A dictionary of 2^40 entries in 41 cells must not be walked to its end.
#[test]
fn a_dictionary_of_shared_cells_does_not_hang() {
    let mut shared = {
        let mut leaf = CellBuilder::new();
        // hml_same: "11", bit 0, then the length 216 in 8 bits: the rest of the key.
        leaf.store_uint(0b110, 3).expect("fits");
        leaf.store_uint(216, 8).expect("fits");
        leaf.build().expect("leaf")
    };
    for _ in 0..40 {
        let mut fork = CellBuilder::new();
        // hml_short of length 0: "0", then the end of the unary length "0".
        fork.store_zeros(2).expect("fits");
        fork.store_reference(shared.clone()).expect("fits");
        fork.store_reference(shared).expect("fits");
        shared = fork.build().expect("shallow");
    }
    let params = Params::parse(&sample_params()).expect("params").0;
    let params = params.cell(cocoon_contract::params::Selector::Leaf, &Default::default());
    let mut data = CellBuilder::new();
    data.store_bit_one().expect("fits");
    data.store_reference(shared).expect("fits");
    data.store_zeros(1 + 32 + 1 + 1).expect("fits");
    let mut root = CellBuilder::new();
    root.store_uint(0b100, 3).expect("fits");
    root.store_zeros(8 + 256 + 32).expect("fits");
    root.store_reference(data.build().expect("data")).expect("fits");
    root.store_reference(params.expect("params")).expect("fits");
    let refused = RootState::parse(&root.build().expect("root"));
    assert!(matches!(refused, Err(Fault::TooMany { .. })), "{refused:?}");
}

fn sample_params() -> Cell {
    let v = crate::vectors::Vectors::load();
    crate::vectors::cell(&v.0["params_cells"][0]["root_params_sel7"])
}

#[test]
fn root_and_timelock_requests_survive_the_trip() {
    let hash = Hash([7; 32]);
    let entry = RegisteredProxy { kind: false, text: b"203.0.113.11:8888".to_vec() };
    let cell = Cell::default();
    let actions = [
        RootAction::AddWorkerType(hash),
        RootAction::DelWorkerType(hash),
        RootAction::AddModelType(hash),
        RootAction::DelModelType(hash),
        RootAction::AddProxyType(hash),
        RootAction::DelProxyType(hash),
        RootAction::RegisterProxy(entry.clone()),
        RootAction::UnregisterProxy { seqno: 4 },
        RootAction::UpdateProxy { seqno: 4, entry },
        RootAction::ChangePrice { price_per_token: Nanoton(21), worker_fee_per_token: Nanoton(18) },
        RootAction::ChangeParams {
            price_per_token: Nanoton(21),
            worker_fee_per_token: Nanoton(18),
            proxy_delay_s: 1,
            client_delay_s: 2,
            min_proxy_stake: Nanoton(3),
            min_client_stake: Nanoton(4),
        },
        RootAction::UpgradeContracts {
            proxy: cell.clone(),
            worker: cell.clone(),
            client: cell.clone(),
        },
        RootAction::Upgrade { code: cell.clone() },
        RootAction::UpgradeFull { data: cell.clone(), code: cell.clone() },
        RootAction::Reset,
        RootAction::ChangeOwner(Address::new(0, [1; 32])),
    ];
    for action in actions {
        let body = Body::Root(RootRequest { query_id: 0, action });
        assert_eq!(Body::parse(&body.cell().expect("cell")), Ok(body));
    }
    let admin = Address::new(0, [1; 32]);
    for action in [
        TimelockAction::Propose { receiver: Receiver::Timelock, body: cell.clone() },
        TimelockAction::Apply,
        TimelockAction::Cancel { id: 9 },
        TimelockAction::Revoke { body: cell },
        TimelockAction::Configure { admin, delay_s: 86_400 },
    ] {
        let body = Body::Timelock(TimelockRequest { query_id: 5, action });
        assert_eq!(Body::parse(&body.cell().expect("cell")), Ok(body));
    }
}
