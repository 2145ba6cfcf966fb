//! A request body, looked into once and sent on by splicing.
//!
//! [`RequestView::parse`] finds the members that the network needs; everything else is checked
//! to be JSON and otherwise left as it is. [`RequestView::outgoing`] writes the body for the
//! model server by cutting out the network's own members and inserting what is missing: unknown
//! members, order, number formats and blanks survive. A body without changes is not copied.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use crate::endpoint::Endpoint;
use crate::fault::ApiError;
use crate::json::{self, Kind, Object};
use crate::shape;
use crate::wishes::BodyWishes;

/// Largest token limit a request may name: what the query message carries (protocol notes 3.5).
pub const MAX_TOKENS_LIMIT: u64 = i32::MAX as u64;

/// Most choices (`n`, `best_of`) one request may ask for, as at OpenAI.
pub const MAX_CHOICES: u64 = 128;

/// Longest model name, in bytes.
pub const MAX_MODEL_BYTES: usize = 256;

/// Members that are read here. Of duplicates only the last one travels on, so that no later
/// parser can see another value than the one that was reserved for.
const READ: [&str; 8] = [
    "model",
    "stream",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "n",
    "best_of",
    "stream_options",
];

/// What the network needs to know of a request body.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestView {
    /// The model asked for, as written.
    pub model: String,
    /// True when a stream of events was asked for.
    pub stream: bool,
    /// True when the user wants to see the usage at the end of the stream.
    pub usage_asked: bool,
    /// The largest of `max_tokens`, `max_completion_tokens` and `max_output_tokens`: reservations must cover both,
    /// since model servers differ in which one wins (protocol notes 10.2, 13).
    pub max_tokens: Option<u64>,
    /// Answers asked for: the larger of `n` and `best_of`, at least 1.
    pub choices: u64,
    /// The network's own wishes found in the body.
    pub wishes: BodyWishes,
    object: Object,
    removed: Vec<usize>,
    stream_options: StreamOptions,
}

#[derive(Debug, Clone, PartialEq)]
enum StreamOptions {
    Absent,
    /// Present as `null`: the member index.
    Null(usize),
    /// An object without `include_usage`: offset behind `{`, and whether it has members.
    Lacks(usize, bool),
    /// An object with `include_usage`: its value.
    Has(Range<usize>),
}

/// What is changed in the body that travels on, besides taking out the network's own members.
#[derive(Debug, Clone, Default)]
pub struct Changes<'a> {
    /// Ask the model server for the usage of a stream.
    pub ask_usage: bool,
    /// Token limit to insert when the user gave none, so that the reservation holds.
    pub default_max_tokens: Option<u64>,
    /// Another model name, where the gateway has aliases.
    pub model: Option<&'a str>,
    /// Another value of `stream`.
    pub stream: Option<bool>,
}

impl RequestView {
    /// Looks into a JSON body. The error is ready to be sent to the user.
    pub fn parse(endpoint: Endpoint, body: &[u8]) -> Result<RequestView, ApiError> {
        let object = json::scan_object(body)?;
        let names: Vec<Cow<'_, str>> =
            object.members.iter().map(|member| member.name(body)).collect();
        shape::check(endpoint, body, &object, &names)?;
        let fields = Fields { body, object: &object, names: &names };
        let model = fields.model()?;
        let max_tokens = fields
            .count("max_tokens", MAX_TOKENS_LIMIT)?
            .max(fields.count("max_completion_tokens", MAX_TOKENS_LIMIT)?)
            .max(fields.count("max_output_tokens", MAX_TOKENS_LIMIT)?);
        let choices =
            fields.count("n", MAX_CHOICES)?.max(fields.count("best_of", MAX_CHOICES)?).unwrap_or(1);
        let stream = fields.kind("stream") == Some(Kind::True);
        let stream_options = fields.stream_options()?;
        let usage_asked = match &stream_options {
            StreamOptions::Has(value) => body.get(value.clone()) == Some(b"true"),
            _ => false,
        };
        let wishes = BodyWishes::read(body, &object, &names)?;
        let removed = removed(&names);
        Ok(RequestView {
            model,
            stream,
            usage_asked,
            max_tokens,
            choices: choices.max(1),
            wishes,
            object,
            removed,
            stream_options,
        })
    }

    /// True when the usage of the stream will be asked for although the user did not.
    pub fn usage_must_be_hidden(&self) -> bool {
        self.stream && !self.usage_asked
    }

    /// The body for the model server. `body` must be the text that was parsed.
    pub fn outgoing(&self, body: &Bytes, changes: &Changes<'_>) -> Bytes {
        let mut edits = self.removals();
        let mut inserts = String::new();
        let stream = changes.stream.unwrap_or(self.stream);
        if changes.ask_usage && stream {
            self.ask_usage(&mut edits, &mut inserts);
        }
        if let (Some(limit), None) = (changes.default_max_tokens, self.max_tokens) {
            self.put(body, "max_tokens", &limit.to_string(), &mut edits, &mut inserts);
        }
        if let Some(model) = changes.model {
            self.put(body, "model", &json::quote(model), &mut edits, &mut inserts);
        }
        if changes.stream.is_some_and(|stream| stream != self.stream) {
            self.put(body, "stream", &stream.to_string(), &mut edits, &mut inserts);
        }
        if edits.is_empty() && inserts.is_empty() {
            return body.clone();
        }
        edits.push((self.object.close..self.object.close, inserts));
        splice(body, edits)
    }

    fn ask_usage(&self, edits: &mut Vec<Edit>, inserts: &mut String) {
        match &self.stream_options {
            StreamOptions::Absent => {
                inserts.push_str(",\"stream_options\":{\"include_usage\":true}");
            }
            StreamOptions::Null(index) => {
                if let Some(member) = self.object.members.get(*index) {
                    edits.push((member.value.clone(), "{\"include_usage\":true}".to_owned()));
                }
            }
            StreamOptions::Lacks(at, filled) => {
                let comma = if *filled { "," } else { "" };
                edits.push((*at..*at, format!("\"include_usage\":true{comma}")));
            }
            StreamOptions::Has(value) => {
                if !self.usage_asked {
                    edits.push((value.clone(), "true".to_owned()));
                }
            }
        }
    }

    /// Replaces the last member of that name, or inserts one.
    fn put(
        &self,
        body: &[u8],
        name: &str,
        value: &str,
        edits: &mut Vec<Edit>,
        inserts: &mut String,
    ) {
        if let Some(member) = self.object.last(body, name) {
            edits.push((member.value.clone(), value.to_owned()));
        } else {
            inserts.push_str(",\"");
            inserts.push_str(name);
            inserts.push_str("\":");
            inserts.push_str(value);
        }
    }

    /// Cuts that take the network's own members out, commas included. `model` always stays, so
    /// the object never becomes empty.
    fn removals(&self) -> Vec<Edit> {
        let members = &self.object.members;
        let mut kept_end: Option<usize> = None;
        let mut removed = self.removed.iter().copied().peekable();
        let mut edits = Vec::new();
        for (index, member) in members.iter().enumerate() {
            if removed.next_if_eq(&index).is_none() {
                kept_end = Some(member.value.end);
                continue;
            }
            let cut = match (kept_end, members.get(index + 1)) {
                (Some(_), _) => {
                    let before = index.checked_sub(1).and_then(|index| members.get(index));
                    before.map_or(member.start, |before| before.value.end)..member.value.end
                }
                (None, Some(next)) => member.start..next.start,
                (None, None) => member.start..member.value.end,
            };
            edits.push((cut, String::new()));
        }
        edits
    }
}

type Edit = (Range<usize>, String);

fn splice(body: &[u8], mut edits: Vec<Edit>) -> Bytes {
    edits.sort_by_key(|(range, _)| (range.start, range.end));
    let grown: usize = edits.iter().map(|(_, text)| text.len()).sum();
    let mut out = Vec::with_capacity(body.len().saturating_add(grown));
    let mut at = 0;
    for (range, text) in &edits {
        out.extend_from_slice(body.get(at..range.start).unwrap_or_default());
        out.extend_from_slice(text.as_bytes());
        at = range.end.max(at);
    }
    out.extend_from_slice(body.get(at..).unwrap_or_default());
    Bytes::from(out)
}

/// Indices of members that stay behind: the network's own, and earlier ones of those read here.
fn removed(names: &[Cow<'_, str>]) -> Vec<usize> {
    let mut removed = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let own = BodyWishes::is_own(name);
        let doubled = READ.contains(&name.as_ref())
            && names.get(index + 1..).unwrap_or_default().contains(name);
        if own || doubled {
            removed.push(index);
        }
    }
    removed
}

struct Fields<'a> {
    body: &'a [u8],
    object: &'a Object,
    names: &'a [Cow<'a, str>],
}

impl Fields<'_> {
    fn last(&self, name: &str) -> Option<(usize, &json::Member)> {
        let index = self.names.iter().rposition(|other| other == name)?;
        self.object.members.get(index).map(|member| (index, member))
    }

    fn kind(&self, name: &str) -> Option<Kind> {
        self.last(name).map(|(_, member)| member.kind)
    }

    fn model(&self) -> Result<String, ApiError> {
        let missing = || {
            ApiError::invalid("model", "You must provide a model parameter: a non-empty string.")
                .with_code("missing_required_parameter")
        };
        let (_, member) = self.last("model").ok_or_else(missing)?;
        let text = json::string(member.value_in(self.body)).ok_or_else(missing)?;
        if text.is_empty() {
            return Err(missing());
        }
        if text.len() > MAX_MODEL_BYTES {
            let message = format!("'model' is longer than {MAX_MODEL_BYTES} bytes.");
            return Err(ApiError::invalid("model", message));
        }
        Ok(text.into_owned())
    }

    fn count(&self, name: &'static str, limit: u64) -> Result<Option<u64>, ApiError> {
        let Some((_, member)) = self.last(name) else { return Ok(None) };
        if member.kind == Kind::Null {
            return Ok(None);
        }
        match serde_json::from_slice::<u64>(member.value_in(self.body)) {
            Ok(value) if value <= limit => Ok(Some(value)),
            _ => {
                let message = format!("'{name}' must be an integer between 0 and {limit}.");
                Err(ApiError::invalid(name, message).with_code("integer_out_of_range"))
            }
        }
    }

    fn stream_options(&self) -> Result<StreamOptions, ApiError> {
        let Some((index, member)) = self.last("stream_options") else {
            return Ok(StreamOptions::Absent);
        };
        if member.kind == Kind::Null {
            return Ok(StreamOptions::Null(index));
        }
        let options = json::scan_object_at(self.body, &member.value)?;
        let Some(usage) = options.last(self.body, "include_usage") else {
            return Ok(StreamOptions::Lacks(options.open + 1, !options.members.is_empty()));
        };
        match usage.kind {
            Kind::True | Kind::False | Kind::Null => Ok(StreamOptions::Has(usage.value.clone())),
            _ => {
                let param = "stream_options.include_usage";
                Err(ApiError::invalid(param, format!("'{param}' must be a boolean.")))
            }
        }
    }
}
