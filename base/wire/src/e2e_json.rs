//! End-to-end encryption of a JSON request or answer (protocol notes 4.8).
//!
//! A client seals a request and opens answers; a worker opens the request with the private
//! key it was handed and seals each JSON value of the answer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cocoon_units::PublicKey;
use serde_json::{Map, Value};
use subtle::ConstantTimeEq as _;

use crate::E2eFault;
use crate::e2e::{CLEAR_FIELDS, Direction, DirectionSecret, Random, parse_public_key, public_key};
use crate::tl::SecretKey;

/// Value of `is_encrypted` that is written. Readers accept any text there.
const VERSION: &str = "v1";
const IS_ENCRYPTED: &str = "is_encrypted";
const SENDER: &str = "sender_public_key";
const RECEIVER: &str = "receiver_public_key";
const NONCE: &str = "encryption_nonce";

/// The four fields that mark an encrypted object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Who encrypted.
    pub sender: PublicKey,
    /// Who can decrypt.
    pub receiver: PublicKey,
    /// Text of the nonce field, which takes part in the key as it is written.
    pub nonce: String,
}

impl Envelope {
    /// Reads the fields: `None` when there are none of them.
    ///
    /// # Errors
    /// [`E2eFault::MissingFields`] when only some are there, [`E2eFault::PublicKey`] when a
    /// key is none.
    pub fn of(value: &Value) -> Result<Option<Self>, E2eFault> {
        let Value::Object(object) = value else { return Ok(None) };
        let names = [IS_ENCRYPTED, SENDER, RECEIVER, NONCE];
        if names.iter().all(|name| !object.contains_key(*name)) {
            return Ok(None);
        }
        let text =
            |name: &str| object.get(name).and_then(Value::as_str).ok_or(E2eFault::MissingFields);
        text(IS_ENCRYPTED)?;
        Ok(Some(Self {
            sender: parse_public_key(text(SENDER)?)?,
            receiver: parse_public_key(text(RECEIVER)?)?,
            nonce: text(NONCE)?.to_owned(),
        }))
    }

    /// Writes the fields into an object.
    fn put_into(&self, object: &mut Map<String, Value>) {
        let fields = [
            (IS_ENCRYPTED, VERSION.to_owned()),
            (SENDER, self.sender.to_string()),
            (RECEIVER, self.receiver.to_string()),
            (NONCE, self.nonce.clone()),
        ];
        for (name, text) in fields {
            object.insert(name.to_owned(), Value::String(text));
        }
    }
}

/// What a worker needs to seal the answer of a request it opened.
#[derive(Clone, Debug)]
pub struct AnswerKey {
    own: SecretKey,
    client: PublicKey,
}

/// Encrypts a request in place to `receiver`, a key of the root contract. `own` is a seed
/// made for this request or this client; it is needed again to open the answer.
///
/// # Errors
/// [`E2eFault::NotAnObject`] for anything but an object, [`E2eFault::PublicKey`] for a
/// useless key; the value is then unchanged.
pub fn seal_request(
    value: &mut Value,
    own: &SecretKey,
    receiver: PublicKey,
    random: &mut Random<'_>,
) -> Result<(), E2eFault> {
    seal(value, own, receiver, Direction::ToWorker, random)
}

/// Decrypts a request in place with the private key that came with it, and gives what is
/// needed for the answer. `Ok(None)` is a request that was not encrypted.
///
/// The four fields stay in the object, as the reference leaves them.
///
/// # Errors
/// [`E2eFault`] with the text and code of the reference; answer the request with it.
pub fn open_request(
    value: &mut Value,
    private: Option<&SecretKey>,
) -> Result<Option<AnswerKey>, E2eFault> {
    let private = private.filter(|key| !bool::from(key.expose().ct_eq(&[0; 32])));
    let (envelope, private) = match (Envelope::of(value)?, private) {
        (None, None) => return Ok(None),
        (None, Some(_)) => return Err(E2eFault::Unencrypted),
        (Some(_), None) => return Err(E2eFault::NoPrivateKey),
        (Some(envelope), Some(private)) => (envelope, private),
    };
    if envelope.receiver != public_key(private) {
        return Err(E2eFault::OtherKey);
    }
    let secret =
        DirectionSecret::derive(private, &envelope.sender, &envelope.nonce, Direction::ToWorker)?;
    each_text(value, &mut |text| {
        *text = secret.decrypt_text(text)?;
        Ok(())
    })?;
    Ok(Some(AnswerKey { own: private.clone(), client: envelope.sender }))
}

/// Encrypts one JSON value of an answer in place.
///
/// # Errors
/// [`E2eFault::NotAnObject`] for anything but an object.
pub fn seal_answer(
    value: &mut Value,
    key: &AnswerKey,
    random: &mut Random<'_>,
) -> Result<(), E2eFault> {
    seal(value, &key.own, key.client, Direction::ToClient, random)
}

/// Decrypts one JSON value of an answer in place with the seed that sealed the request, and
/// removes the four fields. `Ok(false)` is a value that was not encrypted, such as an error.
///
/// # Errors
/// [`E2eFault`]: the answer is not for this seed, not from `worker` or was changed.
pub fn open_answer(
    value: &mut Value,
    own: &SecretKey,
    worker: &PublicKey,
) -> Result<bool, E2eFault> {
    let Some(envelope) = Envelope::of(value)? else { return Ok(false) };
    if envelope.receiver != public_key(own) || envelope.sender != *worker {
        return Err(E2eFault::OtherKey);
    }
    let secret =
        DirectionSecret::derive(own, &envelope.sender, &envelope.nonce, Direction::ToClient)?;
    each_text(value, &mut |text| {
        *text = secret.decrypt_text(text)?;
        Ok(())
    })?;
    if let Value::Object(object) = value {
        for name in [IS_ENCRYPTED, SENDER, RECEIVER, NONCE] {
            object.remove(name);
        }
    }
    Ok(true)
}

/// Encrypts the texts and adds the fields.
fn seal(
    value: &mut Value,
    own: &SecretKey,
    receiver: PublicKey,
    direction: Direction,
    random: &mut Random<'_>,
) -> Result<(), E2eFault> {
    if !value.is_object() {
        return Err(E2eFault::NotAnObject);
    }
    let mut nonce = [0; 32];
    random(&mut nonce);
    let envelope = Envelope { sender: public_key(own), receiver, nonce: STANDARD.encode(nonce) };
    let secret = DirectionSecret::derive(own, &receiver, &envelope.nonce, direction)?;
    each_text(value, &mut |text| {
        *text = secret.encrypt_text(text, random);
        Ok(())
    })?;
    if let Value::Object(object) = value {
        envelope.put_into(object);
    }
    Ok(())
}

/// Visits every string that is encrypted: at any depth, also in lists, but not keys and not
/// what lies under one of [`CLEAR_FIELDS`]. Depth is bounded by the JSON reader.
fn each_text(
    value: &mut Value,
    visit: &mut dyn FnMut(&mut String) -> Result<(), E2eFault>,
) -> Result<(), E2eFault> {
    match value {
        Value::String(text) => visit(text),
        Value::Array(elements) => {
            elements.iter_mut().try_for_each(|element| each_text(element, visit))
        }
        Value::Object(object) => object
            .iter_mut()
            .filter(|(name, _)| !CLEAR_FIELDS.contains(&name.as_str()))
            .try_for_each(|(_, field)| each_text(field, visit)),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}
