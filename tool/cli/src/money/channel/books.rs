//! What the books of a worker that does not run say: its contract, its owner, the best payment
//! that the proxy signed.

use anyhow::{Context as _, Result};
use cocoon_channel::{ChannelRecord, Channels};
use cocoon_contract::payment::{PaymentKind, SignedPayment};
use cocoon_host::books::{self, ReadFault};
use cocoon_settle::{SettleLog, SettleRecord};
use cocoon_units::{Address, Tokens};
use serde_json::Value;
use std::path::{Path, PathBuf};

use super::super::access::data_home;
use super::super::arguments::{ChannelExportOptions, ChannelOptions};
use super::super::running::NodeDesk;
use super::super::say::{self, Fields};
use crate::mistake;

/// Where a worker keeps its books when nothing else is said.
const DEFAULT_DIR: &str = "cocoon-worker";
/// Most workers of `cocoon up` looked at.
const WORKERS_MAX: usize = 64;

/// A worker's channel at one proxy.
pub(super) struct Found {
    pub(super) contract: Address,
    pub(super) proxy: Address,
    /// Whom it pays; not known where the worker never stood on a chain.
    pub(super) owner: Option<Address>,
    pub(super) payment: SignedPayment,
    pub(super) data_dir: PathBuf,
}

/// Looks for the contract, or the proxy contract, in the books of this machine's workers. `None`
/// when no book knows it.
pub(super) fn find(options: &ChannelOptions, named: Address) -> Result<Option<Found>> {
    if let Some(dir) = &options.data_dir {
        return read(dir, named);
    }
    for dir in usual() {
        match read(&dir, named) {
            Ok(None) => {}
            Ok(found) => return Ok(found),
            // It was not named; another one may have it.
            Err(fault) => eprintln!("{}: {fault:#}", dir.display()),
        }
    }
    Ok(None)
}

/// Directories where a worker's books may lie.
fn usual() -> Vec<PathBuf> {
    let up = data_home().map(|home| home.join("up/node"));
    let numbered = (1..=WORKERS_MAX).map(|number| format!("worker-{number}"));
    let of_up = up.iter().flat_map(|up| numbered.clone().map(|name| up.join(name)));
    let all = std::iter::once(PathBuf::from(DEFAULT_DIR)).chain(of_up);
    all.filter(|dir| dir.join("journal").is_dir()).collect()
}

fn read(data_dir: &Path, named: Address) -> Result<Option<Found>> {
    let records = match books::read(data_dir) {
        Ok(records) => records,
        Err(ReadFault::Running { .. }) => {
            return Err(mistake(format_args!(
                "the worker of {} runs and collects by itself: ask it with --node URL",
                data_dir.display()
            )));
        }
        Err(fault @ ReadFault::NoNode { .. }) => return Err(mistake(fault)),
        Err(fault) => return Err(fault.into()),
    };
    if records.first().map(Vec::as_slice) != Some(b"cocoon-worker") {
        let dir = data_dir.display();
        return Err(mistake(format_args!("{dir} is not the data directory of a worker")));
    }
    let mut channels = Channels::new(PaymentKind::WorkerPayout);
    let mut log = SettleLog::default();
    for bytes in &records {
        if let Some(record) = SettleRecord::decode(bytes) {
            log.apply(&record);
        } else if let Some(record) = ChannelRecord::decode(bytes) {
            channels.apply(&record);
        }
    }
    let found = channels
        .channels()
        .find(|(proxy, channel)| **proxy == named || channel.own_contract == named);
    let Some((proxy, channel)) = found else { return Ok(None) };
    let Some(bytes) = &channel.payment else {
        return Err(mistake(format_args!("the proxy {proxy} has not signed a payment yet")));
    };
    let payment = SignedPayment::from_boc(bytes).context("the payment in the worker's books")?;
    let site = log.site(&channel.own_contract.hash);
    let owner = site.map(|log| Address::new(log.site.owner.0, log.site.owner.1));
    let (contract, data_dir) = (channel.own_contract, data_dir.to_owned());
    Ok(Some(Found { contract, proxy: *proxy, owner, payment, data_dir }))
}

/// `cocoon channel export`: the payment as a file, for another machine.
pub(super) async fn export(options: &ChannelExportOptions) -> Result<()> {
    let channel = &options.channel;
    let named = Address::parse(&channel.contract)
        .map_err(|fault| mistake(format_args!("{}: {fault}", channel.contract)))?;
    let (bytes, contract, tokens, from) = match &channel.node.node {
        Some(url) => ask(&NodeDesk::open(url, &channel.node).await?, named).await?,
        None => {
            let found = find(channel, named)?.ok_or_else(|| {
                mistake(format_args!(
                    "no books here know {named}: name the worker's with --data-dir DIR, or the \
                     running worker with --node URL"
                ))
            })?;
            let cell = found.payment.cell().context("the payment cannot be written")?;
            let bytes = cocoon_contract::boc::encode(&cell);
            (bytes, found.contract, found.payment.tokens(), found.data_dir.display().to_string())
        }
    };
    std::fs::write(&options.out, bytes)
        .map_err(|fault| mistake(format_args!("{}: {fault}", options.out.display())))?;
    let fields = Fields::new()
        .add("contract", contract)
        .add("good for tokens", tokens.0)
        .add("from", from)
        .add("file", options.out.display().to_string());
    say::answer(channel.payer.json, &fields);
    Ok(())
}

/// Asks a running worker.
async fn ask(desk: &NodeDesk, named: Address) -> Result<(Vec<u8>, Address, Tokens, String)> {
    let text = desk.get("/payments").await?;
    let all: Value = serde_json::from_str(&text).context("the worker's answer")?;
    let address = |value: &Value| value.as_str().and_then(|text| Address::parse(text).ok());
    let is_it = |one: &&Value| {
        [&one["proxy_sc_address"], &one["sc_address"]].map(address).contains(&Some(named))
    };
    let found = all.as_array().into_iter().flatten().find(is_it);
    let Some(found) = found else {
        return Err(mistake(format_args!("the worker at {} has no payment of {named}", desk.url)));
    };
    let bytes = hex::decode(found["payment"].as_str().unwrap_or_default());
    let bytes = bytes.context("the worker's answer holds no payment")?;
    let payment = SignedPayment::from_boc(&bytes).context("the worker's answer")?;
    Ok((bytes, payment.target(), payment.tokens(), desk.url.clone()))
}
