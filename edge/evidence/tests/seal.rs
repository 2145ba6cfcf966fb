//! Sealed keys with the simulated enclave.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{Arc, LazyLock};

use cocoon_attest::TrustRoots;
use cocoon_evidence::EvidenceFault;
use cocoon_evidence::seal::{EnclaveTrust, SealChannel, SealClient, SealReporter, SealedKeys};
use cocoon_evidence::sim::{DevPki, SimulatedEnclave, SimulatedPlatform, SimulatedPlatformForm};
use proptest::prelude::*;

const NOW_S: u64 = 1_795_262_400;

static PKI: LazyLock<Arc<DevPki>> =
    LazyLock::new(|| Arc::new(DevPki::generate(NOW_S).expect("keys can be drawn")));

fn platform(number: u64, image: &str) -> SimulatedPlatform {
    let form = SimulatedPlatformForm { number, image: image.to_owned(), ..Default::default() };
    SimulatedPlatform::boot(Arc::clone(&PKI), form).unwrap()
}

fn ask(
    guest: SimulatedPlatform,
    enclave: SimulatedEnclave,
    name: &str,
) -> Result<[u8; 32], EvidenceFault> {
    let trust = enclave.trust(NOW_S).unwrap();
    let client = SealClient::new(guest, enclave, trust);
    client.lasting_key(name, NOW_S).map(|key| *key.expose())
}

fn key(number: u64, image: &str, name: &str) -> [u8; 32] {
    let guest = platform(number, image);
    let enclave = SimulatedEnclave::start(&guest, "sealer").unwrap();
    ask(guest, enclave, name).unwrap()
}

#[test]
fn keys_last_and_differ_by_machine_image_and_name() {
    let first = key(1, "worker", "disk_encryption");
    assert_eq!(key(1, "worker", "disk_encryption"), first, "after a reboot");
    assert_ne!(key(2, "worker", "disk_encryption"), first);
    assert_ne!(key(1, "proxy", "disk_encryption"), first);
    assert_ne!(key(1, "worker", "app"), first);
    let mut later = platform(1, "worker");
    later.extend("cocoon:other");
    let enclave = SimulatedEnclave::start(&later, "sealer").unwrap();
    assert_ne!(ask(later, enclave, "disk_encryption").unwrap(), first, "after more was measured");
}

#[test]
fn derivation_is_that_of_the_vector() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/evidence-vectors.json");
    let vectors: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let vector = &vectors["seal"]["persistent_key_example"];
    let name = vector["key_name"].as_str().unwrap();
    let derived = cocoon_wire::sealed_key::derive(&[0; 16], &[0x11; 48], &[0x22; 48], name);
    assert_eq!(hex::encode(derived.expose()), vector["key"].as_str().unwrap());
}

#[test]
fn enclaves_of_another_machine_or_image_are_refused() {
    let (guest, other) = (platform(1, "worker"), platform(2, "worker"));
    let foreign = SimulatedEnclave::start(&other, "sealer").unwrap();
    let fault = ask(guest, foreign, "disk_encryption").unwrap_err();
    assert!(fault.to_string().contains("not of this machine"), "{fault}");
    let guest = platform(1, "worker");
    let expected = SimulatedEnclave::start(&guest, "sealer").unwrap().trust(NOW_S).unwrap();
    let changed = SimulatedEnclave::start(&guest, "changed sealer").unwrap();
    let client = SealClient::new(guest, changed, expected.clone());
    let fault = client.lasting_key("disk_encryption", NOW_S).unwrap_err();
    assert!(fault.to_string().contains("MRENCLAVE"), "{fault}");
    let guest = platform(1, "worker");
    let enclave = SimulatedEnclave::start(&guest, "sealer").unwrap();
    let trust = EnclaveTrust { roots: TrustRoots::production(), ..expected };
    let fault = SealClient::new(guest, enclave, trust).lasting_key("a", NOW_S).unwrap_err();
    assert!(fault.to_string().contains("root"), "{fault}");
}

/// Somebody between the guest and its host.
struct Meddler {
    enclave: SimulatedEnclave,
    at: Place,
}

#[derive(Clone, Copy)]
enum Place {
    FromStart(usize),
    FromEnd(usize),
}

impl SealChannel for Meddler {
    fn exchange(&self, request: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut answer = self.enclave.exchange(request)?;
        let at = match self.at {
            Place::FromStart(at) => at,
            Place::FromEnd(at) => answer.len() - 1 - at,
        };
        answer[at] ^= 1;
        Ok(answer)
    }
}

#[test]
fn answers_changed_on_the_way_are_refused() {
    // At the end the encrypted key, before it the enclave's public key; at the start the
    // quote: its enclave, its report data, its signature.
    use Place::{FromEnd, FromStart};
    for at in [FromEnd(4), FromEnd(20), FromEnd(40), FromEnd(90)]
        .into_iter()
        .chain([120, 400, 470, 1000].map(FromStart))
    {
        let guest = platform(1, "worker");
        let enclave = SimulatedEnclave::start(&guest, "sealer").unwrap();
        let trust = enclave.trust(NOW_S).unwrap();
        let client = SealClient::new(guest, Meddler { enclave, at }, trust);
        client.lasting_key("disk_encryption", NOW_S).unwrap_err();
    }
}

#[test]
fn requests_about_another_key_are_refused() {
    let guest = platform(1, "worker");
    let enclave = SimulatedEnclave::start(&guest, "sealer").unwrap();
    let report = guest.seal_report(&[1; 64]).unwrap();
    let request =
        cocoon_wire::sealed_key::encode_request(&cocoon_wire::sealed_key::GetPersistentKey {
            tdx_report: cocoon_wire::tl::Blob(&report),
            public_key: cocoon_wire::tl::Blob(&[2; 64]),
            key_name: "disk_encryption".into(),
        });
    let fault = enclave.exchange(&request[4..]).unwrap_err();
    assert!(fault.to_string().contains("another key"), "{fault}");
    let names = [String::new(), "n".repeat(257)];
    for name in names {
        let guest = platform(1, "worker");
        let enclave = SimulatedEnclave::start(&guest, "sealer").unwrap();
        ask(guest, enclave, &name).unwrap_err();
    }
}

/// An enclave that answers anything.
struct Anything(Vec<u8>);

impl SealChannel for Anything {
    fn exchange(&self, _request: &[u8]) -> std::io::Result<Vec<u8>> {
        Ok(self.0.clone())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn arbitrary_requests_and_answers_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..1200)) {
        let guest = platform(1, "worker");
        let enclave = SimulatedEnclave::start(&guest, "sealer").unwrap();
        let trust = enclave.trust(NOW_S).unwrap();
        prop_assert!(enclave.exchange(&bytes).is_err());
        let client = SealClient::new(guest, Anything(bytes), trust);
        prop_assert!(client.lasting_key("disk_encryption", NOW_S).is_err());
    }
}
