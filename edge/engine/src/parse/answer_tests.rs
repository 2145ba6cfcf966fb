//! Answers cut at every place give the same parts.

use super::*;
use proptest::prelude::*;

fn free(functions: &[&str], thinking: bool) -> Expected {
    let functions = functions.iter().map(|name| (*name).to_owned()).collect();
    Expected::Free { functions, thinking }
}

/// All parts of an answer that comes in these chunks; neighbours of one kind are joined.
fn parse(expected: Expected, chunks: &[&str]) -> Vec<Piece> {
    let mut parser = AnswerParser::new(expected);
    let mut pieces: Vec<Piece> = chunks.iter().flat_map(|chunk| parser.push(chunk)).collect();
    pieces.extend(parser.finish());
    let mut joined: Vec<Piece> = Vec::new();
    for piece in pieces {
        match (joined.last_mut(), piece) {
            (Some(Piece::Content(a)), Piece::Content(b))
            | (Some(Piece::Reasoning(a)), Piece::Reasoning(b)) => a.push_str(&b),
            (
                Some(Piece::CallArguments { index: i, text: a }),
                Piece::CallArguments { index: j, text: b },
            ) if *i == j => a.push_str(&b),
            (_, piece) => joined.push(piece),
        }
    }
    joined
}

fn content(text: &str) -> Piece {
    Piece::Content(text.to_owned())
}

fn reasoning(text: &str) -> Piece {
    Piece::Reasoning(text.to_owned())
}

fn call(index: u32, name: &str, arguments: &str) -> [Piece; 2] {
    [
        Piece::CallBegins { index, name: name.to_owned() },
        Piece::CallArguments { index, text: arguments.to_owned() },
    ]
}

#[test]
fn plain_text_goes_through_unchanged() {
    assert_eq!(parse(free(&[], false), &[" hello ", "world\n"]), [content(" hello world\n")]);
    assert_eq!(parse(free(&["f"], false), &["a <tool", "s>"]), [content("a <tools>")]);
    assert_eq!(parse(free(&[], false), &["<tool_call>"]), [content("<tool_call>")]);
    assert_eq!(parse(free(&["f"], false), &["\n "]), [content("\n ")]);
}

#[test]
fn reasoning_is_split_off() {
    let chunks = ["\n<th", "ink>\nhm", "m</thi", "nk>\n\nyes"];
    assert_eq!(parse(free(&[], false), &chunks), [reasoning("hmm"), content("yes")]);
    let open = ["hmm</think>yes"];
    assert_eq!(parse(free(&[], true), &open), [reasoning("hmm"), content("yes")]);
    assert_eq!(parse(free(&[], false), &["<think>never ends"]), [reasoning("never ends")]);
    assert_eq!(parse(free(&[], false), &["a <think>b"]), [content("a <think>b")]);
    let mut parser = AnswerParser::new(free(&[], true));
    assert!(parser.is_reasoning());
    parser.push("</think>");
    assert!(!parser.is_reasoning());
}

#[test]
fn calls_between_marks_are_found() {
    let text = "I look.<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>\n\
                <tool_call>{\"name\": \"g\", \"arguments\": \"{}\"}</tool_call>\n";
    let mut expected = vec![content("I look.")];
    expected.extend(call(0, "f", "{\"a\":1}"));
    expected.extend(call(1, "g", "{}"));
    assert_eq!(parse(free(&["f", "g"], false), &[text]), expected);
    let by_characters: Vec<String> = text.chars().map(String::from).collect();
    let chunks: Vec<&str> = by_characters.iter().map(String::as_str).collect();
    assert_eq!(parse(free(&["f", "g"], false), &chunks), expected);
}

#[test]
fn a_bare_call_and_an_unclosed_one_are_found() {
    let bare = ["{\"name\": \"f\", ", "\"parameters\": {}}"];
    assert_eq!(parse(free(&["f"], false), &bare), call(0, "f", "{}"));
    let unclosed = ["<tool_call>{\"name\": \"f\", \"arguments\": {}}"];
    assert_eq!(parse(free(&["f"], false), &unclosed), call(0, "f", "{}"));
}

#[test]
fn what_is_no_call_of_an_offered_function_stays_content() {
    for text in [
        "{\"name\": \"other\", \"arguments\": {}}",
        "{\"name\": 5}",
        "{ not json",
        "<tool_call>nonsense</tool_call>",
        "<tool_call>{\"name\": \"other\"}</tool_call>",
    ] {
        assert_eq!(parse(free(&["f"], false), &[text]), [content(text)], "{text}");
    }
}

proptest! {
    /// Also the body of a fuzz target: any text in any chunks, never a panic, nothing lost.
    #[test]
    fn without_marks_nothing_is_lost(chunks in proptest::collection::vec("[a-z{} \\n<>]{0,6}", 0..12)) {
        let slices: Vec<&str> = chunks.iter().map(String::as_str).collect();
        let whole = chunks.concat();
        prop_assume!(!whole.contains("<think>") && !whole.contains("<tool_call>"));
        for functions in [&[][..], &["f"][..]] {
            let text: String = parse(free(functions, false), &slices)
                .into_iter()
                .map(|piece| match piece {
                    Piece::Content(text) => text,
                    other => panic!("unexpected {other:?}"),
                })
                .collect();
            prop_assert_eq!(&text, &whole);
        }
    }

    #[test]
    fn cuts_do_not_matter(
        parts in proptest::collection::vec(
            "(<think>|</think>|<tool_call>|</tool_call>|\\{\"name\":\"f\"\\}|é|a b)", 0..8,
        ),
        cut in 1_usize..7,
    ) {
        let whole = parts.concat();
        let characters: Vec<char> = whole.chars().collect();
        let chunks: Vec<String> =
            characters.chunks(cut).map(|chunk| chunk.iter().collect()).collect();
        let slices: Vec<&str> = chunks.iter().map(String::as_str).collect();
        prop_assert_eq!(
            parse(free(&["f"], false), &slices),
            parse(free(&["f"], false), &[&whole])
        );
    }
}
