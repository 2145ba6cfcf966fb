//! The OpenAPI document of the gateway.

/// OpenAPI 3.1, as served at `/openapi.json`.
pub const DOCUMENT: &str = include_str!("openapi.json");
