//! Tables for spreadsheets (RFC 4180). No field needs quotes: words, hex and numbers.

use cocoon_ledger::{AccountId, ClientStatus, Record};
use cocoon_units::{Address, Nanoton};
use std::fmt::Write as _;

use super::stored::{Stored, in_order};
use super::{Prices, amount};

/// End of a line in RFC 4180.
const END: &str = "\r\n";

/// One line for each account. Token columns are cumulative since the contract was made; an amount
/// is empty where its price is not known.
pub(crate) fn accounts(stored: &Stored, prices: Prices) -> String {
    let mut text = String::new();
    match stored {
        Stored::Proxy { books, .. } => {
            let _ = write!(
                text,
                "party,owner,status,used_tokens,durable_tokens,committed_tokens,settled_tokens,\
                 used_nanoton,settled_nanoton,open_nanoton{END}"
            );
            let mut clients: Vec<_> = books.clients().collect();
            clients.sort_unstable_by_key(|(id, _)| **id);
            for (id, client) in clients {
                let settled = client.charged().0;
                let counters = client.counters();
                let columns = [counters.max().0, counters.durable().0, counters.committed().0];
                line(
                    &mut text,
                    "client",
                    id,
                    state(client.status()),
                    columns,
                    settled,
                    prices.client,
                );
            }
            let mut workers: Vec<_> = books.workers().collect();
            workers.sort_unstable_by_key(|(id, _)| **id);
            for (id, worker) in workers {
                let settled = worker.paid_out().0;
                let counters = worker.counters();
                let columns = [counters.max().0, counters.durable().0, counters.committed().0];
                line(&mut text, "worker", id, "", columns, settled, prices.worker);
            }
        }
        Stored::Channels { side, channels, .. } => {
            let _ = write!(
                text,
                "party,proxy,own_contract,own_count_tokens,proxy_total_tokens,\
                 proxy_durable_tokens,signed_tokens,total_nanoton{END}"
            );
            let price = match side {
                super::stored::Side::Client => prices.client,
                super::stored::Side::Worker => prices.worker,
            };
            for (proxy, channel) in in_order(channels) {
                let books = &channel.books;
                let total = price.map(|price| amount(price, books.max().0).to_string());
                let _ = write!(
                    text,
                    "{},{},{},{},{},{},{},{}{END}",
                    side.name(),
                    proxy.to_raw(),
                    channel.own_contract.to_raw(),
                    books.own().0,
                    books.max().0,
                    books.durable().0,
                    books.signed().0,
                    total.unwrap_or_default()
                );
            }
        }
    }
    text
}

fn line(
    text: &mut String,
    party: &str,
    id: &AccountId,
    status: &str,
    [used, durable, committed]: [u64; 3],
    settled: u64,
    price: Option<Nanoton>,
) {
    let shown = |tokens| price.map(|price| amount(price, tokens).to_string()).unwrap_or_default();
    // The chain may show more than old books know; nothing is open then.
    let open = used.saturating_sub(settled);
    let _ = write!(
        text,
        "{party},{},{status},{used},{durable},{committed},{settled},{},{},{}{END}",
        owner(id),
        shown(used),
        shown(settled),
        shown(open)
    );
}

/// One line for each request that was booked since the last snapshot, in order.
pub(crate) fn requests(stored: &Stored) -> String {
    let mut text = String::new();
    match stored {
        Stored::Proxy { records, .. } => {
            let _ = write!(text, "record,request,client,worker,tokens{END}");
            for (number, record) in records.iter().enumerate() {
                if let Record::Finished { request, client, worker, tokens } = record {
                    let request = hex::encode(request);
                    let (client, worker) = (owner(client), owner(worker));
                    let number = number + 1;
                    let _ = write!(text, "{number},{request},{client},{worker},{tokens}{END}");
                }
            }
        }
        Stored::Channels { records, .. } => {
            let _ = write!(text, "record,proxy,tokens{END}");
            for (number, record) in records.iter().enumerate() {
                if let cocoon_channel::ChannelRecord::Finished { proxy, tokens } = record {
                    let proxy = Address::new(0, *proxy).to_raw();
                    let _ = write!(text, "{},{proxy},{tokens}{END}", number + 1);
                }
            }
        }
    }
    text
}

/// The owner's address; accounts are named by its hash, all in the basic workchain.
pub(crate) fn owner(id: &AccountId) -> String {
    Address::new(0, id.0).to_raw()
}

fn state(status: ClientStatus) -> &'static str {
    match status {
        ClientStatus::Unknown => "unknown",
        ClientStatus::Normal => "normal",
        ClientStatus::Closing => "closing",
        ClientStatus::Closed => "closed",
    }
}
