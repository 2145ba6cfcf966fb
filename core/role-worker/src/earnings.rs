//! What the worker earned, per proxy contract: own count, the proxy's word, the best payment.

use cocoon_contract::payment::{PaymentKind, SignedPayment};
use cocoon_ledger::{Difference, OwnBooks, Statement};
use cocoon_units::{Address, PublicKey, Tokens};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

use crate::fault::Fault;

/// One proxy contract that owes this worker.
#[derive(Clone, Debug)]
pub struct Channel {
    /// The proxy's key, pinned at first contact.
    pub proxy_key: PublicKey,
    /// Our worker contract at that proxy.
    pub worker_contract: Address,
    /// The books.
    pub books: OwnBooks,
    /// The best payment held, as bytes that may be posted on chain.
    pub payment: Option<Vec<u8>>,
    /// Set when the proxy counted less than it had told us and its handshake cannot go on: the
    /// next handshake accepts its number, and the difference is reported as lost.
    pub write_off: Option<Tokens>,
}

/// A durable fact about earnings, for the node's journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EarningsRecord {
    /// First contact with a proxy contract.
    Pinned {
        /// The proxy contract.
        proxy: [u8; 32],
        /// Its key.
        proxy_key: [u8; 32],
        /// Our contract there.
        worker_contract: [u8; 32],
    },
    /// A request ended by our own count.
    Finished {
        /// The proxy contract.
        proxy: [u8; 32],
        /// Adjusted tokens.
        tokens: u64,
    },
    /// The proxy lost its books; what it forgot is given up.
    WrittenOff {
        /// The proxy contract.
        proxy: [u8; 32],
        /// Total that is accepted.
        total: u64,
    },
    /// The proxy's word and the best payment.
    Stated {
        /// The proxy contract.
        proxy: [u8; 32],
        /// Total of the payment.
        signed: u64,
        /// Its durable total.
        durable: u64,
        /// Its highest total.
        max: u64,
        /// The payment.
        payment: Option<Vec<u8>>,
    },
}

impl EarningsRecord {
    /// The record as bytes for the journal.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).unwrap_or_default()
    }

    /// Reads a record; `None` when the bytes are none.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        match postcard::take_from_bytes(bytes) {
            Ok((record, [])) => Some(record),
            _ => None,
        }
    }
}

/// All channels of a worker, by proxy contract.
#[derive(Clone, Debug, Default)]
pub struct Earnings {
    channels: HashMap<Address, Channel>,
}

impl Earnings {
    /// No channel yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The channel at a proxy contract.
    #[must_use]
    pub fn channel(&self, proxy: Address) -> Option<&Channel> {
        self.channels.get(&proxy)
    }

    /// All channels, in no order.
    pub fn channels(&self) -> impl Iterator<Item = (&Address, &Channel)> {
        self.channels.iter()
    }

    /// Pins key and contract at first contact, or compares with what was pinned.
    ///
    /// # Errors
    /// [`Fault::Identity`]: the proxy is not who it was; close the connection.
    pub(crate) fn pin(
        &mut self,
        proxy: Address,
        proxy_key: PublicKey,
        worker_contract: Address,
    ) -> Result<Option<EarningsRecord>, Fault> {
        if let Some(channel) = self.channels.get(&proxy) {
            if channel.proxy_key != proxy_key {
                return Err(Fault::Identity {
                    what: "public key",
                    stated: proxy_key.to_string(),
                    expected: channel.proxy_key.to_string(),
                });
            }
            return Ok(None);
        }
        let record = EarningsRecord::Pinned {
            proxy: proxy.hash,
            proxy_key: proxy_key.0,
            worker_contract: worker_contract.hash,
        };
        self.apply(&record);
        Ok(Some(record))
    }

    /// Takes the proxy's word and its payment.
    ///
    /// # Errors
    /// [`Fault::Payment`] when the payment is not for us or not signed; [`Fault::Books`] when the
    /// proxy forgot or contradicts itself. Close the connection in both cases.
    pub(crate) fn state(
        &mut self,
        proxy: Address,
        payment: Option<&[u8]>,
        durable: Tokens,
        max: Tokens,
    ) -> Result<Option<EarningsRecord>, Fault> {
        let Some(channel) = self.channels.get_mut(&proxy) else { return Ok(None) };
        let signed = payment.map(|bytes| channel.verify(bytes)).transpose()?;
        let before = (channel.books.signed(), channel.books.durable(), channel.books.max());
        match channel.books.compare(&Statement { signed, durable, max }) {
            // A request may still be on its way to either side's books.
            Ok(()) | Err(Difference::MoreThanOwn { .. } | Difference::LessThanOwn { .. }) => {}
            Err(difference) => return Err(difference.into()),
        }
        let now = (channel.books.signed(), channel.books.durable(), channel.books.max());
        if now == before && channel.payment.is_some() {
            return Ok(None);
        }
        if now.0 > before.0 || channel.payment.is_none() {
            channel.payment = payment.map(<[u8]>::to_vec).or_else(|| channel.payment.take());
        }
        Ok(Some(EarningsRecord::Stated {
            proxy: proxy.hash,
            signed: now.0.0,
            durable: now.1.0,
            max: now.2.0,
            payment: channel.payment.clone(),
        }))
    }

    /// Books a request that ended, by our own count.
    pub fn finished(&mut self, proxy: Address, tokens: Tokens) -> Option<EarningsRecord> {
        let channel = self.channels.get_mut(&proxy)?;
        channel.books.finished(tokens);
        Some(EarningsRecord::Finished { proxy: proxy.hash, tokens: tokens.0 })
    }

    /// Accepts a total below what the proxy had told before.
    pub(crate) fn write_off(&mut self, proxy: Address, total: Tokens) -> Option<EarningsRecord> {
        let record = EarningsRecord::WrittenOff { proxy: proxy.hash, total: total.0 };
        let lost = self.channels.get_mut(&proxy)?.books.settle_to(total);
        (lost > Tokens::ZERO).then_some(record)
    }

    pub(crate) fn channel_mut(&mut self, proxy: Address) -> Option<&mut Channel> {
        self.channels.get_mut(&proxy)
    }

    /// Applies a record that was read from the journal. A record of an unknown channel is skipped.
    pub fn apply(&mut self, record: &EarningsRecord) {
        let address = |hash: &[u8; 32]| Address::new(0, *hash);
        match record {
            EarningsRecord::Pinned { proxy, proxy_key, worker_contract } => {
                self.channels.entry(address(proxy)).or_insert_with(|| Channel {
                    proxy_key: PublicKey(*proxy_key),
                    worker_contract: address(worker_contract),
                    books: OwnBooks::default(),
                    payment: None,
                    write_off: None,
                });
            }
            EarningsRecord::Finished { proxy, tokens } => {
                self.finished(address(proxy), Tokens(*tokens));
            }
            EarningsRecord::WrittenOff { proxy, total } => {
                self.write_off(address(proxy), Tokens(*total));
            }
            EarningsRecord::Stated { proxy, signed, durable, max, payment } => {
                if let Some(channel) = self.channels.get_mut(&address(proxy)) {
                    let statement = Statement {
                        signed: Some(Tokens(*signed)),
                        durable: Tokens(*durable),
                        max: Tokens(*max),
                    };
                    // Replay: the comparison was made when the record was written.
                    let _ = channel.books.compare(&statement);
                    channel.payment.clone_from(payment);
                }
            }
        }
    }

    /// The channels as records, shortest form.
    #[must_use]
    pub fn snapshot(&self) -> Vec<EarningsRecord> {
        let mut records = Vec::new();
        for (proxy, channel) in &self.channels {
            records.push(EarningsRecord::Pinned {
                proxy: proxy.hash,
                proxy_key: channel.proxy_key.0,
                worker_contract: channel.worker_contract.hash,
            });
            let tokens = channel.books.own().0;
            records.push(EarningsRecord::Finished { proxy: proxy.hash, tokens });
            records.push(EarningsRecord::Stated {
                proxy: proxy.hash,
                signed: channel.books.signed().0,
                durable: channel.books.durable().0,
                max: channel.books.max().0,
                payment: channel.payment.clone(),
            });
        }
        records
    }
}

impl Channel {
    fn verify(&self, payment: &[u8]) -> Result<Tokens, Fault> {
        SignedPayment::from_boc(payment)
            .and_then(|payment| {
                payment.verify(PaymentKind::WorkerPayout, &self.worker_contract, &self.proxy_key)
            })
            .map_err(|fault| Fault::Payment(fault.to_string()))
    }
}
