//! Azure's service inside the machine's own network that turns a TD report into a quote.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use serde::Deserialize;

use crate::fault::EvidenceFault;

/// Where every machine of Azure finds it.
const ADDRESS: ([u8; 4], u16) = ([169, 254, 169, 254], 80);
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest answer, bytes.
const ANSWER_LIMIT: u64 = 256 * 1024;

/// Turns a TD report of this machine into a quote.
pub trait TdQuotes: Send + Sync {
    /// Asks for the quote.
    ///
    /// # Errors
    /// [`EvidenceFault::QuotingService`].
    fn quote(&self, td_report: &[u8]) -> Result<Vec<u8>, EvidenceFault>;
}

/// Azure's instance metadata service.
#[derive(Clone, Copy, Debug, Default)]
pub struct Imds;

impl TdQuotes for Imds {
    fn quote(&self, td_report: &[u8]) -> Result<Vec<u8>, EvidenceFault> {
        let fault = |detail: String| EvidenceFault::QuotingService { detail };
        let address = SocketAddr::from(ADDRESS);
        let ask = || {
            let mut tcp = TcpStream::connect_timeout(&address, TIMEOUT)?;
            tcp.set_read_timeout(Some(TIMEOUT))?;
            tcp.set_write_timeout(Some(TIMEOUT))?;
            tcp.write_all(&request(td_report))?;
            let mut answer = Vec::new();
            tcp.take(ANSWER_LIMIT).read_to_end(&mut answer)?;
            std::io::Result::Ok(answer)
        };
        quote_in(&ask().map_err(|error| fault(error.to_string()))?).map_err(fault)
    }
}

/// The request. HTTP/1.0 has no chunks: the answer is what comes until the end.
fn request(td_report: &[u8]) -> Vec<u8> {
    let body = format!(r#"{{"report":"{}"}}"#, URL_SAFE_NO_PAD.encode(td_report));
    format!(
        "POST /acc/tdquote HTTP/1.0\r\nhost: 169.254.169.254\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

pub(crate) fn quote_in(answer: &[u8]) -> Result<Vec<u8>, String> {
    #[derive(Deserialize)]
    struct Answer {
        quote: String,
    }
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or("no HTTP answer")?;
    let (head, body) = answer.split_at(end + 4);
    let status = head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    if status != b"200" {
        return Err(format!("status {}", String::from_utf8_lossy(status)));
    }
    let answer: Answer = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let text = answer.quote.trim_end_matches('=');
    URL_SAFE_NO_PAD
        .decode(text)
        .or_else(|_| URL_SAFE.decode(&answer.quote))
        .map_err(|_| "the quote is no base64".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quote_is_read_out_of_an_answer_and_nothing_else_is() {
        let good = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{\"quote\":\"_-8=\"}";
        assert_eq!(quote_in(good), Ok(vec![0xff, 0xef]));
        for bad in [
            &b""[..],
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 500 Oh\r\n\r\n{\"quote\":\"_-8\"}",
            b"HTTP/1.1 200 OK\r\n\r\n{\"quote\":\"!\"}",
        ] {
            assert!(quote_in(bad).is_err());
        }
        let request = String::from_utf8(request(&[0xff, 0xef])).unwrap();
        assert!(request.ends_with("\r\n\r\n{\"report\":\"_-8\"}"), "{request}");
    }
}
