//! What accounts and messages mean, in words.

use cocoon_chain::{Account, AccountStatus};
use cocoon_contract::cell::{Cell, CellId, Hash};
use cocoon_contract::code;
use cocoon_contract::message::{
    Body, ClientAction, ClientPayload, ProxyAction, RootAction, TextCommand, read_comment,
};
use cocoon_contract::params::Params;
use cocoon_contract::payment::{CloseKind, PaymentKind};
use cocoon_contract::root::RootState;
use cocoon_contract::state::{ClientState, Phase, ProxyState, WalletState, WorkerState};
use cocoon_contract::timelock::{Receiver, TimelockAction, TimelockState};
use cocoon_units::UnixSeconds;
use cocoon_wallet::{Wallet, WalletKind};

use super::root::registry;
use super::say::Fields;

/// Codes of the live network's contracts, by hash (protocol notes 7.2).
const LIVE: [(&str, &str); 7] = [
    ("00b2c57d43c1dbc3e12cfa240494a168c78feca90a9b99ebe796b139ed713890", "proxy contract (v3a)"),
    ("974d24538e6003b1a393f8708525b81324cf8a78aee88b4585d51b6f64555147", "client contract (v3a)"),
    ("6f8edbaa46f17c18ebbc2e5e51b414e1fd9ff497c24b4fffb556d262b87ff5c9", "proxy contract (v3b)"),
    ("e18e15fba4688e92d39580e7082a691fd046813f95365dccb82fa7b8f8ce06c3", "client contract (v3b)"),
    ("1aaa0512c489a0382b163f7d706e2b4182f1a38fcc46208be5fa22d7faed5aa7", "worker contract (v3)"),
    ("5b07c6bd0c34735874dfa3548cd9a01c78be1e0fdf20d0c5ebe37776396c5400", "root contract (v3)"),
    ("7a48f05ceef40f06cabbaa39c1c5a67b24e8bb59d8cf8a74e49988a5f44cf66a", "cocoon wallet (live)"),
];

/// The name of a code that is known, ours or of the live network.
pub(crate) fn code_name(hash: Hash) -> Option<&'static str> {
    type Load = fn() -> Result<Cell, cocoon_contract::Fault>;
    let ours: [(Load, &str); 6] = [
        (code::root, "root contract"),
        (code::proxy, "proxy contract"),
        (code::client, "client contract"),
        (code::worker, "worker contract"),
        (code::wallet, "cocoon wallet"),
        (code::timelock, "timelock"),
    ];
    let is_ours = |load: &Load| load().is_ok_and(|cell| CellId::of(&cell).hash == hash);
    let standard = [
        (WalletKind::V3R2, "wallet v3r2"),
        (WalletKind::V4R2, "wallet v4r2"),
        (WalletKind::V5R1 { network_id: 0 }, "wallet v5r1"),
    ];
    ours.iter()
        .find(|(load, _)| is_ours(load))
        .map(|(_, name)| *name)
        .or_else(|| {
            standard.iter().find(|(kind, _)| kind.code_id().hash == hash).map(|(_, name)| *name)
        })
        .or_else(|| LIVE.iter().find(|(live, _)| *live == hash.to_string()).map(|(_, name)| *name))
}

/// An account and, where it is a contract of the network, what it holds.
pub(crate) fn account(account: &Account) -> Fields {
    let status = match account.status {
        AccountStatus::Absent => "does not exist",
        AccountStatus::Uninit => "has coins, no code yet",
        AccountStatus::Active => "active",
        AccountStatus::Frozen => "frozen",
    };
    let hash = account.code.as_ref().map(|code| CellId::of(code).hash);
    let fields = Fields::new()
        .add("address", account.address)
        .add("raw", account.address.to_raw())
        .add("status", status)
        .add("coins", account.balance)
        .add("contract", kind(account))
        .add("code hash", hash);
    match account.data.as_ref().and_then(|data| contract(account, data)) {
        Some(state) => fields.add("state", state),
        None => fields,
    }
}

/// What an account is, in a word or two.
pub(crate) fn kind(account: &Account) -> Option<String> {
    let hash = CellId::of(account.code.as_ref()?).hash;
    if let Some(name) = code_name(hash) {
        return Some(name.to_owned());
    }
    let data = account.data.as_ref()?;
    let looks = match () {
        () if RootState::parse(data).is_ok() => "root contract",
        () if ProxyState::parse(data).is_ok() => "proxy contract",
        () if ClientState::parse(data).is_ok() => "client contract",
        () if WorkerState::parse(data).is_ok() => "worker contract",
        () if WalletState::parse(data).is_ok() => "cocoon wallet",
        () => return Some("unknown contract".to_owned()),
    };
    Some(format!("looks like a {looks}, of unknown code"))
}

fn contract(account: &Account, data: &Cell) -> Option<Fields> {
    if let Ok(root) = RootState::parse(data) {
        return Some(registry(&root));
    }
    if let Ok((state, params)) = ProxyState::parse(data) {
        return Some(proxy(&state).add("parameters", parameters(&params)));
    }
    if let Ok((state, params)) = ClientState::parse(data) {
        return Some(client(&state).add("parameters", parameters(&params)));
    }
    if let Ok((state, params)) = WorkerState::parse(data) {
        return Some(worker(&state).add("parameters", parameters(&params)));
    }
    if let Ok(state) = WalletState::parse(data) {
        return Some(wallet(&state));
    }
    if let Ok(state) = TimelockState::parse(data) {
        return Some(timelock(&state));
    }
    let standard = standard_wallet(account)?;
    Some(Fields::new().add("seqno", standard.seqno(data).ok()?))
}

fn standard_wallet(account: &Account) -> Option<Wallet> {
    let id = CellId::of(account.code.as_ref()?);
    let kinds = [WalletKind::V3R2, WalletKind::V4R2, WalletKind::V5R1 { network_id: 0 }];
    let kind = kinds.into_iter().find(|kind| kind.code_id() == id)?;
    Some(Wallet { kind, public_key: cocoon_units::PublicKey([0; 32]) })
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Normal => "open",
        Phase::Closing => "closing",
        Phase::Closed => "closed",
    }
}

fn unlock(unlock_s: u32) -> Option<UnixSeconds> {
    (unlock_s != 0).then_some(UnixSeconds(unlock_s.into()))
}

pub(crate) fn proxy(state: &ProxyState) -> Fields {
    Fields::new()
        .add("phase", phase(state.phase))
        .add("owner", state.owner)
        .add("earned", state.balance)
        .add("stake", state.stake)
        .add("closes at", unlock(state.unlock_s))
        .add("root", state.root)
        .add("proxy key", Hash(state.public_key.0))
}

pub(crate) fn client(state: &ClientState) -> Fields {
    Fields::new()
        .add("phase", phase(state.phase))
        .add("owner", state.constants.owner)
        .add("proxy", state.constants.proxy)
        .add("balance", state.balance)
        .add("stake", state.stake)
        .add("tokens charged", state.tokens_used.0)
        .add("refund can be forced at", unlock(state.unlock_s))
        .add("secret hash", state.secret_hash)
}

pub(crate) fn worker(state: &WorkerState) -> Fields {
    Fields::new()
        .add("phase", phase(state.phase))
        .add("owner", state.owner)
        .add("proxy", state.proxy)
        .add("tokens paid", state.tokens.0)
}

fn wallet(state: &WalletState) -> Fields {
    Fields::new()
        .add("seqno", state.seqno)
        .add("owner", state.owner)
        .add("blocked", state.is_blocked)
        .add("public key", Hash(state.public_key.0))
}

pub(crate) fn timelock(state: &TimelockState) -> Fields {
    let waiting = state.waiting.iter().map(|(id, change)| {
        let receiver = match change.receiver {
            Receiver::Root => "root",
            Receiver::Timelock => "the timelock itself",
        };
        Fields::new()
            .add("number", *id)
            .add("change", body(&change.body))
            .add("of", receiver)
            .add("due", UnixSeconds(change.due_s.into()))
    });
    Fields::new()
        .add("admin", state.admin)
        .add("root", state.root)
        .add("delay s", state.delay_s)
        .add("waiting", waiting.collect::<Vec<_>>())
}

fn parameters(cell: &Cell) -> Option<Fields> {
    let (params, _) = Params::parse(cell).ok()?;
    Some(super::root::prices(&params))
}

/// A message body in one line.
pub(crate) fn body(cell: &Cell) -> String {
    let Ok(body) = Body::parse(cell) else {
        if let Some(text) = read_comment(cell) {
            return format!("comment \"{}\"", text.escape_debug());
        }
        return match cell.as_slice().ok().and_then(|mut slice| slice.load_u32().ok()) {
            Some(op) => format!("operation {op:#010x}"),
            None => "unknown body".to_owned(),
        };
    };
    match body {
        Body::Empty => "coins".to_owned(),
        Body::Text(command) => text_command(command).to_owned(),
        Body::Excesses { .. } => "unused value returns".to_owned(),
        Body::Payout { .. } => "payout".to_owned(),
        Body::SaveState(save) => format!("state commit {}", save.seqno),
        Body::DoNotProcess => "notice".to_owned(),
        Body::Client(request) => client_action(&request.action),
        Body::ClientNotice(notice) => {
            notice.payload.map_or("client: values".to_owned(), |payload| match payload {
                ClientPayload::TopUp { amount, .. } => format!("client: top up {amount}"),
                ClientPayload::Register { .. } => "client: register".to_owned(),
                ClientPayload::RefundGranted { amount, .. } => format!("client: refund {amount}"),
                ClientPayload::RefundForce { amount, .. } => {
                    format!("client: forced refund {amount}")
                }
            })
        }
        Body::WorkerRegister(_) => "register worker".to_owned(),
        Body::WorkerNotice(notice) => notice.payout.map_or("worker: values".to_owned(), |payout| {
            format!("worker: pay {}, proxy earns {}", payout.worker_part, payout.proxy_part)
        }),
        Body::Proxy(request) => match request.action {
            ProxyAction::IncreaseStake { amount } => format!("add {amount} to the stake"),
            ProxyAction::Payout => "pay the proxy's earnings out".to_owned(),
            ProxyAction::Close => "close the proxy contract".to_owned(),
        },
        Body::Payment(payment) => {
            let tokens = payment.tokens();
            match payment.kind() {
                PaymentKind::ClientCharge => format!("charge up to {tokens} in all"),
                PaymentKind::ClientGrantRefund => {
                    format!("grant the refund after {tokens} in all")
                }
                PaymentKind::WorkerPayout => format!("pay up to {tokens} in all"),
                PaymentKind::WorkerLastPayout => format!("last payout, {tokens} in all"),
            }
        }
        Body::Close(close) => match close.kind() {
            CloseKind::Request => "close, signed by the proxy".to_owned(),
            CloseKind::Complete => "complete the close, signed by the proxy".to_owned(),
        },
        Body::RefundShort(short) => format!("{} of the refund is still owed", short.amount),
        Body::PayoutShort(short) => format!("{} of the payout is still owed", short.amount),
        Body::Root(request) => root_action(&request.action),
        Body::Timelock(request) => match request.action {
            TimelockAction::Propose { body: change, .. } => {
                format!("propose: {}", self::body(&change))
            }
            TimelockAction::Apply => "carry out the oldest change".to_owned(),
            TimelockAction::Cancel { id } => format!("cancel change {id}"),
            TimelockAction::Revoke { body: change } => format!("at once: {}", self::body(&change)),
            TimelockAction::Configure { admin, delay_s } => {
                format!("admin {admin}, delay {delay_s} s")
            }
        },
        Body::WalletSend(_) => "the owner sends through the wallet".to_owned(),
        Body::Bounced(_) => "refused and returned".to_owned(),
    }
}

fn text_command(command: TextCommand) -> &'static str {
    match command {
        TextCommand::Close => "text c: close",
        TextCommand::Withdraw => "text w: the owner takes the money",
        TextCommand::Block => "text b: block the wallet",
        TextCommand::Unblock => "text u: unblock the wallet",
    }
}

fn client_action(action: &ClientAction) -> String {
    match action {
        ClientAction::TopUp { amount } => format!("top up {amount}"),
        ClientAction::ChangeSecretHashAndTopUp { amount, .. } => {
            format!("top up {amount}, change the secret")
        }
        ClientAction::Register { .. } => "register".to_owned(),
        ClientAction::ChangeSecretHash { .. } => "change the secret".to_owned(),
        ClientAction::IncreaseStake { new_stake } => format!("raise the stake to {new_stake}"),
        ClientAction::Withdraw => "withdraw what exceeds the stake".to_owned(),
        ClientAction::RequestRefund => "ask for everything back".to_owned(),
    }
}

/// A change of the registry in one line.
pub(crate) fn root_action(action: &RootAction) -> String {
    let entry = |text: &[u8]| String::from_utf8_lossy(text).escape_debug().to_string();
    match action {
        RootAction::AddWorkerType(hash) => format!("allow worker image {hash}"),
        RootAction::DelWorkerType(hash) => format!("take back worker image {hash}"),
        RootAction::AddModelType(hash) => format!("allow model {hash}"),
        RootAction::DelModelType(hash) => format!("take back model {hash}"),
        RootAction::AddProxyType(hash) => format!("allow proxy image {hash}"),
        RootAction::DelProxyType(hash) => format!("take back proxy image {hash}"),
        RootAction::RegisterProxy(proxy) => format!("add proxy {}", entry(&proxy.text)),
        RootAction::UnregisterProxy { seqno } => format!("remove proxy {seqno}"),
        RootAction::UpdateProxy { seqno, entry: proxy } => {
            format!("move proxy {seqno} to {}", entry(&proxy.text))
        }
        RootAction::ChangePrice { price_per_token, worker_fee_per_token } => {
            format!(
                "price {} nanoton a token, {} of it to workers",
                price_per_token.0, worker_fee_per_token.0
            )
        }
        RootAction::ChangeParams {
            price_per_token,
            worker_fee_per_token,
            proxy_delay_s,
            client_delay_s,
            min_proxy_stake,
            min_client_stake,
        } => format!(
            "price {} nanoton a token, {} of it to workers, proxy delay {proxy_delay_s} s, client \
             delay {client_delay_s} s, least stakes {min_proxy_stake} (proxy) and \
             {min_client_stake} (client)",
            price_per_token.0, worker_fee_per_token.0
        ),
        RootAction::UpgradeContracts { .. } => {
            "new codes for proxy, worker and client contracts".to_owned()
        }
        RootAction::Upgrade { .. } => "new code for the root contract".to_owned(),
        RootAction::UpgradeFull { .. } => "new code and data for the root contract".to_owned(),
        RootAction::Reset => "empty the registry".to_owned(),
        RootAction::ChangeOwner(owner) => format!("hand the root to {owner}"),
    }
}
