//! Receipts: one encoding, one signature, and what a check says.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use cocoon_attest::channel::{ChannelRole, Offer};
use cocoon_attest::report::{Keyset, Report};
use cocoon_attest::{Collateral, Digest32, Policy};
use cocoon_proof::{
    Asker, Body, Bundle, Compared, MachineRole, Money, Receipt, ReceiptEnd, ReceiptFile,
    ReceiptKey, Requirement, RootView, Shown, SignedReceipt, Standing, TeeMark, Trust,
    check_receipt, fuzz,
};
use cocoon_units::{Coefficient, Multiplier, Nanoton, PriceTable, Tokens, Usage};
use proptest::prelude::*;

const SEED: [u8; 32] = [7; 32];

fn receipt() -> Receipt {
    let digest = |byte: u8| Digest32::from([byte; 32]);
    let prices = PriceTable {
        price_per_token: Nanoton(20),
        worker_fee_per_token: Nanoton(19),
        prompt: Multiplier(10_000),
        cached: Multiplier(1_000),
        completion: Multiplier(80_000),
        reasoning: Multiplier(80_000),
    };
    let usage = Usage { prompt: 5, cached: 0, completion: 2, reasoning: 0 };
    let coefficient = Coefficient::ONE;
    Receipt {
        receipt_key: ReceiptKey::from_seed(&SEED).public(),
        worker_key: digest(1),
        worker_id: digest(2),
        worker_image: digest(3),
        worker_tee: TeeMark::Tdx,
        gpu: digest(4),
        proxy_image: digest(5),
        proxy_contract: digest(6),
        network_id: -3,
        root_contract: digest(8),
        model_name: "name@commit:root".into(),
        nonce: digest(9),
        path: "/v1/chat/completions".into(),
        request: Body::of(b"request"),
        status: 200,
        answer: Body::of(b"answer"),
        end: ReceiptEnd::Complete,
        money: Money {
            usage,
            charged: usage.adjusted(coefficient, &prices).total,
            coefficient,
            prices,
        },
        started_ms: 1_795_262_400_000,
        answered_ms: 1_795_262_400_100,
        ended_ms: 1_795_262_400_200,
    }
}

fn signed(receipt: &Receipt) -> SignedReceipt {
    SignedReceipt::read(&receipt.sign(&ReceiptKey::from_seed(&SEED))).unwrap()
}

fn asker() -> Asker {
    let policy = Policy::tee();
    Asker { policy, nonce: None, root: None, now_ms: 1_795_262_400_200, date_is_now: false }
}

/// The vector of `testdata/receipt-vectors.json`: the bytes of version 1 never change.
#[test]
fn the_encoding_is_the_recorded_one() {
    let text = include_str!("../../../testdata/receipt-vectors.json");
    let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
    let bytes = receipt().sign(&ReceiptKey::from_seed(&SEED));
    assert_eq!(vectors["receipt"]["seed"], hex::encode(SEED));
    assert_eq!(vectors["receipt"]["signed"], hex::encode(&bytes));
    assert_eq!(vectors["receipt"]["id"], signed(&receipt()).id());
}

#[test]
fn every_byte_is_signed() {
    let bytes = receipt().sign(&ReceiptKey::from_seed(&SEED));
    assert_eq!(signed(&receipt()).receipt, receipt());
    for place in 0..bytes.len() {
        let mut other = bytes.clone();
        other[place] ^= 1;
        assert!(SignedReceipt::read(&other).is_err(), "byte {place}");
        assert!(SignedReceipt::read(&bytes[..place]).is_err(), "cut to {place}");
    }
    assert!(SignedReceipt::read(&[bytes.as_slice(), &[0]].concat()).is_err());
    // A key that the receipt does not name signs in vain.
    let foreign = receipt().sign(&ReceiptKey::from_seed(&[8; 32]));
    assert!(SignedReceipt::read(&foreign).is_err());
}

#[test]
fn a_check_says_one_thing_of_each_claim() {
    let standing = |receipt: &Receipt, compared: Compared<'_>, claim: &str| {
        let signed = signed(receipt);
        let file = ReceiptFile::new(&signed, None);
        let (file, signed) = ReceiptFile::read(&file.write().unwrap()).unwrap();
        let found = check_receipt(&file, &signed, compared, &asker());
        found.claims.iter().find(|line| line.claim == claim).unwrap().verdict
    };
    let honest = receipt();
    let both = Compared { request: Some(b"request"), answer: Some(b"answer") };
    assert_eq!(standing(&honest, both, "signature"), Standing::Holds);
    assert_eq!(standing(&honest, both, "request"), Standing::Holds);
    assert_eq!(standing(&honest, both, "answer"), Standing::Holds);
    assert_eq!(standing(&honest, both, "price"), Standing::Holds);
    // Without a report nobody vouches for the key, which is no good and no lie.
    assert_eq!(standing(&honest, both, "evidence"), Standing::Unknown);
    assert_eq!(standing(&honest, Compared::default(), "request"), Standing::NotClaimed);
    let swapped = Compared { request: Some(b"answer"), answer: Some(b"request") };
    assert_eq!(standing(&honest, swapped, "request"), Standing::Fails);
    assert_eq!(standing(&honest, swapped, "answer"), Standing::Fails);
    let mut dear = receipt();
    dear.money.charged = Tokens(dear.money.charged.0 + 1);
    assert_eq!(standing(&dear, both, "price"), Standing::Fails);
    let mut early = receipt();
    early.end = ReceiptEnd::Cancelled;
    assert_eq!(standing(&early, both, "whole"), Standing::NotClaimed);
}

/// The file of the receipt with a report that vouches for its key, though no TEE signed the report.
fn with_report(network_id: i32) -> ReceiptFile {
    let said = receipt();
    let mut report = Report {
        role: ChannelRole::Worker,
        own_key: said.worker_key,
        network_id,
        root_contract: said.root_contract,
        keyset: Keyset { receipt_key: said.receipt_key },
        model_name: said.model_name.clone(),
        offer: Offer { tdx_quote: Some(vec![4; 100]), ..Offer::default() },
    };
    let announced = &mut report.offer.announcement;
    (announced.image, announced.gpu, announced.own_id) =
        (said.worker_image, said.gpu, said.worker_id);
    let root = root_view();
    let mut bundle = Bundle::new(said.ended_ms + 1_000, Digest32::ZERO, root);
    let shown = Shown::report(&report.encode());
    bundle.add(MachineRole::Worker, &said.model_name, shown, Collateral::default());
    ReceiptFile::new(&signed(&said), Some(bundle))
}

fn root_view() -> RootView {
    let said = receipt();
    RootView {
        contract: said.root_contract,
        network_id: said.network_id,
        models: vec![Digest32::sha256(&[said.model_name.as_bytes()])],
        ..RootView::default()
    }
}

#[test]
fn a_receipt_is_judged_at_the_date_that_is_named_and_in_its_own_network() {
    let said = receipt();
    let judged = |file: &ReceiptFile, said: &Receipt, root: RootView, at_ms: Option<u64>| {
        let signed = signed(said);
        let year_s = said.ended_ms / 1000 + 365 * 24 * 3600;
        let policy = Policy { not_after_s: Some(year_s), ..Policy::tee() };
        let asker = Trust::new(policy, Some(root)).later(None, file.made_ms(&signed), at_ms);
        let found = check_receipt(file, &signed, Compared::default(), &asker);
        let line = |claim| found.claims.iter().find(|line| line.claim == claim).unwrap().clone();
        (found.judged_at_ms, line("date").verdict, line("evidence"))
    };
    let file = with_report(said.network_id);
    let (at_ms, date, evidence) = judged(&file, &said, root_view(), None);
    assert_eq!((at_ms, date), (said.ended_ms + 1_000, Standing::Unknown));
    assert_eq!(evidence.verdict, Standing::Fails, "{}", evidence.reason);
    assert!(!evidence.reason.contains("network"), "{}", evidence.reason);
    // In 2099 the rules are over.
    let (at_ms, _, evidence) = judged(&file, &said, root_view(), Some(4_070_908_800_000));
    assert_eq!(at_ms, 4_070_908_800_000);
    assert_eq!(evidence.verdict, Standing::Unknown, "{}", evidence.reason);
    // Another network under the same root contract: of the report, of the receipt, of both.
    let elsewhere = Receipt { network_id: -239, ..receipt() };
    let root = || RootView { network_id: -239, ..root_view() };
    for (file, said, root) in [
        (with_report(-239), &said, root_view()),
        (with_report(-3), &elsewhere, root_view()),
        (with_report(-3), &said, root()),
    ] {
        let (_, _, evidence) = judged(&file, said, root, None);
        assert_eq!(evidence.reason, "the receipt or the report is about another network");
        assert_eq!(evidence.verdict, Standing::Fails);
    }
    // Without evidence the receipt's own date.
    assert_eq!(ReceiptFile::new(&signed(&said), None).made_ms(&signed(&said)), said.ended_ms);
}

#[test]
fn a_check_names_the_model() {
    let signed = signed(&receipt());
    let file = ReceiptFile::new(&signed, None);
    let line = |models: Option<&[&str]>| {
        let digest = |name: &&str| Digest32::sha256(&[name.as_bytes()]);
        let root = models.map(|names| RootView {
            models: names.iter().map(digest).collect(),
            ..RootView::default()
        });
        let found = check_receipt(&file, &signed, Compared::default(), &Asker { root, ..asker() });
        let line = found.claims.into_iter().find(|line| line.claim == "model").unwrap();
        assert!(line.reason.starts_with("name@commit:root"), "{}", line.reason);
        line.verdict
    };
    assert_eq!(line(Some(&["other@c:r", "name@commit:root"])), Standing::Holds);
    // The part behind the name counts: it says which bytes.
    assert_eq!(line(Some(&["name@other:root"])), Standing::Fails);
    assert_eq!(line(None), Standing::Unknown);
    assert!("model".parse::<Requirement>().is_ok());
}

#[test]
fn requirements_are_read_and_unknown_never_passes() {
    let signed = signed(&receipt());
    let file = ReceiptFile::new(&signed, None);
    let found = check_receipt(&file, &signed, Compared::default(), &asker());
    let objections = |text: &str| found.objections(&[text.parse::<Requirement>().unwrap()]);
    assert_eq!(objections("signature"), Vec::<String>::new());
    assert_eq!(objections("evidence").len(), 1);
    assert_eq!(objections("request").len(), 1);
    // A claim that nothing here is about is missing, not fulfilled.
    assert_eq!(objections("hardware").len(), 1);
    assert!("nonsense".parse::<Requirement>().is_err());
    assert!("gateway.image".parse::<Requirement>().is_err());
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_no_receipt(data in prop::collection::vec(any::<u8>(), 0..2048)) {
        fuzz::receipt(&data);
        fuzz::receipt_file(&data);
        fuzz::bundle(&data);
        let tagged = [cocoon_proof::RECEIPT_TAG, &data].concat();
        fuzz::receipt(&tagged);
        prop_assert!(SignedReceipt::read(&tagged).is_err());
    }

    #[test]
    fn changed_receipts_have_no_second_encoding(place in 0usize..900, byte in any::<u8>()) {
        let mut bytes = receipt().sign(&ReceiptKey::from_seed(&SEED));
        let place = place % bytes.len();
        bytes[place] = byte;
        fuzz::receipt(&bytes);
    }
}
