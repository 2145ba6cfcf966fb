//! Changes of a registry as people type them.

use anyhow::Result;
use cocoon_contract::cell::{Cell, Hash};
use cocoon_contract::code;
use cocoon_contract::message::{RootAction, RootRequest};
use cocoon_contract::params::Params;
use cocoon_contract::root::{ProxyEndpoint, RegisteredProxy};
use cocoon_contract::timelock::{TimelockAction, TimelockRequest, TimelockState};
use cocoon_units::{Address, Nanoton};
use sha2::{Digest as _, Sha256};

use crate::mistake;

/// What is to change.
pub(super) enum Change {
    /// The registry.
    Root(RootAction),
    /// The timelock itself.
    Timelock(TimelockAction),
}

impl Change {
    /// Reads a change; `params` and `timelock` give the values that stay.
    pub(super) fn parse(
        words: &[String],
        params: &Params,
        timelock: Option<&TimelockState>,
    ) -> Result<Self> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let lock = || {
            timelock.ok_or_else(|| mistake("this root has no timelock whose delay could change"))
        };
        Ok(Self::Root(match words.as_slice() {
            ["allow-worker", text] => RootAction::AddWorkerType(hash(text)?),
            ["allow-proxy", text] => RootAction::AddProxyType(hash(text)?),
            ["allow-model", name] => RootAction::AddModelType(model(name)),
            ["revoke-worker", text] => RootAction::DelWorkerType(hash(text)?),
            ["revoke-proxy", text] => RootAction::DelProxyType(hash(text)?),
            ["revoke-model", name] => RootAction::DelModelType(model(name)),
            ["add-proxy", text] => RootAction::RegisterProxy(proxy(text)?),
            ["move-proxy", number_, text] => {
                RootAction::UpdateProxy { seqno: number(number_)?, entry: proxy(text)? }
            }
            ["remove-proxy", text] => RootAction::UnregisterProxy { seqno: number(text)? },
            ["price", price, fee] => RootAction::ChangePrice {
                price_per_token: amount(price)?,
                worker_fee_per_token: amount(fee)?,
            },
            [
                name @ ("proxy-delay" | "client-delay" | "min-proxy-stake" | "min-client-stake"),
                text,
            ] => parameter(name, text, params)?,
            ["codes", "ours"] => RootAction::UpgradeContracts {
                proxy: code::proxy()?,
                worker: code::worker()?,
                client: code::client()?,
            },
            ["owner", text] => RootAction::ChangeOwner(address(text)?),
            ["delay", text] => {
                let admin = lock()?.admin;
                return Ok(Self::Timelock(TimelockAction::Configure {
                    admin,
                    delay_s: number(text)?,
                }));
            }
            ["admin", text] => {
                let (admin, delay_s) = (address(text)?, lock()?.delay_s);
                return Ok(Self::Timelock(TimelockAction::Configure { admin, delay_s }));
            }
            other => {
                return Err(mistake(format_args!(
                    "\"{}\" is no change: cocoon root propose --help lists them",
                    other.join(" ")
                )));
            }
        }))
    }

    /// The message that makes the change.
    pub(super) fn body(&self, query_id: u64) -> Result<Cell> {
        Ok(match self {
            Self::Root(action) => RootRequest { query_id, action: action.clone() }.cell()?,
            Self::Timelock(action) => {
                TimelockRequest { query_id, action: action.clone() }.cell()?
            }
        })
    }
}

fn parameter(name: &str, text: &str, params: &Params) -> Result<RootAction> {
    let mut new = params.clone();
    match name {
        "proxy-delay" => new.proxy_delay_s = number(text)?,
        "client-delay" => new.client_delay_s = number(text)?,
        "min-proxy-stake" => new.min_proxy_stake = amount(text)?,
        _ => new.min_client_stake = amount(text)?,
    }
    Ok(RootAction::ChangeParams {
        price_per_token: new.price_per_token,
        worker_fee_per_token: new.worker_fee_per_token,
        proxy_delay_s: new.proxy_delay_s,
        client_delay_s: new.client_delay_s,
        min_proxy_stake: new.min_proxy_stake,
        min_client_stake: new.min_client_stake,
    })
}

fn hash(text: &str) -> Result<Hash> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes)
        .map_err(|_| mistake(format_args!("{text} is no hash: 64 hex digits")))?;
    Ok(Hash(bytes))
}

/// A model's entry is the SHA-256 of its full name (protocol notes 2.3).
fn model(name: &str) -> Hash {
    hash(name).unwrap_or_else(|_| Hash(Sha256::digest(name.as_bytes()).into()))
}

fn proxy(text: &str) -> Result<RegisteredProxy> {
    Ok(RegisteredProxy::new(&ProxyEndpoint::parse(text).map_err(mistake)?))
}

fn number(text: &str) -> Result<u32> {
    text.parse().map_err(|_| mistake(format_args!("{text} is no number")))
}

pub(super) fn amount(text: &str) -> Result<Nanoton> {
    Nanoton::parse(text).map_err(|fault| mistake(format_args!("{text}: {fault}")))
}

fn address(text: &str) -> Result<Address> {
    Address::parse(text).map_err(|fault| mistake(format_args!("{text}: {fault}")))
}
