//! What the rest of the engine asks of a model: words to tokens, tokens to logits.
//!
//! The traits keep llama.cpp behind one wall: everything else compiles, and its decisions
//! are tested, without C++.

#[cfg(feature = "llama")]
pub(crate) mod llama;

/// A token's number in the model's vocabulary.
pub(crate) type TokenId = u32;

/// The vocabulary of a model. Calls may come from any thread.
pub(crate) trait Vocabulary: Send + Sync {
    /// How many tokens there are.
    fn size(&self) -> usize;

    /// Splits `text`. With `parse_special` the names of control tokens (such as
    /// `<|im_end|>`) become those tokens; `add_special` puts what the model wants at the
    /// beginning.
    fn tokenize(&self, text: &str, add_special: bool, parse_special: bool) -> Vec<TokenId>;

    /// The bytes that a token stands for; none for a control token.
    fn piece(&self, token: TokenId) -> Vec<u8>;

    /// The bytes of a control token's name; as `piece` for the others.
    fn special_piece(&self, token: TokenId) -> Vec<u8>;

    /// Whether a token ends the answer.
    fn is_end(&self, token: TokenId) -> bool;
}

/// What a model file says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ModelFacts {
    /// The context it was trained for, in tokens.
    pub(crate) trained_context_tokens: u32,
    /// The chat template, a Jinja text.
    pub(crate) chat_template: Option<String>,
    /// The names of the tokens that templates may write at the beginning and the end.
    pub(crate) begin_text: String,
    pub(crate) end_text: String,
    /// Parameters, for `/v1/models`.
    pub(crate) parameters: u64,
    /// Bytes of the weights.
    pub(crate) weight_bytes: u64,
    /// Numbers in an embedding.
    pub(crate) embedding_width: usize,
}

/// One token to be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchToken {
    pub(crate) token: TokenId,
    /// Which sequence it belongs to; below the number of sequences.
    pub(crate) sequence: u32,
    /// Its place in the sequence, counted from 0.
    pub(crate) position: u32,
    /// Whether the logits after it are wanted.
    pub(crate) logits: bool,
}

/// Why a step failed. The sequences of the batch are then in an unknown state and must be
/// forgotten.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the model could not decode: {0}")]
pub(crate) struct DecodeFault(pub(crate) String);

/// The arithmetic of a model, owned by one thread.
pub(crate) trait Decoder {
    /// Most tokens of one batch.
    fn batch_tokens_max(&self) -> usize;

    /// Decodes a batch that is not empty and not longer than `batch_tokens_max`.
    fn decode(&mut self, batch: &[BatchToken]) -> Result<(), DecodeFault>;

    /// The logits after the token at `index` of the last batch, one for each token of the
    /// vocabulary; it must have asked for them.
    fn logits(&self, index: usize) -> &[f32];

    /// Forgets what a sequence holds from `position` on. Answers whether what lies before is
    /// still held; a model that cannot forget a part forgets everything.
    fn forget(&mut self, sequence: u32, position: u32) -> bool;

    /// The mean of the hidden states over `tokens`, which must not be empty nor longer than
    /// the context.
    fn embed(&mut self, tokens: &[TokenId]) -> Result<Vec<f32>, DecodeFault>;
}
