//! The list.

use std::hint::black_box;

use cocoon_channel::ChannelRecord;
use cocoon_client::ClientConfig;
use cocoon_contract::cell::Cell;
use cocoon_gateway::GatewayConfig;
use cocoon_host::fuzz as host;
use cocoon_keymgr::KeyManagerConfig;
use cocoon_ledger::Record;
use cocoon_localchain::LocalChain;
use cocoon_proxy::ProxyConfig;
use cocoon_units::{Address, ModelName, Nanoton, RequestId};
use cocoon_worker::WorkerConfig;
use tycho_types::cell::CellBuilder;

/// A decoder under test.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, also of its corpus.
    pub name: &'static str,
    /// Runs it once; panics when a law is broken.
    pub run: fn(&[u8]),
    /// Longest input worth trying, bytes.
    pub len_max: usize,
}

const fn target(name: &'static str, run: fn(&[u8]), len_max: usize) -> Target {
    Target { name, run, len_max }
}

/// All targets, from the wire inwards.
pub const TARGETS: &[Target] = &[
    target("wire-objects", cocoon_wire::fuzz::objects, 4096),
    target("wire-frames", cocoon_wire::fuzz::frames, 4096),
    target("wire-preludes", cocoon_wire::fuzz::preludes, 1024),
    target("wire-json", cocoon_wire::fuzz::json, 4096),
    target("wire-sealed", cocoon_wire::fuzz::sealed, 2048),
    target("session", cocoon_session::fuzz::connection, 4096),
    target("certificate", cocoon_ratls::fuzz::certificate, 4096),
    target("attest-tdx-quote", cocoon_attest::fuzz::tdx_quote, 8192),
    target("attest-snp-report", cocoon_attest::fuzz::snp_report, 4096),
    target("attest-gpu-report", cocoon_attest::fuzz::gpu_report, 8192),
    target("attest-event-log", cocoon_attest::fuzz::event_log, 4096),
    target("attest-boot-log", cocoon_attest::fuzz::boot_log, 8192),
    target("attest-vtpm", cocoon_attest::fuzz::vtpm, 4096),
    target("attest-runtime-data", cocoon_attest::fuzz::runtime_data, 2048),
    target("attest-channel", cocoon_attest::fuzz::channel_message, 2048),
    target("attest-report", cocoon_attest::fuzz::report, 8192),
    target("attest-endorsement", cocoon_attest::fuzz::endorsement, 1024),
    target("attest-extension", cocoon_attest::fuzz::extension, 2048),
    target("attest-collateral", cocoon_attest::fuzz::collateral, 4096),
    target("attest-policy", cocoon_attest::fuzz::policy, 2048),
    target("attest-image", cocoon_attest::fuzz::image, 2048),
    target("evidence-paravisor", cocoon_evidence::fuzz::paravisor, 4096),
    target("evidence-vtpm", cocoon_evidence::fuzz::vtpm, 8192),
    target("evidence-host", cocoon_evidence::fuzz::host, 4096),
    target("evidence-services", cocoon_evidence::fuzz::services, 8192),
    target("proof-receipt", cocoon_proof::fuzz::receipt, 2048),
    target("proof-receipt-file", cocoon_proof::fuzz::receipt_file, 8192),
    target("proof-bundle", cocoon_proof::fuzz::bundle, 8192),
    target("proof-trust", cocoon_proof::fuzz::trust, 4096),
    target("verity-superblock", cocoon_verity::fuzz::superblock, 1024),
    target("verity-tree", cocoon_verity::fuzz::tree, 256),
    target("verity-archive", cocoon_verity::fuzz::archive, 512),
    target("router-socks", cocoon_role_router::fuzz::socks, 1024),
    target("router-configuration", cocoon_role_router::fuzz::configuration, 4096),
    target("keys-query", cocoon_role_keymgr::fuzz::query, 256),
    target("keys-answers", cocoon_role_keymgr::fuzz::answers, 2048),
    target("openai-request", cocoon_openai::fuzz::request, 4096),
    target("openai-form", cocoon_openai::fuzz::form, 2048),
    target("openai-stream", cocoon_openai::fuzz::stream, 4096),
    target("openai-responses", cocoon_openai::fuzz::responses, 4096),
    target("openai-messages", cocoon_openai::fuzz::messages, 4096),
    target("gateway-batch", cocoon_gateway::batches::fuzz::file, 4096),
    target("host-settings", settings, 2048),
    target("host-network", cocoon_host::fuzz::network, 4096),
    target("units-texts", texts, 256),
    target("contract-bag", cocoon_contract::fuzz::bag, 4096),
    target("contract-cell", cells, 2048),
    target("chain-lite", lite, 4096),
    target("chain-toncenter", toncenter, 4096),
    target("chain-global", global, 4096),
    target("chain-snapshot", snapshot, 4096),
    target("journal", cocoon_journal::fuzz::segment, 256),
    target("books-records", records, 2048),
    target("settle-record", cocoon_settle::fuzz::record, 1024),
    target("wallet-file", cocoon_wallet::fuzz::bytes, 2048),
    target("purse-kept", purse, 4096),
];

/// A target with a fault that blind guessing does not find: proof that the fuzzer sees its way.
const PLANTED: Target = target("planted", planted, 64);

/// The target of this name: of the list, or `planted`.
#[must_use]
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().chain([&PLANTED]).find(|target| target.name == name)
}

fn planted(data: &[u8]) {
    // A branch of its own for each byte: a loop's counter shows four rounds and seven as the same.
    let is = |place: usize, wanted: u8| black_box(data.get(place) == Some(&wanted));
    let is_word =
        is(0, b'c') && is(1, b'o') && is(2, b'c') && is(3, b'o') && is(4, b'o') && is(5, b'n');
    assert!(!is_word, "the planted fault is found");
}

/// What a wallet had on its way, as a restart reads it.
fn purse(data: &[u8]) {
    let _ = cocoon_purse::decode_kept(data);
}

/// Readers of contracts on trees that are always cells: what a bag's checks would mostly refuse.
fn cells(data: &[u8]) {
    let mut rest = data;
    if let Some(root) = tree(&mut rest, 0) {
        cocoon_contract::fuzz::cell(&root);
    }
}

/// One cell: a byte for its references (low two bits) and cut bits, a byte for its length, bytes.
fn tree(rest: &mut &[u8], depth: u32) -> Option<Cell> {
    let ([shape, len], tail) = rest.split_first_chunk()?;
    let len = usize::from(*len).min(tail.len()).min(127);
    let (bytes, tail) = tail.split_at(len);
    *rest = tail;
    let cut = usize::from(shape >> 5).min(len * 8);
    let mut builder = CellBuilder::new();
    builder.store_raw(bytes, u16::try_from(len * 8 - cut).ok()?).ok()?;
    for _ in 0..(shape & 3) {
        if depth < 8
            && let Some(child) = tree(rest, depth + 1)
        {
            builder.store_reference(child).ok()?;
        }
    }
    builder.build().ok()
}

fn lite(data: &[u8]) {
    let _ = cocoon_chain::decode_lite(data);
    cocoon_chain::decode_proofs(data);
}

fn toncenter(data: &[u8]) {
    let _ = cocoon_chain::decode_account(Address::new(0, [0; 32]), data);
}

/// A file of TON's servers.
fn global(data: &[u8]) {
    let _ = cocoon_chain::GlobalConfig::parse(&String::from_utf8_lossy(data));
}

/// The configuration of each role.
fn settings(data: &[u8]) {
    let Some((role, data)) = data.split_first() else { return };
    match role % 5 {
        0 => drop(host::settings::<ProxyConfig>(data).map(|read| read.check().map(drop))),
        1 => drop(host::settings::<WorkerConfig>(data).map(|read| read.check().map(drop))),
        2 => drop(host::settings::<KeyManagerConfig>(data).map(|read| read.check())),
        3 => drop(host::settings::<GatewayConfig>(data).map(|read| read.check())),
        // Its check reads the file of a secret, which is no business of a fuzzer.
        _ => drop(host::settings::<ClientConfig>(data)),
    }
}

/// What people type: addresses, amounts, names; what is written reads back.
fn texts(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok((address, _)) = Address::parse_with_form(&text) {
        assert_eq!(Address::parse(&address.to_raw()), Ok(address));
        assert_eq!(Address::parse(&address.to_string()), Ok(address));
    }
    if let Ok(amount) = Nanoton::parse(&text) {
        assert_eq!(Nanoton::parse(&amount.to_string()), Ok(amount));
    }
    if let Ok(id) = RequestId::parse(&text) {
        assert_eq!(RequestId::parse(&id.to_string()), Ok(id));
        assert_eq!(RequestId::parse(&id.to_base64()), Ok(id));
    }
    if let Ok(model) = ModelName::new(text) {
        assert_eq!(ModelName::new(model.to_string()), Ok(model));
    }
}

fn snapshot(data: &[u8]) {
    let _ = LocalChain::restore(data);
}

fn records(data: &[u8]) {
    if let Ok(record) = Record::decode(data) {
        let mut again = Vec::new();
        record.encode(&mut again);
        assert_eq!(Record::decode(&again).as_ref(), Ok(&record), "a record reads as another");
    }
    if let Some(record) = ChannelRecord::decode(data) {
        let again = ChannelRecord::decode(&record.encode());
        assert_eq!(again.as_ref(), Some(&record), "a record reads as another");
    }
}
