//! Reads the vectors. They hold no contract code: codes are placeholders or hash and depth.

use base64::Engine as _;
use cocoon_contract::boc;
use cocoon_contract::cell::{Cell, CellId, Hash};
use cocoon_contract::code::{Code, Codes};
use cocoon_contract::params::Params;
use cocoon_units::{Address, Multiplier, Nanoton, PublicKey};
use ed25519_dalek::SigningKey;
use serde_json::Value;

pub(crate) struct Vectors(pub(crate) Value);

impl Vectors {
    pub(crate) fn load() -> Self {
        let text = include_str!("../../../../testdata/contract/vectors.json");
        Self(serde_json::from_str(text).expect("vectors are JSON"))
    }

    pub(crate) fn signing_key(&self, who: &str) -> SigningKey {
        let key = SigningKey::from_bytes(&hex32(&self.0["keys"][who]["seed"]));
        assert_eq!(key.verifying_key().to_bytes(), hex32(&self.0["keys"][who]["public"]));
        key
    }

    /// Placeholder codes of one set, with their cells.
    pub(crate) fn codes(&self, set: &str) -> Codes {
        let code = |role| Some(Code::from(cell(&self.0["codes_synthetic"][set][role])));
        Codes { proxy: code("proxy"), worker: code("worker"), client: code("client") }
    }

    pub(crate) fn wallet_code(&self, set: &str) -> Code {
        cell(&self.0["codes_synthetic"][set]["wallet"]).into()
    }

    /// A deployed code by its name, without the cell.
    pub(crate) fn real_code(&self, name: &str) -> Code {
        let entry = &self.0["real_codes"][name];
        let depth = u16::try_from(entry["depth"].as_u64().expect("depth")).expect("depth fits");
        Code::from_id(CellId { hash: Hash(hex32(&entry["code_hash"])), depth })
    }

    pub(crate) fn params(&self, name: &str) -> Params {
        let all = self.0["params_cells"].as_array().expect("params");
        let entry = all.iter().find(|entry| entry["name"] == name).expect("params by name");
        params(&entry["fields"])
    }
}

pub(crate) fn params(fields: &Value) -> Params {
    let multiplier =
        |name: &str| fields.get(name).map_or(Multiplier::ONE, |v| Multiplier(u32_of(v)));
    let stake = |name: &str| fields.get(name).map_or(Nanoton::TON, amount);
    Params {
        struct_version: u8::try_from(u64_of(&fields["struct_version"])).expect("version"),
        params_version: u32_of(&fields["params_version"]),
        unique_id: u32_of(&fields["unique_id"]),
        is_test: fields["is_test"].as_bool().expect("is_test"),
        price_per_token: amount(&fields["price_per_token"]),
        worker_fee_per_token: amount(&fields["worker_fee_per_token"]),
        prompt_multiplier: multiplier("prompt_mult"),
        cached_multiplier: multiplier("cached_mult"),
        completion_multiplier: multiplier("completion_mult"),
        reasoning_multiplier: multiplier("reasoning_mult"),
        proxy_delay_s: u32_of(&fields["proxy_delay_before_close"]),
        client_delay_s: u32_of(&fields["client_delay_before_close"]),
        min_proxy_stake: stake("min_proxy_stake"),
        min_client_stake: stake("min_client_stake"),
    }
}

/// A cell given as a bag, checked against the hash beside it.
pub(crate) fn cell(entry: &Value) -> Cell {
    let bytes =
        base64::engine::general_purpose::STANDARD.decode(text(&entry["boc_b64"])).expect("base64");
    let cell = boc::decode(&bytes, boc::Limits::ROOT).expect("bag of cells");
    assert_same(&cell, entry);
    let again = boc::decode(&boc::encode(&cell), boc::Limits::ROOT).expect("own bag");
    assert_same(&again, entry);
    cell
}

pub(crate) fn assert_same(cell: &Cell, entry: &Value) {
    assert_eq!(CellId::of(cell).hash.to_string(), text(&entry["hash"]), "hash of {entry}");
    if let Some(depth) = entry["depth"].as_u64() {
        assert_eq!(u64::from(cell.repr_depth()), depth);
    }
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}"))
}

/// A number, written as such or as text.
pub(crate) fn u64_of(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| text(value).parse().expect("number"))
}

pub(crate) fn u32_of(value: &Value) -> u32 {
    u32::try_from(u64_of(value)).expect("32 bits")
}

pub(crate) fn amount(value: &Value) -> Nanoton {
    Nanoton(u64_of(value))
}

pub(crate) fn op_of(value: &Value) -> u32 {
    u32::from_str_radix(text(value).trim_start_matches("0x"), 16).expect("op")
}

pub(crate) fn hex32(value: &Value) -> [u8; 32] {
    hex::decode(text(value)).expect("hex").try_into().expect("32 bytes")
}

pub(crate) fn address(value: &Value) -> Address {
    Address::parse(text(value)).expect("address")
}

pub(crate) fn public_key(value: &Value) -> PublicKey {
    PublicKey(hex32(value))
}
