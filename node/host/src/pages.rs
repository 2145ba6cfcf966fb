//! What the nodes' pages for operators have in common.

/// Headers that only browsers send, each with every request that changes something. The nodes have
/// no web page of their own, so an order with one of them comes from somebody else's page: it sends
/// the browser of an operator to an address that only the operator can reach.
pub const BROWSER_HEADERS: [&str; 2] = ["origin", "sec-fetch-site"];

/// What such an order is answered, with 403.
pub const FROM_A_WEB_PAGE: &str = "orders are not taken from web pages\n";

pub use cocoon_http::{PageSettings, serve};
