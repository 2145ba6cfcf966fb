//! `cocoon books`: looks at the books of a node that does not run.

mod beancount;
mod csv;
mod day;
mod stored;

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use cocoon_units::Nanoton;
use std::path::PathBuf;

use crate::mistake;
use day::Day;
use stored::Stored;

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum BooksCommand {
    /// Read a node's journal, replay it, and check every rule of docs/books.md that holds for it.
    Check(CheckOptions),
    /// Write the accounts for a spreadsheet or for an accounting program.
    Export(ExportOptions),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct CheckOptions {
    /// Data directory of a proxy, worker or gateway that does not run now.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ExportOptions {
    /// Data directory of a proxy, worker or gateway that does not run now.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// What to write.
    #[arg(long, value_enum, default_value_t)]
    format: Form,
    /// What clients pay for an adjusted token, nanoTON (`price_per_token` of the registry). The
    /// books of a proxy hold it.
    #[arg(long, value_name = "NANOTON")]
    price: Option<u64>,
    /// What a worker gets for one, nanoTON (`worker_fee_per_token` of the registry).
    #[arg(long, value_name = "NANOTON")]
    worker_fee: Option<u64>,
    /// Day of the entries, YYYY-MM-DD; today (UTC) when left out. Records carry no times.
    #[arg(long, value_name = "DAY")]
    date: Option<Day>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Form {
    /// One line for each account (RFC 4180).
    #[default]
    Csv,
    /// One line for each request since the last snapshot (RFC 4180).
    CsvRequests,
    /// Double entry, in nanoTON, for `bean-check` and `fava`.
    Beancount,
}

/// What a token costs, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prices {
    client: Option<Nanoton>,
    worker: Option<Nanoton>,
}

pub(crate) fn run(command: &BooksCommand) -> Result<()> {
    match command {
        BooksCommand::Check(options) => check(options),
        BooksCommand::Export(options) => export(options),
    }
}

fn check(options: &CheckOptions) -> Result<()> {
    let stored = Stored::read(&options.data_dir)?;
    let lines = stored.check()?;
    for line in lines {
        println!("{line}");
    }
    Ok(())
}

fn export(options: &ExportOptions) -> Result<()> {
    let stored = Stored::read(&options.data_dir)?;
    // Figures that break the rules are not for accountants.
    stored.check()?;
    let of_books = match &stored {
        Stored::Proxy { books, .. } => Some(books.price()),
        Stored::Channels { .. } => None,
    };
    if let (Some(books), Some(given)) = (of_books, options.price)
        && books.0 != given
    {
        return Err(mistake(format_args!(
            "--price {given}: the books of this proxy hold {} nanoTON a token; leave it out",
            books.0
        )));
    }
    let prices = Prices {
        client: of_books.or(options.price.map(Nanoton)),
        worker: options.worker_fee.map(Nanoton),
    };
    let text = match options.format {
        Form::Csv => csv::accounts(&stored, prices),
        Form::CsvRequests => csv::requests(&stored),
        Form::Beancount => {
            let day = options.date.unwrap_or_else(Day::today);
            beancount::ledger(&stored, prices, day).map_err(mistake)?
        }
    };
    print!("{text}");
    Ok(())
}

/// Tokens at a price, nanoTON; wide enough for every product.
fn amount(price: Nanoton, tokens: u64) -> u128 {
    u128::from(price.0) * u128::from(tokens)
}

#[cfg(test)]
mod tests;
