//! Laws over arbitrary bytes and values.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use cocoon_attest::channel::{Announcement, ChannelRole, Hello, Message, Offer, Statement};
use cocoon_attest::gpu::{self, GpuEvidence, GpuMode, GpuPolicy, SpdmReport};
use cocoon_attest::snp::{SnpProduct, SnpReport, SnpTcb};
use cocoon_attest::tdx::{EventLog, TdReport};
use cocoon_attest::{
    Binding, ClaimKind, Collateral, CollateralNeed, Digest32, ExtensionKind, Finding, Outcome,
    PeerEvidence, Policy, SnpCollateral, TdxCollateral, TrustRoots, Verifier, verify,
};
use proptest::prelude::*;

const NOW_MS: u64 = 1_795_262_400_000;

fn bytes(limit: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..limit)
}

/// Bytes that look like a quote far enough to reach the deeper readers.
fn quote() -> impl Strategy<Value = Vec<u8>> {
    (bytes(2000), prop::sample::select(vec![3_u8, 4, 5, 6])).prop_map(|(mut bytes, version)| {
        let start = [version, 0, 2, 0, 0x81, 0, 0, 0];
        let len = bytes.len().min(8);
        bytes[..len].copy_from_slice(&start[..len]);
        bytes
    })
}

/// A quote that is well formed up to its signature.
fn shaped_quote() -> Vec<u8> {
    let mut quote = vec![0; 632];
    quote[..8].copy_from_slice(&[4, 0, 2, 0, 0x81, 0, 0, 0]);
    // SEPT_VE_DISABLE, which no policy may relax.
    quote[48 + 120 + 3] = 0x10;
    quote
}

fn spdm() -> impl Strategy<Value = Vec<u8>> {
    (bytes(400), bytes(400)).prop_map(|(request, response)| {
        let mut report = vec![0x11, 0xe0];
        report.extend(request);
        report.resize(37, 0);
        report.extend([0x11, 0x60, 0, 0]);
        report.extend(response);
        report
    })
}

fn role() -> impl Strategy<Value = ChannelRole> {
    (1_u8..=4).prop_map(|byte| ChannelRole::from_byte(byte).unwrap())
}

fn digest() -> impl Strategy<Value = Digest32> {
    any::<[u8; 32]>().prop_map(Digest32::from)
}

prop_compose! {
    fn announcement()(
        own_id in digest(), keyset in digest(), image in digest(), model in digest(),
        gpu in digest(), beacon in digest(), not_after_s in any::<u64>(),
    ) -> Announcement {
        Announcement { own_id, keyset, image, model, gpu, beacon, not_after_s }
    }
}

prop_compose! {
    fn offer()(
        announcement in announcement(),
        tdx_quote in prop::option::of(bytes(600)),
        sev_report in prop::option::of(bytes(600)),
        sev_vcek_pem in prop::option::of(bytes(600)),
        event_log in prop::option::of(bytes(600)),
        gpu in prop::option::of((bytes(300), bytes(300), any::<bool>(), any::<bool>())),
        runtime_data in prop::option::of(bytes(300)),
        boot_log in prop::option::of(bytes(600)),
        endorsement in prop::option::of(bytes(300)),
        vtpm in prop::option::of(bytes(600)),
    ) -> Offer {
        let gpu = gpu.map(|(report, chain_pem, confidential, developer)| {
            GpuEvidence { report, chain_pem, mode: GpuMode { confidential, developer } }
        });
        Offer {
            announcement,
            tdx_quote,
            sev_report,
            sev_vcek_pem,
            gpu,
            event_log,
            runtime_data,
            boot_log,
            endorsement,
            vtpm,
        }
    }
}

prop_compose! {
    fn statement()(
        role in role(), peer_role in role(), verifier_nonce in any::<[u8; 32]>(),
        exporter in any::<[u8; 32]>(), own_key in digest(), peer_key in digest(),
        network_id in any::<i32>(), root_contract in digest(), dialled_address in "[a-z0-9.:]{0,40}",
        said in announcement(),
    ) -> Statement {
        Statement {
            role, peer_role, verifier_nonce, exporter, own_key, peer_key, network_id,
            root_contract, own_id: said.own_id, dialled_address, keyset: said.keyset,
            image: said.image, model: said.model, gpu: said.gpu, beacon: said.beacon,
            not_after_s: said.not_after_s,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn arbitrary_evidence_never_panics_and_never_passes(
        tdx_quote in prop::option::of(quote()),
        user_claims in prop::option::of(bytes(64)),
        sev_report in prop::option::of(bytes(1300)),
        sev_vcek_pem in prop::option::of(bytes(300)),
        event_log in prop::option::of(bytes(300)),
        gpu in prop::option::of((spdm(), bytes(300))),
        ours in any::<bool>(),
    ) {
        let key = [7; 32];
        let evidence = PeerEvidence {
            user_claims: if ours { Some(key.to_vec()) } else { user_claims },
            sev_report_data: sev_report.as_ref().and_then(|report| report.get(..64)).map(Vec::from),
            tdx_quote, sev_report, sev_vcek_pem, event_log,
            gpu: gpu.map(|(report, chain_pem)| GpuEvidence { report, chain_pem, mode: GpuMode::default() }),
            ..PeerEvidence::new(key)
        };
        let _ = CollateralNeed::of(&evidence);
        let verdict = verify(&evidence, &Collateral::default(), &Policy::tee(), NOW_MS);
        prop_assert!(verdict.outcome() != Outcome::Accept);
        let mut verifier = Verifier::new(Policy::tee(), 4, 1000).unwrap();
        prop_assert_eq!(verifier.judge(&evidence, &Collateral::default(), NOW_MS), verdict);
        prop_assert_eq!(verifier.known(&evidence, NOW_MS), None);
    }

    #[test]
    fn no_claim_holds_of_a_peer_whose_hardware_is_not_shown(
        statement in statement(), event_log in prop::option::of(bytes(300)),
        tdx_quote in prop_oneof![Just(shaped_quote()), quote()], has_roots in any::<bool>(),
    ) {
        let mut policy = Policy { models: vec![statement.model], ..Policy::tee() };
        if !has_roots {
            policy.roots = TrustRoots::default();
        }
        let is_shaped = tdx_quote == shaped_quote();
        let evidence = PeerEvidence {
            tdx_quote: Some(tdx_quote),
            event_log,
            binding: Binding::Channel(Box::new(statement)),
            ..PeerEvidence::new([7; 32])
        };
        let verdict = verify(&evidence, &Collateral::default(), &policy, NOW_MS);
        for claim in &verdict.claims {
            prop_assert!(claim.finding != Finding::Holds, "{claim:?}");
        }
        if is_shaped && !has_roots {
            let unknown = |kind| matches!(verdict.finding(kind), Finding::Unknown(_));
            prop_assert!(unknown(ClaimKind::Hardware) && unknown(ClaimKind::Weights));
        }
    }

    #[test]
    fn readers_of_reports_never_panic(report in spdm(), raw in bytes(1400), quote in quote()) {
        let _ = SpdmReport::read(&report);
        let _ = SpdmReport::read(&raw);
        let _ = SnpReport::read(&raw);
        let _ = TdReport::read(&quote);
        let _ = TdReport::read(&raw);
        let _ = EventLog::read(&raw);
        let evidence = GpuEvidence { report, chain_pem: raw, mode: GpuMode::default() };
        let roots = TrustRoots::production();
        prop_assert!(gpu::check(&evidence, None, &GpuPolicy::default(), &roots, 0).is_err());
    }

    #[test]
    fn arbitrary_collateral_never_panics_and_never_helps(
        first in bytes(300), second in bytes(300), text in ".{0,200}", tcb_info in ".{0,200}",
    ) {
        let dcap: dcap_qvl::QuoteCollateralV3 = dcap_qvl::QuoteCollateralV3 {
            pck_crl_issuer_chain: text.clone(),
            root_ca_crl: first.clone(),
            pck_crl: second.clone(),
            tcb_info_issuer_chain: text.clone(),
            tcb_info,
            tcb_info_signature: first.clone(),
            qe_identity_issuer_chain: text.clone(),
            qe_identity: text,
            qe_identity_signature: second.clone(),
            pck_certificate_chain: None,
        };
        let tdx = TdxCollateral { dcap, fetched_ms: 0 };
        prop_assert!(cocoon_attest::tdx::collateral_dates(&tdx, NOW_MS / 1000).is_err());
        let product = SnpProduct::Genoa;
        let snp = SnpCollateral { product, ark: first.clone(), ask: second, crl: first, fetched_ms: 0 };
        let evidence = PeerEvidence { sev_report: Some(vec![2; 1184]), ..PeerEvidence::new([1; 32]) };
        let collateral = Collateral { tdx: Some(tdx), snp: Some(snp) };
        let verdict = verify(&evidence, &collateral, &Policy::tee(), NOW_MS);
        prop_assert!(verdict.outcome() != Outcome::Accept);
    }

    #[test]
    fn fuzz_targets_hold_their_laws(data in bytes(1500), quote in quote(), report in spdm()) {
        use cocoon_attest::fuzz;
        let targets: [fn(&[u8]); 13] = [
            fuzz::tdx_quote, fuzz::snp_report, fuzz::gpu_report, fuzz::event_log,
            fuzz::channel_message, fuzz::report, fuzz::extension, fuzz::collateral, fuzz::policy,
            fuzz::image, fuzz::boot_log, fuzz::runtime_data, fuzz::vtpm,
        ];
        for target in targets {
            target(&data);
            target(&quote);
            target(&report);
        }
    }

    #[test]
    fn extensions_never_panic_and_are_kept_once(oid in bytes(12), value in bytes(100), critical: bool) {
        let mut evidence = PeerEvidence::new([0; 32]);
        let _ = evidence.take_extension(&oid, critical, &value);
        for kind in ExtensionKind::ALL {
            let first = evidence.take_extension(&kind.oid(), critical, &value);
            let second = evidence.take_extension(&kind.oid(), critical, &value);
            prop_assert!(first.is_err() || second.is_err());
        }
    }

    #[test]
    fn messages_read_back_and_have_one_encoding(
        offer in offer(), role in role(), nonce: [u8; 32], attests: bool, demands: bool,
        dialled in prop::option::of("[!-~]{0,255}"),
    ) {
        let hello = Message::Hello(Hello { role, nonce, attests, demands, dialled });
        for message in [hello, Message::Offer(Box::new(offer))] {
            let written = message.encode();
            match Message::decode(&written) {
                Ok(read) => prop_assert_eq!(read, message),
                // Only a report longer than any report is may be refused.
                Err(fault) => prop_assert!(false, "{}", fault),
            }
        }
    }

    #[test]
    fn arbitrary_messages_never_panic(kind in 0_u8..4, rest in bytes(700)) {
        let mut message = vec![kind];
        message.extend(rest);
        if let Ok(read) = Message::decode(&message) {
            prop_assert_eq!(read.encode(), message);
        }
    }

    #[test]
    fn statements_that_differ_have_other_encodings(left in statement(), right in statement()) {
        prop_assert_eq!(left == right, left.encode() == right.encode());
        // One field at a time, too: two random statements differ in all of them.
        let mut swapped = left.clone();
        std::mem::swap(&mut swapped.role, &mut swapped.peer_role);
        prop_assert_eq!(left == swapped, left.report_data() == swapped.report_data());
        let moved = Statement { dialled_address: format!("{}1", left.dialled_address), ..left.clone() };
        prop_assert_ne!(left.report_data(), moved.report_data());
        for (at, changed) in [
            Statement { verifier_nonce: right.verifier_nonce, ..left.clone() },
            Statement { exporter: right.exporter, ..left.clone() },
            Statement { own_key: right.own_key, ..left.clone() },
            Statement { peer_key: right.peer_key, ..left.clone() },
            Statement { root_contract: right.root_contract, ..left.clone() },
            Statement { own_id: right.own_id, ..left.clone() },
            Statement { keyset: right.keyset, ..left.clone() },
            Statement { image: right.image, ..left.clone() },
            Statement { model: right.model, ..left.clone() },
            Statement { gpu: right.gpu, ..left.clone() },
            Statement { beacon: right.beacon, ..left.clone() },
            Statement { not_after_s: right.not_after_s, ..left.clone() },
            Statement { network_id: right.network_id, ..left.clone() },
        ].into_iter().enumerate() {
            prop_assert_eq!(changed == left, changed.report_data() == left.report_data(), "{}", at);
        }
    }

    #[test]
    fn evidence_digests_cover_every_part(part in bytes(80), at in 0_usize..9) {
        let base = PeerEvidence::new([3; 32]);
        let mut changed = base.clone();
        match at {
            0 => changed.tdx_quote = Some(part),
            1 => changed.user_claims = Some(part),
            2 => changed.sev_report_data = Some(part),
            3 => changed.sev_report = Some(part),
            4 => changed.sev_vcek_pem = Some(part),
            5 => changed.event_log = Some(part),
            6 => changed.gpu = Some(GpuEvidence { report: part, ..GpuEvidence::default() }),
            7 => changed.gpu_nonce = Some([9; 32]),
            _ => changed.public_key = [4; 32],
        }
        prop_assert_ne!(base.digest(), changed.digest());
    }

    #[test]
    fn versions_survive_the_order_of_each_generation(fmc: u8, boot_loader: u8, tee: u8, snp: u8, microcode: u8) {
        for product in [SnpProduct::Milan, SnpProduct::Genoa, SnpProduct::Turin] {
            let fmc = if product == SnpProduct::Turin { fmc } else { 0 };
            let tcb = SnpTcb { fmc, boot_loader, tee, snp, microcode };
            prop_assert_eq!(SnpTcb::from_report(product, tcb.to_report(product)), tcb);
        }
    }
}

#[test]
fn policies_are_data() {
    for policy in [Policy::tee(), Policy::any()] {
        let json = serde_json::to_string(&policy).unwrap();
        assert_eq!(serde_json::from_str::<Policy>(&json).unwrap(), policy);
        let text = toml::to_string(&policy).unwrap();
        assert_eq!(toml::from_str::<Policy>(&text).unwrap(), policy);
        assert_eq!(policy.digest(), toml::from_str::<Policy>(&text).unwrap().digest());
        policy.check().unwrap();
    }
    let text = r#"
        name = "workers"
        version = 7
        image_hashes = ["XFXI9NtAELqSA9g1NtBgmFavjIR6wDnjfn3ej71XS2E="]
        required = ["hardware", "tcb", "image", "debug_off", "key_binding", "gpu"]
        [tdx]
        tcb_statuses = ["SWHardeningNeeded"]
        grace_days = 30
        [gpu]
        [[gpu.profiles]]
        name = "H100"
        driver = "590.10.01"
        vbios = "009f009601000000"
        [gpu.profiles.measurements]
        9 = ["73bbf35822549e28ba8fb2671fb7b58f46424a0069205b3ecf1d0fa762adef90b538cc9d692eb5c050147f2f1e8214ab"]
    "#;
    let policy: Policy = toml::from_str(text).unwrap();
    policy.check().unwrap();
    assert!(policy.gpu.profiles[0].measurements.contains_key(&9));
    assert!(policy.image_hashes[0].to_string().starts_with("5c55c8f4"));
    // Of SEV-SNP each generation has its own versions.
    let text = "[snp.min_tcb]\ngenoa = { snp = 23, microcode = 84 }\nturin = { microcode = 72 }";
    let versions = toml::from_str::<Policy>(text).unwrap().snp.unwrap().min_tcb;
    assert_eq!(versions[&SnpProduct::Genoa].microcode, 84);
    assert_eq!(versions[&SnpProduct::Turin].microcode, 72);
    toml::from_str::<Policy>("[snp.min_tcb]\nmicrocode = 84").unwrap_err();
    // A misspelt rule must not be a rule that is silently absent.
    toml::from_str::<Policy>("[tdx]\ngrace_day = 1").unwrap_err();
    let contradiction = Policy { image_hashes: Vec::new(), ..policy };
    contradiction.check().unwrap_err();
    Policy { required: Vec::new(), ..Policy::tee() }.check().unwrap_err();
}

#[cfg(not(feature = "dangerous-fake-evidence"))]
#[test]
fn fake_evidence_in_an_ordinary_build() {
    use cocoon_attest::{BadEvidence, PolicyMode, certificate_report_data};
    let key = [7; 32];
    let fake = PeerEvidence {
        tdx_quote: Some(certificate_report_data(&key).to_vec()),
        user_claims: Some(key.to_vec()),
        ..PeerEvidence::new(key)
    };
    let policy = Policy { mode: PolicyMode::FakeTee, ..Policy::tee() };
    let verdict = verify(&fake, &Collateral::default(), &policy, NOW_MS);
    let refused = BadEvidence::PlatformRefused { platform: "the fake TEE" };
    assert_eq!(verdict.outcome(), Outcome::Refuse(refused));
}

#[test]
fn platforms_are_the_same_however_their_ids_are_written() {
    let written = r#"{"revoked_platforms": [{"maker": "intel_ppid", "id": "AB12Cd"}]}"#;
    let policy: Policy = serde_json::from_str(written).unwrap();
    assert_eq!(policy.revoked_platforms, ["intel_ppid:ab12cd".parse().unwrap()]);
    let text = "[[platforms]]\nsite = \"s\"\nplatform = { maker = \"amd_chip\", id = \"AB\" }";
    let policy: Policy = toml::from_str(text).unwrap();
    assert_eq!(policy.platforms[0].platform, "amd_chip:ab".parse().unwrap());
    for wrong in ["", "00", "a", "xy", &"11".repeat(65)] {
        let written = written.replace("AB12Cd", wrong);
        assert!(serde_json::from_str::<Policy>(&written).is_err(), "{wrong}");
    }
    assert!(serde_json::from_str::<Policy>(&written.replace("intel_ppid", "intel")).is_err());
}
