//! The receipt of one answer: what it says, its one encoding, its signature.
//!
//! `docs/receipts.md` is the specification.

use cocoon_attest::Digest32;
use cocoon_attest::codec::{Malformed, Reader};
use cocoon_units::{AdjustedUsage, Coefficient, Multiplier, Nanoton, PriceTable, Tokens, Usage};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Serialize, Serializer};
use thiserror::Error;

/// First bytes of every receipt; the version is part of it.
pub const RECEIPT_TAG: &[u8] = b"cocoon.receipt.v1";

/// Longest receipt with its signature, in bytes.
pub const RECEIPT_LIMIT: usize = 4096;

/// Longest full name of a model in bytes.
const MODEL_NAME_LIMIT: usize = 1024;

/// Longest path in bytes.
const PATH_LIMIT: usize = 256;

/// A receipt that is none. It came from outside: do not show it as one.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ReceiptFault {
    /// The bytes are no receipt.
    #[error("the receipt cannot be read: {0}")]
    Malformed(#[from] Malformed),
    /// The signature is not that of the key which the receipt names.
    #[error("the receipt's signature is wrong")]
    Signature,
}

/// Bytes that a receipt is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Body {
    /// How many.
    pub len: u64,
    /// Their SHA-256.
    pub sha256: Digest32,
}

/// Kind of the TEE that signed, by its own word; the evidence shows which it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TeeMark {
    /// None.
    None,
    /// Intel TDX.
    Tdx,
    /// AMD SEV-SNP.
    Snp,
}

/// How the answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReceiptEnd {
    /// The model server came to its end.
    Complete,
    /// The client ended it early.
    Cancelled,
}

/// What was used, and what it costs by the registry's prices as the worker knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Money {
    /// Raw tokens as the model server counted them.
    #[serde(serialize_with = "usage")]
    pub usage: Usage,
    /// Adjusted tokens that the worker claims for it.
    #[serde(serialize_with = "tokens")]
    pub charged: Tokens,
    /// The worker's price factor for this request, in thousandths.
    #[serde(serialize_with = "coefficient")]
    pub coefficient: Coefficient,
    /// Prices of the registry.
    #[serde(serialize_with = "prices")]
    pub prices: PriceTable,
}

impl Money {
    /// Returns what the usage comes to: the claim must equal it.
    #[must_use]
    pub fn adjusted(&self) -> AdjustedUsage {
        self.usage.adjusted(self.coefficient, &self.prices)
    }

    /// Returns what the client pays for the claim; nothing when it overflows.
    #[must_use]
    pub fn cost(&self) -> Option<Nanoton> {
        self.prices.client_pays(self.charged)
    }
}

/// What a worker says about one answer it gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Receipt {
    /// Key that signs, as the worker's report vouches for it.
    pub receipt_key: Digest32,
    /// SHA-256 of the worker's leaf key (SPKI).
    pub worker_key: Digest32,
    /// Hash part of the address of the worker's owner.
    pub worker_id: Digest32,
    /// The worker's image hash.
    pub worker_image: Digest32,
    /// The worker's kind of TEE.
    pub worker_tee: TeeMark,
    /// Digest of the worker's GPU evidence; zero for none.
    pub gpu: Digest32,
    /// Image hash of the proxy as its evidence showed it to the worker; zero when it showed none.
    pub proxy_image: Digest32,
    /// Hash part of the proxy contract's address; zero when unknown.
    pub proxy_contract: Digest32,
    /// Network.
    pub network_id: i32,
    /// Hash part of the root contract's address.
    pub root_contract: Digest32,
    /// Full name of the model, with commit and hash.
    pub model_name: String,
    /// The client's nonce of this request; zero when it sent none.
    pub nonce: Digest32,
    /// Path asked for at the model server.
    pub path: String,
    /// Body of the request, as it came to the worker.
    pub request: Body,
    /// Status of the answer.
    pub status: u16,
    /// Body of the answer, as it left the worker.
    pub answer: Body,
    /// How it ended.
    pub end: ReceiptEnd,
    /// Usage and price.
    pub money: Money,
    /// When the request came, Unix milliseconds by the worker's clock.
    pub started_ms: u64,
    /// When the head of the answer left.
    pub answered_ms: u64,
    /// When the answer ended.
    pub ended_ms: u64,
}

impl Receipt {
    /// Returns the canonical encoding without the signature: the tag, then every field in the
    /// order of the structure; integers big endian, texts with a length of two bytes. No two
    /// receipts share an encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(800);
        out.extend_from_slice(RECEIPT_TAG);
        for digest in [&self.receipt_key, &self.worker_key, &self.worker_id, &self.worker_image] {
            out.extend_from_slice(&digest.0);
        }
        out.push(self.worker_tee.byte());
        for digest in [&self.gpu, &self.proxy_image, &self.proxy_contract] {
            out.extend_from_slice(&digest.0);
        }
        out.extend_from_slice(&self.network_id.to_be_bytes());
        out.extend_from_slice(&self.root_contract.0);
        text(&mut out, &self.model_name, MODEL_NAME_LIMIT);
        out.extend_from_slice(&self.nonce.0);
        text(&mut out, &self.path, PATH_LIMIT);
        self.request.write(&mut out);
        out.extend_from_slice(&self.status.to_be_bytes());
        self.answer.write(&mut out);
        out.push(match self.end {
            ReceiptEnd::Complete => 1,
            ReceiptEnd::Cancelled => 2,
        });
        let Money { usage, charged, coefficient, prices } = &self.money;
        for number in [
            usage.prompt,
            usage.cached,
            usage.completion,
            usage.reasoning,
            charged.0,
            coefficient.milli().into(),
            prices.price_per_token.0,
            prices.worker_fee_per_token.0,
            prices.prompt.0.into(),
            prices.cached.0.into(),
            prices.completion.0.into(),
            prices.reasoning.0.into(),
            self.started_ms,
            self.answered_ms,
            self.ended_ms,
        ] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        if reader.take(RECEIPT_TAG.len())? != RECEIPT_TAG {
            return Err(Malformed("it does not begin like a receipt of version 1"));
        }
        let digest = |reader: &mut Reader<'_>| reader.array().map(Digest32::from);
        // Fields of a structure expression are read in the order they stand here.
        Ok(Self {
            receipt_key: digest(reader)?,
            worker_key: digest(reader)?,
            worker_id: digest(reader)?,
            worker_image: digest(reader)?,
            worker_tee: TeeMark::read(reader)?,
            gpu: digest(reader)?,
            proxy_image: digest(reader)?,
            proxy_contract: digest(reader)?,
            network_id: i32::from_be_bytes(reader.array()?),
            root_contract: digest(reader)?,
            model_name: reader.text(MODEL_NAME_LIMIT)?,
            nonce: digest(reader)?,
            path: reader.text(PATH_LIMIT)?,
            request: Body::read(reader)?,
            status: u16::from_be_bytes(reader.array()?),
            answer: Body::read(reader)?,
            end: match reader.byte()? {
                1 => ReceiptEnd::Complete,
                2 => ReceiptEnd::Cancelled,
                _ => return Err(Malformed("its end is unknown")),
            },
            money: Money::read(reader)?,
            started_ms: reader.u64()?,
            answered_ms: reader.u64()?,
            ended_ms: reader.u64()?,
        })
    }

    /// Signs the receipt: its encoding, then 64 bytes of signature.
    #[must_use]
    pub fn sign(&self, key: &ReceiptKey) -> Vec<u8> {
        let mut bytes = self.encode();
        let signature = key.0.sign(&bytes);
        bytes.extend_from_slice(&signature.to_bytes());
        bytes
    }
}

impl Body {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.len.to_be_bytes());
        out.extend_from_slice(&self.sha256.0);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { len: reader.u64()?, sha256: Digest32::from(reader.array()?) })
    }

    /// Returns the body of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self { len: bytes.len() as u64, sha256: Digest32::sha256(&[bytes]) }
    }
}

impl TeeMark {
    const fn byte(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Tdx => 1,
            Self::Snp => 2,
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        match reader.byte()? {
            0 => Ok(Self::None),
            1 => Ok(Self::Tdx),
            2 => Ok(Self::Snp),
            _ => Err(Malformed("its kind of TEE is unknown")),
        }
    }
}

impl Money {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let small = |reader: &mut Reader<'_>| {
            u32::try_from(reader.u64()?).map_err(|_| Malformed("a multiplier is too large"))
        };
        let usage = Usage {
            prompt: reader.u64()?,
            cached: reader.u64()?,
            completion: reader.u64()?,
            reasoning: reader.u64()?,
        };
        let charged = Tokens(reader.u64()?);
        let coefficient = i64::try_from(reader.u64()?)
            .ok()
            .and_then(|milli| Coefficient::new(milli).ok())
            .ok_or(Malformed("its price factor is too large"))?;
        let prices = PriceTable {
            price_per_token: Nanoton(reader.u64()?),
            worker_fee_per_token: Nanoton(reader.u64()?),
            prompt: Multiplier(small(reader)?),
            cached: Multiplier(small(reader)?),
            completion: Multiplier(small(reader)?),
            reasoning: Multiplier(small(reader)?),
        };
        Ok(Self { usage, charged, coefficient, prices })
    }
}

/// The key that signs receipts. Lives in the TEE's memory only.
pub struct ReceiptKey(SigningKey);

impl ReceiptKey {
    /// Makes the key of 32 random bytes.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// Returns the public half.
    #[must_use]
    pub fn public(&self) -> Digest32 {
        Digest32::from(self.0.verifying_key().to_bytes())
    }
}

impl std::fmt::Debug for ReceiptKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("ReceiptKey")
    }
}

/// A receipt that was read and whose signature is that of the key it names. Whether that key is a
/// worker's is for the evidence to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedReceipt {
    bytes: Vec<u8>,
    id: Digest32,
    /// What it says.
    pub receipt: Receipt,
}

impl SignedReceipt {
    /// Reads a signed receipt, which must fill `bytes` exactly, and checks the signature.
    ///
    /// # Errors
    /// [`ReceiptFault`]: it is no receipt.
    pub fn read(bytes: &[u8]) -> Result<Self, ReceiptFault> {
        if bytes.len() > RECEIPT_LIMIT {
            return Err(Malformed("it is too long").into());
        }
        let mut reader = Reader::new(bytes);
        let receipt = Receipt::decode(&mut reader)?;
        let signed_len = bytes.len() - reader.rest().len();
        let signature = Signature::from_bytes(&reader.array()?);
        reader.finish()?;
        let signed = bytes.get(..signed_len).unwrap_or_default();
        let key = VerifyingKey::from_bytes(&receipt.receipt_key.0)
            .map_err(|_| ReceiptFault::Signature)?;
        key.verify_strict(signed, &signature).map_err(|_| ReceiptFault::Signature)?;
        Ok(Self { bytes: bytes.to_vec(), id: Digest32::sha256(&[signed]), receipt })
    }

    /// Returns the id: SHA-256 of the signed bytes, hex, after `rcpt_`.
    #[must_use]
    pub fn id(&self) -> String {
        format!("rcpt_{}", self.id)
    }

    /// Returns the bytes that were read.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

fn text(out: &mut Vec<u8>, text: &str, limit: usize) {
    let bytes = text.as_bytes();
    // Longer texts are refused where they enter; here only the encoding is kept sound.
    let bytes = bytes.get(..limit).unwrap_or(bytes);
    out.extend_from_slice(&u16::try_from(bytes.len()).unwrap_or(0).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn usage<S: Serializer>(usage: &Usage, serializer: S) -> Result<S::Ok, S::Error> {
    serde_json::json!({
        "prompt": usage.prompt,
        "cached": usage.cached,
        "completion": usage.completion,
        "reasoning": usage.reasoning,
    })
    .serialize(serializer)
}

fn tokens<S: Serializer>(tokens: &Tokens, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(tokens.0)
}

fn coefficient<S: Serializer>(factor: &Coefficient, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u32(factor.milli())
}

fn prices<S: Serializer>(prices: &PriceTable, serializer: S) -> Result<S::Ok, S::Error> {
    serde_json::json!({
        "price_per_token_nanoton": prices.price_per_token.0,
        "worker_fee_per_token_nanoton": prices.worker_fee_per_token.0,
        "prompt_multiplier": prices.prompt.0,
        "cached_multiplier": prices.cached.0,
        "completion_multiplier": prices.completion.0,
        "reasoning_multiplier": prices.reasoning.0,
    })
    .serialize(serializer)
}
