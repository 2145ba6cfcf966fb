//! HTTP messages inside queries and answers, namespace `http` (protocol notes 3.5, 3.7).

use crate::tl::{Blob, Text};

tl_struct! {
    /// A header.
    #[derive(Clone, Debug, PartialEq, Default)]
    Header<'tl> = "http.header" 0x8e9b_e511 {
        /// Name.
        name: Text<'tl>,
        /// Value; not printed, since it may hold a credential.
        value: Blob<'tl>,
    }

    /// An HTTP answer.
    #[derive(Clone, Debug, PartialEq, Default)]
    Response<'tl> = "http.response" 0x1cd0_c42b {
        /// `HTTP/1.0` or `HTTP/1.1`.
        http_version: Text<'tl>,
        /// HTTP status.
        status_code: i32,
        /// Reason phrase, mostly empty.
        reason: Text<'tl>,
        /// Headers in order.
        headers: Vec<Header<'tl>>,
        /// Body.
        payload: Blob<'tl>,
    }

    /// An HTTP request.
    #[derive(Clone, Debug, PartialEq, Default)]
    Request<'tl> = "http.request" 0x4749_2de5 {
        /// Method.
        method: Text<'tl>,
        /// Path.
        url: Text<'tl>,
        /// `HTTP/1.0` or `HTTP/1.1`.
        http_version: Text<'tl>,
        /// Headers in order.
        headers: Vec<Header<'tl>>,
        /// Body.
        payload: Blob<'tl>,
    }
}
