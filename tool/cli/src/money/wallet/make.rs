//! Wallets come and go into files.

use anyhow::{Context as _, Result};
use cocoon_units::{Address, Secret};
use cocoon_wallet::{KeySource, Mnemonic, SealCost, Wallet, WalletDir, WalletFile, WalletKind};
use rand::RngCore as _;
use rand::rngs::OsRng;
use std::io::IsTerminal as _;

use super::super::access::Coins;
use super::super::address;
use super::super::arguments::{ExportOptions, ImportOptions, KindOptions, NewOptions, Unlock};
use super::super::passphrase;
use super::super::say::{self, Fields};
use super::super::spend::directory;
use crate::mistake;

pub(super) fn new(options: &NewOptions) -> Result<()> {
    let wallets = directory(&options.home)?;
    refuse_existing(&wallets, &options.name)?;
    let words = Mnemonic::generate(|bytes| OsRng.fill_bytes(bytes));
    let source = KeySource::Words(words);
    let file = seal(&options.kind, &source, &options.unlock, &options.name)?;
    let fields = write(&wallets, &options.name, &file)?;
    say::answer(options.json, &fields);
    if !options.json {
        eprintln!(
            "\nWrite down the 24 words and keep them offline; they are the only way back when \
             this file or its passphrase is lost:\n  cocoon wallet export {}",
            options.name
        );
    }
    Ok(())
}

pub(super) fn import(options: &ImportOptions) -> Result<()> {
    let wallets = directory(&options.home)?;
    refuse_existing(&wallets, &options.name)?;
    let source = match &options.key_file {
        Some(path) => {
            let text = passphrase::words(Some(path))?;
            let mut key = [0; 32];
            hex::decode_to_slice(text.expose().trim(), &mut key).map_err(|_| {
                mistake(format_args!("{} does not hold 64 hex digits", path.display()))
            })?;
            KeySource::Seed(Secret::new(key))
        }
        None => {
            let text = passphrase::words(options.words_file.as_deref())?;
            KeySource::Words(Mnemonic::parse(text.expose()).map_err(mistake)?)
        }
    };
    let file = seal(&options.kind, &source, &options.unlock, &options.name)?;
    let fields = write(&wallets, &options.name, &file)?;
    say::answer(options.json, &fields);
    Ok(())
}

pub(super) fn export(options: &ExportOptions) -> Result<()> {
    let wallets = directory(&options.home)?;
    let file = wallets.load(&options.name).map_err(mistake)?;
    if std::io::stdout().is_terminal() {
        say::confirm(options.yes, "Whoever sees this has the coins. Show it on this screen?")?;
    }
    let passphrase = passphrase::ask(&options.unlock, &options.name)?;
    match (file.unlock(&passphrase).map_err(mistake)?, options.key) {
        (source, true) => {
            let text = Secret::new(hex::encode(source.key().to_bytes()));
            println!("{}", text.expose());
        }
        (KeySource::Words(words), false) => println!("{}", words.words()),
        (KeySource::Seed(_), false) => {
            return Err(mistake("this wallet was made from a key, not from words: say --key"));
        }
    }
    Ok(())
}

fn refuse_existing(wallets: &WalletDir, name: &str) -> Result<()> {
    let path = wallets.file(name).map_err(mistake)?;
    if path.exists() {
        return Err(mistake(cocoon_wallet::FileFault::Exists { name: name.to_owned() }));
    }
    Ok(())
}

fn seal(
    options: &KindOptions,
    source: &KeySource,
    unlock: &Unlock,
    name: &str,
) -> Result<WalletFile> {
    let kind = kind(options, source)?;
    let passphrase = passphrase::choose(unlock, name)?;
    let (mut salt, mut nonce) = ([0; 16], [0; 24]);
    OsRng.fill_bytes(&mut salt);
    OsRng.fill_bytes(&mut nonce);
    Ok(WalletFile::seal(kind, source, &passphrase, SealCost::default(), (salt, nonce))?)
}

fn kind(options: &KindOptions, source: &KeySource) -> Result<WalletKind> {
    let public_key = source.public_key();
    if options.owner.is_some() && options.contract != "cocoon" {
        return Err(mistake("only a cocoon wallet has an owner: leave --owner out"));
    }
    Ok(match options.contract.as_str() {
        "v3r2" => WalletKind::V3R2,
        "v4r2" => WalletKind::V4R2,
        "v5r1" => {
            WalletKind::V5R1 { network_id: if options.network == "testnet" { -3 } else { -239 } }
        }
        _ => {
            let owner = match &options.owner {
                Some(text) => address::parse(text, Coins::Local)?.0,
                None => own_v4(source)?,
            };
            Wallet::cocoon(owner, public_key)?.kind
        }
    })
}

/// The v4r2 wallet of the same words: any TON wallet software opens it.
fn own_v4(source: &KeySource) -> Result<Address> {
    let wallet = Wallet { kind: WalletKind::V4R2, public_key: source.public_key() };
    wallet.address().context("the owner's address")
}

fn write(wallets: &WalletDir, name: &str, file: &WalletFile) -> Result<Fields> {
    let path = wallets.create(name, file).map_err(mistake)?;
    Ok(describe(name, file)?.add("file", path.display().to_string()))
}

/// What can be said of a wallet without the chain and without its passphrase.
pub(super) fn describe(name: &str, file: &WalletFile) -> Result<Fields> {
    let wallet = file.wallet();
    let owner = match wallet.kind {
        WalletKind::Cocoon { owner, .. } => Some(owner),
        _ => None,
    };
    Ok(Fields::new()
        .add("name", name)
        .add("contract", wallet.kind.name())
        .add("address", say::forms(wallet.address()?))
        .add("owner", owner))
}
