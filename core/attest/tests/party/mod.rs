//! Parties of a handshake with an ideal TEE: evidence is the report data itself, and only
//! [`sign`] makes it, which only honest code calls.

#![allow(dead_code, reason = "each test file uses its part")]

use cocoon_attest::channel::{
    Announcement, ChannelRole, Demand, Dialled, Effect, Exporter, Handshake, HandshakeFault, Local,
    Message, Offer, Statement, exporter_context, leaf_key_digest,
};
use cocoon_attest::{
    BadEvidence, Binding, Claim, ClaimKind, Digest32, Finding, PeerEvidence, Source, Verdict,
};

/// 2026-11-21T12:00:00Z.
pub(crate) const NOW_MS: u64 = 1_795_262_400_000;

pub(crate) const WORKER_KEY: [u8; 32] = [0x3a; 32];
pub(crate) const PROXY_KEY: [u8; 32] = [0x2a; 32];

/// A TLS session of this number: both ends of one have the same exporter.
#[derive(Clone, Copy)]
pub(crate) struct Connection(pub(crate) u8);

impl Exporter for Connection {
    fn export(&self, label: &[u8], context: &[u8]) -> Option<[u8; 32]> {
        Some(Digest32::sha256(&[&[self.0], label, context]).0)
    }
}

/// A library that forgot to give an exporter.
pub(crate) struct Silent;

impl Exporter for Silent {
    fn export(&self, _label: &[u8], _context: &[u8]) -> Option<[u8; 32]> {
        None
    }
}

/// A library that gives zeros in place of an error.
pub(crate) struct Zero;

impl Exporter for Zero {
    fn export(&self, _label: &[u8], _context: &[u8]) -> Option<[u8; 32]> {
        Some([0; 32])
    }
}

/// One side, with what its start sent.
pub(crate) struct Party {
    pub(crate) handshake: Handshake,
    pub(crate) local: Local,
    pub(crate) nonce: [u8; 32],
    pub(crate) first: Vec<Effect>,
}

impl Party {
    pub(crate) fn new(local: Local, nonce: u8) -> Self {
        let nonce = [nonce; 32];
        let (handshake, first) = Handshake::start(local.clone(), nonce);
        Self { handshake, local, nonce, first }
    }
}

fn key_of(role: ChannelRole) -> [u8; 32] {
    match role {
        ChannelRole::Worker => WORKER_KEY,
        ChannelRole::Proxy => PROXY_KEY,
        ChannelRole::Client => [0x1a; 32],
        ChannelRole::KeyManager => [0x4a; 32],
    }
}

/// The address at which the proxies of these tests are dialled.
pub(crate) const ADDRESS: &str = "192.0.2.1:11001";

pub(crate) fn local(role: ChannelRole, peer_role: ChannelRole) -> Local {
    Local {
        role,
        peer_role,
        own_key: Some(key_of(role)),
        peer_key: Some(key_of(peer_role)),
        network_id: -239,
        root_contract: Digest32::from([5; 32]),
        dialled: match role {
            ChannelRole::Proxy => Dialled::ByPeer { ours: vec![ADDRESS.to_owned()] },
            _ => Dialled::ByUs(ADDRESS.to_owned()),
        },
        announcement: Some(Announcement {
            own_id: Digest32::from([role.byte(); 32]),
            not_after_s: NOW_MS / 1000 + 600,
            ..Announcement::default()
        }),
        demand: Demand::Always,
        reads_endorsements: true,
        reads_vtpm_quotes: true,
        wanted_id: None,
    }
}

/// A worker and a proxy that both attest and both demand.
pub(crate) fn mutual() -> (Party, Party) {
    let worker = local(ChannelRole::Worker, ChannelRole::Proxy);
    let proxy = local(ChannelRole::Proxy, ChannelRole::Worker);
    (Party::new(worker, 0x31), Party::new(proxy, 0x21))
}

/// The ideal TEE.
pub(crate) fn sign(statement: &Statement) -> Offer {
    Offer { tdx_quote: Some(statement.report_data().to_vec()), ..Offer::default() }
}

/// The offer that an honest node of `local` would send over `connection` for this nonce.
pub(crate) fn oracle_offer(local: &Local, nonce: &[u8; 32], connection: &Connection) -> Vec<u8> {
    let said = local.announcement.clone().unwrap();
    let label = cocoon_attest::channel::EXPORTER_LABEL;
    let exporter = connection.export(label, &exporter_context(nonce, local.role)).unwrap();
    let digest = |key: Option<[u8; 32]>| key.as_ref().map(leaf_key_digest).unwrap_or_default();
    let statement = Statement {
        role: local.role,
        peer_role: local.peer_role,
        verifier_nonce: *nonce,
        exporter,
        own_key: digest(local.own_key),
        peer_key: digest(local.peer_key),
        network_id: local.network_id,
        root_contract: local.root_contract,
        own_id: said.own_id,
        dialled_address: ADDRESS.to_owned(),
        keyset: said.keyset,
        image: said.image,
        model: said.model,
        gpu: said.gpu,
        beacon: said.beacon,
        not_after_s: said.not_after_s,
    };
    let offer = Offer { announcement: said, ..sign(&statement) };
    Message::Offer(Box::new(offer)).encode()
}

/// What the verifier says about evidence of the ideal TEE.
pub(crate) fn verdict_over(evidence: &PeerEvidence) -> Verdict {
    let Binding::Channel(expected) = &evidence.binding else { panic!("a channel: {evidence:?}") };
    let bound = evidence.tdx_quote.as_deref() == Some(expected.report_data().as_slice());
    let claims = ClaimKind::ALL
        .into_iter()
        .map(|kind| {
            let finding = match kind {
                ClaimKind::KeyBinding | ClaimKind::Freshness if !bound => {
                    Finding::Fails(BadEvidence::NotBound { expected: "the statement" })
                }
                ClaimKind::Gpu | ClaimKind::Weights | ClaimKind::Site => Finding::NotClaimed,
                _ => Finding::Holds,
            };
            let source = Source::ChannelStatement;
            Claim { kind, finding, source, age_ms: None, reason: String::new() }
        })
        .collect();
    Verdict {
        claims,
        required: vec![ClaimKind::Hardware, ClaimKind::KeyBinding],
        evidence: evidence.digest(),
        policy: Digest32::ZERO,
        policy_version: 1,
        measurement: None,
        image: None,
        platform: None,
        root: None,
        decided_ms: NOW_MS,
        valid_until_ms: NOW_MS,
    }
}

/// Carries effects out and messages over until both sides rest; each over its own session.
pub(crate) fn pump(
    left: &mut Party,
    right: &mut Party,
    left_session: &dyn Exporter,
    right_session: &dyn Exporter,
) -> Result<(), HandshakeFault> {
    let mut work: Vec<(bool, Effect)> = Vec::new();
    work.extend(left.first.drain(..).map(|effect| (true, effect)));
    work.extend(right.first.drain(..).map(|effect| (false, effect)));
    while !work.is_empty() {
        let (of_left, effect) = work.remove(0);
        let (from, to, session) = if of_left {
            (&mut *left, &mut *right, right_session)
        } else {
            (&mut *right, &mut *left, left_session)
        };
        match effect {
            Effect::Send(bytes) => {
                let effects = to.handshake.receive(&bytes, session, NOW_MS)?;
                work.extend(effects.into_iter().map(|effect| (!of_left, effect)));
            }
            Effect::Quote(statement) => {
                let effects = from.handshake.quoted(Some(sign(&statement)))?;
                work.extend(effects.into_iter().map(|effect| (of_left, effect)));
            }
            Effect::Verify(evidence) => {
                let effects = from.handshake.judged(&verdict_over(&evidence))?;
                work.extend(effects.into_iter().map(|effect| (of_left, effect)));
            }
            Effect::Ready { .. } => {}
        }
    }
    Ok(())
}
