//! Bytes of a hostile proxy: never a panic, whatever comes when.

use cocoon_channel::ChannelRecord;
use cocoon_units::Secret;
use cocoon_wire::proxy::WorkerRequestPayment;
use cocoon_wire::tl::{self, Blob, Text};
use cocoon_wire::worker;
use proptest::prelude::*;

use crate::scene::{REQUEST, Scene, SignedPaymentOf, http_request, run_query};

/// Messages that are right but for what happens to their bytes.
fn samples() -> Vec<Vec<u8>> {
    let query = http_request(b"{\"stream\":true,\"is_encrypted\":\"v1\"}");
    let mut run = run_query(&query);
    run.private_key = Some(Secret::new([6; 32]));
    vec![
        tl::encode(&run),
        tl::encode(&WorkerRequestPayment {
            request_id: REQUEST,
            signed_payment: SignedPaymentOf::Signed(Blob(&[7; 90])),
            db_tokens: 1,
            max_tokens: 2,
            request_tokens: 7,
            request_client_owner: Text::from("UQ"),
        }),
        tl::encode(&worker::ChangeModel { new_model: "a@b:c".into() }),
        tl::encode(&worker::CompareBalanceWithProxyResult::default()),
        tl::encode(&worker::ExtendedCompareBalanceWithProxyResult { error_code: 1 }),
        tl::encode(&worker::ProxyHandshakeCompleted {}),
        tl::encode(&worker::ConnectedToProxy::default()),
        tl::encode(&worker::PaymentStatus::default()),
    ]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let broken = (0..samples().len(), any::<usize>(), any::<u8>(), any::<bool>()).prop_map(
        |(which, at, byte, cut)| {
            let mut data = samples().swap_remove(which);
            let at = at % data.len();
            if cut {
                data.truncate(at)
            } else {
                data[at] ^= byte
            };
            data
        },
    );
    prop_oneof![3 => broken, 1 => prop::collection::vec(any::<u8>(), 0..80)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn foreign_bytes_never_panic(
        ready: bool,
        version in 0i32..=4,
        steps in prop::collection::vec((0u8..5, bytes(), -1i64..4), 1..24),
    ) {
        let mut scene = if ready { Scene::ready(version) } else { Scene::new() };
        for (kind, data, offset) in steps {
            match kind {
                0 => drop(scene.message(data)),
                1 => {
                    scene.asked += offset;
                    drop(scene.answer(&data));
                }
                2 => drop(scene.session.queried(offset, &data)),
                3 => drop(scene.session.failed(&mut scene.channels, scene.asked, -1, "\u{1}")),
                _ => drop(scene.session.tick(u64::MAX)),
            }
        }
        scene.session.closed(&mut scene.channels);
        for record in scene.channels.snapshot() {
            prop_assert_eq!(ChannelRecord::decode(&record.encode()), Some(record));
        }
    }
}
