//! Payments signed by a proxy's key (protocol notes 3.1, 3.2).
//!
//! A payment carries the cumulative token count, never a difference, so the best one replaces
//! all earlier ones and replay is harmless. The signature covers the hash of the inner cell; the
//! address for unused value stands outside, so anybody may submit a payment and get the rest.

use cocoon_units::{Address, PublicKey, Tokens};
use ed25519_dalek::{Signature, Signer as _, SigningKey, Verifier as _, VerifyingKey};

use crate::cell::{Cell, Hash, Reader, Writer};
use crate::{Fault, boc, op};

/// What the signature of the proxy's key does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PaymentKind {
    /// Charges a client contract; handed to clients off chain.
    ClientCharge,
    /// The final charge of a client contract, which pays the rest back. Sent to the chain only.
    ClientGrantRefund,
    /// Pays a worker; handed to workers off chain.
    WorkerPayout,
    /// The last payout of a worker contract. Sent to the chain only.
    WorkerLastPayout,
}

impl PaymentKind {
    /// The operation code.
    #[must_use]
    pub fn op(self) -> u32 {
        match self {
            Self::ClientCharge => op::client::CHARGE_SIGNED,
            Self::ClientGrantRefund => op::client::GRANT_REFUND_SIGNED,
            Self::WorkerPayout => op::worker::PAYOUT_SIGNED,
            Self::WorkerLastPayout => op::worker::LAST_PAYOUT_SIGNED,
        }
    }

    /// The kind with this operation code.
    #[must_use]
    pub fn from_op(op: u32) -> Option<Self> {
        [Self::ClientCharge, Self::ClientGrantRefund, Self::WorkerPayout, Self::WorkerLastPayout]
            .into_iter()
            .find(|kind| kind.op() == op)
    }
}

/// A key that payments are checked with, decoded once: decoding costs a tenth of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaymentKey {
    public: PublicKey,
    /// `None` when the bytes are no point or one of small order, under which many messages share
    /// a signature: no signature holds then.
    decoded: Option<VerifyingKey>,
}

impl PaymentKey {
    /// The key's bytes.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// Ed25519 (RFC 8032, 5.1.7, without the cofactor) as the contract checks it: the scalar must
    /// be below the group's order, and the point is compared in its encoding.
    fn verify(&self, message: &[u8], signature: &[u8; 64]) -> Result<(), Fault> {
        let key = self.decoded.as_ref().ok_or(Fault::Signature)?;
        key.verify(message, &Signature::from_bytes(signature)).map_err(|_| Fault::Signature)
    }
}

impl From<PublicKey> for PaymentKey {
    fn from(public: PublicKey) -> Self {
        let decoded = VerifyingKey::from_bytes(&public.0).ok().filter(|key| !key.is_weak());
        Self { public, decoded }
    }
}

impl From<&PublicKey> for PaymentKey {
    fn from(public: &PublicKey) -> Self {
        Self::from(*public)
    }
}

impl From<&Self> for PaymentKey {
    fn from(key: &Self) -> Self {
        *key
    }
}

/// What the proxy's key orders its own contract to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseKind {
    /// Start to close.
    Request,
    /// Complete the close.
    Complete,
}

impl CloseKind {
    /// The operation code.
    #[must_use]
    pub fn op(self) -> u32 {
        match self {
            Self::Request => op::proxy::CLOSE_SIGNED,
            Self::Complete => op::proxy::CLOSE_COMPLETE_SIGNED,
        }
    }

    /// The kind with this operation code.
    #[must_use]
    pub fn from_op(op: u32) -> Option<Self> {
        [Self::Request, Self::Complete].into_iter().find(|kind| kind.op() == op)
    }
}

const WHAT: &str = "signed envelope";
const WHAT_INNER: &str = "signed part";

/// A signed order in its outer form: everything but the inner cell stands outside the signature.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Envelope {
    op: u32,
    query_id: u64,
    excess: Address,
    signature: [u8; 64],
    inner: Cell,
}

impl Envelope {
    fn sign(inner: Cell, op: u32, query_id: u64, excess: Address, key: &SigningKey) -> Self {
        let signature = key.sign(inner.repr_hash().as_slice()).to_bytes();
        Self { op, query_id, excess, signature, inner }
    }

    fn parse(cell: &Cell) -> Result<Self, Fault> {
        let mut reader = Reader::new(WHAT, cell)?;
        let envelope = Self {
            op: reader.u32()?,
            query_id: reader.u64()?,
            excess: reader.address()?,
            signature: reader.bytes()?,
            inner: reader.reference()?,
        };
        reader.end()?;
        Ok(envelope)
    }

    fn cell(&self) -> Result<Cell, Fault> {
        Writer::body(WHAT, self.op, self.query_id)
            .address(&self.excess)
            .bytes(&self.signature)
            .reference(self.inner.clone())
            .build()
    }

    /// Opens the inner cell after checking that it repeats operation and query id.
    fn open(&self) -> Result<Reader<'_>, Fault> {
        let mut reader = Reader::new(WHAT_INNER, &self.inner)?;
        let (op, query_id) = (reader.u32()?, reader.u64()?);
        if op != self.op || query_id != self.query_id {
            return Err(Fault::EnvelopeMismatch);
        }
        Ok(reader)
    }

    /// The signature is over the inner cell's hash.
    fn verify(&self, key: &PaymentKey) -> Result<(), Fault> {
        key.verify(self.inner.repr_hash().as_slice(), &self.signature)
    }
}

/// A payment: `tokens` used or earned at `target` since that contract was deployed.
///
/// ```
/// use cocoon_contract::payment::{PaymentKind, SignedPayment};
/// use cocoon_units::{Address, PublicKey, Tokens};
/// # fn main() -> Result<(), cocoon_contract::Fault> {
/// let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
/// let contract = Address::new(0, [1; 32]);
/// let excess = Address::new(0, [2; 32]);
/// let payment =
///     SignedPayment::sign(PaymentKind::WorkerPayout, 42, Tokens(1000), contract, excess, &key)?;
/// let received = SignedPayment::from_boc(&payment.to_boc()?)?;
/// let public_key = PublicKey(key.verifying_key().to_bytes());
/// let tokens = received.verify(PaymentKind::WorkerPayout, &contract, &public_key)?;
/// assert_eq!(tokens, Tokens(1000));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedPayment {
    kind: PaymentKind,
    tokens: Tokens,
    target: Address,
    envelope: Envelope,
}

impl SignedPayment {
    /// Signs a payment. `query_id` is random; `excess` gets the unused value back.
    ///
    /// # Errors
    /// None in practice; the fields always fit.
    pub fn sign(
        kind: PaymentKind,
        query_id: u64,
        tokens: Tokens,
        target: Address,
        excess: Address,
        key: &SigningKey,
    ) -> Result<Self, Fault> {
        let inner = Writer::body(WHAT_INNER, kind.op(), query_id)
            .tokens(tokens)
            .address(&target)
            .build()?;
        let envelope = Envelope::sign(inner, kind.op(), query_id, excess, key);
        Ok(Self { kind, tokens, target, envelope })
    }

    /// Reads the envelope strictly; the signature is not checked yet, see [`Self::verify`].
    ///
    /// # Errors
    /// A [`Fault`] when the cell is not a payment: treat it as not made.
    pub fn parse(cell: &Cell) -> Result<Self, Fault> {
        let envelope = Envelope::parse(cell)?;
        let kind = PaymentKind::from_op(envelope.op).ok_or(Fault::UnknownOp { op: envelope.op })?;
        let mut reader = envelope.open()?;
        let (tokens, target) = (reader.tokens()?, reader.address()?);
        reader.end()?;
        Ok(Self { kind, tokens, target, envelope })
    }

    /// Reads a payment from the bytes a peer sent.
    ///
    /// # Errors
    /// A [`Fault`] when the bytes are not a payment: treat it as not made.
    pub fn from_boc(bytes: &[u8]) -> Result<Self, Fault> {
        Self::parse(&boc::decode(bytes, boc::Limits::MESSAGE)?)
    }

    /// The body to send to the contract.
    ///
    /// # Errors
    /// None in practice; the fields always fit.
    pub fn cell(&self) -> Result<Cell, Fault> {
        self.envelope.cell()
    }

    /// The bytes to send to a peer.
    ///
    /// # Errors
    /// None in practice; the fields always fit.
    pub fn to_boc(&self) -> Result<Vec<u8>, Fault> {
        Ok(boc::encode(&self.cell()?))
    }

    /// Checks kind, contract and signature, and returns the cumulative tokens.
    ///
    /// Who checks many payments of one key keeps it as a [`PaymentKey`].
    ///
    /// # Errors
    /// A [`Fault`] naming what differs: keep the best payment known before.
    pub fn verify(
        &self,
        kind: PaymentKind,
        target: &Address,
        key: impl Into<PaymentKey>,
    ) -> Result<Tokens, Fault> {
        if self.kind != kind {
            return Err(Fault::UnexpectedOp { expected: kind.op(), found: self.kind.op() });
        }
        if self.target != *target {
            return Err(Fault::Target { expected: target.to_raw(), found: self.target.to_raw() });
        }
        self.envelope.verify(&key.into())?;
        Ok(self.tokens)
    }

    /// The same payment with another address for unused value; the signature stays valid.
    #[must_use]
    pub fn repack(&self, excess: Address) -> Self {
        let mut repacked = self.clone();
        repacked.envelope.excess = excess;
        repacked
    }

    /// What the payment does.
    #[must_use]
    pub fn kind(&self) -> PaymentKind {
        self.kind
    }

    /// Cumulative tokens; trust them after [`Self::verify`] only.
    #[must_use]
    pub fn tokens(&self) -> Tokens {
        self.tokens
    }

    /// The contract it is signed for.
    #[must_use]
    pub fn target(&self) -> Address {
        self.target
    }

    /// Who gets unused value.
    #[must_use]
    pub fn excess(&self) -> Address {
        self.envelope.excess
    }

    /// The query id.
    #[must_use]
    pub fn query_id(&self) -> u64 {
        self.envelope.query_id
    }

    /// The Ed25519 signature.
    #[must_use]
    pub fn signature(&self) -> &[u8; 64] {
        &self.envelope.signature
    }

    /// Hash of the inner cell, the bytes that are signed.
    #[must_use]
    pub fn signed_hash(&self) -> Hash {
        Hash(*self.envelope.inner.repr_hash().as_array())
    }
}

/// An order of the proxy's key to its own contract to close.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedClose {
    kind: CloseKind,
    target: Address,
    envelope: Envelope,
}

impl SignedClose {
    /// Signs the order for the proxy contract `target`.
    ///
    /// # Errors
    /// None in practice; the fields always fit.
    pub fn sign(
        kind: CloseKind,
        query_id: u64,
        target: Address,
        excess: Address,
        key: &SigningKey,
    ) -> Result<Self, Fault> {
        let inner = Writer::body(WHAT_INNER, kind.op(), query_id).address(&target).build()?;
        let envelope = Envelope::sign(inner, kind.op(), query_id, excess, key);
        Ok(Self { kind, target, envelope })
    }

    /// Reads the envelope strictly; the signature is not checked yet.
    ///
    /// # Errors
    /// A [`Fault`] when the cell is not such an order: ignore it.
    pub fn parse(cell: &Cell) -> Result<Self, Fault> {
        let envelope = Envelope::parse(cell)?;
        let kind = CloseKind::from_op(envelope.op).ok_or(Fault::UnknownOp { op: envelope.op })?;
        let mut reader = envelope.open()?;
        let target = reader.address()?;
        reader.end()?;
        Ok(Self { kind, target, envelope })
    }

    /// The body to send to the contract.
    ///
    /// # Errors
    /// None in practice; the fields always fit.
    pub fn cell(&self) -> Result<Cell, Fault> {
        self.envelope.cell()
    }

    /// Checks contract and signature.
    ///
    /// # Errors
    /// A [`Fault`] naming what differs: ignore the order.
    pub fn verify(&self, target: &Address, key: impl Into<PaymentKey>) -> Result<(), Fault> {
        if self.target != *target {
            return Err(Fault::Target { expected: target.to_raw(), found: self.target.to_raw() });
        }
        self.envelope.verify(&key.into())
    }

    /// What the order does.
    #[must_use]
    pub fn kind(&self) -> CloseKind {
        self.kind
    }

    /// The contract it is signed for.
    #[must_use]
    pub fn target(&self) -> Address {
        self.target
    }

    /// Who gets unused value.
    #[must_use]
    pub fn excess(&self) -> Address {
        self.envelope.excess
    }

    /// The query id.
    #[must_use]
    pub fn query_id(&self) -> u64 {
        self.envelope.query_id
    }

    /// The Ed25519 signature.
    #[must_use]
    pub fn signature(&self) -> &[u8; 64] {
        &self.envelope.signature
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order of Ed25519's group, little-endian (RFC 8032, 5.1).
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];

    fn payment(key: &SigningKey) -> (SignedPayment, Address) {
        let target = Address::new(0, [1; 32]);
        let kind = PaymentKind::ClientCharge;
        (SignedPayment::sign(kind, 42, Tokens(7), target, target, key).expect("signed"), target)
    }

    #[test]
    fn a_key_of_small_order_signs_nothing() {
        let (mut payment, target) = payment(&SigningKey::from_bytes(&[7; 32]));
        // The neutral element as key and as point, with a scalar of zero: the equation holds for
        // every message.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        payment.envelope.signature = [0; 64];
        payment.envelope.signature[0] = 1;
        let refused = payment.verify(PaymentKind::ClientCharge, &target, PublicKey(neutral));
        assert_eq!(refused, Err(Fault::Signature));
    }

    #[test]
    fn a_signature_has_one_form() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let (mut payment, target) = payment(&key);
        let public = PublicKey(key.verifying_key().to_bytes());
        assert_eq!(payment.verify(PaymentKind::ClientCharge, &target, public), Ok(Tokens(7)));
        // The scalar plus the group's order is the same scalar to a careless reader.
        let mut carry = 0;
        for (byte, add) in payment.envelope.signature.iter_mut().skip(32).zip(ORDER) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            *byte = sum.to_le_bytes()[0];
            carry = sum >> 8;
        }
        let refused = payment.verify(PaymentKind::ClientCharge, &target, public);
        assert_eq!(refused, Err(Fault::Signature));
    }
}
