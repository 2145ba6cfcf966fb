//! `cocoon channel`: the contracts through which requests are paid, by hand.

mod client;
mod list;
mod proxy;
mod site;
mod worker;

use anyhow::Result;

use super::arguments::{ChannelCommand, ChannelOptions, ChannelRole};
use super::run;
use super::say::{self, Fields};
use super::spend::{Done, Spender};
use crate::mistake;

/// What is wished, whoever's contract it is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wish {
    Look,
    Open { deposit: Option<String>, proxy_key: Option<String> },
    TopUp { amount: String },
    Withdraw,
    Close,
}

pub(crate) fn run_command(command: ChannelCommand) -> Result<()> {
    let (options, wish) = match command {
        ChannelCommand::List(options) => return run(list::list(&options)),
        ChannelCommand::Status(options) => (options, Wish::Look),
        ChannelCommand::Open(options) => {
            let wish = Wish::Open { deposit: options.deposit, proxy_key: options.proxy_key };
            (options.channel, wish)
        }
        ChannelCommand::Topup(options) => (options.channel, Wish::TopUp { amount: options.amount }),
        ChannelCommand::Withdraw(options) => (options, Wish::Withdraw),
        ChannelCommand::Close(options) => (options, Wish::Close),
    };
    run(act(&options, wish))
}

async fn act(options: &ChannelOptions, wish: Wish) -> Result<()> {
    let spender = Spender::open(&options.payer)?;
    if let Wish::Open { proxy_key: Some(key), .. } = &wish {
        return proxy::open(&spender, options, key).await;
    }
    let place = site::find(&spender, options).await?;
    match place.role {
        ChannelRole::Client => client::act(&spender, options, &place, &wish).await,
        ChannelRole::Worker => worker::act(&spender, options, &place, &wish).await,
        ChannelRole::Proxy => proxy::act(&spender, options, &place, &wish).await,
    }
}

/// What is printed at the end of every command.
struct Report<'a> {
    options: &'a ChannelOptions,
    head: Fields,
    steps: Vec<Fields>,
}

impl<'a> Report<'a> {
    fn new(options: &'a ChannelOptions, head: Fields) -> Self {
        Self { options, head, steps: Vec::new() }
    }

    fn step(&mut self, title: Fields, done: &Done) {
        self.steps.push(done.fields(title));
    }

    fn end(self, next: &str, after: Option<Fields>) {
        let fields =
            self.head.add("steps", self.steps).add("next", next).add("contract now", after);
        say::answer(self.options.payer.json, &fields);
    }
}

fn no_such(what: &str) -> anyhow::Error {
    mistake(format_args!("{what}: cocoon channel status shows what there is"))
}
