//! The router's decisions.

#![allow(clippy::unwrap_used, reason = "a failure fails the test")]

use cocoon_attest::{Digest32, PolicyMode, TrustRoots};
use cocoon_role_router::{
    Destination, Ends, PolicyKind, PolicyTable, PortMode, PortSpec, ReferenceFile, SocksServer,
    SocksStep, fuzz, reply, word,
};
use cocoon_wire::peer_info::{Attestation, Line, PeerInfo};
use proptest::prelude::*;

const HASH: &str = "5c55c8f4db4010ba9203d83536d0609856af8c847ac039e37e7dde8fbd574b61";

fn to(host: &str, port: u16) -> Destination {
    Destination { host: host.to_owned(), port }
}

#[test]
fn the_references_command_line_is_read() {
    let port = PortSpec::socks("8116", true).unwrap();
    assert_eq!((port.port, port.policy.as_str(), port.serialize_info), (8116, "tee", true));
    let port = PortSpec::socks(&format!("8116@tdx:{HASH}"), true).unwrap();
    assert_eq!(port.policy, format!("tdx:{HASH}"));
    let port = PortSpec::reverse("11001:127.0.0.1:11101@tdx", true).unwrap();
    assert_eq!(port.mode, PortMode::Reverse(to("127.0.0.1", 11_101)));
    assert_eq!((port.port, port.policy.as_str()), (11_001, "tdx"));
    let port = PortSpec::forward("9000:proxy.example:11002", false).unwrap();
    assert_eq!(port.mode, PortMode::Forward(to("proxy.example", 11_002)));
    let port = PortSpec::legacy("11002:reverse:any:127.0.0.1:11102", true).unwrap();
    assert_eq!(
        (port.policy.as_str(), port.mode),
        ("any", PortMode::Reverse(to("127.0.0.1", 11_102)))
    );
    assert_eq!(PortSpec::legacy("8116:socks5", true).unwrap().policy, "tee");
    for bad in ["", "80", "70000", "x", "9000:host", "9000:host:0", "9000::1"] {
        PortSpec::forward(bad, true).unwrap_err();
    }
    PortSpec::legacy("8116:socks5:any:host:1", true).unwrap_err();
    PortSpec::legacy("8116:telnet", true).unwrap_err();
}

#[test]
fn policies_are_found_by_name_and_image() {
    let mut table = PolicyTable::default();
    table.put_text(&format!("mine:tdx:{HASH},{HASH}")).unwrap();
    assert_eq!(table.find("mine").unwrap().image_hashes.len(), 2);
    assert_eq!(table.find("any").unwrap().kind, PolicyKind::Any);
    for text in [format!("tdx:{HASH}"), format!("tdx@{HASH}"), format!("sev@{HASH}")] {
        let found = table.find(&text).unwrap();
        assert_eq!(found.image_hashes, [Digest32::read("", HASH).unwrap()]);
    }
    let fault = table.find("other").unwrap_err().to_string();
    assert!(fault.contains("other") && fault.contains("mine"), "{fault}");
    table.put_text("x:any:00").unwrap_err();
    table.put_text("x:unknown").unwrap_err();
    table.put_text("a b:any").unwrap_err();
    assert!(table.named(b"mine").is_some() && table.named(b"\xff").is_none());
    let roots = TrustRoots::production();
    let policy = table.find("tdx").unwrap().policy("tdx", &roots).unwrap();
    assert!(policy.snp.is_none() && policy.mode == PolicyMode::Tee);
    assert_eq!(policy.roots, roots);
    // A hash under `any` would be a promise nobody keeps.
    let fault = table.find(&format!("any:{HASH}")).unwrap().policy("any", &roots).unwrap_err();
    assert!(fault.to_string().starts_with("policy any"), "{fault}");
}

#[cfg(not(feature = "dangerous-fake-evidence"))]
#[test]
fn fake_evidence_is_refused_by_an_ordinary_build() {
    let spec = PolicyTable::default().find("fake_tee").unwrap();
    let fault = spec.policy("fake_tee", &TrustRoots::default()).unwrap_err();
    assert!(fault.to_string().contains("dangerous-fake-evidence"), "{fault}");
}

#[test]
fn the_references_file_is_read() {
    let register = "11".repeat(48);
    let text = format!(
        r#"{{"cert_base_name":"/etc/tdx/tdx","threads":"2","policies":[{{"name":"workers","type":"tdx",
        "description":"ignored","tdx_config":{{"allowed_mrtd":["{register}"],
        "allowed_rtmr":[["{register}","{register}","{register}","{register}"]],
        "allowed_image_hashes":"{HASH}","allowed_collateral_root_hashes":["{register}"]}},
        "sev_config":{{"allowed_measurement":["{register}"]}}}}],
        "ports":[{{"port":11001,"type":"reverse","policy_name":"workers","destination_host":"127.0.0.1",
        "destination_port":"11101","serialize_info":"true","pow_difficulty":8}},
        {{"port":8116,"type":"socks5","allow_policy_from_username":true}}],"unknown":1}}"#
    );
    let file = ReferenceFile::read(&text).unwrap();
    assert_eq!((file.cert_base_name.as_str(), file.threads), ("/etc/tdx/tdx", 2));
    let (name, spec) = &file.policies[0];
    assert_eq!((name.as_str(), spec.kind), ("workers", PolicyKind::Tdx));
    assert_eq!((spec.mr_td.len(), spec.rtmr.len(), spec.image_hashes.len()), (1, 1, 1));
    assert_eq!((spec.collateral_roots.len(), spec.measurements.len()), (1, 1));
    let [workers, socks] = &file.ports[..] else { panic!("two ports") };
    assert_eq!((workers.work_bits, workers.serialize_info), (Some(8), true));
    assert_eq!(socks.mode, PortMode::Socks5 { policy_from_username: true });
    assert!(!socks.serialize_info, "off in a file where it is left out");
    for (bad, place) in [
        (r#"{"ports":[{"port":80,"type":"socks5"}]}"#, "ports[0].port"),
        (r#"{"ports":[{"port":8116,"type":"x"}]}"#, "ports[0].type"),
        (r#"{"ports":[{"port":8116,"type":"forward"}]}"#, "ports[0].destination_port"),
        (r#"{"policies":[{"type":"any"}]}"#, "policies[0].name"),
        (r#"{"policies":{}}"#, "policies"),
        ("[", "JSON"),
    ] {
        let fault = ReferenceFile::read(bad).unwrap_err().to_string();
        assert!(fault.contains(place), "{fault}");
    }
}

/// Talks to a server as a program would.
fn talk(take_user: bool, bytes: &[u8]) -> (Vec<u8>, SocksStep) {
    let mut server = SocksServer::new(take_user);
    server.push(bytes);
    let mut out = Vec::new();
    loop {
        match server.step() {
            SocksStep::Write(bytes) => out.extend(bytes),
            step => return (out, step),
        }
    }
}

#[test]
fn programs_are_understood_and_refused_in_words() {
    let target = "10.1.2.3:11002".parse().unwrap();
    let request = [&[5, 1, 0][..], &[5, 1, 0, 1, 10, 1, 2, 3, 0x2a, 0xfa]].concat();
    assert_eq!(talk(false, &request), (vec![5, 0], SocksStep::Connect { target, user: None }));
    let named = [&[5, 2, 0, 2][..], b"\x01\x04mine\x01x", &request[3..]].concat();
    let user = Some(b"mine".to_vec());
    assert_eq!(talk(true, &named), (vec![5, 2, 1, 0], SocksStep::Connect { target, user }));
    // A port that takes no names chooses the other method.
    assert_eq!(talk(false, &named[..4]), (vec![5, 0], SocksStep::More));
    let literal = [&[5, 1, 0][..], b"\x05\x01\x00\x03\x0810.1.2.3\x2a\xfa"].concat();
    assert_eq!(talk(false, &literal).1, SocksStep::Connect { target, user: None });
    for (bytes, said) in [
        (&b"\x05\x01\x02"[..], vec![5, 0xff]),
        (
            b"\x05\x01\x00\x05\x02\x00\x01",
            [vec![5, 0], SocksServer::refused(reply::COMMAND).to_vec()].concat(),
        ),
        (
            b"\x05\x01\x00\x05\x01\x00\x04",
            [vec![5, 0], SocksServer::refused(reply::ADDRESS_TYPE).to_vec()].concat(),
        ),
        (
            b"\x05\x01\x00\x05\x01\x00\x03\x01a\x00\x01",
            [vec![5, 0], SocksServer::refused(reply::ADDRESS_TYPE).to_vec()].concat(),
        ),
        (b"GET / HTTP/1.1", Vec::new()),
    ] {
        let (mut out, step) = talk(false, bytes);
        let SocksStep::Refuse(last, _) = step else { panic!("{step:?}") };
        out.extend(last);
        assert_eq!(out, said);
    }
}

#[test]
fn the_word_has_the_form_of_each_line() {
    let ends = Ends {
        source: "10.0.0.1:4000".parse().unwrap(),
        destination: "10.0.0.2:11002".parse().unwrap(),
    };
    let of = |line, is_sev| word(None, (&[7; 32], is_sev), ends, line).unwrap();
    let (blob, _) = (of(Line::Live, false), ());
    let (info, taken) = PeerInfo::decode_prefixed(&blob, Line::Live).unwrap().unwrap();
    assert_eq!((taken, info.public_key.0, info.destination_port), (blob.len(), [7; 32], 11_002));
    assert_eq!(hex(&info.attestation.image_hash().0), HASH, "that of 448 zero bytes");
    let blob = of(Line::Live, true);
    let (info, _) = PeerInfo::decode_prefixed(&blob, Line::Live).unwrap().unwrap();
    assert!(matches!(info.attestation, Attestation::Sev { .. }));
    let blob = of(Line::Base, true);
    let (info, _) = PeerInfo::decode_prefixed(&blob, Line::Base).unwrap().unwrap();
    assert_eq!((info.attestation, info.collateral_root), (Attestation::None, Some([0; 48])));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
        fuzz::socks(&bytes);
        fuzz::configuration(&bytes);
        fuzz::socks(&[&[5, 1, 0][..], &bytes].concat());
        fuzz::socks(&[&[5, 2, 0, 2, 1][..], &bytes].concat());
    }

    #[test]
    fn near_configurations_never_panic(
        text in r#"\{"(ports|policies)":\[\{("(port|type|policy_name|tdx_config|name)":("x"|"any"|9000|\{\}),?){0,4}\}\]\}"#,
    ) {
        fuzz::configuration(text.as_bytes());
    }
}
