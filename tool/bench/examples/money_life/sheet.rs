//! The spreadsheet: every message of money in and out of every account, and every fee.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Result, ensure};
use cocoon_chain::{MessageRecord, TransactionRecord};
use cocoon_contract::message::{Body, ClientAction, ClientPayload};
use cocoon_contract::payment::PaymentKind;
use cocoon_contract::state::Phase;
use cocoon_units::Address;

use super::site::{Site, WORKER_OWNER};

/// One account.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line {
    /// Coins that came, by what they were.
    came: BTreeMap<&'static str, u64>,
    /// Coins that left, by what they were; forwarding fees included.
    left: BTreeMap<&'static str, u64>,
    /// Fees of the account's own transactions.
    fees: u64,
    transactions: u64,
    /// What the chain says is there now.
    balance: u64,
}

/// One instance of the contracts: before and after the change of the price.
#[derive(Clone, Debug, Default)]
struct Epoch {
    deposited: u64,
    refunded: u64,
    paid_out: u64,
    charged_tokens: u64,
    paid_tokens: u64,
    is_closed: bool,
    balance: u64,
}

/// All accounts.
#[derive(Debug, Default)]
pub(crate) struct Sheet {
    lines: Vec<(String, Line)>,
    epochs: [Epoch; 2],
}

impl Sheet {
    /// Fills the sheet from the chain's transactions. `old` are client, worker and proxy contract
    /// before the change.
    pub(crate) async fn read(site: &Site, old: (Address, Address, Address)) -> Result<Self> {
        let mut sheet = Self::default();
        let mut accounts: Vec<(String, Address)> =
            site.wallets.iter().map(|(name, at, _)| (format!("{name}'s wallet"), *at)).collect();
        for (name, owner) in ["proxy", "worker", "client"].iter().zip(Site::owners()) {
            accounts.push((format!("{name}'s owner"), owner));
        }
        let contracts = [old, (site.client(), site.worker(), site.proxy())];
        for (epoch, (client, worker, proxy)) in contracts.iter().enumerate() {
            for (name, at) in [("client", client), ("worker", worker), ("proxy", proxy)] {
                accounts.push((format!("{name} contract {}", epoch + 1), *at));
            }
        }
        accounts.push(("root contract".to_owned(), site.root));
        for (name, at) in accounts {
            let all = transactions(site, at).await?;
            let line = Line::of(&all, site.account(at).await?.balance.0);
            sheet.lines.push((name, line));
        }
        let wallet = transactions(site, site.wallet("client")).await?;
        let owner = transactions(site, WORKER_OWNER).await?;
        for (epoch, (client, worker, proxy)) in sheet.epochs.iter_mut().zip(contracts) {
            epoch.deposited = deposits(&transactions(site, proxy).await?, client);
            epoch.refunded = payouts(&wallet, proxy);
            epoch.paid_out = payouts(&owner, proxy);
            if let Some(state) = site.client_state(client).await {
                epoch.charged_tokens = state.tokens_used.0;
                epoch.is_closed = state.phase == Phase::Closed;
                epoch.balance = state.balance.0;
            }
            epoch.paid_tokens = site.worker_state(worker).await.map_or(0, |state| state.tokens.0);
        }
        Ok(sheet)
    }

    /// Checks the sheet against the chain, and the contracts against what was used.
    pub(crate) fn check(&self, used: [u64; 2], [prices, fees]: [[u64; 2]; 2]) -> Result<()> {
        for (name, line) in &self.lines {
            let expected = line.expected();
            ensure!(
                expected == i128::from(line.balance),
                "{name} holds {} nanoton, the sheet says {expected}",
                line.balance
            );
        }
        for (number, epoch) in self.epochs.iter().enumerate() {
            let (used, price, fee) = (used[number], prices[number], fees[number]);
            ensure!(epoch.is_closed && epoch.balance == 0, "client contract {number} is over");
            ensure!(epoch.paid_tokens == used, "the worker was paid for {}", epoch.paid_tokens);
            ensure!(epoch.paid_out == used * fee, "the worker's owner got {}", epoch.paid_out);
            ensure!(epoch.charged_tokens <= used, "charged {} of {used}", epoch.charged_tokens);
            let charged = epoch.charged_tokens * price;
            let unspent = epoch.deposited - charged;
            ensure!(epoch.refunded == unspent, "{} of {unspent} came back", epoch.refunded);
        }
        // The proxy granted the first refund itself, for the last token; nobody did the second.
        ensure!(self.epochs[0].charged_tokens == used[0], "all of the first instance is charged");
        Ok(())
    }
}

impl Line {
    fn of(all: &[TransactionRecord], balance: u64) -> Self {
        let mut line = Self { balance, ..Self::default() };
        for transaction in all {
            line.transactions += 1;
            line.fees += transaction.fees.0;
            if let Some(message) = &transaction.in_msg {
                *line.came.entry(kind(message)).or_default() += message.value.0;
            }
            for message in &transaction.out_msgs {
                let left = message.value.0 + message.fwd_fee.0;
                *line.left.entry(kind(message)).or_default() += left;
            }
        }
        line
    }

    fn expected(&self) -> i128 {
        let sum = |of: &BTreeMap<_, u64>| of.values().map(|value| i128::from(*value)).sum::<i128>();
        sum(&self.came) - sum(&self.left) - i128::from(self.fees)
    }
}

impl fmt::Display for Sheet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<20} {:>17} {:>17} {:>15} {:>4}  what",
            "account", "came", "left", "fees", "tx"
        )?;
        for (name, line) in &self.lines {
            let (came, left) = (line.came.values().sum::<u64>(), line.left.values().sum::<u64>());
            let parts = |of: &BTreeMap<&str, u64>, sign: &str| -> String {
                of.iter().map(|(what, sum)| format!(" {sign}{what} {sum}")).collect()
            };
            writeln!(
                f,
                "{name:<20} {came:>17} {left:>17} {:>15} {:>4} {}{}",
                line.fees,
                line.transactions,
                parts(&line.came, "+"),
                parts(&line.left, "-"),
            )?;
            writeln!(f, "{:<20} {:>17} = balance", "", line.balance)?;
        }
        for (number, epoch) in self.epochs.iter().enumerate() {
            writeln!(
                f,
                "instance {}: deposited {}, charged {} tokens, refunded {}; worker paid {} for {} tokens",
                number + 1,
                epoch.deposited,
                epoch.charged_tokens,
                epoch.refunded,
                epoch.paid_out,
                epoch.paid_tokens,
            )?;
        }
        writeln!(f)
    }
}

async fn transactions(site: &Site, at: Address) -> Result<Vec<TransactionRecord>> {
    let chain = site.chain().open()?.expect("a chain");
    let mut all: Vec<TransactionRecord> = Vec::new();
    loop {
        let after = all.last().map_or(0, |last| last.id.lt);
        let page = chain.transactions_since(at, after, 256).await?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}

/// What a message is, for the sheet.
fn kind(message: &MessageRecord) -> &'static str {
    if message.source.is_none() {
        return "order";
    }
    match Body::parse(&message.body) {
        _ if message.bounced => "bounced",
        Ok(Body::Excesses { .. }) => "unused value",
        Ok(Body::Payout { .. }) => "payout",
        Ok(Body::SaveState(_)) => "commit",
        Ok(Body::Client(request)) => match request.action {
            ClientAction::TopUp { .. } | ClientAction::ChangeSecretHashAndTopUp { .. } => "deposit",
            ClientAction::RequestRefund => "refund request",
            _ => "client request",
        },
        Ok(Body::ClientNotice(_)) => "client notice",
        Ok(Body::WorkerNotice(_)) => "worker notice",
        Ok(Body::Payment(payment)) => match payment.kind() {
            PaymentKind::ClientCharge => "charge",
            PaymentKind::ClientGrantRefund => "grant",
            _ => "worker payment",
        },
        Ok(Body::Proxy(_)) => "stake",
        Ok(Body::Close(_)) => "close",
        Ok(Body::Root(_)) => "root order",
        Ok(Body::Empty) => "coins",
        _ => "other",
    }
}

/// What a client's deposits brought to its proxy contract.
fn deposits(proxy: &[TransactionRecord], client: Address) -> u64 {
    let notices = proxy.iter().filter_map(|transaction| transaction.in_msg.as_ref());
    notices
        .filter(|message| message.source == Some(client))
        .filter_map(|message| match Body::parse(&message.body) {
            Ok(Body::ClientNotice(notice)) => match notice.payload {
                Some(ClientPayload::TopUp { amount, .. }) => Some(amount.0),
                _ => None,
            },
            _ => None,
        })
        .sum()
}

/// What a proxy contract paid to an account.
fn payouts(receiver: &[TransactionRecord], proxy: Address) -> u64 {
    let arrived = receiver.iter().filter_map(|transaction| transaction.in_msg.as_ref());
    arrived
        .filter(|message| message.source == Some(proxy))
        .filter(|message| matches!(Body::parse(&message.body), Ok(Body::Payout { .. })))
        .map(|message| message.value.0)
        .sum()
}
