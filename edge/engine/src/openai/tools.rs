//! Functions that the model may call, and the schema that makes it call them.

use serde_json::{Map, Value, json};

use crate::openai::error::ApiError;
use crate::openai::fields::Fields;

/// OpenAI's limit for tools in one request.
const TOOLS_MAX: usize = 128;
/// Most calls that one forced answer may hold.
const CALLS_MAX: usize = 16;

/// One function.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tool {
    pub(crate) name: String,
    /// The JSON schema of the arguments.
    parameters: Map<String, Value>,
    /// As the client sent it, for the template.
    pub(crate) raw: Value,
}

/// Which functions must or may be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ToolChoice {
    None,
    Auto,
    Required,
    Named(String),
}

/// The functions of a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Toolbox {
    pub(crate) tools: Vec<Tool>,
    pub(crate) choice: ToolChoice,
    /// Whether a forced answer is a list of calls. Only when the client says so: one call is
    /// always right, and small models do better with one.
    pub(crate) several: bool,
}

/// OpenAI's rule for names, and the dot that others allow.
pub(crate) fn is_function_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

/// Reads `tools`, `tool_choice` and `parallel_tool_calls`.
pub(crate) fn read_toolbox(fields: &Fields<'_>) -> Result<Toolbox, ApiError> {
    if fields.get("functions").is_some() || fields.get("function_call").is_some() {
        let message = "'functions' and 'function_call' were replaced by 'tools' and 'tool_choice'.";
        return Err(ApiError::invalid("functions", message));
    }
    let list = fields.array("tools")?.unwrap_or_default();
    if list.len() > TOOLS_MAX {
        return Err(fields.refuse("tools", &format!("an array of at most {TOOLS_MAX} functions")));
    }
    let tools = list
        .iter()
        .enumerate()
        .map(|(index, value)| read_tool(index, value))
        .collect::<Result<Vec<_>, _>>()?;
    let choice = read_choice(fields, &tools)?;
    let several =
        fields.boolean("parallel_tool_calls")?.unwrap_or(false) && choice == ToolChoice::Required;
    Ok(Toolbox { tools, choice, several })
}

fn read_tool(index: usize, value: &Value) -> Result<Tool, ApiError> {
    let path = format!("tools[{index}].");
    let Some(map) = value.as_object() else {
        let name = path.trim_end_matches('.');
        return Err(ApiError::invalid(name, format!("'{name}' must be an object.")));
    };
    let fields = Fields::new(map, &path);
    if fields.text("type")? != Some("function") {
        return Err(fields.refuse("type", "'function'; this server has no tools of its own"));
    }
    let function = fields
        .object("function")?
        .ok_or_else(|| fields.refuse("function", "given, as an object with a 'name'"))?;
    let path = format!("{path}function.");
    let fields = Fields::new(function, &path);
    let name = fields.required_text("name")?;
    if !is_function_name(name) {
        let wanted = "1 to 64 letters, digits, underscores, dashes or dots";
        return Err(fields.refuse("name", wanted));
    }
    let parameters = match fields.object("parameters")? {
        Some(parameters) if !parameters.is_empty() => parameters.clone(),
        // OpenAI: "Omitting parameters defines a function with an empty parameter list."
        _ => [
            ("type".to_owned(), json!("object")),
            ("properties".to_owned(), json!({})),
            ("additionalProperties".to_owned(), json!(false)),
        ]
        .into_iter()
        .collect(),
    };
    Ok(Tool { name: name.to_owned(), parameters, raw: value.clone() })
}

fn read_choice(fields: &Fields<'_>, tools: &[Tool]) -> Result<ToolChoice, ApiError> {
    let default = if tools.is_empty() { ToolChoice::None } else { ToolChoice::Auto };
    let wanted =
        "'none', 'auto', 'required' or {\"type\": \"function\", \"function\": {\"name\": …}}";
    let Some(value) = fields.get("tool_choice") else { return Ok(default) };
    let choice = match value {
        Value::String(text) => match text.as_str() {
            "none" => ToolChoice::None,
            "auto" => default,
            "required" => ToolChoice::Required,
            _ => return Err(fields.refuse("tool_choice", wanted)),
        },
        _ => match value.pointer("/function/name").and_then(Value::as_str) {
            Some(name) => ToolChoice::Named(name.to_owned()),
            None => return Err(fields.refuse("tool_choice", wanted)),
        },
    };
    let known = match &choice {
        ToolChoice::Named(name) => tools.iter().any(|tool| tool.name == *name),
        ToolChoice::Required => !tools.is_empty(),
        ToolChoice::None | ToolChoice::Auto => true,
    };
    if known {
        Ok(choice)
    } else {
        Err(fields.refuse("tool_choice", "about a function that stands in 'tools'"))
    }
}

impl Toolbox {
    /// The tools that the model is told about.
    pub(crate) fn offered(&self) -> &[Tool] {
        if self.choice == ToolChoice::None { &[] } else { &self.tools }
    }

    /// The schema of the answer if a call is forced: `{name, arguments}` for one of the
    /// functions, or a list of such.
    pub(crate) fn forced_schema(&self) -> Option<Map<String, Value>> {
        let allowed: Vec<&Tool> = match &self.choice {
            ToolChoice::None | ToolChoice::Auto => return None,
            ToolChoice::Required => self.tools.iter().collect(),
            ToolChoice::Named(name) => {
                self.tools.iter().filter(|tool| tool.name == *name).collect()
            }
        };
        let mut definitions = Map::new();
        let calls: Vec<Value> = allowed
            .iter()
            .enumerate()
            .map(|(index, tool)| call_schema(index, tool, &mut definitions))
            .collect();
        let one = match <[Value; 1]>::try_from(calls) {
            Ok([only]) => only,
            Err(calls) => json!({"anyOf": calls}),
        };
        let mut schema = if self.several {
            json!({"type": "array", "items": one, "minItems": 1, "maxItems": CALLS_MAX})
        } else {
            one
        };
        if !definitions.is_empty() {
            schema["$defs"] = Value::Object(definitions);
        }
        schema.as_object().cloned()
    }
}

/// The schema of one call. References inside the parameters are relative to them, so the
/// parameters' own definitions move to the root under a name of their own.
fn call_schema(index: usize, tool: &Tool, definitions: &mut Map<String, Value>) -> Value {
    let mut parameters = Value::Object(tool.parameters.clone());
    let uses_references = parameters.to_string().contains("\"$ref\"");
    if uses_references {
        let name = format!("parameters{index}");
        rebase_references(&mut parameters, &format!("#/$defs/{name}"));
        definitions.insert(name.clone(), parameters);
        parameters = json!({"$ref": format!("#/$defs/{name}")});
    }
    json!({
        "type": "object",
        "properties": {"name": {"const": tool.name}, "arguments": parameters},
        "required": ["name", "arguments"],
        "additionalProperties": false,
    })
}

fn rebase_references(value: &mut Value, base: &str) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map.iter_mut() {
                match inner {
                    Value::String(target) if key == "$ref" && target.starts_with('#') => {
                        *target = format!("{base}{}", &target[1..]);
                    }
                    _ => rebase_references(inner, base),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|inner| rebase_references(inner, base)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: Value) -> Result<Toolbox, ApiError> {
        read_toolbox(&Fields::new(value.as_object().unwrap(), ""))
    }

    fn tool(name: &str) -> Value {
        json!({"type": "function", "function": {"name": name, "parameters": {
            "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]
        }}})
    }

    #[test]
    fn choices_are_read_and_default_to_auto() {
        assert_eq!(read(json!({})).unwrap().choice, ToolChoice::None);
        let tools = json!([tool("f"), tool("g")]);
        assert_eq!(read(json!({"tools": tools})).unwrap().choice, ToolChoice::Auto);
        let named = json!({"type": "function", "function": {"name": "g"}});
        let toolbox = read(json!({"tools": tools, "tool_choice": named})).unwrap();
        assert_eq!(toolbox.choice, ToolChoice::Named("g".into()));
        let schema = toolbox.forced_schema().unwrap();
        assert_eq!(schema["properties"]["name"]["const"], "g");
        let none = read(json!({"tools": tools, "tool_choice": "none"})).unwrap();
        assert!(none.offered().is_empty() && none.forced_schema().is_none());
        let several = json!({
            "tools": tools, "tool_choice": "required", "parallel_tool_calls": true
        });
        let schema = read(several).unwrap().forced_schema().unwrap();
        assert_eq!(schema["type"], "array");
        assert_eq!(schema["items"]["anyOf"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn references_of_parameters_still_lead_to_their_target() {
        let recursive = json!({"type": "function", "function": {"name": "f", "parameters": {
            "type": "object", "properties": {"next": {"$ref": "#"}, "leaf": {"$ref": "#/$defs/l"}},
            "$defs": {"l": {"type": "string"}}
        }}});
        let toolbox = read(json!({"tools": [recursive], "tool_choice": "required"})).unwrap();
        let schema = Value::Object(toolbox.forced_schema().unwrap());
        let reference =
            schema.pointer("/$defs/parameters0/properties/leaf/$ref").unwrap().as_str().unwrap();
        assert_eq!(schema.pointer(&reference[1..]).unwrap()["type"], "string");
    }

    #[test]
    fn each_wrong_tool_is_named() {
        for (param, value) in [
            ("tools", json!({"tools": 1})),
            ("tools[0]", json!({"tools": [1]})),
            ("tools[0].type", json!({"tools": [{"type": "web_search"}]})),
            ("tools[0].function", json!({"tools": [{"type": "function"}]})),
            (
                "tools[0].function.name",
                json!({"tools": [{"type": "function", "function": {"name": "a b"}}]}),
            ),
            ("tool_choice", json!({"tools": [tool("f")], "tool_choice": "sometimes"})),
            ("tool_choice", json!({"tool_choice": "required"})),
            (
                "tool_choice",
                json!({"tools": [tool("f")], "tool_choice": {"function": {"name": "g"}}}),
            ),
            ("functions", json!({"functions": []})),
        ] {
            let fault = read(value).unwrap_err();
            assert_eq!((fault.status, &fault.body()["error"]["param"]), (400, &json!(param)));
        }
    }
}
