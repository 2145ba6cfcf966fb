//! A wallet that acts: rehearse, show, ask, sign, send, wait, show.

use anyhow::{Context as _, Result, bail};
use cocoon_chain::{Account, AccountStatus, Head, TransactionRecord};
use cocoon_contract::address::StateInit;
use cocoon_contract::boc;
use cocoon_contract::cell::{Cell, CellId};
use cocoon_contract::wallet::Outgoing;
use cocoon_units::{Address, Nanoton, UnixSeconds};
use cocoon_wallet::{Order, Wallet, WalletDir, WalletFile};
use ed25519_dalek::SigningKey;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::access::{Access, Coins, data_home, explain};
use super::arguments::{Payer, WalletHome};
use super::overlay::Overlay;
use super::passphrase;
use super::rehearse::{Outcome, beat, find, follow, rehearse};
use super::running;
use super::say::{self, Fields};
use super::wallet_code;
use crate::mistake;

/// How long an order is good, seconds of the chain's time. Short, so that it is soon certain that
/// an order that got lost will never be carried out.
const VALID_FOR_S: u64 = 180;
/// How often an order is sent again until it is carried out, or void.
const AGAIN_EVERY: Duration = Duration::from_secs(5);
/// Kept back for the wallet's own fees when it is checked whether the coins suffice.
const FEE_RESERVE: Nanoton = Nanoton(10_000_000);

/// The directory of wallets.
pub(crate) fn directory(home: &WalletHome) -> Result<WalletDir> {
    let path = match &home.wallet_dir {
        Some(path) => path.clone(),
        None => data_home()
            .ok_or_else(|| mistake("neither HOME nor XDG_DATA_HOME is set: say --wallet-dir DIR"))?
            .join("wallets"),
    };
    Ok(WalletDir::new(path))
}

/// A wallet, the chain it acts on, and how.
pub(crate) struct Spender<'a> {
    pub(crate) access: Access,
    payer: &'a Payer,
    directory: WalletDir,
    file: WalletFile,
    pub(crate) wallet: Wallet,
    pub(crate) address: Address,
    /// What a dry run has rehearsed so far.
    overlay: Option<Arc<Overlay>>,
}

/// What came of an order.
pub(crate) enum Done {
    /// Only tried.
    Tried(Outcome),
    /// Carried out.
    Sent(Outcome),
}

/// An order that can be signed.
struct Prepared {
    order: Order,
    init: Option<StateInit>,
    now: UnixSeconds,
}

impl<'a> Spender<'a> {
    pub(crate) fn open(payer: &'a Payer) -> Result<Self> {
        let directory = directory(&payer.home)?;
        let file = directory.load(&payer.wallet).map_err(mistake)?;
        let wallet = file.wallet();
        let address = wallet.address()?;
        let mut access = Access::open(&payer.chain)?;
        let mut overlay = None;
        if payer.dry_run {
            let rehearsed = Arc::new(Overlay::new(access.chain.clone()));
            access.chain = rehearsed.clone();
            overlay = Some(rehearsed);
        }
        Ok(Self { access, payer, directory, file, wallet, address, overlay })
    }

    /// Everything from the rehearsal to the last message that follows. `title` says what is done.
    pub(crate) async fn act(
        &self,
        title: &Fields,
        messages: Vec<Outgoing>,
        is_all: bool,
    ) -> Result<Done> {
        if !self.payer.dry_run {
            say::somebody(self.payer.yes)?;
            if let Some(node) = running::holder(self.address).await {
                return Err(mistake(format_args!(
                    "wallet {} is held by the node that runs at {}, and two that spend from one \
                     wallet get in each other's way: stop the node first, or ask it: cocoon channel",
                    self.payer.wallet, node.http
                )));
            }
        }
        let count = messages.len();
        let prepared = self.prepare(messages, is_all).await?;
        let chain = self.access.chain.as_ref();
        // Any key will do: signatures are not looked at here, and the passphrase not asked for.
        let nobody = SigningKey::from_bytes(&[1; 32]);
        let unsigned = self.wallet.sign(&prepared.order, prepared.init.as_ref(), &nobody)?;
        let expected = rehearse(chain, unsigned, prepared.now).await?;
        let sent = expected.steps.first().map_or(0, |step| step.record.out_msgs.len());
        if sent < count {
            return Err(mistake(format_args!(
                "wallet {} does not hold enough for this and its fees",
                self.payer.wallet
            )));
        }
        if let Some(fault) = expected.fault() {
            return Err(mistake(format_args!("it would fail, nothing was sent: {fault}")));
        }
        if let Some(overlay) = &self.overlay {
            let head = Head { seqno: 0, time: prepared.now };
            overlay.keep(expected.states.clone(), head);
            return Ok(Done::Tried(expected));
        }
        if !self.payer.json {
            eprint!("{}", title.to_text());
            eprint!("{}", Fields::new().add("fees expected", expected.fees()).to_text());
        }
        say::confirm(self.payer.yes, "Do it?")?;
        let passphrase = passphrase::ask(&self.payer.unlock, &self.payer.wallet)?;
        let key = self.file.unlock(&passphrase).map_err(mistake)?.key();
        let message = self.wallet.sign(&prepared.order, prepared.init.as_ref(), &key)?;
        self.remember(&prepared.order)?;
        chain.send(boc::encode(&message)).await.map_err(explain)?;
        let first = self.taken(&message, &prepared.order).await?;
        let outcome = follow(chain, first, &expected).await?;
        self.forget();
        Ok(Done::Sent(outcome))
    }

    async fn prepare(&self, messages: Vec<Outgoing>, is_all: bool) -> Result<Prepared> {
        let account = self.settled().await?;
        let name = &self.payer.wallet;
        let balance = account.balance;
        let values = messages.iter().map(|message| message.value);
        let sum = values.fold(Nanoton::ZERO, Nanoton::saturating_add);
        if balance == Nanoton::ZERO {
            return Err(mistake(format_args!(
                "wallet {name} is empty: fund it first: cocoon wallet receive {name}"
            )));
        }
        let floor = self.wallet.kind.floor();
        if balance < floor {
            return Err(mistake(format_args!(
                "wallet {name} holds {balance}, and a cocoon wallet acts only from {floor} on"
            )));
        }
        if sum.saturating_add(FEE_RESERVE) > balance {
            return Err(mistake(format_args!(
                "wallet {name} holds {balance}, not enough for {sum} and fees"
            )));
        }
        let (seqno, init) = match (&account.status, &account.data) {
            (AccountStatus::Active, Some(data)) => (self.wallet.seqno(data)?, None),
            (AccountStatus::Frozen, _) => bail!("wallet {name} is frozen on this chain"),
            _ => (0, Some(self.wallet.state_init(self.code().await?)?)),
        };
        let now = account.head.time;
        let valid_until_s = u32::try_from(now.0.saturating_add(VALID_FOR_S)).unwrap_or(u32::MAX);
        let order = Order { seqno, valid_until_s, messages, is_all };
        Ok(Prepared { order, init, now })
    }

    /// The code of the wallet's contract, for its first order. Codes of others are not part of
    /// this program: they come from a file, or were met before.
    async fn code(&self) -> Result<Cell> {
        if let Some(code) = self.wallet.own_code() {
            return Ok(code);
        }
        let id = self.wallet.kind.code_id();
        if let Some(code) = self.directory.code(id) {
            return Ok(code);
        }
        let kind = self.wallet.kind.name();
        let chain = self.access.chain.as_ref();
        let Some(path) = &self.payer.wallet_code else {
            if let Some((code, at)) = wallet_code::nearby(chain, self.address, id).await {
                eprintln!(
                    "the code of a {kind} wallet is taken from {at}, by its hash {}",
                    id.hash
                );
                self.directory.keep_code(&code)?;
                return Ok(code);
            }
            return Err(mistake(format_args!(
                "the first order of a {kind} wallet deploys it, its code is not part of this program, \
                 and no account near this one has it: say --wallet-code FILE or --wallet-code ADDRESS \
                 (any account that has it); the code is known by its hash {}",
                id.hash
            )));
        };
        let code = wallet_code::named(chain, path).await?;
        if CellId::of(&code) != id {
            return Err(mistake(format_args!(
                "{} is not the code of a {kind} wallet: its hash is {}",
                path.display(),
                CellId::of(&code).hash
            )));
        }
        self.directory.keep_code(&code)?;
        Ok(code)
    }

    /// The account, once no earlier order of this wallet is under way: of two orders with the
    /// same number only one is carried out, and nobody could say which.
    async fn settled(&self) -> Result<Account> {
        let mut told = false;
        loop {
            let chain = &self.access.chain;
            let account = chain.account(self.address, None).await.map_err(explain)?;
            let Some((seqno, until_s)) = self.pending() else { return Ok(account) };
            let now = match &account.data {
                Some(data) => self.wallet.seqno(data)?,
                None => 0,
            };
            if now > seqno || account.head.time.0 > until_s {
                self.forget();
                return Ok(account);
            }
            if !told {
                told = true;
                eprintln!(
                    "an earlier order of this wallet is under way; waiting until it is carried \
                     out or void ({})",
                    say::utc(UnixSeconds(until_s))
                );
            }
            beat(chain.as_ref(), account.head.seqno).await;
        }
    }

    /// Waits until the order is carried out, or certainly never will be.
    /// What was lost on the way is sent again: the wallet's number lets it through once.
    async fn taken(&self, message: &Cell, order: &Order) -> Result<TransactionRecord> {
        let chain = self.access.chain.as_ref();
        let mut sent = Instant::now();
        loop {
            if sent.elapsed() >= AGAIN_EVERY {
                sent = Instant::now();
                // A fault is none: it was taken before, or goes again.
                let _ = chain.send(boc::encode(message)).await;
            }
            if let Some(found) = find(chain, self.address, message).await? {
                return Ok(found);
            }
            let account = chain.account(self.address, None).await.map_err(explain)?;
            let seqno = match &account.data {
                Some(data) => self.wallet.seqno(data)?,
                None => 0,
            };
            // Asked once more: it may have happened between the two questions.
            if seqno > order.seqno {
                return find(chain, self.address, message).await?.context(
                    "another order of this wallet took its place: nothing of this one was sent",
                );
            }
            if account.head.time.0 > u64::from(order.valid_until_s) {
                self.forget();
                bail!("the chain did not take the order in time; it is void, nothing was sent");
            }
            beat(chain, account.head.seqno).await;
        }
    }

    /// A file beside the wallet for what must outlive an interruption.
    pub(crate) fn note_path(&self, name: &str) -> PathBuf {
        self.directory.path().join(format!("{}.{name}.json", self.payer.wallet))
    }

    fn pending_path(&self) -> PathBuf {
        // The chain is part of the name: the same wallet may act on several.
        let coins = match self.access.coins {
            Coins::Local => "local",
            Coins::Testnet => "testnet",
            Coins::Mainnet => "mainnet",
        };
        self.directory.path().join(format!("{}.{coins}.pending.json", self.payer.wallet))
    }

    /// Whether an order may be under way.
    pub(crate) fn is_pending(&self) -> bool {
        self.pending().is_some()
    }

    fn pending(&self) -> Option<(u32, u64)> {
        let text = std::fs::read_to_string(self.pending_path()).ok()?;
        let value: Value = serde_json::from_str(&text).ok()?;
        let seqno = u32::try_from(value["seqno"].as_u64()?).ok()?;
        Some((seqno, value["valid_until_s"].as_u64()?))
    }

    /// Written before the order is sent, so that whoever starts again waits for it.
    fn remember(&self, order: &Order) -> Result<()> {
        let path = self.pending_path();
        let value = json!({ "seqno": order.seqno, "valid_until_s": order.valid_until_s });
        let mut file = std::fs::File::create(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        std::io::Write::write_all(&mut file, value.to_string().as_bytes())?;
        file.sync_all().with_context(|| format!("cannot write {}", path.display()))
    }

    fn forget(&self) {
        // One that stays is found to be settled by the next order.
        let _ = std::fs::remove_file(self.pending_path());
    }
}

impl Done {
    pub(crate) fn outcome(&self) -> &Outcome {
        match self {
            Self::Tried(outcome) | Self::Sent(outcome) => outcome,
        }
    }

    /// What is printed: what was asked, and what came of it.
    pub(crate) fn fields(&self, title: Fields) -> Fields {
        let done = match self {
            Self::Tried(_) => "no, only tried",
            Self::Sent(_) => "yes",
        };
        title.add("sent", done).add("outcome", self.outcome().fields())
    }
}
