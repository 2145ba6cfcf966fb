//! Reads node configurations from JSON (protocol notes 7).
