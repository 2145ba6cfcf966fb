//! A validating scanner of JSON text that finds the members of one object without copying.
//!
//! It reads every byte once, keeps no tree, does not recurse and allocates only the list of
//! members, so a body costs the same whether it holds a sentence or a picture. Grammar: RFC 8259.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memchr2;

/// Deepest nesting accepted. Requests nest about ten levels; JSON schemas seldom thirty.
pub const MAX_DEPTH: u32 = 100;

/// Most members accepted in one object that is looked into.
pub const MAX_MEMBERS: usize = 1024;

/// Why a text is not the JSON that was expected. The text came from a user or a peer: answer
/// with an error, nothing else is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonFault {
    /// The text ends before the value does.
    #[error("the text ends too early, at byte {offset}")]
    EndsEarly {
        /// Where more was expected.
        offset: usize,
    },
    /// A byte that the grammar does not allow.
    #[error("unexpected byte at offset {offset}")]
    Unexpected {
        /// Offset of the byte.
        offset: usize,
    },
    /// Not UTF-8.
    #[error("not UTF-8 after byte {offset}")]
    NotUtf8 {
        /// Length of the valid beginning.
        offset: usize,
    },
    /// The value is not an object.
    #[error("expected a JSON object")]
    NotAnObject,
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// An object with more than [`MAX_MEMBERS`] members.
    #[error("an object with more than {MAX_MEMBERS} members")]
    TooManyMembers,
}

/// The type of a JSON value, by its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true`
    True,
    /// `false`
    False,
    /// A number without fraction or exponent.
    Integer,
    /// A number with fraction or exponent.
    Double,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

/// One member of an object: where its key begins, its key's text and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Offset of the key's opening quote.
    pub start: usize,
    /// The key between its quotes, escapes as written.
    pub key: Range<usize>,
    /// The value.
    pub value: Range<usize>,
    /// The value's type.
    pub kind: Kind,
}

impl Member {
    /// The key with escapes resolved; empty when an escape is broken (a lone surrogate).
    pub fn name<'a>(&self, text: &'a [u8]) -> Cow<'a, str> {
        let quoted = text.get(self.start..self.key.end.saturating_add(1)).unwrap_or_default();
        string(quoted).unwrap_or_default()
    }

    /// The value's text.
    pub fn value_in<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        text.get(self.value.clone()).unwrap_or_default()
    }
}

/// An object's members in the order of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Offset of `{`.
    pub open: usize,
    /// Offset of `}`.
    pub close: usize,
    /// The members, duplicates included.
    pub members: Vec<Member>,
}

impl Object {
    /// The last member of that name: the one that ordinary parsers see.
    pub fn last(&self, text: &[u8], name: &str) -> Option<&Member> {
        self.members.iter().rev().find(|member| member.name(text) == name)
    }
}

/// Scans a whole text that must be one object. Offsets are those of `text`.
pub fn scan_object(text: &[u8]) -> Result<Object, JsonFault> {
    if let Err(fault) = std::str::from_utf8(text) {
        return Err(JsonFault::NotUtf8 { offset: fault.valid_up_to() });
    }
    let mut scanner = Scanner { text, at: 0 };
    scanner.space();
    if scanner.peek().is_some_and(|byte| byte != b'{') {
        // Tell "not JSON" from "JSON, but not an object".
        scanner.value()?;
        scanner.end()?;
        return Err(JsonFault::NotAnObject);
    }
    let object = scanner.object()?;
    scanner.end()?;
    Ok(object)
}

/// Scans the object at `range`, a value that has been scanned before.
pub fn scan_object_at(text: &[u8], range: &Range<usize>) -> Result<Object, JsonFault> {
    let mut scanner = Scanner { text: text.get(..range.end).unwrap_or(text), at: range.start };
    scanner.object()
}

/// Reads a JSON string, quotes included. `None` when it is none.
pub fn string(quoted: &[u8]) -> Option<Cow<'_, str>> {
    let inner = quoted.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if memchr::memchr(b'\\', inner).is_none() {
        return std::str::from_utf8(inner).ok().map(Cow::Borrowed);
    }
    serde_json::from_slice::<String>(quoted).ok().map(Cow::Owned)
}

/// Quotes a text as a JSON string.
pub fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn fail(&self) -> JsonFault {
        let offset = self.at;
        if offset < self.text.len() {
            JsonFault::Unexpected { offset }
        } else {
            JsonFault::EndsEarly { offset }
        }
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn end(&mut self) -> Result<(), JsonFault> {
        self.space();
        if self.at == self.text.len() { Ok(()) } else { Err(self.fail()) }
    }

    fn expect(&mut self, byte: u8) -> Result<(), JsonFault> {
        if self.peek() == Some(byte) {
            self.at += 1;
            return Ok(());
        }
        Err(self.fail())
    }

    /// An object whose members are listed.
    fn object(&mut self) -> Result<Object, JsonFault> {
        let open = self.at;
        self.expect(b'{')?;
        let mut members = Vec::with_capacity(16);
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Object { open, close: self.at - 1, members });
        }
        loop {
            self.space();
            let start = self.at;
            self.key()?;
            let key = start + 1..self.key_end(start);
            self.space();
            let value_start = self.at;
            let kind = self.value()?;
            if members.len() == MAX_MEMBERS {
                return Err(JsonFault::TooManyMembers);
            }
            members.push(Member { start, key, value: value_start..self.at, kind });
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Object { open, close: self.at - 1, members });
                }
                _ => return Err(self.fail()),
            }
        }
    }

    /// The closing quote of the key that began at `start`: the scanner stands behind the colon.
    fn key_end(&self, start: usize) -> usize {
        let upto = self.text.get(start..self.at).unwrap_or_default();
        memchr::memrchr(b'"', upto).map_or(self.at, |offset| start + offset)
    }

    /// A key and its colon.
    fn key(&mut self) -> Result<(), JsonFault> {
        self.string()?;
        self.space();
        self.expect(b':')
    }

    /// Any value. The nesting lies in the bits of one integer: 1 for an object.
    fn value(&mut self) -> Result<Kind, JsonFault> {
        let mut objects: u128 = 0;
        let mut depth: u32 = 0;
        let mut first = None;
        loop {
            self.space();
            let byte = self.peek().ok_or_else(|| self.fail())?;
            let (kind, opened) = match byte {
                b'{' | b'[' => self.open(byte, &mut objects, &mut depth)?,
                _ => (self.scalar(byte)?, false),
            };
            first.get_or_insert(kind);
            if opened {
                continue;
            }
            self.close(&mut objects, &mut depth)?;
            if depth == 0 {
                return Ok(first.unwrap_or(kind));
            }
        }
    }

    /// Enters an object or array; the second of the result is false when it is empty.
    fn open(
        &mut self,
        byte: u8,
        objects: &mut u128,
        depth: &mut u32,
    ) -> Result<(Kind, bool), JsonFault> {
        self.at += 1;
        self.space();
        let (kind, closing) = if byte == b'{' { (Kind::Object, b'}') } else { (Kind::Array, b']') };
        if self.peek() == Some(closing) {
            self.at += 1;
            return Ok((kind, false));
        }
        if *depth >= MAX_DEPTH {
            return Err(JsonFault::TooDeep);
        }
        *depth += 1;
        *objects = (*objects << 1) | u128::from(kind == Kind::Object);
        if kind == Kind::Object {
            self.key()?;
        }
        Ok((kind, true))
    }

    /// After a value: closes what ends here, and stands before the next value if there is one.
    fn close(&mut self, objects: &mut u128, depth: &mut u32) -> Result<(), JsonFault> {
        while *depth > 0 {
            self.space();
            let in_object = *objects & 1 == 1;
            match self.peek() {
                Some(b',') => {
                    self.at += 1;
                    if in_object {
                        self.space();
                        self.key()?;
                    }
                    return Ok(());
                }
                Some(b'}') if in_object => self.at += 1,
                Some(b']') if !in_object => self.at += 1,
                _ => return Err(self.fail()),
            }
            *objects >>= 1;
            *depth -= 1;
        }
        Ok(())
    }

    fn scalar(&mut self, byte: u8) -> Result<Kind, JsonFault> {
        match byte {
            b'"' => self.string().map(|()| Kind::String),
            b't' => self.literal(b"true", Kind::True),
            b'f' => self.literal(b"false", Kind::False),
            b'n' => self.literal(b"null", Kind::Null),
            b'-' | b'0'..=b'9' => self.number(),
            _ => Err(self.fail()),
        }
    }

    fn literal(&mut self, word: &[u8], kind: Kind) -> Result<Kind, JsonFault> {
        for &byte in word {
            self.expect(byte)?;
        }
        Ok(kind)
    }

    fn digits(&mut self) -> Result<(), JsonFault> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { Err(self.fail()) } else { Ok(()) }
    }

    fn number(&mut self) -> Result<Kind, JsonFault> {
        let mut kind = Kind::Integer;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            kind = Kind::Double;
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            kind = Kind::Double;
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(kind)
    }

    fn string(&mut self) -> Result<(), JsonFault> {
        self.expect(b'"')?;
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let Some(found) = memchr2(b'"', b'\\', rest) else {
                return Err(JsonFault::EndsEarly { offset: self.text.len() });
            };
            let plain = rest.get(..found).unwrap_or_default();
            // Two steps, since the search for "any" vectorises and the search for "where" is rare.
            if plain.iter().fold(false, |bad, &byte| bad | (byte < 0x20)) {
                self.at += plain.iter().position(|&byte| byte < 0x20).unwrap_or_default();
                return Err(self.fail());
            }
            self.at += found;
            if self.peek() == Some(b'"') {
                self.at += 1;
                return Ok(());
            }
            self.at += 1;
            self.escape()?;
        }
    }

    fn escape(&mut self) -> Result<(), JsonFault> {
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                        return Err(self.fail());
                    }
                    self.at += 1;
                }
            }
            _ => return Err(self.fail()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(text: &str) -> Vec<String> {
        let object = scan_object(text.as_bytes()).unwrap();
        object.members.iter().map(|member| member.name(text.as_bytes()).into_owned()).collect()
    }

    #[test]
    fn members_are_found_with_their_values() {
        let text = br#" { "a" : [1,{"x":"}"}] , "b\u0063":"q\"" ,"d":-1.5e3,"e":{} } "#;
        let object = scan_object(text).unwrap();
        let values: Vec<_> = object.members.iter().map(|member| member.value_in(text)).collect();
        assert_eq!(names(std::str::from_utf8(text).unwrap()), ["a", "bc", "d", "e"]);
        assert_eq!(values, [&br#"[1,{"x":"}"}]"#[..], br#""q\"""#, b"-1.5e3", b"{}"]);
        let kinds: Vec<_> = object.members.iter().map(|member| member.kind).collect();
        assert_eq!(kinds, [Kind::Array, Kind::String, Kind::Double, Kind::Object]);
        assert_eq!(text[object.open], b'{');
        assert_eq!(text[object.close], b'}');
    }

    #[test]
    fn faults_are_told_apart() {
        assert_eq!(scan_object(b""), Err(JsonFault::EndsEarly { offset: 0 }));
        assert_eq!(scan_object(b"[1]"), Err(JsonFault::NotAnObject));
        assert_eq!(scan_object(b"{\"a\":1"), Err(JsonFault::EndsEarly { offset: 6 }));
        assert_eq!(scan_object(b"{\"a\":1,}"), Err(JsonFault::Unexpected { offset: 7 }));
        assert_eq!(scan_object(b"{\"a\":01}"), Err(JsonFault::Unexpected { offset: 6 }));
        assert_eq!(scan_object(b"{\"a\xff\":1}"), Err(JsonFault::NotUtf8 { offset: 3 }));
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
        assert_eq!(scan_object(deep.as_bytes()), Err(JsonFault::TooDeep));
        let wide: Vec<_> = (0..2000).map(|index| format!("\"k{index}\":1")).collect();
        let wide = format!("{{{}}}", wide.join(","));
        assert_eq!(scan_object(wide.as_bytes()), Err(JsonFault::TooManyMembers));
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            (-4000..4000i32).prop_map(|quarter| (f64::from(quarter) / 4.0).into()),
            ".*".prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(5, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(serde_json::Value::from),
                prop::collection::hash_map(".*", inner, 0..6)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_object_that_serde_writes_is_accepted(
            map in prop::collection::hash_map(".*", any_json(), 0..8), pretty: bool,
        ) {
            let value = serde_json::Value::Object(map.into_iter().collect());
            let text = if pretty {
                serde_json::to_string_pretty(&value).unwrap()
            } else {
                value.to_string()
            };
            let object = scan_object(text.as_bytes()).unwrap();
            for member in &object.members {
                let name = member.name(text.as_bytes()).into_owned();
                let read: serde_json::Value =
                    serde_json::from_slice(member.value_in(text.as_bytes())).unwrap();
                prop_assert_eq!(Some(&read), value.get(&name));
            }
        }

        #[test]
        fn serde_agrees_on_what_is_an_object(
            text in r#"[\{\}\[\]":,0-9eE+\-.truefalsn \\u]{0,24}"#,
        ) {
            let text = format!("{{{text}}}");
            let ours = scan_object(text.as_bytes()).is_ok();
            let theirs = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text);
            // serde refuses a few valid texts: numbers out of range, lone surrogates.
            if theirs.is_ok() {
                prop_assert!(ours);
            } else if ours {
                let ignored = serde_json::from_str::<serde::de::IgnoredAny>(&text);
                prop_assert!(ignored.is_ok());
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = scan_object(&bytes);
            let _ = string(&bytes);
        }
    }
}
