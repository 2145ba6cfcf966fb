//! Evidence of the simulated platform: who is admitted, and what programs are told.

use cocoon_attest::Digest32;
use cocoon_host::evidence::{EvidenceConfig, simulated_image_hash};
use cocoon_role_router::{PolicyKind, PolicySpec};
use cocoon_wire::peer_info::{Line, PeerInfo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::site::{Site, connect, take, within};

#[tokio::test]
async fn peers_are_admitted_by_image_and_programs_are_told() {
    within(async {
        let dir = tempfile::tempdir().unwrap();
        let roots = dir.path().join("roots.json");
        let hash = simulated_image_hash(&roots, "worker").unwrap();
        let listed = |hash| PolicySpec {
            kind: PolicyKind::Tdx,
            image_hashes: vec![Digest32::from(hash)],
            ..PolicySpec::default()
        };
        for (image, admitted) in [(hash, true), ([7; 32], false)] {
            let site = Site::start(|both| {
                both.set_info();
                both.0.evidence = EvidenceConfig::Simulated {
                    roots: roots.clone(),
                    image: "worker".to_owned(),
                    machine: 1,
                    gpu: false,
                    snp: false,
                    misbehave: None,
                    dangerous_unchecked_peers: false,
                };
                both.0.policies.insert("listed".to_owned(), listed(image));
                both.0.ports.iter_mut().for_each(|port| "listed".clone_into(&mut port.policy));
            })
            .await;
            let mut program = connect(site.forward).await;
            program.write_all(b"x").await.unwrap();
            if admitted {
                let mut behind = site.accepted().await;
                let length = take(&mut behind, 4).await;
                let length = u32::from_le_bytes(length.try_into().unwrap()) as usize;
                let blob = take(&mut behind, length).await;
                let info = PeerInfo::decode(&blob, Line::Live).unwrap();
                assert_eq!(info.attestation.image_hash().0, hash);
                assert!(info.collateral_root.is_some_and(|root| root != [0; 48]));
                assert_eq!(take(&mut behind, 1).await, b"x");
            } else {
                assert_eq!(program.read(&mut [0]).await.unwrap_or(0), 0, "closed");
                assert_eq!(site.outer.counts().opened, 0);
            }
            drop(program);
            site.stop().await;
        }
    })
    .await;
}
