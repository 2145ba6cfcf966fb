//! Double entry in the form of beancount (its language syntax, version 3).

use cocoon_units::Nanoton;
use std::fmt::Write as _;

use super::csv::owner;
use super::day::Day;
use super::stored::{Side, Stored, in_order};
use super::{Prices, amount};

/// Hex digits of an address in an account's name: enough to tell accounts apart, and short enough
/// to read. The whole address stands beside each entry.
const NAME_DIGITS: usize = 12;

/// One transaction: postings that come to zero.
struct Entry {
    text: String,
    address: String,
    tokens: u64,
    postings: Vec<(String, i128)>,
}

/// The accounts as a ledger of its own: every entry is a total since the contract was made.
///
/// The text says which price is missing.
pub(crate) fn ledger(stored: &Stored, prices: Prices, day: Day) -> Result<String, String> {
    let (title, entries) = match stored {
        Stored::Proxy { books, .. } => {
            let fee = prices.worker.ok_or_else(missing_fee)?;
            let price = books.price();
            let mut entries = Vec::new();
            let mut clients: Vec<_> = books.clients().collect();
            clients.sort_unstable_by_key(|(id, _)| **id);
            for (id, client) in clients {
                let (used, charged) = (client.counters().max().0, client.charged().0);
                entries.push(of_client(owner(id), price, used, charged));
            }
            let mut workers: Vec<_> = books.workers().collect();
            workers.sort_unstable_by_key(|(id, _)| **id);
            for (id, worker) in workers {
                let (earned, paid) = (worker.counters().max().0, worker.paid_out().0);
                entries.push(of_worker(owner(id), fee, earned, paid));
            }
            ("Cocoon proxy", entries)
        }
        Stored::Channels { side, channels, .. } => {
            let (title, price) = match side {
                Side::Client => ("Cocoon client", prices.client.ok_or_else(missing_price)?),
                Side::Worker => ("Cocoon worker", prices.worker.ok_or_else(missing_fee)?),
            };
            let entry = |proxy: String, tokens| of_channel(*side, proxy, price, tokens);
            let entries = in_order(channels)
                .into_iter()
                .map(|(proxy, channel)| entry(proxy.to_raw(), channel.books.max().0))
                .collect();
            (title, entries)
        }
    };
    Ok(write(title, day, &entries))
}

fn missing_price() -> String {
    "the books of a client hold no price: say --price NANOTON, `price_per_token` of the registry"
        .to_owned()
}

fn missing_fee() -> String {
    "these books do not hold what a worker gets for a token: say --worker-fee NANOTON, \
     `worker_fee_per_token` of the registry"
        .to_owned()
}

/// A proxy's client: what it used is earned; what is charged has come, the rest is owed.
fn of_client(address: String, price: Nanoton, used: u64, charged: u64) -> Entry {
    let name = name_of(&address);
    let (used_amount, charged_amount) = (signed(price, used), signed(price, charged));
    Entry {
        text: "Requests of a client".into(),
        tokens: used,
        postings: vec![
            ("Assets:Cocoon:Charged".into(), charged_amount),
            (format!("Assets:Cocoon:Receivable:{name}"), used_amount - charged_amount),
            ("Income:Cocoon:Requests".into(), -used_amount),
        ],
        address,
    }
}

/// A proxy's worker: what it earned is spent; what is paid out has gone, the rest is owed.
fn of_worker(address: String, fee: Nanoton, earned: u64, paid: u64) -> Entry {
    let name = name_of(&address);
    let (earned_amount, paid_amount) = (signed(fee, earned), signed(fee, paid));
    Entry {
        text: "Work of a worker".into(),
        tokens: earned,
        postings: vec![
            ("Expenses:Cocoon:Work".into(), earned_amount),
            ("Assets:Cocoon:PaidOut".into(), -paid_amount),
            (format!("Liabilities:Cocoon:Payable:{name}"), paid_amount - earned_amount),
        ],
        address,
    }
}

/// A client's or worker's relation with a proxy.
fn of_channel(side: Side, address: String, price: Nanoton, tokens: u64) -> Entry {
    let name = name_of(&address);
    let total = signed(price, tokens);
    let (text, postings) = match side {
        Side::Client => (
            "Requests through a proxy",
            vec![
                ("Expenses:Cocoon:Requests".to_owned(), total),
                (format!("Liabilities:Cocoon:Payable:{name}"), -total),
            ],
        ),
        Side::Worker => (
            "Work for a proxy",
            vec![
                (format!("Assets:Cocoon:Receivable:{name}"), total),
                ("Income:Cocoon:Work".to_owned(), -total),
            ],
        ),
    };
    Entry { text: text.into(), address, tokens, postings }
}

fn write(title: &str, day: Day, entries: &[Entry]) -> String {
    let mut text = format!(
        "; Totals since the contracts were made, not movements: replace the last export by this \
         one.\noption \"title\" \"{title}\"\noption \"operating_currency\" \"NANOTON\"\n\n{day} \
         commodity NANOTON\n"
    );
    let mut accounts: Vec<&str> = entries
        .iter()
        .flat_map(|entry| entry.postings.iter().map(|(account, _)| account.as_str()))
        .collect();
    accounts.sort_unstable();
    accounts.dedup();
    for account in accounts {
        let _ = writeln!(text, "{day} open {account} NANOTON");
    }
    for entry in entries {
        let _ = write!(
            text,
            "\n{day} * \"{}\"\n  address: \"{}\"\n  tokens: {}\n",
            entry.text, entry.address, entry.tokens
        );
        for (account, amount) in &entry.postings {
            let _ = writeln!(text, "  {account}  {amount} NANOTON");
        }
    }
    text
}

fn name_of(address: &str) -> String {
    let hash = address.rsplit(':').next().unwrap_or_default();
    let digits: String = hash.chars().take(NAME_DIGITS).collect();
    format!("A{}", digits.to_uppercase())
}

/// As a signed number: a price and a count of 64 bits each come to less than 2^127 together in
/// every case that a node can have counted; more is cut off there.
fn signed(price: Nanoton, tokens: u64) -> i128 {
    i128::try_from(amount(price, tokens)).unwrap_or(i128::MAX / 4)
}
