//! `cocoon endorsement`: an owner's signature for a machine, as a file.

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use cocoon_attest::{Digest32, Endorsement, PlatformId, SignedEndorsement};
use cocoon_host::network::network_id;
use cocoon_host::{clock, keys};
use cocoon_units::Address;
use ed25519_dalek::SigningKey;
use serde_json::json;
use std::path::PathBuf;

use super::show::say;
use super::trust::{read_file, write_file};
use crate::mistake;

/// Longest file that is read for an endorsement, bytes.
const FILE_LEN_MAX: u64 = 64 << 10;
/// Seconds of a day.
const DAY_S: u64 = 86_400;

/// Commands about endorsements.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum EndorsementCommand {
    /// Make the owner's key, or read it, and print its public half.
    Key {
        /// The key file; made when it is not there. Keep it off the machines that it speaks for.
        file: PathBuf,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Sign that a platform speaks for an id.
    Sign(SignOptions),
    /// Show what an endorsement says. Exit code 1 when its signature is wrong or its time over.
    Show {
        /// The file.
        file: PathBuf,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
}

/// Options of `cocoon endorsement sign`.
#[derive(Clone, Debug, Args)]
pub(crate) struct SignOptions {
    /// The owner's key file.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The platform, as its maker names it: intel_ppid:HEX or amd_chip:HEX.
    #[arg(long, value_name = "PLATFORM")]
    platform: PlatformId,
    /// What it may speak for: a proxy's contract, a worker's owner (address, or 64 hex digits).
    #[arg(long, value_name = "ADDRESS", value_parser = id)]
    id: Digest32,
    /// The root contract of the network (address, or 64 hex digits).
    #[arg(long, value_name = "ADDRESS", value_parser = id)]
    root: Digest32,
    /// TON's test network.
    #[arg(long)]
    testnet: bool,
    /// For how many days it counts.
    #[arg(long, value_name = "N", default_value_t = 90, value_parser = clap::value_parser!(u64).range(1..=3650))]
    days: u64,
    /// Where to write it.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Reads the hash part of an address.
fn id(text: &str) -> Result<Digest32, String> {
    if let Ok(hash) = Digest32::read("id", text) {
        return Ok(hash);
    }
    let address = Address::parse(text).map_err(|fault| fault.to_string())?;
    Ok(Digest32::from(address.hash))
}

/// `cocoon endorsement`
pub(crate) fn run(command: &EndorsementCommand) -> Result<()> {
    match command {
        EndorsementCommand::Key { file, json } => {
            let seed = keys::load_or_make(file).map_err(mistake)?;
            let public =
                hex::encode(SigningKey::from_bytes(seed.expose()).verifying_key().to_bytes());
            match json {
                true => say(&json!({ "key": file, "public_key": public }).to_string()),
                false => say(&format!(
                    "key         {}\npublic key  {public}\n\nWho believes this owner writes into \
                     the policy:\n  \"owners\": [{{\"key\": \"{public}\", \"site\": \"NAME\"}}]",
                    file.display()
                )),
            }
            Ok(())
        }
        EndorsementCommand::Sign(options) => sign(options),
        EndorsementCommand::Show { file, json } => {
            let text = read_file(file, FILE_LEN_MAX)?;
            let signed = SignedEndorsement::of_text(&text)
                .map_err(|fault| mistake(format_args!("{}: {fault}", file.display())))?;
            print(&signed, *json);
            let said = &signed.endorsement;
            let now_s = clock::now_ms() / 1000;
            match signed.check(said.network_id, said.root_contract, now_s) {
                Ok(()) => Ok(()),
                Err(fault) => bail!("{}: {fault}", file.display()),
            }
        }
    }
}

fn sign(options: &SignOptions) -> Result<()> {
    if options.id.is_zero() {
        return Err(mistake("--id is zero: nobody has this id"));
    }
    let seed = keys::load(&options.key).map_err(mistake)?;
    let endorsement = Endorsement {
        owner: Digest32::ZERO,
        network_id: network_id(options.testnet),
        root_contract: options.root,
        id: options.id,
        platform: options.platform.clone(),
        not_after_s: clock::now_ms() / 1000 + options.days * DAY_S,
    };
    let signed = endorsement.sign(&SigningKey::from_bytes(seed.expose()));
    write_file(&options.out, signed.to_text().as_bytes())?;
    print(&signed, options.json);
    if !options.json {
        say(&format!("\nwritten to {}", options.out.display()));
    }
    Ok(())
}

fn print(signed: &SignedEndorsement, as_json: bool) {
    let said = &signed.endorsement;
    let (ends_s, now_s) = (said.not_after_s, clock::now_ms() / 1000);
    if as_json {
        let answer = json!({
            "owner": said.owner,
            "network_id": said.network_id,
            "root_contract": said.root_contract,
            "id": said.id,
            "platform": said.platform.to_string(),
            "not_after_s": ends_s,
            "is_signed": signed.is_signed(),
        });
        return say(&answer.to_string());
    }
    say(&format!(
        "owner       {}\nsays that   {}\nspeaks for  {}\nin network  {}, root contract {}\n\
         until       {ends_s} (Unix seconds), {}\nsignature   {}",
        said.owner,
        said.platform,
        said.id,
        said.network_id,
        said.root_contract,
        match ends_s.checked_sub(now_s) {
            None => "which is over".to_owned(),
            Some(left_s) => format!("for {} more days", left_s / DAY_S),
        },
        if signed.is_signed() { "holds" } else { "WRONG" }
    ));
}
