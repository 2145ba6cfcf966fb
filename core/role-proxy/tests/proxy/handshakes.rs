//! Both handshakes, every check with its code and text (protocol notes 3.2, 3.3, 10.2).

use cocoon_role_proxy::{ChainFact, ChainMode, Command, ConnId, Settings, Side};
use cocoon_units::{ImageHash, Nanoton, PublicKey, Tokens};
use cocoon_wire::client::{self, ProxyConnectionAuth, VersionRange};
use cocoon_wire::proxy::{RunQueryEx, SignedPayment};
use cocoon_wire::tl::{self, Blob, Extensions, Text};
use cocoon_wire::{cocoon, worker};

use crate::stage::{
    Got, Stage, account, client_hello, identity, owner_text, request, settings, worker_hello,
};

/// A failed query, and whether the connection was closed behind it.
fn failure(stage: &mut Stage, conn: ConnId) -> (i32, String, bool) {
    let Some(Got::Failed(_, code, text)) = stage.got(conn) else { panic!("no failure") };
    let closed = matches!(stage.got(conn), Some(Got::Closed(_)));
    (code, text, closed)
}

fn refused_client(change: impl FnOnce(&mut client::ConnectToProxy<'_>)) -> (i32, String, bool) {
    let mut stage = Stage::new();
    let conn = stage.open(Side::Clients, None);
    let owner = owner_text(20);
    let mut hello = client_hello(&owner, 4, Extensions::NONE);
    change(&mut hello);
    stage.ask(conn, &hello);
    failure(&mut stage, conn)
}

#[test]
fn each_bad_hello_of_a_client_gets_its_text() {
    let closing = |code: i32, text: &str| (code, text.to_owned(), true);
    assert_eq!(refused_client(|h| h.params.is_test = None), closing(602, "too old client"));
    assert_eq!(
        refused_client(|h| h.params.is_test = Some(false)),
        closing(602, "test mode mismatch")
    );
    assert_eq!(
        refused_client(|h| h.params.client_owner_address = Text::from("nonsense")),
        closing(602, "cannot parse client owner address")
    );
    assert_eq!(
        refused_client(|h| h.min_config_version = 4),
        closing(602, "active config version is too low")
    );
    let range = VersionRange { min: 5, max: 7 };
    assert_eq!(
        refused_client(|h| h.params.versions = Some(range)),
        closing(621, "cannot choose common protocol version")
    );
}

#[test]
fn a_client_is_introduced_and_authorised() {
    let mut stage = Stage::new();
    let conn = stage.open(Side::Clients, None);
    let owner = owner_text(20);
    stage.ask(conn, &client_hello(&owner, 4, cocoon::ANNOUNCED));
    let data = stage.answer(conn);
    let hello: client::ConnectedToProxy<'_> = tl::decode(&data).unwrap();
    assert_eq!(hello.params.proto_version, Some(4));
    assert_eq!(hello.params.is_test, Some(true));
    assert_eq!(hello.params.extensions, cocoon::ANNOUNCED);
    assert_eq!(hello.params.proxy_public_key, identity().public_key());
    assert_eq!(hello.signed_payment, SignedPayment::Empty);
    let ProxyConnectionAuth::Short(auth) = hello.auth else { panic!("short") };
    assert_eq!(hex::encode(auth.secret_hash), EMPTY_SHA256);
    stage.ask(conn, &client::AuthorizeWithProxyShort { data: Blob(b"") });
    let data = stage.answer(conn);
    let result: client::AuthorizationWithProxy<'_> = tl::decode(&data).unwrap();
    let client::AuthorizationWithProxy::Success(success) = result else { panic!("success") };
    assert!(matches!(success.signed_payment, SignedPayment::Signed(_)));
    assert_eq!((success.tokens_committed_to_db, success.max_tokens), (0, 0));
}

const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn versions_are_chosen_as_the_smaller_maximum() {
    for (theirs, chosen) in
        [(0, None), (1, Some(1)), (2, Some(2)), (3, Some(3)), (4, Some(4)), (9, Some(4))]
    {
        let mut stage = Stage::new();
        let conn = stage.open(Side::Clients, None);
        let owner = owner_text(20);
        stage.ask(conn, &client_hello(&owner, theirs, Extensions::NONE));
        let data = stage.answer(conn);
        let hello: client::ConnectedToProxy<'_> = tl::decode(&data).unwrap();
        assert_eq!(hello.params.proto_version, chosen);
        assert_eq!(hello.params.extensions, Extensions::NONE);
    }
}

#[test]
fn clients_out_of_turn_get_the_reference_texts() {
    let mut stage = Stage::new();
    let conn = stage.open(Side::Clients, None);
    stage.ask(conn, &client::GetWorkerTypesV2 {});
    assert_eq!(failure(&mut stage, conn), (621, "expected client connection".into(), false));
    let owner = owner_text(20);
    stage.ask(conn, &worker_hello(&owner, 4));
    assert_eq!(failure(&mut stage, conn), (621, "worker connect() from non worker".into(), false));
    stage.ask(conn, &client::RequestRefund {});
    assert_eq!(failure(&mut stage, conn), (0, "Lost promise".into(), false));
    stage.ask_raw(conn, &[1, 2, 3, 4]);
    assert_eq!(failure(&mut stage, conn), (0, "Lost promise".into(), false));
    stage.ask(conn, &client_hello(&owner, 4, Extensions::NONE));
    stage.answer(conn);
    stage.ask(conn, &client_hello(&owner, 4, Extensions::NONE));
    assert_eq!(failure(&mut stage, conn), (0, "expected auth message".into(), true));

    let conn = stage.client(20, 4);
    stage.ask_raw(conn, &[1, 2, 3, 4]);
    assert_eq!(failure(&mut stage, conn), (0, "Lost promise".into(), false));
    stage.ask(conn, &client::AuthorizeWithProxyLong {});
    assert_eq!(failure(&mut stage, conn), (0, "already authorized".into(), true));
}

#[test]
fn a_wrong_secret_is_refused_and_the_long_way_is_open_without_a_chain() {
    let mut stage = Stage::new();
    let owner = owner_text(20);
    let conn = stage.open(Side::Clients, None);
    stage.ask(conn, &client_hello(&owner, 4, Extensions::NONE));
    stage.answer(conn);
    stage.ask(conn, &client::AuthorizeWithProxyShort { data: Blob(b"guess") });
    assert_eq!(failure(&mut stage, conn), (0, "sha256 mismatch".into(), true));

    let conn = stage.open(Side::Clients, None);
    stage.ask(conn, &client_hello(&owner, 4, Extensions::NONE));
    stage.answer(conn);
    stage.ask(conn, &client::AuthorizeWithProxyLong {});
    stage.answer(conn);
}

#[test]
fn a_truncated_query_closes_the_connection() {
    let mut stage = Stage::new();
    let conn = stage.open(Side::Clients, None);
    let owner = owner_text(20);
    let whole = tl::encode(&client_hello(&owner, 4, Extensions::NONE));
    stage.ask_raw(conn, &whole[..whole.len() - 4]);
    let (code, _, closed) = failure(&mut stage, conn);
    assert_eq!((code, closed), (621, true));
}

fn real() -> Stage {
    real_with(settings())
}

fn real_with(settings: Settings) -> Stage {
    let mut stage = Stage::with(Settings { chain: ChainMode::Real, ..settings });
    let order = stage.orders.pop().expect("the first commit");
    let cocoon_role_proxy::ChainOrder::SaveState { seqno, session } = order else {
        panic!("commit")
    };
    let conn = stage.open(Side::Clients, None);
    let owner = owner_text(20);
    stage.ask(conn, &client_hello(&owner, 4, Extensions::NONE));
    let (code, _, closed) = failure(&mut stage, conn);
    assert_eq!((code, closed), (651, true), "nobody is served before the first commit is seen");
    stage.proxy.chain(ChainFact::CommitSeen { seqno, session }, stage.now, &mut stage.out);
    stage.perform();
    stage
}

#[test]
fn owners_that_only_named_themselves_take_no_room_when_they_are_gone() {
    let mut stage = real_with(Settings { accounts_max: 2, ..settings() });
    for owner in 30..40 {
        let conn = stage.open(Side::Clients, None);
        let owner = owner_text(owner);
        stage.ask(conn, &client_hello(&owner, 4, Extensions::NONE));
        stage.answer(conn);
        stage.close(conn);
    }
    // Whoever is here, or is known from the chain, keeps its place.
    let here = stage.open(Side::Clients, None);
    let owner = owner_text(20);
    stage.ask(here, &client_hello(&owner, 4, Extensions::NONE));
    stage.answer(here);
    let seen = ChainFact::ClientSeen {
        client: account(21),
        status: cocoon_ledger::ClientStatus::Normal,
        balance: cocoon_units::Nanoton(1_000_000_000),
        stake: cocoon_units::Nanoton(1_000_000_000),
        charged: cocoon_units::Tokens(0),
        secret_hash: [0; 32],
    };
    stage.proxy.chain(seen, stage.now, &mut stage.out);
    stage.perform();
    let late = stage.open(Side::Clients, None);
    let owner = owner_text(22);
    stage.ask(late, &client_hello(&owner, 4, Extensions::NONE));
    assert_eq!(failure(&mut stage, late).0, 651);
}

/// Says hello as a worker of this owner.
fn greet_as_worker(stage: &mut Stage, owner: u8) -> ConnId {
    let conn = stage.open(Side::Workers, None);
    let owner = owner_text(owner);
    stage.ask(conn, &worker_hello(&owner, 4));
    conn
}

#[test]
fn owners_of_workers_that_never_served_take_no_room_when_they_are_gone() {
    let pool = cocoon_schedule::Limits { workers_max: 3, ..settings().pool };
    let mut stage = Stage::with(Settings { accounts_max: 2, pool, ..settings() });
    for owner in 30..40 {
        let conn = greet_as_worker(&mut stage, owner);
        stage.answer(conn);
        stage.close(conn);
    }
    assert_eq!(stage.books().workers().count(), 0);
    // Whoever has served keeps its place, and whoever is here, over one connection or two.
    let served = stage.worker(20, 4, 4);
    let client = stage.client(60, 4);
    stage.send(client, &request(1));
    let id = stage.run_query(served);
    stage.serve(served, id, 5);
    stage.close(served);
    let here = stage.worker(21, 4, 4);
    let second = greet_as_worker(&mut stage, 21);
    stage.answer(second);
    stage.close(second);
    let late = greet_as_worker(&mut stage, 22);
    assert_eq!(failure(&mut stage, late).0, 651);
    // Its twin's end took nothing from the one that stays: what it earns is signed and booked.
    stage.send(client, &request(2));
    let data = stage.message(here);
    let run: RunQueryEx<'_> = tl::decode(&data).unwrap();
    assert_ne!(run.signed_payment, SignedPayment::Empty);
    let id = run.request_id;
    stage.serve(here, id, 7);
    stage.close(here);
    let earned = |owner| stage.books().worker(account(owner)).unwrap().counters().max();
    assert_eq!((earned(20), earned(21)), (Tokens(5), Tokens(7)));
}

#[test]
fn owners_of_workers_that_found_no_place_take_no_room() {
    let pool = cocoon_schedule::Limits { workers_max: 1, ..settings().pool };
    let mut stage = Stage::with(Settings { accounts_max: 2, pool, ..settings() });
    let here = greet_as_worker(&mut stage, 20);
    stage.answer(here);
    for owner in 30..40 {
        let conn = greet_as_worker(&mut stage, owner);
        assert_eq!(failure(&mut stage, conn).0, 651);
    }
    stage.close(here);
    let late = greet_as_worker(&mut stage, 40);
    stage.answer(late);
}

#[test]
fn a_registration_on_chain_authorises_in_either_order() {
    for registered_first in [true, false] {
        let mut stage = real();
        let conn = stage.open(Side::Clients, None);
        let owner = owner_text(20);
        stage.ask(conn, &client_hello(&owner, 4, Extensions::NONE));
        let data = stage.answer(conn);
        let hello: client::ConnectedToProxy<'_> = tl::decode(&data).unwrap();
        let ProxyConnectionAuth::Long(auth) = hello.auth else { panic!("long") };
        let fact = ChainFact::Registered { client: account(20), nonce: auth.nonce.cast_unsigned() };
        if registered_first {
            stage.proxy.chain(fact.clone(), stage.now, &mut stage.out);
            stage.perform();
        }
        stage.ask(conn, &client::AuthorizeWithProxyLong {});
        if !registered_first {
            assert_eq!(stage.got(conn), None, "waits for the chain");
            stage.proxy.chain(fact, stage.now, &mut stage.out);
            stage.perform();
        }
        stage.answer(conn);
    }
}

#[test]
fn a_secret_known_from_chain_authorises_and_a_closing_contract_does_not() {
    use sha2::Digest as _;
    let mut stage = real();
    let seen = |status| ChainFact::ClientSeen {
        client: account(20),
        status,
        balance: Nanoton(1_000_000),
        stake: Nanoton(1_000_000),
        charged: Tokens(0),
        secret_hash: sha2::Sha256::digest(b"secret").into(),
    };
    let owner = owner_text(20);
    stage.proxy.chain(seen(cocoon_ledger::ClientStatus::Normal), stage.now, &mut stage.out);
    stage.perform();
    let conn = stage.open(Side::Clients, None);
    stage.ask(conn, &client_hello(&owner, 4, Extensions::NONE));
    let data = stage.answer(conn);
    let hello: client::ConnectedToProxy<'_> = tl::decode(&data).unwrap();
    assert!(matches!(hello.auth, ProxyConnectionAuth::Short(_)));
    assert!(matches!(hello.signed_payment, SignedPayment::Signed(_)));
    stage.ask(conn, &client::AuthorizeWithProxyShort { data: Blob(b"secret") });
    stage.answer(conn);

    stage.proxy.chain(seen(cocoon_ledger::ClientStatus::Closing), stage.now, &mut stage.out);
    stage.perform();
    let conn = stage.open(Side::Clients, None);
    stage.ask(conn, &client_hello(&owner, 4, Extensions::NONE));
    assert_eq!(failure(&mut stage, conn), (602, "client is closing".into(), true));
}

fn refused_worker(
    settings: Settings,
    image: Option<ImageHash>,
    change: impl FnOnce(&mut worker::Params<'_>),
) -> (i32, String, bool) {
    let mut stage = Stage::with(settings);
    let conn = stage.open(Side::Workers, image);
    let owner = owner_text(30);
    let mut hello = worker_hello(&owner, 4);
    change(&mut hello.params);
    stage.ask(conn, &hello);
    failure(&mut stage, conn)
}

#[test]
fn each_bad_hello_of_a_worker_gets_its_text() {
    let closing = |code: i32, text: &str| (code, text.to_owned(), true);
    let lax = |change: fn(&mut worker::Params<'_>)| refused_worker(settings(), None, change);
    let load = |is_test, proxy_cnt, max_active_requests| {
        Some(worker::Load { is_test, proxy_cnt, max_active_requests })
    };
    let with_load = |load| refused_worker(settings(), None, move |p| p.load = load);
    assert_eq!(with_load(None), closing(602, "too old worker"));
    assert_eq!(with_load(load(false, 1, 1)), closing(602, "test mode mismatch"));
    assert_eq!(
        lax(|p| p.model = Text::from("")),
        closing(621, "invalid worker hash or worker type")
    );
    assert_eq!(lax(|p| p.coefficient = -1), closing(621, "invalid coefficient value"));
    assert_eq!(lax(|p| p.coefficient = 1_000_000_000), closing(621, "invalid coefficient value"));
    assert_eq!(with_load(load(true, 1, 0)), closing(621, "invalid max_active_requests value"));
    assert_eq!(with_load(load(true, 0, 1)), closing(621, "invalid proxy_cnt value"));
    let range = |p: &mut worker::Params<'_>| p.versions = Some(VersionRange { min: 5, max: 6 });
    assert_eq!(lax(range), closing(621, "cannot choose common protocol version"));
    let strict = Settings { check_hashes: true, ..settings() };
    let (code, text, closed) = refused_worker(strict.clone(), Some(ImageHash([8; 32])), |_| {});
    assert_eq!((code, closed), (621, true));
    assert!(text.starts_with("invalid worker image hash 0808"), "{text}");
    let (_, text, _) = refused_worker(strict.clone(), None, |_| {});
    assert!(text.starts_with("invalid worker image hash"), "{text}");
    let (code, text, _) = refused_worker(strict, Some(ImageHash([9; 32])), |_| {});
    assert_eq!((code, text.as_str()), (621, "invalid worker model 'qwen@abc:00'"));
}

#[test]
fn a_worker_goes_through_and_gets_a_signed_payment_for_nothing() {
    let mut stage = Stage::new();
    let conn = stage.open(Side::Workers, None);
    let owner = owner_text(30);
    stage.ask(conn, &worker_hello(&owner, 2));
    let data = stage.answer(conn);
    let hello: worker::ConnectedToProxy<'_> = tl::decode(&data).unwrap();
    assert_eq!(hello.params.proto_version, Some(2));
    stage.ask(conn, &worker::ProxyHandshakeComplete { is_disabled: false });
    let (code, text, _) = failure(&mut stage, conn);
    assert_eq!((code, text.as_str()), (621, "expected balance comparison"));

    let conn = stage.worker(30, 2, 4);
    stage.ask(conn, &worker::UpdatePaymentStatus {});
    let data = stage.answer(conn);
    let status: worker::PaymentStatus<'_> = tl::decode(&data).unwrap();
    let SignedPayment::Signed(payment) = status.signed_payment else { panic!("signed") };
    let payment = cocoon_contract::payment::SignedPayment::from_boc(payment.0).unwrap();
    let kind = cocoon_contract::payment::PaymentKind::WorkerPayout;
    let key: PublicKey = identity().public_key();
    assert_eq!(payment.verify(kind, &payment.target(), key).unwrap(), Tokens(0));
    assert_eq!(payment.target().to_raw(), {
        let text = hello.worker_sc_address.sanitized();
        cocoon_units::Address::parse(&text).unwrap().to_raw()
    });
}

#[test]
fn balances_nobody_can_have_are_refused_without_harm() {
    let compare = |chain, durable, max| worker::CompareBalanceWithProxy {
        tokens_committed_to_blockchain: chain,
        tokens_committed_to_db: durable,
        max_tokens: max,
    };
    for (claim, code) in [
        (compare(5, 0, 5), 602),
        (compare(0, 5, 5), 602),
        (compare(-1, 0, 0), 621),
        (compare(0, 0, i64::MIN), 621),
    ] {
        let mut stage = Stage::new();
        let conn = stage.open(Side::Workers, None);
        let owner = owner_text(30);
        stage.ask(conn, &worker_hello(&owner, 4));
        stage.answer(conn);
        stage.ask(conn, &claim);
        let (found, _, closed) = failure(&mut stage, conn);
        assert_eq!((found, closed), (code, true));
        stage.client(20, 4);
    }
}

#[test]
fn a_worker_that_counted_more_completes_through_the_extended_comparison() {
    let mut stage = Stage::new();
    let conn = stage.open(Side::Workers, None);
    let owner = owner_text(30);
    stage.ask(conn, &worker_hello(&owner, 4));
    stage.answer(conn);
    stage.ask(
        conn,
        &worker::CompareBalanceWithProxy {
            tokens_committed_to_blockchain: 0,
            tokens_committed_to_db: 0,
            max_tokens: 44,
        },
    );
    let data = stage.answer(conn);
    let result: worker::CompareBalanceWithProxyResult<'_> = tl::decode(&data).unwrap();
    assert_eq!((result.error_code, result.max_tokens), (1, 0));
    let extended =
        worker::ExtendedCompareBalanceWithProxy { tokens_committed_to_db: 0, other: Blob(b"") };
    stage.ask(conn, &extended);
    let data = stage.answer(conn);
    let result: worker::ExtendedCompareBalanceWithProxyResult = tl::decode(&data).unwrap();
    assert_eq!(result.error_code, 0);
    stage.ask(conn, &worker::ProxyHandshakeComplete { is_disabled: false });
    stage.answer(conn);
}

#[test]
fn silent_peers_are_dropped_and_a_disabled_proxy_turns_everybody_away() {
    let mut stage = Stage::new();
    let conn = stage.open(Side::Clients, None);
    let ready = stage.client(20, 4);
    stage.wait(59_999);
    assert_eq!(stage.got(conn), None);
    stage.wait(1);
    assert_eq!(stage.got(conn), Some(Got::Closed("handshake took too long".into())));
    assert_eq!(stage.got(ready), None, "a finished handshake has no deadline");

    let disable = Command::Disable { until_params_version: None };
    stage.proxy.command(1, disable, stage.now, &mut stage.out);
    stage.perform();
    assert_eq!(stage.got(ready), Some(Got::Closed("proxy is disabled".into())));
    let conn = stage.open(Side::Workers, None);
    assert_eq!(stage.got(conn), Some(Got::Closed("proxy is disabled".into())));
    stage.proxy.command(2, Command::Enable, stage.now, &mut stage.out);
    stage.perform();
    stage.client(20, 4);
    assert_eq!(stage.admin, [(1, Ok("disabled".into())), (2, Ok("enabled".into()))]);
}
