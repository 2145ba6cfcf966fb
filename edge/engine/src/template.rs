//! Turns a conversation into the text that the model continues.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, ValueKind};
use minijinja::{Environment, ErrorKind, Value as TemplateValue};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::openai::message::{Message, Role};
use crate::openai::tools::Tool;
use crate::tiny_gguf::CHATML_TEMPLATE;

const NAME: &str = "chat";
/// What stands around a call in the models that this engine understands (Qwen, Hermes and
/// those trained like them).
pub(crate) const CALL_OPEN: &str = "<tool_call>";
pub(crate) const CALL_CLOSE: &str = "</tool_call>";

/// Why a conversation cannot be rendered: the template refuses it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the model's chat template refuses this conversation: {0}")]
pub(crate) struct TemplateFault(pub(crate) String);

/// The chat template of a model.
#[derive(Debug)]
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    begin_text: String,
    end_text: String,
    knows_tools: bool,
    marks_calls: bool,
}

/// What to render.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conversation<'a> {
    pub(crate) messages: &'a [Message],
    pub(crate) tools: &'a [Tool],
    /// Variables of the request for the template.
    pub(crate) variables: &'a Map<String, Value>,
    /// The answer will be forced into a form, so the model shall not think first.
    pub(crate) forced: bool,
    /// The answer is a call, so its opening mark is written for the model.
    pub(crate) open_call: bool,
}

/// A rendered conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rendered {
    pub(crate) text: String,
    /// Whether the model is already thinking when it begins to write.
    pub(crate) thinking: bool,
}

impl ChatTemplate {
    /// Compiles the template of a model file, or ChatML if it has none.
    pub(crate) fn new(
        source: Option<&str>,
        begin_text: &str,
        end_text: &str,
    ) -> Result<Self, TemplateFault> {
        let source = source.unwrap_or(CHATML_TEMPLATE);
        let mut environment = Environment::new();
        // As Hugging Face renders them: these two, Python's methods, and three helpers.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|fault| TemplateFault(fault.to_string()))?);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", to_json);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment
            .add_template_owned(NAME, source.to_owned())
            .map_err(|fault| TemplateFault(fault.to_string()))?;
        let knows_tools = environment
            .get_template(NAME)
            .is_ok_and(|template| template.undeclared_variables(false).contains("tools"));
        Ok(Self {
            environment,
            begin_text: begin_text.to_owned(),
            end_text: end_text.to_owned(),
            knows_tools,
            marks_calls: !knows_tools || source.contains(CALL_OPEN),
        })
    }

    /// Whether the template itself explains tools to the model.
    pub(crate) const fn knows_tools(&self) -> bool {
        self.knows_tools
    }

    /// The text of a conversation up to the beginning of the next answer.
    pub(crate) fn render(&self, conversation: Conversation<'_>) -> Result<Rendered, TemplateFault> {
        let plain;
        let messages = if self.knows_tools {
            conversation.messages
        } else {
            plain = without_tools(conversation.messages, conversation.tools);
            &plain
        };
        let mut context = conversation.variables.clone();
        if conversation.forced {
            context.insert("enable_thinking".into(), json!(false));
        }
        let list: Vec<Value> = messages.iter().map(Message::to_json).collect();
        context.insert("messages".into(), Value::Array(list));
        if self.knows_tools && !conversation.tools.is_empty() {
            let tools: Vec<Value> =
                conversation.tools.iter().map(|tool| tool.raw.clone()).collect();
            context.insert("tools".into(), Value::Array(tools));
        }
        context.insert("add_generation_prompt".into(), json!(true));
        context.insert("bos_token".into(), json!(self.begin_text));
        context.insert("eos_token".into(), json!(self.end_text));
        let template = self
            .environment
            .get_template(NAME)
            .map_err(|fault| TemplateFault(fault.to_string()))?;
        let mut text =
            template.render(Serde(&context)).map_err(|fault| TemplateFault(reason_of(&fault)))?;
        if conversation.open_call && self.marks_calls {
            text.push_str(CALL_OPEN);
            text.push('\n');
        }
        let thinking = text.trim_end().ends_with("<think>");
        Ok(Rendered { text, thinking })
    }
}

/// The fault without its surroundings, which could quote the conversation.
fn reason_of(fault: &minijinja::Error) -> String {
    match fault.kind() {
        ErrorKind::InvalidOperation => {
            fault.detail().unwrap_or("it failed").chars().take(200).collect()
        }
        kind => kind.to_string(),
    }
}

/// The conversation for a template that knows no tools: they are explained in the system
/// message, calls become text between marks, and results become messages of the user.
fn without_tools(messages: &[Message], tools: &[Tool]) -> Vec<Message> {
    let mut plain: Vec<Message> = messages.iter().map(without_calls).collect();
    if tools.is_empty() {
        return plain;
    }
    let explanation = explain(tools);
    match plain.first_mut().filter(|first| first.role == Role::System) {
        Some(system) => system.content = format!("{}\n\n{explanation}", system.content),
        None => plain.insert(0, Message::text(Role::System, explanation)),
    }
    plain
}

/// What the model is told about tools when its template says nothing.
fn explain(tools: &[Tool]) -> String {
    let list: Vec<String> = tools.iter().map(|tool| python_json(&tool.raw)).collect();
    format!(
        "You can call functions. These are they, one JSON object a line:\n{}\n\nTo call a \
         function, write nothing but\n{CALL_OPEN}\n{{\"name\": FUNCTION, \"arguments\": \
         OBJECT}}\n{CALL_CLOSE}\nIf no function helps, answer in plain words.",
        list.join("\n")
    )
}

fn without_calls(message: &Message) -> Message {
    let mut content = message.content.clone();
    for call in &message.tool_calls {
        let call = json!({"name": call.name, "arguments": call.arguments});
        if !content.is_empty() {
            content.push('\n');
        }
        content.push_str(&format!("{CALL_OPEN}\n{}\n{CALL_CLOSE}", python_json(&call)));
    }
    if message.role == Role::Tool {
        let content = format!("<tool_response>\n{content}\n</tool_response>");
        return Message::text(Role::User, content);
    }
    Message::text(message.role, content)
}

/// JSON as Python's `json.dumps` writes it, which models have seen most.
fn python_json(value: &impl Serialize) -> String {
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, PythonFormatter);
    match value.serialize(&mut serializer) {
        Ok(()) => String::from_utf8(bytes).unwrap_or_default(),
        Err(_) => "null".to_owned(),
    }
}

struct PythonFormatter;

impl serde_json::ser::Formatter for PythonFormatter {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
    ) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

/// The filter `tojson`. Jinja's own writes HTML entities, which Hugging Face turns off.
#[allow(clippy::needless_pass_by_value)] // the shape that minijinja calls
fn to_json(value: TemplateValue, options: Kwargs) -> Result<TemplateValue, minijinja::Error> {
    let indent = options.get::<Option<usize>>("indent").ok().flatten();
    // `ensure_ascii`, `separators` and `sort_keys` are accepted and change nothing.
    let _ = (
        options.get::<Option<TemplateValue>>("ensure_ascii"),
        options.get::<Option<TemplateValue>>("separators"),
        options.get::<Option<TemplateValue>>("sort_keys"),
    );
    let text = match indent {
        None => python_json(&value),
        Some(width) => {
            let indent = " ".repeat(width.min(16));
            let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
            let mut bytes = Vec::new();
            let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
            value.serialize(&mut serializer).map_err(|fault| {
                minijinja::Error::new(ErrorKind::BadSerialization, fault.to_string())
            })?;
            String::from_utf8(bytes).unwrap_or_default()
        }
    };
    Ok(TemplateValue::from_safe_string(text))
}

#[allow(clippy::needless_pass_by_value)] // the shape that minijinja calls
fn raise_exception(message: TemplateValue) -> Result<TemplateValue, minijinja::Error> {
    let text = match message.kind() {
        ValueKind::String => message.to_string(),
        _ => "it raised an exception".to_owned(),
    };
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, text))
}

/// Some templates write today's date. The same conversation must give the same tokens, so
/// they are told an empty one.
fn strftime_now(_format: &str) -> String {
    String::new()
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
