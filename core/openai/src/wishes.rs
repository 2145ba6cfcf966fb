//! The network's own wishes in a request body: the reference's top-level members (protocol
//! notes 4.2) and our member `cocoon`, which the official clients send through `extra_body`.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::fault::ApiError;
use crate::json::{self, Kind, Object};

/// Longest deadline a body may ask for, in seconds. The gateway may set a lower one.
pub const MAX_TIMEOUT_S: f64 = 86_400.0;

/// Longest text and longest list accepted inside the wishes.
const MAX_TEXT_BYTES: usize = 256;
const MAX_LIST: usize = 16;

/// Wishes found in a body. Members of `cocoon` win over the top-level ones.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BodyWishes {
    /// Price cap: factor in thousandths, 1000 = 1.0.
    pub max_coefficient: Option<u32>,
    /// Deadline for the whole answer, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Debug records of the nodes wanted.
    pub debug: Option<bool>,
    /// The user's own name of the request.
    pub request_guid: Option<String>,
    /// Key the body is encrypted to (protocol notes 4.8). Travels on in the body as well.
    pub receiver_public_key: Option<[u8; 32]>,
    /// Acceptable kinds of trusted environment.
    pub tee: Vec<String>,
    /// Required verdicts of the attestation.
    pub verdicts: Vec<String>,
    /// Region wanted.
    pub region: Option<String>,
    /// Energy wanted.
    pub energy: Option<String>,
    /// Whether a receipt is wanted.
    pub receipt: Option<bool>,
    /// Whether nodes must keep nothing.
    pub no_retention: Option<bool>,
    /// Whether cost and worker are wanted in the body's `cocoon` member.
    pub report: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Member {
    max_coefficient: Option<u32>,
    timeout: Option<f64>,
    debug: Option<bool>,
    request_guid: Option<String>,
    tee: Option<Vec<String>>,
    verdicts: Option<Vec<String>>,
    region: Option<String>,
    energy: Option<String>,
    receipt: Option<bool>,
    no_retention: Option<bool>,
    report: Option<bool>,
}

impl BodyWishes {
    /// True for members that the network reads and the model server must not see.
    pub fn is_own(name: &str) -> bool {
        matches!(name, "max_coefficient" | "timeout" | "enable_debug" | "request_guid" | "cocoon")
    }

    /// Reads the wishes of a scanned body; `names` are its members' names.
    pub fn read(
        body: &[u8],
        object: &Object,
        names: &[Cow<'_, str>],
    ) -> Result<BodyWishes, ApiError> {
        let mut wishes = BodyWishes::default();
        let mut cocoon = None;
        for (member, name) in object.members.iter().zip(names) {
            let value = member.value_in(body);
            if member.kind == Kind::Null {
                continue;
            }
            match name.as_ref() {
                "cocoon" => cocoon = Some(value),
                "receiver_public_key" => wishes.receiver_public_key = Some(public_key(value)?),
                name if BodyWishes::is_own(name) => wishes.set_text(name, value)?,
                _ => {}
            }
        }
        if let Some(value) = cocoon {
            wishes.merge(value)?;
        }
        Ok(wishes)
    }

    /// Reads one of the reference's members from its JSON text.
    fn set_text(&mut self, name: &str, value: &[u8]) -> Result<(), ApiError> {
        match name {
            "max_coefficient" => {
                let cap = serde_json::from_slice(value).map_err(|_| coefficient_error())?;
                self.max_coefficient = Some(cap);
            }
            "timeout" => {
                let seconds = serde_json::from_slice(value).map_err(|_| timeout_error())?;
                self.timeout_ms = Some(timeout_ms(seconds)?);
            }
            "enable_debug" => self.debug = Some(flag(value)?),
            _ => {
                let guid = json::string(value).ok_or_else(|| {
                    ApiError::invalid("request_guid", "'request_guid' must be a string.")
                })?;
                self.request_guid = Some(bounded("request_guid", guid.into_owned())?);
            }
        }
        Ok(())
    }

    /// Reads a field of a form, where everything is text. Empty text counts as absent.
    pub fn set_form(&mut self, name: &str, text: &str) -> Result<(), ApiError> {
        if text.is_empty() {
            return Ok(());
        }
        match name {
            "request_guid" => self.request_guid = Some(bounded("request_guid", text.to_owned())?),
            "cocoon" => self.merge(text.as_bytes())?,
            name => self.set_text(name, text.as_bytes())?,
        }
        Ok(())
    }

    fn merge(&mut self, value: &[u8]) -> Result<(), ApiError> {
        let member: Member = serde_json::from_slice(value).map_err(|fault| {
            // serde's text names fields and types of ours, never values of the prompt.
            ApiError::invalid("cocoon", format!("'cocoon' is not understood: {fault}."))
        })?;
        let own = BodyWishes {
            max_coefficient: member.max_coefficient.or(self.max_coefficient),
            timeout_ms: match member.timeout {
                Some(seconds) => Some(timeout_ms(seconds)?),
                None => self.timeout_ms,
            },
            debug: member.debug.or(self.debug),
            request_guid: match member.request_guid {
                Some(guid) => Some(bounded("cocoon.request_guid", guid)?),
                None => self.request_guid.take(),
            },
            receiver_public_key: self.receiver_public_key,
            tee: list("cocoon.tee", member.tee)?,
            verdicts: list("cocoon.verdicts", member.verdicts)?,
            region: member.region.map(|text| bounded("cocoon.region", text)).transpose()?,
            energy: member.energy.map(|text| bounded("cocoon.energy", text)).transpose()?,
            receipt: member.receipt,
            no_retention: member.no_retention,
            report: member.report,
        };
        *self = own;
        Ok(())
    }
}

/// Seconds as a body or header gives them, checked: above 0, at most [`MAX_TIMEOUT_S`].
pub fn timeout_ms(seconds: f64) -> Result<u64, ApiError> {
    if seconds > 0.0 && seconds <= MAX_TIMEOUT_S {
        // In range, so the cast neither wraps nor loses more than a fraction of a millisecond.
        Ok(((seconds * 1000.0).round() as u64).max(1))
    } else {
        Err(timeout_error())
    }
}

fn timeout_error() -> ApiError {
    let message =
        format!("'timeout' must be a number of seconds above 0, at most {MAX_TIMEOUT_S}.");
    ApiError::invalid("timeout", message)
}

fn coefficient_error() -> ApiError {
    let message = "'max_coefficient' must be an integer in thousandths, 1000 for the base price.";
    ApiError::invalid("max_coefficient", message)
}

fn flag(value: &[u8]) -> Result<bool, ApiError> {
    match value {
        b"true" | b"1" => Ok(true),
        b"false" | b"0" => Ok(false),
        _ => Err(ApiError::invalid("enable_debug", "'enable_debug' must be a boolean.")),
    }
}

fn bounded(param: &'static str, text: String) -> Result<String, ApiError> {
    if text.len() <= MAX_TEXT_BYTES {
        return Ok(text);
    }
    Err(ApiError::invalid(param, format!("'{param}' is longer than {MAX_TEXT_BYTES} bytes.")))
}

fn list(param: &'static str, texts: Option<Vec<String>>) -> Result<Vec<String>, ApiError> {
    let texts = texts.unwrap_or_default();
    if texts.len() > MAX_LIST {
        let message = format!("'{param}' has more than {MAX_LIST} entries.");
        return Err(ApiError::invalid(param, message));
    }
    texts.into_iter().map(|text| bounded(param, text)).collect()
}

/// 32 bytes as raw text, 64 hex digits or 44 characters of base64 (protocol notes 4.8).
fn public_key(value: &[u8]) -> Result<[u8; 32], ApiError> {
    let decode = || {
        let text = json::string(value)?;
        let bytes = match text.len() {
            32 => text.as_bytes().to_vec(),
            64 => hex::decode(text.as_bytes()).ok()?,
            44 => STANDARD.decode(text.as_bytes()).ok()?,
            _ => return None,
        };
        bytes.try_into().ok()
    };
    decode().ok_or_else(|| {
        let message = "'receiver_public_key' must be 32 bytes: 64 hex digits or base64.";
        ApiError::invalid("receiver_public_key", message)
    })
}
