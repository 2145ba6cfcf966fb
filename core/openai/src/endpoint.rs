//! The endpoints of the OpenAI surface that reach a worker.

/// An endpoint that is answered by a model server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `/v1/chat/completions`
    ChatCompletions,
    /// `/v1/completions`
    Completions,
    /// `/v1/embeddings`
    Embeddings,
    /// `/v1/responses`
    Responses,
    /// `/v1/messages`, Anthropic's form.
    Messages,
    /// `/v1/audio/transcriptions`, a multipart form.
    Transcriptions,
    /// `/v1/audio/speech`
    Speech,
    /// `/v1/images/generations`
    Images,
}

impl Endpoint {
    /// All endpoints, in the order of the documentation.
    pub const ALL: [Endpoint; 8] = [
        Endpoint::ChatCompletions,
        Endpoint::Completions,
        Endpoint::Embeddings,
        Endpoint::Responses,
        Endpoint::Messages,
        Endpoint::Transcriptions,
        Endpoint::Speech,
        Endpoint::Images,
    ];

    /// The path, without query.
    pub const fn path(self) -> &'static str {
        match self {
            Endpoint::ChatCompletions => "/v1/chat/completions",
            Endpoint::Completions => "/v1/completions",
            Endpoint::Embeddings => "/v1/embeddings",
            Endpoint::Responses => "/v1/responses",
            Endpoint::Messages => "/v1/messages",
            Endpoint::Transcriptions => "/v1/audio/transcriptions",
            Endpoint::Speech => "/v1/audio/speech",
            Endpoint::Images => "/v1/images/generations",
        }
    }

    /// The endpoint of a path, if it is one.
    pub fn of_path(path: &str) -> Option<Endpoint> {
        Endpoint::ALL.into_iter().find(|endpoint| endpoint.path() == path)
    }

    /// True where the answer may be a stream of server-sent events.
    pub const fn streams(self) -> bool {
        use Endpoint::{ChatCompletions, Completions, Messages, Responses, Transcriptions};
        matches!(self, ChatCompletions | Completions | Responses | Messages | Transcriptions)
    }
}
