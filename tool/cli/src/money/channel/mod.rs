//! `cocoon channel`: the contracts through which requests are paid, by hand.

mod books;
mod client;
mod list;
mod node;
mod proxy;
mod site;
mod worker;

use anyhow::Result;
use cocoon_units::Address;

use super::arguments::{ChannelCommand, ChannelOptions, ChannelRole};
use super::run;
use super::running::{self, NodeDesk};
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
        ChannelCommand::Export(options) => return run(books::export(&options)),
    };
    run(act(&options, wish))
}

async fn act(options: &ChannelOptions, wish: Wish) -> Result<()> {
    if let Some(url) = &options.node.node {
        return node::act(NodeDesk::open(url, &options.node).await?, options, &wish).await;
    }
    let spender = match Spender::open(&options.payer) {
        Ok(spender) => spender,
        // Whoever has no wallet may mean that of a node.
        Err(fault) => match with_contract(options).await {
            Some(desk) => return node::act(desk, options, &wish).await,
            None => return Err(fault),
        },
    };
    if let Some(note) = running::holder(spender.address).await {
        return node::act(NodeDesk::open(&note.http, &options.node).await?, options, &wish).await;
    }
    if let Some(desk) = with_contract(options).await.filter(|desk| desk.role == options.role) {
        let (role, url) = (desk.role.name(), &desk.url);
        eprintln!("the running {role} at {url} has a contract there, too: --node {url} means that");
    }
    if let Wish::Open { proxy_key: Some(key), .. } = &wish {
        return proxy::open(&spender, options, key).await;
    }
    if options.role == ChannelRole::Worker {
        return worker::act(&spender, options, &wish).await;
    }
    let place = site::find(&spender, options, spender.address).await?;
    match place.role {
        ChannelRole::Client => client::act(&spender, options, &place, &wish).await,
        ChannelRole::Worker => worker::at(&spender, options, &place, &wish, None).await,
        ChannelRole::Proxy => proxy::act(&spender, options, &place, &wish).await,
    }
}

/// A running node of this machine with the contract that is meant; one of the role that is meant,
/// where there are several.
async fn with_contract(options: &ChannelOptions) -> Option<NodeDesk> {
    let named = Address::parse(&options.contract).ok()?;
    let mut other = None;
    for note in running::notes() {
        let Ok(desk) = NodeDesk::open(&note.http, &options.node).await else { continue };
        match desk.has(named) {
            true if desk.role == options.role => return Some(desk),
            true => other = Some(desk),
            false => {}
        }
    }
    other
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
