//! Coins go to somebody.

use anyhow::Result;
use cocoon_chain::AccountStatus;
use cocoon_contract::message::comment;
use cocoon_contract::wallet::Outgoing;
use cocoon_units::{AddressForm, Nanoton};

use super::super::access::explain;
use super::super::address;
use super::super::arguments::SendOptions;
use super::super::say::{self, Fields};
use super::super::spend::Spender;
use crate::mistake;

pub(super) async fn send(options: &SendOptions) -> Result<()> {
    let is_all = options.amount.eq_ignore_ascii_case("all");
    let value = match is_all {
        true => Nanoton(0),
        false => Nanoton::parse(&options.amount)
            .map_err(|fault| mistake(format_args!("{}: {fault}", options.amount)))?,
    };
    if value == Nanoton::ZERO && !is_all {
        return Err(mistake("nothing to send: give an amount, or all"));
    }
    let spender = Spender::open(&options.payer)?;
    let (to, form) = address::parse(&options.to, spender.access.coins)?;
    let receiver = spender.access.chain.account(to, None).await.map_err(explain)?;
    let has_code = receiver.status == AccountStatus::Active;
    let asks_back = form.is_some_and(|form| form.bounceable);
    if asks_back && !has_code {
        let plain =
            AddressForm { bounceable: false, ..form.unwrap_or(AddressForm::NON_BOUNCEABLE) };
        return Err(mistake(format_args!(
            "the account has no code yet, and the form of the address says that coins shall come \
             back then: to send anyway, give {}",
            to.to_friendly(plain)
        )));
    }
    let body = options.comment.as_deref().map(comment).transpose().map_err(|_| {
        mistake(format_args!(
            "the comment is longer than {} bytes",
            cocoon_contract::message::COMMENT_LEN_MAX
        ))
    })?;
    let bounce = form.map_or(has_code, |form| form.bounceable);
    let message = Outgoing { to, value, bounce, state_init: None, body };
    let title = Fields::new()
        .add("wallet", options.payer.wallet.as_str())
        .add("to", to)
        .add("value", (!is_all).then_some(value))
        .add("everything", is_all.then_some(true))
        .add("comment", options.comment.clone());
    let done = spender.act(&title, vec![message], is_all).await?;
    say::answer(options.payer.json, &done.fields(title));
    Ok(())
}
