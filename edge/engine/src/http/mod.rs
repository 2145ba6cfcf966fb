//! The HTTP server: connections, routes, and the requests that they carry.

pub(crate) mod accept;
pub(crate) mod body;
pub(crate) mod chat;
pub(crate) mod completion;
pub(crate) mod embeddings;
pub(crate) mod route;
pub(crate) mod served;
