//! Reads members of a JSON object with errors that name the member and what it may be.

use serde_json::{Map, Value};

use crate::openai::error::ApiError;

/// A JSON object of a request. Members that are null count as absent.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    map: &'a Map<String, Value>,
    /// Where the object stands, such as `messages[2].`; empty for the body itself.
    path: &'a str,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(map: &'a Map<String, Value>, path: &'a str) -> Self {
        Self { map, path }
    }

    /// The full name of a member.
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// An error about a member.
    pub(crate) fn refuse(&self, name: &str, wanted: &str) -> ApiError {
        let name = self.name(name);
        ApiError::invalid(name.clone(), format!("'{name}' must be {wanted}."))
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<&'a str>, ApiError> {
        self.typed(name, Value::as_str, "a string")
    }

    pub(crate) fn boolean(&self, name: &str) -> Result<Option<bool>, ApiError> {
        self.typed(name, Value::as_bool, "true or false")
    }

    pub(crate) fn array(&self, name: &str) -> Result<Option<&'a [Value]>, ApiError> {
        self.typed(name, |value| value.as_array().map(Vec::as_slice), "an array")
    }

    pub(crate) fn object(&self, name: &str) -> Result<Option<&'a Map<String, Value>>, ApiError> {
        self.typed(name, Value::as_object, "an object")
    }

    /// A whole number in `min..=max`.
    pub(crate) fn integer(&self, name: &str, min: i64, max: i64) -> Result<Option<i64>, ApiError> {
        let in_range = |value: &Value| {
            // 5.0 is a whole number too; some clients write it so.
            #[allow(clippy::cast_possible_truncation)] // checked to be whole and small
            let whole = value.as_i64().or_else(|| {
                value.as_f64().filter(|f| f.fract() == 0.0 && f.abs() < 1e15).map(|f| f as i64)
            });
            whole.filter(|number| (min..=max).contains(number))
        };
        self.typed(name, in_range, &format!("a whole number from {min} to {max}"))
    }

    /// A number in `min..=max`.
    pub(crate) fn number(&self, name: &str, min: f32, max: f32) -> Result<Option<f32>, ApiError> {
        let in_range = |value: &Value| {
            #[allow(clippy::cast_possible_truncation)] // the rounding is wanted
            let number = value.as_f64().map(|number| number as f32);
            number.filter(|number| (min..=max).contains(number))
        };
        self.typed(name, in_range, &format!("a number from {min} to {max}"))
    }

    /// A string that is there and not empty.
    pub(crate) fn required_text(&self, name: &str) -> Result<&'a str, ApiError> {
        match self.text(name)? {
            Some(text) if !text.is_empty() => Ok(text),
            _ => Err(self.refuse(name, "given, as a string that is not empty")),
        }
    }

    fn typed<T>(
        &self,
        name: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
        wanted: &str,
    ) -> Result<Option<T>, ApiError> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| self.refuse(name, wanted)),
        }
    }
}

/// The body as a JSON object.
pub(crate) fn parse_body(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(ApiError::malformed("The body must be a JSON object.")),
        // The place helps, the text around it might be a prompt.
        Err(fault) => Err(ApiError::malformed(format!(
            "The body is no JSON: it breaks at line {}, column {}.",
            fault.line(),
            fault.column()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn members_are_read_or_refused_by_name() {
        let value = json!({"a": 1.5, "b": "x", "c": null, "d": 7.0, "e": [1], "f": true});
        let fields = Fields::new(value.as_object().unwrap(), "outer.");
        assert_eq!(fields.number("a", 0.0, 2.0).unwrap(), Some(1.5));
        assert_eq!(fields.number("c", 0.0, 2.0).unwrap(), None);
        assert_eq!(fields.integer("d", 0, 9).unwrap(), Some(7));
        assert_eq!(fields.boolean("f").unwrap(), Some(true));
        assert_eq!(fields.array("e").unwrap().unwrap().len(), 1);
        for fault in [
            fields.number("a", 0.0, 1.0).unwrap_err(),
            fields.integer("a", 0, 9).unwrap_err(),
            fields.text("a").unwrap_err(),
            fields.boolean("a").unwrap_err(),
            fields.object("a").unwrap_err(),
        ] {
            assert_eq!(fault.body()["error"]["param"], "outer.a");
        }
        assert!(fields.required_text("missing").is_err());
    }

    proptest! {
        #[test]
        fn any_body_is_an_object_or_a_400(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Err(fault) = parse_body(&body) {
                prop_assert_eq!(fault.status, 400);
            }
        }
    }

    #[test]
    fn deep_nesting_is_refused_without_overflow() {
        let deep = "[".repeat(100_000);
        assert_eq!(parse_body(format!("{{\"a\":{deep}").as_bytes()).unwrap_err().status, 400);
    }
}
