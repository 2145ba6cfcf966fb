//! The network inside a program: chat, stream, embeddings, verify.
