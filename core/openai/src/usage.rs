//! Token counts of an answer, and how they are found in its bytes.

/// Tokens of one answer as the model server reports them; the largest value seen of each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// `usage.prompt_tokens`, cached ones included.
    pub prompt_tokens: u64,
    /// `usage.prompt_tokens_details.cached_tokens`.
    pub cached_tokens: u64,
    /// `usage.completion_tokens`, reasoning included.
    pub completion_tokens: u64,
    /// `usage.completion_tokens_details.reasoning_tokens` or `usage.reasoning_tokens`.
    pub reasoning_tokens: u64,
}
