//! `cocoon wallet`: make, bring, show, fund, send, look back, show the words.

mod make;
mod receive;
mod send;
mod show;

pub(crate) use show::transaction;

use anyhow::Result;

use super::arguments::WalletCommand;
use super::run;

pub(crate) fn run_command(command: WalletCommand) -> Result<()> {
    match command {
        WalletCommand::New(options) => make::new(&options),
        WalletCommand::Import(options) => make::import(&options),
        WalletCommand::Export(options) => make::export(&options),
        WalletCommand::Show(options) => run(show::show(&options)),
        WalletCommand::History(options) => run(show::history(&options)),
        WalletCommand::Receive(options) => run(receive::receive(&options)),
        WalletCommand::Send(options) => run(send::send(&options)),
    }
}
