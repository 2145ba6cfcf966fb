//! What a journal holds, whosever it is.

use anyhow::{Context as _, Result, bail};
use cocoon_channel::{Channel, ChannelRecord, Channels};
use cocoon_contract::payment::{PaymentKind, SignedPayment};
use cocoon_host::books::{self, ReadFault};
use cocoon_ledger::{Books, Record, RecordFault};
use cocoon_units::Address;
use std::path::Path;

use crate::mistake;

/// Whose channels a journal holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Worker,
}

impl Side {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Worker => "worker",
        }
    }

    const fn payments(self) -> PaymentKind {
        match self {
            Self::Client => PaymentKind::ClientCharge,
            Self::Worker => PaymentKind::WorkerPayout,
        }
    }
}

/// The books of a node, replayed, and the records they came from.
pub(crate) enum Stored {
    Proxy { books: Box<Books>, records: Vec<Record> },
    Channels { side: Side, channels: Channels, records: Vec<ChannelRecord> },
}

impl Stored {
    /// Reads the journal in a node's data directory.
    pub(crate) fn read(data_dir: &Path) -> Result<Self> {
        let found = match books::read(data_dir) {
            Ok(found) => found,
            Err(fault @ (ReadFault::NoNode { .. } | ReadFault::Running { .. })) => {
                return Err(mistake(fault));
            }
            Err(fault) => return Err(fault.into()),
        };
        Self::replay(&found)
    }

    pub(crate) fn replay(found: &[Vec<u8>]) -> Result<Self> {
        let side = match found.first().map(Vec::as_slice) {
            Some(b"cocoon-client") => Side::Client,
            Some(b"cocoon-worker") => Side::Worker,
            _ => return Self::proxy(found),
        };
        let mut channels = Channels::new(side.payments());
        let records: Vec<ChannelRecord> =
            found.iter().filter_map(|bytes| ChannelRecord::decode(bytes)).collect();
        for record in &records {
            channels.apply(record);
        }
        Ok(Self::Channels { side, channels, records })
    }

    fn proxy(found: &[Vec<u8>]) -> Result<Self> {
        let records: Result<Vec<Record>, RecordFault> =
            found.iter().map(|bytes| Record::decode(bytes)).collect();
        let records = records.context("the journal is of no node this version knows")?;
        let mut books = Books::new();
        for (number, record) in records.iter().enumerate() {
            books
                .apply(record)
                .with_context(|| format!("record {} contradicts those before it", number + 1))?;
        }
        books.made_durable();
        Ok(Self::Proxy { books: Box::new(books), records })
    }

    /// Checks the rules and tells what was found, for people.
    pub(crate) fn check(&self) -> Result<Vec<String>> {
        match self {
            Self::Proxy { books, records } => check_proxy(books, records.len()),
            Self::Channels { side, channels, records } => {
                check_channels(*side, channels, records.len())
            }
        }
    }
}

fn check_proxy(books: &Books, records: usize) -> Result<Vec<String>> {
    books.check().context("the books of this proxy break a rule of docs/books.md")?;
    let totals = books.totals();
    let (clients, workers) = (books.clients().count(), books.workers().count());
    let mut lines = vec![
        format!("proxy: {records} records, commit {}", books.seqno()),
        format!("clients: {clients}, {} tokens spent", totals.spent),
        format!("workers: {workers}, {} tokens earned", totals.earned),
    ];
    if books.has_uncommitted() {
        lines.push("not everything is committed yet".into());
    }
    lines.push("the rules B1 to B6 hold".into());
    Ok(lines)
}

fn check_channels(side: Side, channels: &Channels, records: usize) -> Result<Vec<String>> {
    let mut lines = vec![format!("{}: {records} records", side.name())];
    for (proxy, channel) in in_order(channels) {
        check_channel(side, channel).with_context(|| format!("proxy {}", proxy.to_raw()))?;
        let (own, told) = (channel.books.own().0, channel.books.max().0);
        let compared = match own.cmp(&told) {
            std::cmp::Ordering::Equal => "both agree".to_owned(),
            std::cmp::Ordering::Less => format!("it counts {} more than this node", told - own),
            std::cmp::Ordering::Greater => format!("it counts {} less than this node", own - told),
        };
        let (signed, proxy) = (channel.books.signed().0, proxy.to_raw());
        lines.push(format!("proxy {proxy}: {told} tokens, {signed} of them signed; {compared}"));
    }
    lines.push("every total is in order and every payment is signed by its proxy".into());
    Ok(lines)
}

/// The rules of one channel: its totals in order, its payment good for what the books say.
fn check_channel(side: Side, channel: &Channel) -> Result<()> {
    let (durable, max) = (channel.books.durable().0, channel.books.max().0);
    if durable > max {
        bail!("{durable} tokens are said to be on the proxy's disk, and only {max} counted");
    }
    let Some(payment) = &channel.payment else { return Ok(()) };
    let tokens = SignedPayment::from_boc(payment)
        .and_then(|payment| {
            payment.verify(side.payments(), &channel.own_contract, channel.proxy_key)
        })
        .context("the payment in the journal is not one of this proxy for this node")?;
    if tokens != channel.books.signed() {
        let signed = channel.books.signed();
        bail!("the payment is good for {tokens} tokens, the books say {signed}");
    }
    Ok(())
}

/// Channels by their proxy's address, so that two exports of the same books are the same.
pub(crate) fn in_order(channels: &Channels) -> Vec<(&Address, &Channel)> {
    let mut all: Vec<_> = channels.channels().collect();
    all.sort_unstable_by_key(|(proxy, _)| proxy.hash);
    all
}
