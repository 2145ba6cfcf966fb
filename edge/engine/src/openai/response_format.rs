//! `response_format`: free text, any JSON object, or JSON of a schema.

use serde_json::{Map, Value, json};

use crate::openai::error::ApiError;
use crate::openai::fields::Fields;

/// The form that an answer must have.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ResponseFormat {
    Text,
    Json {
        schema: Map<String, Value>,
        /// Whether a keyword that cannot be enforced is an error. OpenAI's `strict`.
        strict: bool,
    },
}

/// Reads `response_format`.
pub(crate) fn read_response_format(fields: &Fields<'_>) -> Result<ResponseFormat, ApiError> {
    let Some(format) = fields.object("response_format")? else { return Ok(ResponseFormat::Text) };
    let fields = Fields::new(format, "response_format.");
    match fields.text("type")? {
        Some("text") => Ok(ResponseFormat::Text),
        Some("json_object") => {
            let any = json!({"type": "object"}).as_object().cloned().unwrap_or_default();
            // llama.cpp's server takes a schema here, too.
            let schema = fields.object("schema")?.cloned().unwrap_or(any);
            Ok(ResponseFormat::Json { schema, strict: false })
        }
        Some("json_schema") => {
            let wanted = "given, as an object with 'name' and 'schema'";
            let inner = fields
                .object("json_schema")?
                .ok_or_else(|| fields.refuse("json_schema", wanted))?;
            let inner = Fields::new(inner, "response_format.json_schema.");
            let schema = inner
                .object("schema")?
                .ok_or_else(|| inner.refuse("schema", "given, as a JSON schema"))?;
            let strict = inner.boolean("strict")?.unwrap_or(false);
            Ok(ResponseFormat::Json { schema: schema.clone(), strict })
        }
        _ => Err(fields.refuse("type", "'text', 'json_object' or 'json_schema'")),
    }
}

/// Adds `"additionalProperties": false` to objects that list their properties and say
/// nothing about others.
///
/// What the narrower schema admits, the wider one admits too; but a small model that may
/// invent members does nothing else. A schema with `allOf` is left alone: there the members
/// of one part are additional for the other.
pub(crate) fn narrowed(schema: &Map<String, Value>) -> Map<String, Value> {
    let mut value = Value::Object(schema.clone());
    if !value.to_string().contains("\"allOf\"") {
        narrow(&mut value);
    }
    value.as_object().cloned().unwrap_or_default()
}

fn narrow(value: &mut Value) {
    match value {
        Value::Object(map) => {
            let lists_members = map.get("properties").is_some_and(Value::is_object)
                && map.get("type").is_some_and(|kind| kind == "object");
            let open =
                ["additionalProperties", "patternProperties", "anyOf", "oneOf", "$ref", "if"]
                    .iter()
                    .all(|key| !map.contains_key(*key));
            if lists_members && open {
                map.insert("additionalProperties".into(), Value::Bool(false));
            }
            for (key, inner) in map.iter_mut() {
                if !matches!(key.as_str(), "const" | "enum" | "default" | "examples") {
                    narrow(inner);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(narrow),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(format: Value) -> Result<ResponseFormat, ApiError> {
        let value = json!({"response_format": format});
        read_response_format(&Fields::new(value.as_object().unwrap(), ""))
    }

    #[test]
    fn the_three_forms_are_read() {
        assert_eq!(read(json!({"type": "text"})).unwrap(), ResponseFormat::Text);
        assert_eq!(read(Value::Null).unwrap(), ResponseFormat::Text);
        let ResponseFormat::Json { schema, strict } = read(json!({"type": "json_object"})).unwrap()
        else {
            panic!("a JSON form")
        };
        assert_eq!((schema["type"].as_str(), strict), (Some("object"), false));
        let named = json!({"type": "json_schema", "json_schema": {
            "name": "x", "strict": true, "schema": {"type": "array"}
        }});
        assert!(matches!(read(named).unwrap(), ResponseFormat::Json { strict: true, .. }));
        for wrong in [json!({"type": "xml"}), json!({"type": "json_schema"}), json!({})] {
            assert_eq!(read(wrong).unwrap_err().status, 400);
        }
    }

    #[test]
    fn only_silent_objects_are_narrowed() {
        let schema = json!({"type": "object", "properties": {
            "a": {"type": "object", "properties": {"b": {"type": "string"}}},
            "c": {"type": "object", "properties": {}, "additionalProperties": true},
            "d": {"const": {"type": "object", "properties": {}}}
        }});
        let narrow = Value::Object(narrowed(schema.as_object().unwrap()));
        assert_eq!(narrow["additionalProperties"], false);
        assert_eq!(narrow["properties"]["a"]["additionalProperties"], false);
        assert_eq!(narrow["properties"]["c"]["additionalProperties"], true);
        assert_eq!(narrow["properties"]["d"], schema["properties"]["d"]);
        let composed = json!({"allOf": [schema]});
        assert_eq!(&narrowed(composed.as_object().unwrap()), composed.as_object().unwrap());
    }
}
