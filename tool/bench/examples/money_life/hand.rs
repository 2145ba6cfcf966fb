//! A person at a terminal beside the running nodes: `cocoon wallet`, `cocoon channel`.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use cocoon_units::{Address, Nanoton};
use serde_json::Value;

use super::nodes::program;
use super::site::{FUNDS, Site};

pub(crate) struct Hand {
    dir: PathBuf,
    chain: String,
}

impl Hand {
    /// A person with a wallet "payer" of its own, who also has the words of the gateway's.
    pub(crate) fn new(site: &mut Site) -> Result<Self> {
        let hand = Self { dir: site.dir.clone(), chain: site.chain().url.clone() };
        std::fs::write(hand.dir.join("passphrase"), "correct horse battery\n")?;
        hand.json(&["wallet", "new", "payer"])?;
        let key = hand.dir.join("gateway/wallet.key").display().to_string();
        let owner = Site::owner_of("gateway").to_string();
        let import = ["wallet", "import", "gateway", "--key-file", &key, "--owner", &owner];
        hand.json(&import)?;
        for (name, is_new) in [("payer", true), ("gateway", false)] {
            let shown = hand.json(&["wallet", "show", name, "--offline"])?;
            let address = shown["addresses"]["raw"].as_str().or(shown["address"]["raw"].as_str());
            let address = Address::parse(address.with_context(|| format!("an address: {shown}"))?)?;
            if is_new {
                site.serving.node.faucet(address, Nanoton(FUNDS))??;
                site.wallets.push((name, address, FUNDS));
            } else {
                ensure!(address == site.wallet("client"), "{address} is not the gateway's");
            }
        }
        Ok(hand)
    }

    fn run(&self, arguments: &[&str]) -> Result<(Option<i32>, String, String)> {
        let output = Command::new(program()?)
            .args(arguments)
            .env("XDG_DATA_HOME", self.dir.join("home"))
            .env("COCOON_CHAIN", &self.chain)
            .env("COCOON_PASSPHRASE_FILE", self.dir.join("passphrase"))
            .stdin(Stdio::null())
            .output()?;
        let text = |bytes| String::from_utf8(bytes).context("text");
        Ok((output.status.code(), text(output.stdout)?, text(output.stderr)?))
    }

    /// Runs a command that must end well.
    pub(crate) fn json(&self, arguments: &[&str]) -> Result<Value> {
        let mut all = arguments.to_vec();
        all.push("--json");
        let (code, out, err) = self.run(&all)?;
        ensure!(code == Some(0), "{arguments:?}: {code:?} {out} {err}");
        serde_json::from_str(&out).with_context(|| format!("{arguments:?}: {out}"))
    }

    /// Runs a command that must be refused as a mistake.
    pub(crate) fn refused(&self, arguments: &[&str], says: &str) -> Result<()> {
        let (code, out, err) = self.run(arguments)?;
        ensure!(code == Some(2) && err.contains(says), "{arguments:?}: {code:?} {out} {err}");
        Ok(())
    }

    /// Tops up, takes out, looks: through the running gateway, which holds the wallet.
    pub(crate) fn client(&self, proxy: Address) -> Result<()> {
        let proxy = proxy.to_string();
        let channel = |arguments: &[&str]| {
            let (what, more) = arguments.split_first().context("what")?;
            let all = [&["channel", what, &proxy][..], more, &["--wallet", "gateway"]].concat();
            self.json(&all)
        };
        let paid_in = |answer: &Value| answer["contract_now"]["paid_in_nanoton"].as_u64();
        let before = channel(&["status"])?;
        ensure!(before["node"].is_string(), "the running gateway answers: {before}");
        let was = paid_in(&before).context("what was paid in")?;
        let tried = channel(&["topup", "8", "--dry-run"])?;
        ensure!(tried["steps"][0]["becomes_a_deposit_nanoton"] == 8_000_000_000_u64, "{tried}");
        ensure!(paid_in(&tried) == Some(was), "a dry run does nothing: {tried}");
        let done = channel(&["topup", "8", "--yes"])?;
        ensure!(paid_in(&done) == Some(was + 8_000_000_000), "from {was}: {done}");
        channel(&["withdraw", "--yes"])?;
        let all = ["wallet", "send", &proxy, "1", "--wallet", "gateway", "--yes"];
        self.refused(&all, "is held by the node that runs at")
    }

    /// Has the worker's owner paid from the books of a worker that does not run any more.
    pub(crate) fn worker(&self, proxy: Address) -> Result<()> {
        let (proxy, dir) = (proxy.to_string(), self.dir.join("worker").display().to_string());
        let file = self.dir.join("payment.boc").display().to_string();
        let export = ["channel", "export", &proxy, "--data-dir", &dir, "--out", &file];
        self.json(&export)?;
        let collect =
            ["channel", "withdraw", &proxy, "--role", "worker", "--wallet", "payer", "--yes"];
        self.refused(&collect, "--data-dir")?;
        let paid = self.json(&[&collect[..], &["--data-dir", &dir]].concat())?;
        ensure!(paid["contract_now"]["tokens_paid"].is_u64() || paid["steps"].is_array(), "{paid}");
        let owner = Site::owner_of("worker").to_string();
        let again = [&collect[..], &["--payment", &file, "--owner", &owner]].concat();
        let again = self.json(&again)?;
        ensure!(again["steps"].as_array().is_some_and(Vec::is_empty), "paid twice: {again}");
        Ok(())
    }
}
