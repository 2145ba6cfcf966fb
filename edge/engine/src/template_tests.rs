//! Rendering with templates of the common kinds.

use super::*;
use crate::openai::fields::Fields;
use crate::openai::message::read_messages;
use crate::openai::tools::read_toolbox;
use crate::tiny_gguf::CHATML_TOOLS_TEMPLATE;

fn messages(value: Value) -> Vec<Message> {
    let body = json!({"messages": value});
    read_messages(&Fields::new(body.as_object().unwrap(), "")).unwrap()
}

fn tools() -> Vec<Tool> {
    let body = json!({"tools": [{"type": "function", "function": {
        "name": "get_time", "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}}
    }}]});
    read_toolbox(&Fields::new(body.as_object().unwrap(), "")).unwrap().tools
}

fn render(template: &str, messages: &[Message], tools: &[Tool]) -> Result<Rendered, TemplateFault> {
    ChatTemplate::new(Some(template), "<s>", "</s>")?.render(Conversation {
        messages,
        tools,
        variables: &Map::new(),
        forced: false,
        open_call: false,
    })
}

#[test]
fn chatml_is_the_default() {
    let list = messages(json!([
        {"role": "system", "content": "short"},
        {"role": "user", "content": "hi <&>'\""}
    ]));
    let expected = "<|im_start|>system\nshort<|im_end|>\n<|im_start|>user\nhi <&>'\"<|im_end|>\n\
                    <|im_start|>assistant\n";
    assert_eq!(render(CHATML_TEMPLATE, &list, &[]).unwrap().text, expected);
    let default = ChatTemplate::new(None, "", "").unwrap();
    assert!(!default.knows_tools());
}

#[test]
fn a_template_without_tools_gets_them_explained() {
    let list = messages(json!([
        {"role": "system", "content": "short"},
        {"role": "user", "content": "time?"},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "get_time", "arguments": "{\"zone\":\"utc\"}"}}
        ]},
        {"role": "tool", "tool_call_id": "1", "content": "noon"}
    ]));
    let text = render(CHATML_TEMPLATE, &list, &tools()).unwrap().text;
    assert!(text.starts_with("<|im_start|>system\nshort\n\nYou can call functions."), "{text}");
    assert!(text.contains(r#"{"name": "get_time", "arguments": {"zone": "utc"}}"#), "{text}");
    assert!(text.contains("<|im_start|>user\n<tool_response>\nnoon\n</tool_response>"), "{text}");
    let without_system = messages(json!([{"role": "user", "content": "time?"}]));
    let text = render(CHATML_TEMPLATE, &without_system, &tools()).unwrap().text;
    assert!(text.starts_with("<|im_start|>system\nYou can call functions."), "{text}");
}

#[test]
fn a_template_with_tools_gets_them_as_they_came() {
    let template = ChatTemplate::new(Some(CHATML_TOOLS_TEMPLATE), "", "").unwrap();
    assert!(template.knows_tools());
    let list = messages(json!([{"role": "user", "content": "time?"}]));
    let tools = tools();
    let conversation = Conversation {
        messages: &list,
        tools: &tools,
        variables: &Map::new(),
        forced: true,
        open_call: true,
    };
    let text = template.render(conversation).unwrap().text;
    assert!(text.contains(r#""name": "get_time""#), "{text}");
    assert!(text.ends_with("<|im_start|>assistant\n<tool_call>\n"), "{text}");
    assert!(!text.contains("You can call"), "{text}");
}

#[test]
fn pythons_methods_variables_and_exceptions_work() {
    let list = messages(json!([{"role": "user", "content": " x "}]));
    let text = "{{ bos_token }}{% for m in messages %}{{ m.content.strip() }}{{ m['role'].upper() }}\
                {% if m.content is string and not m.get('name') %}!{% endif %}{% endfor %}";
    assert_eq!(render(text, &list, &[]).unwrap().text, "<s>xUSER!");
    let fault = render("{{ raise_exception('roles must alternate') }}", &list, &[]).unwrap_err();
    assert!(fault.to_string().ends_with("roles must alternate"), "{fault}");
    assert!(render("{% for %}", &list, &[]).is_err());
    assert!(render("{{ messages[0].content.nonsense() }}", &list, &[]).is_err());
    let thinking = "{% if enable_thinking %}<think>\n{% endif %}";
    let variables = json!({"enable_thinking": true}).as_object().unwrap().clone();
    let template = ChatTemplate::new(Some(thinking), "", "").unwrap();
    let conversation = Conversation {
        messages: &list,
        tools: &[],
        variables: &variables,
        forced: false,
        open_call: false,
    };
    assert!(template.render(conversation).unwrap().thinking);
    let forced = Conversation { forced: true, ..conversation };
    assert_eq!(template.render(forced).unwrap(), Rendered { text: String::new(), thinking: false });
}

#[test]
fn json_is_written_as_python_writes_it() {
    let list = messages(json!([{"role": "user", "content": "x"}]));
    let text = "{{ {'a': [1, 'é<'], 'b': none} | tojson }}|{{ [1] | tojson(indent=2) }}";
    let rendered = render(text, &list, &[]).unwrap().text;
    assert_eq!(rendered, "{\"a\": [1, \"é<\"], \"b\": null}|[\n  1\n]");
}
