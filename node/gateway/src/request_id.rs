//! Ids of requests: taken from the user when they are harmless, made otherwise.

use http::{HeaderMap, HeaderValue};

/// Longest id that is taken from a user.
const MAX_BYTES: usize = 128;

/// The id of one request, as in `x-request-id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestId(String);

impl RequestId {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn to_header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).unwrap_or(HeaderValue::from_static("req"))
    }
}

/// The id of a request: the user's `x-request-id` when it is short visible ASCII.
pub(crate) fn of(headers: &HeaderMap) -> RequestId {
    let given = headers.get("x-request-id").map(HeaderValue::as_bytes).unwrap_or_default();
    let harmless = (1..=MAX_BYTES).contains(&given.len()) && given.iter().all(u8::is_ascii_graphic);
    if let (true, Ok(text)) = (harmless, std::str::from_utf8(given)) {
        return RequestId(text.to_owned());
    }
    RequestId(format!("req_{:032x}", rand::random::<u128>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harmless_ids_are_kept_and_others_replaced() {
        let id_of = |text: &'static [u8]| {
            let mut headers = HeaderMap::new();
            headers.insert("x-request-id", HeaderValue::from_bytes(text).unwrap());
            of(&headers).as_str().to_owned()
        };
        assert_eq!(id_of(b"my-id/7"), "my-id/7");
        assert!(id_of(b"two words").starts_with("req_"));
        assert!(id_of(b"\xfcml").starts_with("req_"));
        assert_eq!(of(&HeaderMap::new()).as_str().len(), 36);
        assert_ne!(of(&HeaderMap::new()), of(&HeaderMap::new()));
    }
}
