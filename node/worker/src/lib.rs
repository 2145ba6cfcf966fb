//! The worker node: in front of a model server.
