//! The same wishes, carried out by a running node: it holds the wallet, so it spends.

use anyhow::{Context as _, Result, bail};
use cocoon_units::{Address, Nanoton};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

use super::super::arguments::{ChannelOptions, ChannelRole};
use super::super::running::{self, NodeDesk};
use super::super::say::{self, Field, Fields};
use super::Wish;
use crate::mistake;

/// How often a running node's page is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A running node and the contract that is meant.
struct Site<'a> {
    desk: NodeDesk,
    options: &'a ChannelOptions,
    named: Address,
    said: String,
}

/// Has the node carry the wish out, and waits.
pub(super) async fn act(desk: NodeDesk, options: &ChannelOptions, wish: &Wish) -> Result<()> {
    let named = Address::parse(&options.contract)
        .map_err(|fault| mistake(format_args!("{}: {fault}", options.contract)))?;
    eprintln!("the running {} at {} holds the wallet: it is asked", desk.role.name(), desk.url);
    let mut site = Site { desk, options, named, said: String::new() };
    let before = site.contract()?;
    let changes = !matches!(wish, Wish::Look);
    if changes && !options.payer.dry_run {
        say::somebody(options.payer.yes)?;
    }
    let mut steps = Vec::new();
    match (site.desk.role, wish) {
        (_, Wish::Look) => {}
        (_, Wish::Open { .. }) => {
            return Err(mistake("a running node opens its contracts by itself"));
        }
        (ChannelRole::Client, wish) => site.client(wish, &before, &mut steps).await?,
        (ChannelRole::Worker, Wish::Withdraw) => site.worker(&before, &mut steps).await?,
        (ChannelRole::Worker, _) => {
            return Err(mistake(
                "a worker's contract is opened by its first payout and closed by the proxy: \
                 cocoon channel withdraw collects",
            ));
        }
        (ChannelRole::Proxy, wish) => site.proxy(wish, &before, &mut steps).await?,
    }
    let after = site.contract()?;
    let doing = after["doing"].as_str().unwrap_or("see /jsonstats").to_owned();
    let fields = Fields::new()
        .add("node", site.desk.url.as_str())
        .add("role", site.desk.role.name())
        .add("wallet", site.wallet())
        .add("before", changes.then(|| shown(&before)))
        .add("steps", steps)
        .add("next", doing)
        .add("contract now", shown(&after));
    say::answer(options.payer.json, &fields);
    Ok(())
}

impl Site<'_> {
    /// The page's part about the contract that is meant.
    fn contract(&self) -> Result<Value> {
        let page = &self.desk.page;
        let is_it = |value: &Value| {
            value.as_str().and_then(|text| Address::parse(text).ok()) == Some(self.named)
        };
        if self.desk.role == ChannelRole::Proxy {
            let mut contract = page["smartcontract"].clone();
            contract["doing"] = contract["phase"].clone();
            return match is_it(&contract["address"]) {
                true => Ok(contract),
                false => Err(self.unknown()),
            };
        }
        let contracts = page["money"]["contracts"].as_array().into_iter().flatten();
        contracts
            .into_iter()
            .find(|one| is_it(&one["sc_address"]) || is_it(&one["proxy_sc_address"]))
            .cloned()
            .ok_or_else(|| self.unknown())
    }

    fn unknown(&self) -> anyhow::Error {
        mistake(format_args!(
            "the running {} at {} has no contract at {}",
            self.desk.role.name(),
            self.desk.url,
            self.named
        ))
    }

    fn wallet(&self) -> Option<Address> {
        let page = &self.desk.page;
        let text = page["money"]["wallet"].as_str().or(page["wallet"]["address"].as_str())?;
        Address::parse(text).ok()
    }

    /// Looks at the page until something is so, and says what is waited for.
    async fn until(&mut self, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
        loop {
            self.desk.look().await?;
            let contract = self.contract()?;
            if is_so(&contract) {
                return Ok(contract);
            }
            let doing = contract["doing"].as_str().unwrap_or_default();
            if doing != self.said {
                eprintln!("{doing}");
                self.said = doing.to_owned();
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Shows what a step costs and brings; true when it is to be done.
    fn agreed(&self, title: Fields, steps: &mut Vec<Fields>) -> Result<bool> {
        if self.options.payer.dry_run {
            steps.push(title.add("done", "no, only asked"));
            return Ok(false);
        }
        if !self.options.payer.json {
            eprint!("{}", title.to_text());
        }
        say::confirm(self.options.payer.yes, "Do it?")?;
        steps.push(title.add("done", "yes"));
        Ok(true)
    }

    async fn client(&mut self, wish: &Wish, before: &Value, steps: &mut Vec<Fields>) -> Result<()> {
        let note = GoalNote::new("topup", before, self.options.payer.dry_run);
        let raw = self.named.to_raw();
        let path = match wish {
            Wish::TopUp { amount } => {
                let paid_in = Nanoton(before["paid_in_nanoton"].as_u64().unwrap_or(0));
                let until = note.goal(paid_in.saturating_add(parse(amount)?));
                format!("/request/topup?proxy={raw}&until={}", plain(until))
            }
            Wish::Withdraw => format!("/request/withdraw?proxy={raw}"),
            _ => format!("/request/close?proxy={raw}"),
        };
        let plan = self.desk.post(&format!("{path}&dry_run=yes")).await;
        if plan.is_err() && before["wished"].is_null() {
            note.forget();
        }
        let plan: Value = serde_json::from_str(&plan?).context("the node's answer")?;
        let title = match plan["step"].is_null() {
            true => Fields::new().add("step", plan["next"].as_str().unwrap_or("nothing to do")),
            false => shown(&plan["step"]),
        };
        let title = title
            .add("until paid in", plan["until_paid_in_nanoton"].as_u64().map(Nanoton))
            .add("note", plan["note"].as_str().map(str::to_owned));
        if !self.agreed(title, steps)? {
            return Ok(());
        }
        if let Some(until) = plan["until_paid_in_nanoton"].as_u64() {
            note.keep(Nanoton(until))?;
        }
        self.desk.post(&path).await?;
        if *wish == Wish::Close {
            let is_begun = |one: &Value| one["state"] != "normal";
            let is_over = |one: &Value| one["state"] == "closed" && one["balance_nanoton"] == 0;
            let wait = self.options.wait;
            self.until(|one| if wait { is_over(one) } else { is_begun(one) }).await?;
            return Ok(());
        }
        let after = self.until(|one| one["wished"].is_null()).await?;
        note.forget();
        let nothing = plan["step"].is_null();
        let outcome = after["last_wish"].as_str().unwrap_or("done").to_owned();
        if !nothing && outcome.contains("given up") {
            bail!("{outcome}");
        }
        Ok(())
    }

    async fn worker(&mut self, before: &Value, steps: &mut Vec<Fields>) -> Result<()> {
        let owed = Nanoton(before["owed_nanoton"].as_u64().unwrap_or(0));
        if owed == Nanoton::ZERO {
            return Err(mistake("the proxy has signed for nothing that was not paid out"));
        }
        let owner = self.desk.page["money"]["owner"].as_str();
        let title = Fields::new()
            .add("step", "collect what the proxy has signed for")
            .add("goes to", owner.and_then(|text| Address::parse(text).ok()))
            .add("comes back from the contract", owed)
            .add("fees at most about", cocoon_settle::cost::MOVE_FEE)
            .add("stays on a new contract until it is closed", cocoon_settle::cost::WORKER_DEPLOY);
        if !self.agreed(title, steps)? {
            return Ok(());
        }
        self.desk.post(&format!("/request/payout?proxy={}", self.proxy_address(before)?)).await?;
        let signed = before["tokens_signed"].as_u64().unwrap_or(0);
        // What cannot go on without a person is said and not waited for.
        let is_stuck = |one: &Value| {
            let doing = one["doing"].as_str().unwrap_or_default();
            doing.contains("send ")
                || doing.contains("not worth")
                || doing.contains("cannot be used")
        };
        let is_paid = |one: &Value| one["tokens_paid_out"].as_u64().unwrap_or(0) >= signed;
        let after = self.until(|one| is_paid(one) || is_stuck(one)).await?;
        if !is_paid(&after) {
            bail!("{}", after["doing"].as_str().unwrap_or("nothing was paid out"));
        }
        Ok(())
    }

    fn proxy_address(&self, contract: &Value) -> Result<String> {
        let text = contract["proxy_sc_address"].as_str().context("the page names no proxy")?;
        Ok(text.to_owned())
    }

    async fn proxy(&mut self, wish: &Wish, before: &Value, steps: &mut Vec<Fields>) -> Result<()> {
        match wish {
            Wish::TopUp { amount } => {
                let stake = Nanoton(before["stake"].as_u64().unwrap_or(0));
                let note = GoalNote::new("stake", before, self.options.payer.dry_run);
                let goal = note.goal(stake.saturating_add(parse(amount)?));
                let title = Fields::new()
                    .add("step", "add to the stake")
                    .add("becomes stake", goal.saturating_sub(stake))
                    .add("fees at most about", cocoon_settle::cost::MOVE_FEE);
                if self.agreed(title, steps)? {
                    note.keep(goal)?;
                    self.desk.post(&format!("/request/stake?until={}", plain(goal))).await?;
                    self.until(|one| one["stake"].as_u64().unwrap_or(0) >= goal.0).await?;
                    note.forget();
                }
            }
            Wish::Withdraw => {
                let earned = Nanoton(before["ready_for_withdraw"].as_u64().unwrap_or(0));
                if earned == Nanoton::ZERO {
                    return Err(mistake("the proxy has earned nothing that was not paid out"));
                }
                let title = Fields::new()
                    .add("step", "pay the proxy's earnings out")
                    .add("comes back from the contract", earned)
                    .add("fees at most about", cocoon_settle::cost::MOVE_FEE);
                if self.agreed(title, steps)? {
                    self.desk.post("/request/withdraw").await?;
                    self.desk.look().await?;
                }
            }
            _ => self.close_proxy(before, steps).await?,
        }
        Ok(())
    }

    async fn close_proxy(&mut self, before: &Value, steps: &mut Vec<Fields>) -> Result<()> {
        let coins = |name: &str| Nanoton(before[name].as_u64().unwrap_or(0));
        let title = Fields::new()
            .add(
                "step",
                "close for good: nobody is served, every client refunded, every worker paid",
            )
            .add(
                "comes back from the contract",
                coins("stake").saturating_add(coins("ready_for_withdraw")),
            )
            .add("fees at most about", cocoon_settle::cost::MOVE_FEE);
        if !self.agreed(title, steps)? {
            return Ok(());
        }
        let is_closed = |one: &Value| one["phase"] == "Closed";
        // Right after it was told to serve nobody, records may be on their way to its disk.
        for _ in 0..20 {
            match self.desk.post("/request/close?confirm=yes").await {
                Err(fault) if fault.to_string().contains("ask again") => {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                other => {
                    other?;
                    break;
                }
            }
        }
        let wait = self.options.wait;
        self.until(|one| is_closed(one) || (!wait && one["phase"] != "Normal")).await?;
        Ok(())
    }
}

fn parse(amount: &str) -> Result<Nanoton> {
    Nanoton::parse(amount).map_err(|fault| mistake(format_args!("{amount}: {fault}")))
}

/// As it may stand in an address.
fn plain(amount: Nanoton) -> String {
    format!("{}.{:09}", amount.0 / 1_000_000_000, amount.0 % 1_000_000_000)
}

/// A part of a page, as people and scripts read it.
fn shown(value: &Value) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in value.as_object().into_iter().flatten() {
        let is_coins = name.ends_with("_nanoton") || NANOTON.contains(&name.as_str());
        let field = match value {
            Value::Number(number) if is_coins => {
                Field::Amount(Nanoton(number.as_u64().unwrap_or(0)))
            }
            Value::Number(number) => Field::Number(number.as_u64().unwrap_or(0)),
            Value::String(text) => match Address::parse(text) {
                Ok(address) => Field::Account(address),
                Err(_) => Field::Text(text.clone()),
            },
            Value::Bool(flag) => Field::Flag(*flag),
            _ => Field::Nothing,
        };
        let Some(known) =
            NAMES.iter().find(|known| known.replace(' ', "_") == name.trim_end_matches("_nanoton"))
        else {
            continue;
        };
        fields = fields.add(known, field);
    }
    fields
}

/// Amounts of a proxy's page, which bear no unit in their names.
const NANOTON: [&str; 3] = ["balance", "ready_for_withdraw", "stake"];
/// What is shown of a page, and how it is called.
const NAMES: [&str; 33] = [
    "step",
    "why",
    "sends",
    "becomes a deposit",
    "stays until it is closed",
    "comes back at once about",
    "comes back from the contract",
    "fees at most about",
    "sc address",
    "proxy sc address",
    "address",
    "state",
    "phase",
    "balance",
    "stake",
    "paid in",
    "is leaving",
    "wished",
    "last wish",
    "tokens charged",
    "unlock s",
    "proxy stake",
    "on its way",
    "doing",
    "tokens paid out",
    "tokens signed",
    "owed",
    "collecting",
    "params version",
    "ready for withdraw",
    "wallet",
    "owner",
    "root version",
];

/// The sum that an interrupted top-up was to reach.
struct GoalNote(Option<PathBuf>);

impl GoalNote {
    fn new(what: &str, contract: &Value, dry_run: bool) -> Self {
        let own = contract["sc_address"].as_str().or(contract["address"].as_str());
        let own = own.and_then(|text| Address::parse(text).ok());
        let short = own.map(|own| hex::encode(own.hash.get(..8).unwrap_or_default()));
        let path = running::directory().zip(short).filter(|_| !dry_run);
        Self(path.map(|(directory, short)| directory.join(format!("{what}-{short}.goal"))))
    }

    /// The sum to reach: that of an interrupted top-up, or this one.
    fn goal(&self, wished: Nanoton) -> Nanoton {
        let Some(path) = &self.0 else { return wished };
        let known = std::fs::read_to_string(path).ok();
        let known = known.and_then(|text| serde_json::from_str::<Value>(&text).ok());
        if let Some(goal) = known.and_then(|value| value["goal_nanoton"].as_u64()).map(Nanoton) {
            eprintln!("going on with a top-up that was interrupted: up to {goal} in all");
            return goal;
        }
        wished
    }

    /// Keeps the sum before anything is asked of the node.
    fn keep(&self, goal: Nanoton) -> Result<()> {
        let Some(path) = &self.0 else { return Ok(()) };
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)
                .with_context(|| format!("cannot make {}", directory.display()))?;
        }
        let text = json!({ "goal_nanoton": goal.0 }).to_string();
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    fn forget(&self) {
        if let Some(path) = &self.0 {
            // There is none for other commands.
            let _ = std::fs::remove_file(path);
        }
    }
}
