//! Grammars: which tokens may come next so that the answer fits a JSON schema.
//!
//! The grammar is compiled and run by `llguidance`, in Rust and within fixed amounts of
//! fuel, so that no schema of a client can hang or crash the engine. White space is fixed
//! (one space after `:` and `,`, none elsewhere): a model that knows no end could otherwise
//! write blanks for ever.

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use serde_json::{Map, Value, json};

use crate::model::{TokenId, Vocabulary};

/// First byte of a control token's name in the trie; no UTF-8 text contains it.
const CONTROL_MARK: u8 = 0xff;

/// Why a schema cannot be a grammar: the client must change it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the JSON schema cannot be enforced: {0}")]
pub(crate) struct SchemaFault(pub(crate) String);

/// Why a grammar failed while it ran.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the grammar failed: {0}")]
pub(crate) struct ConstraintFault(String);

/// Makes grammars for one model.
pub(crate) struct ConstraintFactory {
    factory: ParserFactory,
    vocabulary: Arc<dyn Vocabulary>,
}

impl ConstraintFactory {
    /// Reads the whole vocabulary: some hundred milliseconds for a large one.
    pub(crate) fn new(vocabulary: Arc<dyn Vocabulary>) -> Result<Self, ConstraintFault> {
        let size = TokenId::try_from(vocabulary.size()).unwrap_or(TokenId::MAX);
        let ends: Vec<TokenId> = (0..size).filter(|token| vocabulary.is_end(*token)).collect();
        let words: Vec<Vec<u8>> = (0..size).map(|token| word(&*vocabulary, token)).collect();
        let info = TokRxInfo::new(size, ends.first().copied().unwrap_or(0));
        let trie = TokTrie::from(&info, &words);
        let trie = if ends.is_empty() { trie } else { trie.with_eos_tokens(&ends) };
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new(
            &env,
            InferenceCapabilities::default(),
            &llguidance::earley::SlicedBiasComputer::general_slices(),
        )
        .map_err(|fault| ConstraintFault(fault.to_string()))?;
        // Nothing on standard error and no schema text in messages: both belong to a user.
        factory.quiet();
        factory.limits_mut().verbose_errors = false;
        Ok(Self { factory, vocabulary })
    }

    /// A grammar for documents of this schema.
    ///
    /// With `lenient`, keywords that cannot be enforced are ignored; otherwise they are
    /// refused by name.
    pub(crate) fn json_schema(
        &self,
        schema: &Map<String, Value>,
        lenient: bool,
    ) -> Result<Constraint, SchemaFault> {
        let mut schema = schema.clone();
        schema.insert(
            "x-guidance".to_owned(),
            json!({
                "whitespace_flexible": false,
                "item_separator": ", ",
                "key_separator": ": ",
                "coerce_one_of": true,
                "lenient": lenient,
            }),
        );
        let grammar = TopLevelGrammar::from_json_schema(Value::Object(schema));
        let mut matcher = Matcher::new(self.factory.create_parser(grammar));
        // A grammar that admits nothing shows itself here and not in the middle of an answer.
        if matcher.get_error().is_none() {
            let _ = matcher.compute_mask();
        }
        match matcher.get_error() {
            None => Ok(Constraint { matcher, vocabulary: Arc::clone(&self.vocabulary) }),
            Some(reason) => Err(SchemaFault(first_line(&reason))),
        }
    }
}

fn first_line(reason: &str) -> String {
    reason.lines().next().unwrap_or("no reason given").chars().take(400).collect()
}

fn word(vocabulary: &dyn Vocabulary, token: TokenId) -> Vec<u8> {
    let plain = vocabulary.piece(token);
    if !plain.is_empty() {
        return plain;
    }
    let name = vocabulary.special_piece(token);
    if name.is_empty() {
        return name;
    }
    [&[CONTROL_MARK], name.as_slice()].concat()
}

/// One running grammar.
pub(crate) struct Constraint {
    matcher: Matcher,
    vocabulary: Arc<dyn Vocabulary>,
}

impl std::fmt::Debug for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Constraint(..)")
    }
}

impl Clone for Constraint {
    /// A grammar of its own in the same state.
    fn clone(&self) -> Self {
        Self { matcher: self.matcher.deep_clone(), vocabulary: Arc::clone(&self.vocabulary) }
    }
}

impl Constraint {
    /// Whether `token` may come next.
    pub(crate) fn allows(&mut self, token: TokenId) -> Result<bool, ConstraintFault> {
        if self.vocabulary.is_end(token) {
            return self.may_end();
        }
        if self.matcher.is_stopped() {
            return Ok(false);
        }
        self.matcher.validate_tokens(&[token]).map(|count| count == 1).map_err(fault)
    }

    /// Makes the logits of all tokens that may not come next minus infinity.
    pub(crate) fn mask(&mut self, logits: &mut [f32]) -> Result<(), ConstraintFault> {
        let mask = self.matcher.compute_mask_or_eos().map_err(fault)?;
        let may_end = self.may_end()?;
        for (token, logit) in (0..).zip(logits) {
            let allowed =
                if self.vocabulary.is_end(token) { may_end } else { mask.is_allowed(token) };
            if !allowed {
                *logit = f32::NEG_INFINITY;
            }
        }
        Ok(())
    }

    /// Goes on by a token that is allowed.
    pub(crate) fn accept(&mut self, token: TokenId) -> Result<(), ConstraintFault> {
        if self.vocabulary.is_end(token) || self.matcher.is_stopped() {
            return Ok(());
        }
        self.matcher.consume_token(token).map_err(fault)
    }

    /// Whether the document is complete and nothing more can come.
    pub(crate) fn is_complete(&self) -> bool {
        self.matcher.is_stopped()
    }

    fn may_end(&mut self) -> Result<bool, ConstraintFault> {
        if self.matcher.is_stopped() && !self.matcher.is_error() {
            return Ok(true);
        }
        self.matcher.is_accepting().map_err(fault)
    }
}

// The text of a running grammar's fault may quote the answer, so it goes nowhere.
#[allow(clippy::needless_pass_by_value)] // the shape that `map_err` wants
fn fault(_: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ConstraintFault {
    ConstraintFault("it ran out of fuel or into a contradiction".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::sampler::{Sampler, SamplingParams};
    use proptest::prelude::*;

    /// A token for each byte, and token 256 ends the answer.
    struct Bytes;

    impl Vocabulary for Bytes {
        fn size(&self) -> usize {
            257
        }
        fn tokenize(&self, text: &str, _: bool, _: bool) -> Vec<TokenId> {
            text.bytes().map(TokenId::from).collect()
        }
        fn piece(&self, token: TokenId) -> Vec<u8> {
            u8::try_from(token).map(|byte| vec![byte]).unwrap_or_default()
        }
        fn special_piece(&self, token: TokenId) -> Vec<u8> {
            if token == 256 { b"<end>".to_vec() } else { self.piece(token) }
        }
        fn is_end(&self, token: TokenId) -> bool {
            token == 256
        }
    }

    fn constraint(schema: Value) -> Result<Constraint, SchemaFault> {
        let factory = ConstraintFactory::new(Arc::new(Bytes)).unwrap();
        factory.json_schema(schema.as_object().unwrap(), false)
    }

    /// Whether the grammar takes the whole text and may end there.
    fn takes(schema: Value, text: &str) -> bool {
        let mut constraint = constraint(schema).unwrap();
        for byte in text.bytes() {
            if !constraint.allows(TokenId::from(byte)).unwrap() {
                return false;
            }
            constraint.accept(TokenId::from(byte)).unwrap();
        }
        constraint.allows(256).unwrap()
    }

    fn weather() -> Value {
        json!({
            "type": "object",
            "properties": {
                "city": {"type": "string", "maxLength": 12},
                "days": {"type": "integer", "minimum": 1, "maximum": 7},
                "units": {"enum": ["metric", "imperial"]}
            },
            "required": ["city", "days", "units"],
            "additionalProperties": false
        })
    }

    #[test]
    fn documents_of_the_schema_are_taken_with_fixed_white_space() {
        assert!(takes(weather(), r#"{"city": "Paris", "days": 3, "units": "metric"}"#));
        assert!(!takes(weather(), r#"{"city": "Paris", "days": 9, "units": "metric"}"#));
        assert!(!takes(weather(), r#"{"city": "Paris"}"#));
        assert!(!takes(weather(), r#"{ "city": "Paris", "days": 3, "units": "metric"}"#));
        assert!(!takes(weather(), r#"{"city":  "Paris", "days": 3, "units": "metric"}"#));
        assert!(takes(json!({"type": "object"}), r#"{"a": [1, {"b": null}]}"#));
    }

    #[test]
    fn a_schema_that_cannot_be_enforced_is_refused_in_words() {
        for schema in [
            json!({"type": "nonsense"}),
            json!({"$ref": "#/$defs/missing"}),
            json!({"type": "string", "pattern": "("}),
            json!({"type": "integer", "minimum": 5, "maximum": 1}),
        ] {
            let fault = constraint(schema.clone()).unwrap_err().to_string();
            assert!(fault.starts_with("the JSON schema"), "{schema}: {fault}");
        }
    }

    #[test]
    fn a_client_cannot_change_how_white_space_is_handled() {
        let mut schema = weather();
        schema["x-guidance"] = json!({"whitespace_flexible": true});
        assert!(!takes(schema, r#"{ "city": "Paris", "days": 3, "units": "metric"}"#));
    }

    fn random_document(constraint: &mut Constraint, seed: u64, tokens_max: usize) -> String {
        let mut sampler = Sampler::new(SamplingParams {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            seed,
            choice: 0,
            logit_bias: vec![],
        });
        let logits = vec![0.0; 257];
        let mut bytes = Vec::new();
        for _ in 0..tokens_max {
            let token = sampler.sample(&logits, &[], Some(constraint)).unwrap();
            constraint.accept(token).unwrap();
            bytes.extend(u8::try_from(token).ok());
            if token == 256 || constraint.is_complete() {
                break;
            }
        }
        String::from_utf8(bytes).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_random_model_writes_documents_of_the_schema(seed: u64) {
            let mut constraint = constraint(weather()).unwrap();
            let text = random_document(&mut constraint, seed, 300);
            let document: Value = serde_json::from_str(&text).unwrap();
            prop_assert!(document["city"].as_str().unwrap().chars().count() <= 12);
            prop_assert!((1..=7).contains(&document["days"].as_i64().unwrap()));
            prop_assert!(["metric", "imperial"].contains(&document["units"].as_str().unwrap()));
        }

        /// Also the body of a fuzz target: any JSON is a grammar or refused, never a panic.
        #[test]
        fn any_schema_is_compiled_or_refused(text in r##"\{("(type|enum|items|anyOf|\$ref|pattern|const|minLength|properties)":("string"|"object"|"#"|\[1,"a"\]|\{\}|7|true|null),?){0,4}"a":1\}"##) {
            if let Ok(Value::Object(schema)) = serde_json::from_str::<Value>(&text) {
                let factory = ConstraintFactory::new(Arc::new(Bytes)).unwrap();
                for lenient in [true, false] {
                    if let Ok(mut constraint) = factory.json_schema(&schema, lenient) {
                        let _ = constraint.allows(TokenId::from(b'{'));
                    }
                }
            }
        }
    }
}
