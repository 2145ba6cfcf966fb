//! What the network side can show: evidence of the machines, receipts of answers.

use cocoon_openai::ApiError;
use http::{StatusCode, Uri};

use crate::failure::Refusal;
use crate::gateway::{Gateway, Reply};
use crate::pages;
use crate::upstream::Upstream;

impl<U: Upstream> Gateway<U> {
    /// `/v1/attestation?nonce=HEX`: the caller draws the nonce, or nobody can tell how old the
    /// workers' reports are.
    pub(crate) async fn attestation_page(&self, uri: &Uri) -> Result<Reply, Box<Refusal>> {
        let nonce = match nonce(uri.query().unwrap_or_default()) {
            Some(nonce) => nonce,
            None => {
                let message = "Draw 32 random bytes and write them as ?nonce= and 64 hex digits.";
                return Err(Box::new(ApiError::invalid("nonce", message).into()));
            }
        };
        let bundle = self.upstream().attestation(nonce).await.map_err(Refusal::from)?;
        Ok(pages::json(StatusCode::OK, bundle.into()))
    }

    /// `/v1/receipts/{id}`. Who knows an id has seen the answer: it is a hash over random bytes.
    pub(crate) async fn receipt_page(&self, id: &str) -> Result<Reply, Box<Refusal>> {
        let found = self.upstream().receipt(id).await.map_err(Refusal::from)?;
        match found {
            Some(file) => Ok(pages::json(StatusCode::OK, file.into())),
            None => Err(Box::new(Refusal::unknown_receipt(id))),
        }
    }
}

fn nonce(query: &str) -> Option<[u8; 32]> {
    let text = query.split('&').find_map(|pair| pair.strip_prefix("nonce="))?;
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let text: &[u8; 64] = text.as_bytes().try_into().ok()?;
    let mut nonce = [0; 32];
    for (byte, pair) in nonce.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(nonce)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_64_hex_digits_and_nothing_else() {
        let hex = "0f".repeat(32);
        assert_eq!(nonce(&format!("nonce={hex}")), Some([0x0f; 32]));
        assert_eq!(nonce(&format!("a=b&nonce={hex}&c")), Some([0x0f; 32]));
        for bad in ["", "nonce=", "nonce=0f", &format!("nonce={hex}0"), &"nonce=zz".repeat(8)] {
            assert_eq!(nonce(bad), None, "{bad}");
        }
    }
}
