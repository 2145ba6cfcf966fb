//! Reads configurations from JSON by the rules of the reference (protocol notes 7).
//!
//! A missing field or `null` is zero or empty, numbers and booleans may be written as
//! strings, 256-bit values are standard base64, unknown fields are ignored. Keys are wiped
//! from the intermediate tree; the caller wipes the text it passes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cocoon_units::{ImageHash, PublicKey};
use serde_json::{Map, Value};
use zeroize::Zeroize as _;

use crate::ConfigFault;
use crate::config::{
    ClientRunner, KeyStorageRunner, KeyStorageRunnerBase, ProxyRunner, ProxyRunnerBase,
    WorkerRunner, WorkerRunnerBase,
};
use crate::root_config::{Pseudo, PseudoBase, RegisteredProxy, RegisteredPublicKey};
use crate::tl::{SecretKey, SecretText, Text};

/// Reads one configuration.
///
/// # Errors
/// [`ConfigFault`] names the place; the operator corrects the file.
pub fn read<T: FromJson>(text: &str) -> Result<T, ConfigFault> {
    let mut value: Value = serde_json::from_str(text)
        .map_err(|fault| ConfigFault::Syntax { line: fault.line(), column: fault.column() })?;
    T::from_json(&mut value, "configuration")
}

/// A value that a configuration can hold.
pub trait FromJson: Sized {
    /// Reads the value; `place` names it in a fault.
    ///
    /// # Errors
    /// [`ConfigFault`] names the place.
    fn from_json(value: &mut Value, place: &str) -> Result<Self, ConfigFault>;

    /// What a missing field stands for.
    ///
    /// # Errors
    /// Never for the types here.
    fn missing(place: &str) -> Result<Self, ConfigFault>;
}

/// The fault of a field that holds something else.
fn expected(place: &str, what: &'static str) -> ConfigFault {
    ConfigFault::Field { place: place.to_owned(), expected: what }
}

macro_rules! json_number {
    ($($name:ty, $what:literal;)*) => {$(
        impl FromJson for $name {
            fn from_json(value: &mut Value, place: &str) -> Result<Self, ConfigFault> {
                match value {
                    Value::Number(number) => number.as_i64().and_then(|n| Self::try_from(n).ok()),
                    Value::String(text) => text.parse().ok(),
                    _ => None,
                }
                .ok_or_else(|| expected(place, $what))
            }

            fn missing(_: &str) -> Result<Self, ConfigFault> {
                Ok(0)
            }
        }
    )*};
}

json_number! { i32, "a 32-bit integer"; i64, "a 64-bit integer"; }

impl FromJson for bool {
    fn from_json(value: &mut Value, place: &str) -> Result<Self, ConfigFault> {
        match value {
            Value::Bool(flag) => Ok(*flag),
            Value::String(text) if text == "true" => Ok(true),
            Value::String(text) if text == "false" => Ok(false),
            other => i32::from_json(other, place)
                .map(|number| number != 0)
                .map_err(|_| expected(place, "true or false")),
        }
    }

    fn missing(_: &str) -> Result<Self, ConfigFault> {
        Ok(false)
    }
}

impl FromJson for Text<'static> {
    fn from_json(value: &mut Value, place: &str) -> Result<Self, ConfigFault> {
        match value.take() {
            Value::String(text) => Ok(Self::from(text)),
            _ => Err(expected(place, "a text")),
        }
    }

    fn missing(_: &str) -> Result<Self, ConfigFault> {
        Ok(Self::default())
    }
}

impl FromJson for SecretText {
    fn from_json(value: &mut Value, place: &str) -> Result<Self, ConfigFault> {
        match value.take() {
            Value::String(text) => Ok(Self::new(text.into_bytes())),
            _ => Err(expected(place, "a text")),
        }
    }

    fn missing(_: &str) -> Result<Self, ConfigFault> {
        Ok(Self::default())
    }
}

impl FromJson for [u8; 32] {
    fn from_json(value: &mut Value, place: &str) -> Result<Self, ConfigFault> {
        let fault = || expected(place, "32 bytes in standard base64");
        let Value::String(mut text) = value.take() else { return Err(fault()) };
        let decoded = STANDARD.decode(&text);
        text.zeroize();
        let mut decoded = decoded.map_err(|_| fault())?;
        let bytes = decoded.as_slice().try_into();
        decoded.zeroize();
        bytes.map_err(|_| fault())
    }

    fn missing(_: &str) -> Result<Self, ConfigFault> {
        Ok([0; 32])
    }
}

macro_rules! json_int256 {
    ($($name:ty, $make:path;)*) => {$(
        impl FromJson for $name {
            fn from_json(value: &mut Value, place: &str) -> Result<Self, ConfigFault> {
                <[u8; 32]>::from_json(value, place).map($make)
            }

            fn missing(_: &str) -> Result<Self, ConfigFault> {
                Ok($make([0; 32]))
            }
        }
    )*};
}

json_int256! { ImageHash, ImageHash; PublicKey, PublicKey; SecretKey, SecretKey::new; }

impl<T: FromJson> FromJson for Vec<T> {
    fn from_json(value: &mut Value, place: &str) -> Result<Self, ConfigFault> {
        let Value::Array(elements) = value else { return Err(expected(place, "a list")) };
        let numbered = elements.iter_mut().enumerate();
        numbered.map(|(n, element)| T::from_json(element, &format!("{place}[{n}]"))).collect()
    }

    fn missing(_: &str) -> Result<Self, ConfigFault> {
        Ok(Self::new())
    }
}

/// Reads one field of an object.
fn field<T: FromJson>(object: &mut Map<String, Value>, name: &str) -> Result<T, ConfigFault> {
    match object.get_mut(name) {
        None | Some(Value::Null) => T::missing(name),
        Some(value) => T::from_json(value, name),
    }
}

macro_rules! json_object {
    ($( $name:ty { $($field:ident),* $(,)? } )*) => {$(
        impl FromJson for $name {
            fn from_json(value: &mut Value, place: &str) -> Result<Self, ConfigFault> {
                let Value::Object(object) = value else { return Err(expected(place, "an object")) };
                Ok(Self { $( $field: field(object, stringify!($field))?, )* })
            }

            fn missing(_: &str) -> Result<Self, ConfigFault> {
                Self::from_json(&mut Value::Object(Map::new()), "")
            }
        }
    )*};
}

json_object! {
    ProxyRunner<'static> {
        is_test, is_testnet, workers_rpc_port, client_rpc_port, http_port, owner_address,
        connect_to_proxy_via, root_contract_address, machine_specific_private_key,
        node_wallet_key, ton_config_filename, db_path, check_worker_hashes, image_hash,
        http_access_hash,
    }
    ProxyRunnerBase<'static> {
        is_test, is_testnet, workers_rpc_port, client_rpc_port, http_port, owner_address,
        root_contract_address, machine_specific_private_key, node_wallet_key,
        ton_config_filename, db_path, check_worker_hashes, image_hash, http_access_hash,
    }
    WorkerRunner<'static> {
        is_test, is_testnet, http_port, owner_address, proxy_connections, connect_to_proxy_via,
        model_name, coefficient, root_contract_address, node_wallet_key, forward_requests_to,
        ton_config_filename, check_proxy_hashes, max_active_requests, image_hash,
        http_access_hash, change_model_script, machine_description_json,
    }
    WorkerRunnerBase<'static> {
        is_test, is_testnet, http_port, owner_address, proxy_connections, connect_to_proxy_via,
        model_name, coefficient, root_contract_address, node_wallet_key, forward_requests_to,
        ton_config_filename, check_proxy_hashes, max_active_requests, image_hash,
        http_access_hash,
    }
    ClientRunner<'static> {
        is_test, is_testnet, http_port, owner_address, proxy_connections, connect_to_proxy_via,
        root_contract_address, node_wallet_key, check_proxy_hashes, secret_string,
        ton_config_filename, http_access_hash,
    }
    KeyStorageRunner<'static> {
        is_test, is_testnet, add_default_key, rpc_port, http_port, owner_address,
        root_contract_address, machine_specific_private_key, node_wallet_key,
        ton_config_filename, db_path, check_hashes, image_hash, http_access_hash,
    }
    KeyStorageRunnerBase<'static> {
        is_test, is_testnet, rpc_port, http_port, root_contract_address,
        machine_specific_private_key, ton_config_filename, db_path, check_hashes, image_hash,
        http_access_hash,
    }
    RegisteredProxy<'static> { seqno, address }
    RegisteredPublicKey { public_key, key_type, expire_at }
    Pseudo<'static> {
        proxy_hashes, worker_hashes, model_hashes, model_types, registered_proxies,
        price_per_token, worker_fee_per_token, last_proxy_seqno, version, params_version,
        registered_public_keys, key_manager_address, proxy_sc_code, worker_sc_code,
        client_sc_code, root_owner_address,
    }
    PseudoBase<'static> {
        proxy_hashes, worker_hashes, model_hashes, model_types, registered_proxies,
        price_per_token, worker_fee_per_token, last_proxy_seqno, version, params_version,
        proxy_sc_code, worker_sc_code, client_sc_code, root_owner_address,
    }
}
