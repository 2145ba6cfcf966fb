//! Per proxy contract: own count, the proxy's word, the best payment.

use cocoon_contract::payment::{PaymentKey, PaymentKind, SignedPayment};
use cocoon_ledger::{Difference, OwnBooks, Statement};
use cocoon_units::{Address, PublicKey, Tokens};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

use crate::fault::ChannelFault;

/// The channel with one proxy contract.
#[derive(Clone, Debug)]
pub struct Channel {
    /// The proxy's key, pinned at first contact.
    pub proxy_key: PublicKey,
    /// The same key, ready for checks.
    payment_key: PaymentKey,
    /// Our own contract at that proxy: worker or client.
    pub own_contract: Address,
    /// The books.
    pub books: OwnBooks,
    /// The best payment held, as bytes that may be posted on chain.
    pub payment: Option<Vec<u8>>,
    /// Set when the proxy counted less than it had told us and its handshake cannot go on: the
    /// next handshake accepts its number, and the difference is reported as lost.
    pub write_off: Option<Tokens>,
}

/// A durable fact about channels, for the node's journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChannelRecord {
    /// First contact with a proxy contract.
    Pinned {
        /// The proxy contract.
        proxy: [u8; 32],
        /// Its key.
        proxy_key: [u8; 32],
        /// Our contract there.
        own_contract: [u8; 32],
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

impl ChannelRecord {
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

/// All channels of a node, by proxy contract.
#[derive(Clone, Debug)]
pub struct Channels {
    kind: PaymentKind,
    channels: HashMap<Address, Channel>,
}

impl Channels {
    /// No channel yet. `kind` is what proxies sign for this node: a client's charge or a worker's
    /// payout.
    #[must_use]
    pub fn new(kind: PaymentKind) -> Self {
        Self { kind, channels: HashMap::new() }
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
    /// [`ChannelFault::Identity`]: the proxy is not who it was; close the connection.
    pub fn pin(
        &mut self,
        proxy: Address,
        proxy_key: PublicKey,
        own_contract: Address,
    ) -> Result<Option<ChannelRecord>, ChannelFault> {
        if let Some(channel) = self.channels.get(&proxy) {
            if channel.proxy_key != proxy_key {
                return Err(ChannelFault::Identity {
                    what: "public key",
                    stated: proxy_key.to_string(),
                    expected: channel.proxy_key.to_string(),
                });
            }
            return Ok(None);
        }
        let record = ChannelRecord::Pinned {
            proxy: proxy.hash,
            proxy_key: proxy_key.0,
            own_contract: own_contract.hash,
        };
        self.apply(&record);
        Ok(Some(record))
    }

    /// Takes the proxy's word and its payment.
    ///
    /// # Errors
    /// [`ChannelFault::Payment`] when the payment is not for us or not signed; [`ChannelFault::Books`] when the
    /// proxy forgot or contradicts itself. Close the connection in both cases.
    pub fn state(
        &mut self,
        proxy: Address,
        payment: Option<&[u8]>,
        durable: Tokens,
        max: Tokens,
    ) -> Result<Option<ChannelRecord>, ChannelFault> {
        let kind = self.kind;
        let Some(channel) = self.channels.get_mut(&proxy) else { return Ok(None) };
        let signed = match payment {
            // The payment we hold was verified when it came; proxies send it again and again.
            Some(bytes) if channel.payment.as_deref() == Some(bytes) => {
                Some(channel.books.signed())
            }
            Some(bytes) => Some(channel.verify(kind, bytes)?),
            None => None,
        };
        let before = (channel.books.signed(), channel.books.durable(), channel.books.max());
        match channel.books.compare(&Statement { signed, durable, max }) {
            // A request may still be on its way to either side's books.
            Ok(()) | Err(Difference::MoreThanOwn { .. } | Difference::LessThanOwn { .. }) => {}
            Err(difference) => return Err(difference.into()),
        }
        let now = (channel.books.signed(), channel.books.durable(), channel.books.max());
        let better = payment.filter(|_| now.0 > before.0 || channel.payment.is_none());
        if now == before && better.is_none() {
            return Ok(None);
        }
        if let Some(better) = better {
            channel.payment = Some(better.to_vec());
        }
        Ok(Some(ChannelRecord::Stated {
            proxy: proxy.hash,
            signed: now.0.0,
            durable: now.1.0,
            max: now.2.0,
            payment: channel.payment.clone(),
        }))
    }

    /// Books a request that ended, by our own count.
    pub fn finished(&mut self, proxy: Address, tokens: Tokens) -> Option<ChannelRecord> {
        let channel = self.channels.get_mut(&proxy)?;
        channel.books.finished(tokens);
        Some(ChannelRecord::Finished { proxy: proxy.hash, tokens: tokens.0 })
    }

    /// Accepts a total below what the proxy had told before.
    pub fn write_off(&mut self, proxy: Address, total: Tokens) -> Option<ChannelRecord> {
        let record = ChannelRecord::WrittenOff { proxy: proxy.hash, total: total.0 };
        let books = &mut self.channels.get_mut(&proxy)?.books;
        let before = *books;
        books.settle_to(total);
        // Also when only the own count fell: replay must give the same books.
        (*books != before).then_some(record)
    }

    /// Remembers that this proxy counts less than it told before and that its handshake cannot go
    /// on (protocol notes, wire 10.1): [`take_write_off`](Self::take_write_off) accepts its total
    /// at the next contact.
    pub fn dead_end(&mut self, proxy: Address, stated_max: Tokens) {
        if let Some(channel) = self.channels.get_mut(&proxy) {
            channel.write_off = Some(stated_max);
        }
    }

    /// Accepts the total of a [`dead_end`](Self::dead_end), if there was one.
    pub fn take_write_off(&mut self, proxy: Address) -> Option<ChannelRecord> {
        let total = self.channels.get_mut(&proxy)?.write_off.take()?;
        self.write_off(proxy, total)
    }

    /// Applies a record that was read from the journal. A record of an unknown channel is skipped.
    pub fn apply(&mut self, record: &ChannelRecord) {
        let address = |hash: &[u8; 32]| Address::new(0, *hash);
        match record {
            ChannelRecord::Pinned { proxy, proxy_key, own_contract } => {
                self.channels.entry(address(proxy)).or_insert_with(|| Channel {
                    proxy_key: PublicKey(*proxy_key),
                    payment_key: PublicKey(*proxy_key).into(),
                    own_contract: address(own_contract),
                    books: OwnBooks::default(),
                    payment: None,
                    write_off: None,
                });
            }
            ChannelRecord::Finished { proxy, tokens } => {
                self.finished(address(proxy), Tokens(*tokens));
            }
            ChannelRecord::WrittenOff { proxy, total } => {
                self.write_off(address(proxy), Tokens(*total));
            }
            ChannelRecord::Stated { proxy, signed, durable, max, payment } => {
                if let Some(channel) = self.channels.get_mut(&address(proxy)) {
                    // A payment above what is durable stands after a write-off: the books know it
                    // already, and a statement with both would contradict itself.
                    let statement = Statement {
                        signed: (signed <= durable).then_some(Tokens(*signed)),
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
    pub fn snapshot(&self) -> Vec<ChannelRecord> {
        let mut records = Vec::new();
        for (proxy, channel) in &self.channels {
            records.push(ChannelRecord::Pinned {
                proxy: proxy.hash,
                proxy_key: channel.proxy_key.0,
                own_contract: channel.own_contract.hash,
            });
            let (signed, durable) = (channel.books.signed().0, channel.books.durable().0);
            if signed > durable {
                // After a write-off below the payment: told in the order it happened.
                records.push(ChannelRecord::Stated {
                    proxy: proxy.hash,
                    signed,
                    durable: signed,
                    max: signed,
                    payment: None,
                });
                records.push(ChannelRecord::WrittenOff { proxy: proxy.hash, total: durable });
            }
            records.push(ChannelRecord::Stated {
                proxy: proxy.hash,
                signed,
                durable,
                max: channel.books.max().0,
                payment: channel.payment.clone(),
            });
            // Last, since a write-off lowers the own count too.
            let tokens = channel.books.own().0;
            records.push(ChannelRecord::Finished { proxy: proxy.hash, tokens });
        }
        records
    }
}

impl Channel {
    fn verify(&self, kind: PaymentKind, payment: &[u8]) -> Result<Tokens, ChannelFault> {
        SignedPayment::from_boc(payment)
            .and_then(|payment| payment.verify(kind, &self.own_contract, self.payment_key))
            .map_err(|fault| ChannelFault::Payment(fault.to_string()))
    }
}
