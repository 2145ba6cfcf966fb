//! What an operator asks of the money at one proxy while the node runs, and the node's answer.

use cocoon_contract::state::Phase;
use cocoon_gateway::{MoneyAct, MoneyOrder, MoneyRefusal, TopUp};
use cocoon_settle::{Done, Next, SettleRecord, Wait, Wish};
use cocoon_units::{Address, Nanoton};
use tokio::sync::oneshot;

use crate::Network;
use crate::funds::{Funds, Kept, ended};
use crate::money_plan::{MoneyPlan, PlannedStep};

/// Questions that may wait for the chain.
const DEMANDS_MAX: usize = 16;

/// A question, and where the answer goes.
#[derive(Debug)]
pub(crate) struct Demand {
    order: MoneyOrder,
    reply: oneshot::Sender<Result<MoneyPlan, MoneyRefusal>>,
}

impl Network {
    /// Asks the task that looks after the money.
    pub(crate) async fn demand(&self, order: MoneyOrder) -> Result<MoneyPlan, MoneyRefusal> {
        let (reply, answer) = oneshot::channel();
        {
            let funds = &mut self.shared.lock().funds;
            if !funds.is_open {
                let text = "this node has no chain: there is no money to move";
                return Err(MoneyRefusal::Refused(text.to_owned()));
            }
            if funds.demands.len() >= DEMANDS_MAX {
                return Err(MoneyRefusal::NotNow("too many ask at once: try again".to_owned()));
            }
            funds.demands.push(Demand { order, reply });
        }
        self.shared.money.notify_one();
        let ended = || Err(MoneyRefusal::NotNow("the node is shutting down".to_owned()));
        answer.await.unwrap_or_else(|_| ended())
    }
}

impl Funds {
    /// Answers all who ask. `seen` says whether the chain has just shown the accounts, or why not.
    pub(crate) async fn answer(&mut self, seen: Result<(), &str>) {
        let demands = std::mem::take(&mut self.parts.shared.lock().funds.demands);
        let mut answers = Vec::with_capacity(demands.len());
        for Demand { order, reply } in demands {
            let answer = match seen {
                Ok(()) => self.demanded(order).await,
                Err(why) => Err(MoneyRefusal::NotNow(why.to_owned())),
            };
            if answer.is_ok() && !order.is_dry_run {
                // The next round begins at once.
                self.parts.shared.money.notify_one();
            }
            answers.push((reply, answer));
        }
        // Whoever hears that a wish is taken sees it on the page.
        self.publish();
        for (reply, answer) in answers {
            // Whoever asked may have left.
            let _ = reply.send(answer);
        }
    }

    async fn demanded(&mut self, order: MoneyOrder) -> Result<MoneyPlan, MoneyRefusal> {
        let told = self.told();
        let (contract, kept) = self.find(order.contract)?;
        let wish = wish(&order, kept)?;
        let next = self.next_with(kept, &told, wish);
        if let Next::Wait(wait) = &next
            && !matches!(wait, Wait::Delay { .. } | Wait::Grant { .. } | Wait::Short { .. })
            && let Some(why) = ended(&next)
        {
            return Err(MoneyRefusal::Refused(why));
        }
        let answer = self.told_of(kept, wish, &next, order.is_dry_run);
        let is_over = matches!(next, Next::Done(Done::AsWished | Done::Closed));
        if order.is_dry_run || is_over {
            return Ok(answer);
        }
        let record = match wish {
            Wish::Leave => SettleRecord::Leaving { contract: contract.hash },
            wish => SettleRecord::Wished { contract: contract.hash, wish: Some(wish) },
        };
        if let Some(kept) = self.lives.get_mut(&contract) {
            match wish {
                Wish::Leave => (kept.is_leaving, kept.is_done) = (true, false),
                wish => kept.wish = Some(wish),
            }
        }
        tracing::info!(contract = %contract.to_raw(), "the operator wishes to {wish}");
        self.journal(&[record]).await;
        Ok(answer)
    }

    fn find(&self, named: Address) -> Result<(Address, &Kept), MoneyRefusal> {
        let is_it =
            |(own, kept): &(&Address, &Kept)| **own == named || kept.life.site().proxy == named;
        let found = self.lives.iter().find(is_it).map(|(own, kept)| (*own, kept));
        found.ok_or_else(|| {
            let named = named.to_raw();
            MoneyRefusal::Unknown(format!("this node has no contract at {named}: see /jsonstats"))
        })
    }

    fn told_of(&self, kept: &Kept, wish: Wish, next: &Next, is_dry_run: bool) -> MoneyPlan {
        let site = kept.life.site();
        let state = kept.own.state();
        let step = match next {
            Next::Send(order) => Some(PlannedStep::of(order)),
            _ => None,
        };
        let refilled =
            self.parts.policy.deposit.filter(|deposit| *deposit > site.params.min_client_stake);
        let note = match (wish, refilled) {
            (Wish::Leave, _) => Some(format!(
                "for good: at this proxy the node uses no contract of these parameters again; what \
                 exceeds the stake comes at once, the rest when the proxy agrees, or without it {} \
                 s after the request",
                site.params.client_delay_s
            )),
            (Wish::Withdraw, Some(deposit)) => Some(format!(
                "while the node runs it fills the balance up to {deposit} again when less than half \
                 of it is left: lower money.deposit to keep it out"
            )),
            _ => None,
        };
        MoneyPlan {
            is_accepted: !is_dry_run,
            contract: site.contract,
            proxy: site.proxy,
            wallet: self.parts.purse.address(),
            wish,
            step,
            next: next.to_string(),
            note,
            balance: state.map(|state| state.balance),
            stake: state.map(|state| state.stake),
        }
    }
}

/// The order as a wish, when it makes sense now.
fn wish(order: &MoneyOrder, kept: &Kept) -> Result<Wish, MoneyRefusal> {
    let refuse = |text: String| Err(MoneyRefusal::Refused(text));
    let Some(state) = kept.own.state() else {
        return refuse("the contract is not on chain yet: fund the wallet and wait".to_owned());
    };
    if order.act == MoneyAct::Close {
        return Ok(Wish::Leave);
    }
    if kept.is_leaving || state.phase != Phase::Normal {
        return refuse("the contract is being closed, or is closed".to_owned());
    }
    let wish = match order.act {
        MoneyAct::TopUp(how) => Wish::PaidIn(match how {
            TopUp::Until(total) => total,
            TopUp::By(amount) => total(kept, amount),
            TopUp::Stake => total(kept, kept.life.site().params.min_client_stake),
        }),
        MoneyAct::Charge => Wish::Charge,
        MoneyAct::Withdraw => Wish::Withdraw,
        MoneyAct::Close => Wish::Leave,
    };
    match kept.wish {
        Some(open) if open != wish => refuse(format!(
            "an earlier wish is carried out first: {open}; ask again when it is done"
        )),
        _ => Ok(wish),
    }
}

fn total(kept: &Kept, amount: Nanoton) -> Nanoton {
    Funds::paid_in(kept).saturating_add(amount)
}
