//! The registers of a vTPM, signed by a key of the test: no byte here comes from a real machine.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::LazyLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cocoon_attest::vtpm::{QuoteInfo, REGISTERS, VTPM_LIMIT, VtpmQuote, VtpmRegister};
use cocoon_attest::{BadEvidence, ClaimKind, Digest32, Digest48, Policy, fuzz};
use proptest::prelude::*;

const USER_DATA: [u8; 64] = [0x5a; 64];
/// Registers 0, 1, 4 and 7; 11; 23.
const SELECTED: [u8; 3] = [0x93, 0x08, 0x80];
const RSASSA_SHA256: [u8; 4] = [0, 0x14, 0, 0x0b];

static KEYS: LazyLock<[RsaKeyPair; 2]> =
    LazyLock::new(|| [(); 2].map(|()| RsaKeyPair::generate(KeySize::Rsa2048).unwrap()));

/// Modulus and exponent out of the DER of `RSAPublicKey`: two integers in a sequence.
fn numbers(key: &RsaKeyPair) -> (Vec<u8>, Vec<u8>) {
    let der = key.public_key().as_ref();
    // 30 82 .. .. 02 82 01 01 00 <256 bytes> 02 03 01 00 01
    assert_eq!((der[0], der[4], &der[5..9]), (0x30, 2, &[0x82, 1, 1, 0][..]));
    (der[9..265].to_vec(), der[267..].to_vec())
}

fn json(n: &[u8], e: &[u8]) -> String {
    let (n, e) = (URL_SAFE_NO_PAD.encode(n), URL_SAFE_NO_PAD.encode(e));
    format!(
        r#"{{"keys":[{{"kid":"HCLAkPub","key_ops":["sign"],"kty":"RSA","e":"{e}","n":"{n}"}},{{"kid":"HCLEkPub","key_ops":["encrypt"],"kty":"RSA","e":"AQAB","n":"AQAB"}}],"vm-configuration":{{"secure-boot":true}},"user-data":"{}"}}"#,
        hex::encode_upper(USER_DATA)
    )
}

fn runtime_data() -> String {
    let (n, e) = numbers(&KEYS[0]);
    json(&n, &e)
}

fn registers() -> Vec<(u8, Digest32)> {
    [0, 1, 4, 7, 11, 23].map(|number| (number, Digest32::from([number; 32]))).to_vec()
}

fn counted(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

/// A `TPMS_ATTEST` over these banks.
fn attest_over(extra_data: &[u8], banks: &[u8], digest: &[u8]) -> Vec<u8> {
    let mut out = hex::decode("ff5443478018").unwrap();
    out.extend(counted(&[0x0b; 34]));
    out.extend(counted(extra_data));
    out.extend_from_slice(&[0; 25]);
    out.extend_from_slice(banks);
    out.extend(counted(digest));
    out
}

fn bank(algorithm: u8, selected: &[u8]) -> Vec<u8> {
    [&[0, algorithm, selected.len() as u8][..], selected].concat()
}

fn attest(extra_data: &[u8], digest: &[u8]) -> Vec<u8> {
    let banks = [&[0, 0, 0, 1][..], &bank(0x0b, &SELECTED)].concat();
    attest_over(extra_data, &banks, digest)
}

fn extra() -> [u8; 32] {
    VtpmQuote::extra_data(&USER_DATA).0
}

fn digest() -> Digest32 {
    let values = registers();
    let values: Vec<&[u8]> = values.iter().map(|(_, value)| &value.0[..]).collect();
    Digest32::sha256(&values)
}

fn sign_by(
    key: &RsaKeyPair,
    scheme: &'static dyn RsaEncoding,
    header: &[u8],
    attest: &[u8],
) -> Vec<u8> {
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(scheme, &SystemRandom::new(), attest, &mut signature).unwrap();
    [header, &counted(&signature)].concat()
}

fn signed(attest: Vec<u8>) -> VtpmQuote {
    let signature = sign_by(&KEYS[0], &RSA_PKCS1_SHA256, &RSASSA_SHA256, &attest);
    VtpmQuote { attest, signature, registers: registers() }
}

fn quote() -> VtpmQuote {
    signed(attest(&extra(), &digest().0))
}

fn read(quote: &VtpmQuote, runtime_data: &str) -> Result<VtpmQuote, BadEvidence> {
    VtpmQuote::read(&quote.encode(), Some(runtime_data.as_bytes()))
}

fn refusal(quote: &VtpmQuote) -> BadEvidence {
    read(quote, &runtime_data()).unwrap_err()
}

#[test]
fn registers_signed_by_the_key_of_the_runtime_data_hold() {
    let shown = read(&quote(), &runtime_data()).unwrap();
    assert_eq!(shown, quote());
    let info = QuoteInfo::read(&shown.attest).unwrap();
    assert_eq!(info.selected, [0, 1, 4, 7, 11, 23]);
    assert_eq!(info.register_digest, digest().0);
    assert_eq!(info.extra_data, extra());
    assert_eq!(shown.register_digest(), digest());
    assert_eq!(shown.register(11), Some(Digest32::from([11; 32])));
    assert_eq!(shown.register(12), None);
    // Numbers may have zeros in front, and padding behind them.
    let (n, e) = numbers(&KEYS[0]);
    let padded = json(&[&[0, 0], &n[..]].concat(), &[&[0], &e[..]].concat());
    read(&quote(), &padded).unwrap();
    read(&quote(), &runtime_data().replace("AQAB\",\"n", "AQAB====\",\"n")).unwrap();
    // All registers fit.
    let all = (0..REGISTERS).map(|number| (number, Digest32::from([number; 32]))).collect();
    let all = VtpmQuote { registers: all, ..quote() };
    assert!(all.encode().len() <= VTPM_LIMIT);
    assert_eq!(VtpmQuote::decode(&all.encode()), Ok(all));
}

#[test]
fn other_registers_than_those_signed_are_refused() {
    let mut other = quote();
    other.registers[3].1.0[0] ^= 1;
    assert!(matches!(refusal(&other), BadEvidence::Vtpm { .. }));
    let mut swapped = quote();
    (swapped.registers[3].1, swapped.registers[4].1) =
        (swapped.registers[4].1, swapped.registers[3].1);
    assert!(matches!(refusal(&swapped), BadEvidence::Vtpm { .. }));
    // The same values under another number; fewer; more.
    let mut renamed = quote();
    renamed.registers[3].0 = 8;
    assert!(matches!(refusal(&renamed), BadEvidence::Malformed { .. }));
    let mut fewer = quote();
    fewer.registers.pop();
    assert!(matches!(refusal(&fewer), BadEvidence::Malformed { .. }));
    let mut more = quote();
    more.registers.insert(5, (12, Digest32::ZERO));
    assert!(matches!(refusal(&more), BadEvidence::Malformed { .. }));
    let mut none = quote();
    none.registers.clear();
    assert!(matches!(refusal(&none), BadEvidence::Malformed { .. }));
}

#[test]
fn quotes_of_other_reports_and_keys_are_refused() {
    for extra in [&VtpmQuote::extra_data(&[1; 64]).0[..], &[], &USER_DATA, &extra()[..31]] {
        let stale = signed(attest(extra, &digest().0));
        assert!(matches!(refusal(&stale), BadEvidence::NotBound { .. }));
    }
    // The runtime data of another report beside it.
    let other = runtime_data().replace("5A", "5B");
    assert!(matches!(read(&quote(), &other), Err(BadEvidence::NotBound { .. })));
    // Signed by another key than the paravisor's, and by no key.
    let signature = sign_by(&KEYS[1], &RSA_PKCS1_SHA256, &RSASSA_SHA256, &quote().attest);
    let foreign = VtpmQuote { signature, ..quote() };
    assert!(matches!(refusal(&foreign), BadEvidence::Signature { .. }));
    let mut broken = quote();
    *broken.signature.last_mut().unwrap() ^= 1;
    assert!(matches!(refusal(&broken), BadEvidence::Signature { .. }));
    let zeros = [&RSASSA_SHA256[..], &counted(&[0; 256])].concat();
    assert!(matches!(
        refusal(&VtpmQuote { signature: zeros, ..quote() }),
        BadEvidence::Signature { .. }
    ));
    // By another scheme, whatever it says of itself.
    let headers: [&[u8]; 4] = [&RSASSA_SHA256, &[0, 0x14, 0, 0x0c], &[0, 0x16, 0, 0x0b], &[]];
    for header in headers {
        for scheme in [&RSA_PKCS1_SHA384 as &'static dyn RsaEncoding, &RSA_PSS_SHA256] {
            let signature = sign_by(&KEYS[0], scheme, header, &quote().attest);
            assert!(read(&VtpmQuote { signature, ..quote() }, &runtime_data()).is_err());
        }
    }
}

#[test]
fn what_is_no_quote_over_the_bank_of_sha_256_is_refused() {
    let malformed = |attest: Vec<u8>| {
        let fault = refusal(&signed(attest));
        assert!(matches!(fault, BadEvidence::Malformed { .. }), "{fault}");
    };
    // What a restricted key signs for a caller never begins so; other attestations do.
    let good = quote().attest;
    for place in [0, 1, 2, 3, 4, 5] {
        let mut other = good.clone();
        other[place] ^= 2;
        malformed(other);
    }
    for len in 0..good.len() {
        malformed(good[..len].to_vec());
    }
    malformed([&good[..], &[0]].concat());
    let (sha1, sha384) = (bank(4, &SELECTED), bank(0x0c, &SELECTED));
    let sha256 = bank(0x0b, &SELECTED);
    let banks: [(u8, Vec<u8>); 6] = [
        (0, Vec::new()),
        (1, sha1.clone()),
        (1, sha384),
        (2, [sha256.clone(), sha1].concat()),
        (2, sha256),
        (1, bank(0x0b, &[0x93, 0x08, 0x80, 0])),
    ];
    for (count, selections) in banks {
        let selections = [&[0, 0, 0, count][..], &selections].concat();
        malformed(attest_over(&extra(), &selections, &digest().0));
    }
    // Nothing is selected, and a digest of another length.
    malformed(attest_over(&extra(), &[0, 0, 0, 1, 0, 0x0b, 0], &digest().0));
    let short = signed(attest(&extra(), &digest().0[..31]));
    assert!(matches!(refusal(&short), BadEvidence::Vtpm { .. }));
}

#[test]
fn encodings_that_are_cut_longer_or_out_of_order_are_refused() {
    let bytes = quote().encode();
    for len in 0..bytes.len() {
        assert!(VtpmQuote::decode(&bytes[..len]).is_err(), "cut to {len}");
    }
    assert!(VtpmQuote::decode(&[&bytes[..], &[0]].concat()).is_err());
    assert!(VtpmQuote::decode(&vec![0; VTPM_LIMIT + 1]).is_err());
    let orders: [&[u8]; 4] = [&[1, 0], &[0, 0], &[23, 24], &[24]];
    for order in orders {
        let registers = order.iter().map(|number| (*number, Digest32::ZERO)).collect();
        let shown = VtpmQuote { registers, ..quote() };
        assert!(VtpmQuote::decode(&shown.encode()).is_err(), "{order:?}");
    }
}

#[test]
fn keys_that_are_none_and_two_keys_are_refused() {
    let good = runtime_data();
    let (n, e) = numbers(&KEYS[0]);
    let member = format!("\"n\":\"{}\"", URL_SAFE_NO_PAD.encode(&n));
    for bad in [
        // Absent, twice, of another kind, no list.
        good.replace("HCLAkPub", "HCLEkPub"),
        good.replace("HCLEkPub", "HCLAkPub"),
        good.replacen("\"RSA\"", "\"EC\"", 1),
        good.replacen("\"keys\":[", "\"x\":7,\"keys\":7,\"y\":[", 1),
        good.replacen("\"keys\":", "\"other\":", 1),
        good.replacen("\"keys\":[", "\"keys\":[],\"keys\":[", 1),
        // A part absent, twice, or no base64.
        good.replacen(&member, "\"x\":0", 1),
        good.replacen(&member, &format!("{member},{member}"), 1),
        good.replacen(&member, "\"n\":\"!\"", 1),
        good.replacen(&member, "\"n\":\"\"", 1),
        // Zero, one, two, short, long.
        json(&[0; 256], &e),
        json(&n, &[]),
        json(&n, &[0, 0, 0]),
        json(&n, &[1]),
        json(&n, &[2]),
        json(&n[..128], &e),
        json(&[1, 0, 1], &e),
        json(&[&n[..], &n, &n, &n, &[1]].concat(), &e),
        "{}".to_owned(),
        String::new(),
        format!("{good}{}", " ".repeat(17 << 10)),
    ] {
        assert_ne!(bad, good);
        assert!(read(&quote(), &bad).is_err(), "{bad}");
    }
    let missing = VtpmQuote::read(&quote().encode(), None);
    assert!(matches!(missing, Err(BadEvidence::Missing { .. })));
}

#[test]
fn policies_that_list_registers_without_their_paravisor_are_mistakes() {
    let register = |number| VtpmRegister { number, values: vec![Digest32::from([7; 32])] };
    let mut policy = Policy::tee().requiring(ClaimKind::Image);
    policy.vtpm.registers = vec![register(4), register(22)];
    let fault = policy.check().unwrap_err().to_string();
    assert!(fault.contains("vtpm.paravisors"), "{fault}");
    policy.vtpm.paravisors = vec![Digest48::from([1; 48])];
    policy.check().unwrap();
    let text = toml::to_string(&policy).unwrap();
    assert!(text.contains("[[vtpm.registers]]"), "{text}");
    assert_eq!(toml::from_str::<Policy>(&text).unwrap(), policy);
    // Policies without it are written as ever.
    assert!(!serde_json::to_string(&Policy::tee()).unwrap().contains("vtpm"));
    let none = VtpmRegister { values: Vec::new(), ..register(4) };
    let resettable = [vec![register(16)], vec![register(4), register(23)]];
    let others = [vec![register(24)], vec![register(4), register(4)], vec![none]];
    for bad in resettable.into_iter().chain(others) {
        let mut policy = policy.clone();
        policy.vtpm.registers = bad;
        assert!(policy.check().is_err());
    }
}

proptest! {
    #[test]
    fn changed_bytes_never_pass_and_never_panic(
        at in any::<prop::sample::Index>(), byte in 1_u8.., cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = quote().encode();
        *at.get_mut(&mut bytes[..]) ^= byte;
        prop_assert!(VtpmQuote::read(&bytes, Some(runtime_data().as_bytes())).is_err());
        fuzz::vtpm(&bytes);
        fuzz::vtpm(&bytes[..cut.index(bytes.len())]);
        let text = runtime_data();
        let len = (text.len() as u16).to_le_bytes();
        fuzz::vtpm(&[&len, text.as_bytes(), &bytes].concat());
        fuzz::vtpm(&[&len, text.as_bytes(), &quote().encode()].concat());
    }
}
