//! Parameters of a method: from a query, a JSON object, or both.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use cocoon_units::{Address, AddressForm, Nanoton};
use serde_json::{Map, Value};
use tycho_types::boc::Boc;
use tycho_types::cell::Cell;

use super::ApiFault;

/// Parameters by name. Numbers may come as JSON numbers or as text.
#[derive(Debug, Default)]
pub(crate) struct Params(Map<String, Value>);

impl Params {
    /// Reads the query, then a JSON body, if any; the body wins.
    pub(crate) fn read(query: Option<&str>, body: &[u8]) -> Result<Self, ApiFault> {
        let mut map = Map::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            map.insert(unescape(name), Value::String(unescape(value)));
        }
        if !body.is_empty() {
            let body: Value = serde_json::from_slice(body)
                .map_err(|error| ApiFault::parameter(format!("the body is not JSON: {error}")))?;
            map.extend(Self::from_json(Some(&body))?.0);
        }
        Ok(Self(map))
    }

    pub(crate) fn from_json(params: Option<&Value>) -> Result<Self, ApiFault> {
        match params {
            None | Some(Value::Null) => Ok(Self::default()),
            Some(Value::Object(map)) => Ok(Self(map.clone())),
            Some(_) => Err(ApiFault::parameter("parameters must be an object")),
        }
    }

    pub(crate) fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(crate) fn text(&self, name: &str) -> Option<String> {
        match self.value(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(flag) => Some(flag.to_string()),
            _ => None,
        }
    }

    pub(crate) fn required(&self, name: &str) -> Result<String, ApiFault> {
        self.text(name).ok_or_else(|| ApiFault::parameter(format!("{name} is required")))
    }

    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, ApiFault> {
        let Some(text) = self.text(name).filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let parsed = text.trim().parse().map(Some);
        parsed.map_err(|_| ApiFault::parameter(format!("{name} is no fitting number: {text}")))
    }

    pub(crate) fn required_number<T: std::str::FromStr>(&self, name: &str) -> Result<T, ApiFault> {
        self.number(name)?.ok_or_else(|| ApiFault::parameter(format!("{name} is required")))
    }

    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        self.text(name).map(|text| matches!(text.as_str(), "true" | "1"))
    }

    pub(crate) fn address(&self, name: &str) -> Result<Address, ApiFault> {
        self.address_with_form(name).map(|(address, _)| address)
    }

    pub(crate) fn address_with_form(
        &self,
        name: &str,
    ) -> Result<(Address, Option<AddressForm>), ApiFault> {
        let text = self.required(name)?;
        Address::parse_with_form(&text)
            .map_err(|fault| ApiFault::parameter(format!("{name}: {fault}")))
    }

    pub(crate) fn nanoton(&self, name: &str) -> Result<Nanoton, ApiFault> {
        self.required_number(name).map(Nanoton)
    }

    /// A 256-bit hash as hex or base64.
    pub(crate) fn hash(&self, name: &str) -> Result<Option<[u8; 32]>, ApiFault> {
        let Some(text) = self.text(name).filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let bytes = if text.len() == 64 {
            hex::decode(&text).ok()
        } else {
            STANDARD.decode(&text).or_else(|_| URL_SAFE.decode(&text)).ok()
        };
        let hash = bytes.and_then(|bytes| bytes.try_into().ok());
        hash.map(Some).ok_or_else(|| ApiFault::parameter(format!("{name} is no hash: {text}")))
    }

    pub(crate) fn bytes(&self, name: &str) -> Result<Option<Vec<u8>>, ApiFault> {
        let Some(text) = self.text(name).filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        STANDARD
            .decode(&text)
            .or_else(|_| URL_SAFE.decode(&text))
            .map(Some)
            .map_err(|error| ApiFault::parameter(format!("{name} is no base64: {error}")))
    }

    pub(crate) fn cell(&self, name: &str) -> Result<Option<Cell>, ApiFault> {
        self.bytes(name)?
            .map(|bytes| {
                Boc::decode(bytes)
                    .map_err(|error| ApiFault::parameter(format!("{name} is no cell: {error}")))
            })
            .transpose()
    }
}

/// Percent-decodes a query's part; what is malformed stays as it is.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = match (first, after) {
            (b'%', [high, low, ..]) => hex::decode([*high, *low]).ok(),
            _ => None,
        };
        match code.as_deref() {
            Some([byte]) => {
                bytes.push(*byte);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                // A plus stays a plus: base64 is more likely here than a space.
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
