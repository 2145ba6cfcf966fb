//! Bytes of a hostile proxy: never a panic, whatever comes when.

use cocoon_wire::client;
use cocoon_wire::proxy::ClientRequestPayment;
use cocoon_wire::tl::{self, Blob};
use proptest::prelude::*;

use crate::scene::{REQUEST, Scene, signed};

fn samples() -> Vec<Vec<u8>> {
    let payment = vec![7; 90];
    vec![
        tl::encode(&client::QueryAnswerEx { answer: Blob(b"x"), ..Default::default() }),
        tl::encode(&client::QueryAnswerPartEx {
            answer: Blob(b"x"),
            final_info: Some(client::QueryFinalInfo::default()),
            ..Default::default()
        }),
        tl::encode(&client::QueryAnswerErrorEx { error: "\u{0}".into(), ..Default::default() }),
        tl::encode(&client::QueryAnswer::default()),
        tl::encode(&ClientRequestPayment {
            request_id: REQUEST,
            signed_payment: signed(Some(&payment)),
            db_tokens: -1,
            max_tokens: i64::MAX,
            request_tokens: i64::MIN,
        }),
        tl::encode(&client::PaymentStatus::default()),
        tl::encode(&client::WorkerTypesV2::default()),
        tl::encode(&client::AuthorizationWithProxySuccess::default()),
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
        version in 1i32..=4,
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
                2 => drop(scene.session.ask_models()),
                3 => drop(scene.session.failed(scene.asked, -1, "\u{1}")),
                _ => drop(scene.session.tick(u64::MAX)),
            }
        }
        let snapshot = scene.channels.snapshot();
        prop_assert!(snapshot.iter().all(|record| !record.encode().is_empty()));
    }
}
