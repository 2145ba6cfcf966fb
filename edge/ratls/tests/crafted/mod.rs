//! Certificates that break the rules in one way each.

#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "a failure fails the test")]

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine as _;
use cocoon_ratls::{Credentials, NodeKey};

/// The seed of the vectors.
pub(crate) const SEED: [u8; 32] = {
    let mut seed = [0; 32];
    let mut at = 0;
    while at < 32 {
        seed[at] = at as u8;
        at += 1;
    }
    seed
};

/// 2026-01-01 UTC.
pub(crate) const NEW_YEAR_UNIX_S: u64 = 1_767_225_600;

pub(crate) fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let contents = parts.concat();
    let length = contents.len();
    let mut out = vec![tag];
    if length < 0x80 {
        out.push(length as u8);
    } else {
        let bytes = length.to_be_bytes();
        let skip = bytes.iter().take_while(|byte| **byte == 0).count();
        out.push(0x80 | (bytes.len() - skip) as u8);
        out.extend(&bytes[skip..]);
    }
    out.extend(contents);
    out
}

pub(crate) fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let flag: &[u8] = if critical { &[1, 1, 0xff] } else { &[] };
    der(0x30, &[&der(6, &[oid]), flag, &der(4, &[value])])
}

/// The protocol's extension with the last arc `arc`, as content of an object identifier.
pub(crate) fn evidence_oid(arc: u8) -> Vec<u8> {
    vec![0x2b, 6, 1, 4, 1, 0xe0, 0x39, arc]
}

/// What to write; the defaults make a certificate that every rule admits.
pub(crate) struct Crafted {
    pub(crate) version: Option<u8>,
    pub(crate) subject: &'static str,
    pub(crate) issuer: &'static str,
    pub(crate) not_before: &'static str,
    pub(crate) not_after: &'static str,
    pub(crate) key_info: Vec<u8>,
    pub(crate) extensions: Vec<Vec<u8>>,
    pub(crate) tail: Vec<u8>,
}

impl Crafted {
    pub(crate) fn new() -> Self {
        let key = NodeKey::from_seed(&SEED).unwrap();
        let mut key_info = vec![0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];
        key_info.extend(key.public_key());
        Self {
            version: Some(2),
            subject: "localhost",
            issuer: "localhost",
            not_before: "20260101000000Z",
            not_after: "20260102000000Z",
            key_info,
            extensions: Vec::new(),
            tail: Vec::new(),
        }
    }

    pub(crate) fn with(mut self, oid: &[u8], critical: bool, value: &[u8]) -> Self {
        self.extensions.push(extension(oid, critical, value));
        self
    }

    pub(crate) fn der(&self) -> Vec<u8> {
        let name = |text: &str| {
            let attribute = der(0x30, &[&der(6, &[&[0x55, 4, 3]]), &der(12, &[text.as_bytes()])]);
            der(0x30, &[&der(0x31, &[&attribute])])
        };
        let version = self.version.map_or(Vec::new(), |version| der(0xa0, &[&[2, 1, version]]));
        let algorithm = der(0x30, &[&der(6, &[&[0x2b, 0x65, 0x70]])]);
        let time = |text: &str| der(24, &[text.as_bytes()]);
        let validity = der(0x30, &[&time(self.not_before), &time(self.not_after)]);
        let extensions = match self.extensions.len() {
            0 => Vec::new(),
            _ => der(0xa3, &[&der(0x30, &[&self.extensions.concat()])]),
        };
        let body = der(
            0x30,
            &[
                &version,
                &der(2, &[&[7]]),
                &algorithm,
                &name(self.issuer),
                &validity,
                &name(self.subject),
                &self.key_info,
                &extensions,
            ],
        );
        let signature = Ed25519KeyPair::from_seed_unchecked(&SEED).unwrap().sign(&body);
        let certificate = der(0x30, &[&body, &algorithm, &der(3, &[&[0], signature.as_ref()])]);
        [certificate, self.tail.clone()].concat()
    }

    pub(crate) fn pem(&self) -> String {
        let body = base64::engine::general_purpose::STANDARD.encode(self.der());
        format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
    }

    pub(crate) fn credentials(&self) -> Credentials {
        let key = NodeKey::from_seed(&SEED).unwrap().to_pkcs8_pem();
        Credentials::from_pem(self.pem().as_bytes(), key.as_bytes()).unwrap()
    }
}
