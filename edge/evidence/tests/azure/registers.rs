//! The registers of the vTPM: asked for, signed, shown over a connection, and every lie about them.

use std::sync::Arc;

use cocoon_attest::channel::{
    Announcement, ChannelRole, Demand, Dialled, Effect, Exporter, Handshake, HandshakeFault, Local,
    Offer, Statement,
};
use cocoon_attest::snp::SnpProduct;
use cocoon_attest::vtpm::{VtpmPolicy, VtpmQuote, VtpmRegister};
use cocoon_attest::{
    BadEvidence, ClaimKind, Digest32, Digest48, Finding, PeerEvidence, Policy, Source, Verdict,
    verify,
};
use cocoon_evidence::azure::AzureVtpm;
use cocoon_evidence::sim::SimulatedPlatform;
use cocoon_evidence::{EvidenceFault, EvidenceProvider as _, QuoteSubject};

use crate::machine::{FakeTpm, Fault, KEY, NOW_S, Quotes, platform, tpm};

const NOW_MS: u64 = NOW_S * 1000;
const PCR_READ: u32 = 0x17e;
const QUOTE: u32 = 0x158;

type Machine<'a> = AzureVtpm<&'a FakeTpm, Quotes>;

fn machine(fake: &FakeTpm) -> Machine<'_> {
    let subject = QuoteSubject::CertificateKey(&KEY);
    let pem = fake.platform.quote(subject).unwrap().sev_vcek_pem.unwrap();
    let quotes = Quotes(Arc::clone(&fake.platform));
    AzureVtpm::with(fake, quotes, |_| ()).unwrap().with_vcek_pem(pem)
}

fn subject() -> QuoteSubject<'static> {
    QuoteSubject::CertificateKey(&KEY)
}

#[test]
fn all_registers_are_asked_for_and_signed_for_the_report() {
    let fake = tpm(Some(SnpProduct::Genoa), 0);
    let quote = machine(&fake).registers(subject()).unwrap();
    assert_eq!(quote.registers, fake.platform.vtpm().unwrap().registers());
    let commands: Vec<String> = fake.commands.lock().unwrap().iter().map(hex::encode).collect();
    let asked = &commands[commands.len() - 4..];
    assert_eq!(asked[0], "8001000000140000017e00000001000b03ff0000");
    assert_eq!(asked[1], "8001000000140000017e00000001000b0300ff00");
    assert_eq!(asked[2], "8001000000140000017e00000001000b030000ff");
    let extra_data = VtpmQuote::extra_data(&cocoon_attest::certificate_report_data(&KEY));
    let session = "00000009400000090000000000";
    assert_eq!(
        asked[3],
        format!("8002000000490000015881000003{session}0020{extra_data}001000000001000b03ffffff")
    );
    // And they travel beside the report.
    let evidence = machine(&fake).quote(subject()).unwrap();
    let read = VtpmQuote::read(&evidence.vtpm.unwrap(), evidence.runtime_data.as_deref()).unwrap();
    assert_eq!(read.registers, quote.registers);
}

#[test]
fn registers_that_change_meanwhile_are_read_again_and_then_left_out() {
    for (times, is_good) in [(1, true), (3, true), (4, false), (1_000, false)] {
        let fake = tpm(Some(SnpProduct::Genoa), 0).with(Fault::Extends(times));
        let found = machine(&fake).registers(subject());
        assert_eq!(found.is_ok(), is_good, "{times}");
        if let Err(fault) = found {
            assert!(fault.to_string().contains("4 times"), "{fault}");
        }
        // The report is as good without them.
        let fake = fake.with(Fault::Extends(1_000));
        let evidence = machine(&fake).quote(subject()).unwrap();
        assert!(evidence.vtpm.is_none() && evidence.sev_report.is_some());
    }
}

#[test]
fn a_vtpm_that_shows_nothing_of_use_leaves_the_report_alone() {
    for fault in [
        Fault::Refuses(PCR_READ),
        Fault::Refuses(QUOTE),
        Fault::Cut(PCR_READ, 1),
        Fault::Cut(PCR_READ, 1_000),
        Fault::Cut(QUOTE, 200),
        Fault::Cut(QUOTE, 1_000),
        Fault::Longer(PCR_READ),
        Fault::OtherBank,
    ] {
        let fake = tpm(Some(SnpProduct::Genoa), 0).with(fault);
        let found = machine(&fake).registers(subject());
        assert!(matches!(found, Err(EvidenceFault::Registers { .. })), "{fault:?}: {found:?}");
        assert_eq!(machine(&fake).quote(subject()).unwrap().vtpm, None);
    }
}

struct Connection;

impl Exporter for Connection {
    fn export(&self, label: &[u8], context: &[u8]) -> Option<[u8; 32]> {
        Some(Digest32::sha256(&[label, context]).0)
    }
}

fn local(role: ChannelRole, reads_vtpm_quotes: bool) -> Local {
    let is_worker = role == ChannelRole::Worker;
    let (own, peer) = ([3; 32], [2; 32]);
    Local {
        role,
        peer_role: if is_worker { ChannelRole::Proxy } else { ChannelRole::Worker },
        own_key: Some(if is_worker { own } else { peer }),
        peer_key: Some(if is_worker { peer } else { own }),
        network_id: -239,
        root_contract: Digest32::from([5; 32]),
        dialled: match is_worker {
            true => Dialled::ByUs("192.0.2.1:11001".to_owned()),
            false => Dialled::ByPeer { ours: Vec::new() },
        },
        announcement: is_worker
            .then(|| Announcement { not_after_s: NOW_S + 600, ..Announcement::default() }),
        demand: if is_worker { Demand::Nothing } else { Demand::Always },
        reads_endorsements: false,
        reads_vtpm_quotes,
        wanted_id: None,
    }
}

/// Lets a proxy judge this machine over one connection; `change` is what the machine lies.
fn meet(
    fake: &FakeTpm,
    policy: &Policy,
    reads: bool,
    change: impl FnOnce(&mut Offer),
) -> (Box<PeerEvidence>, Verdict, Result<(), HandshakeFault>) {
    let found = machine(fake);
    let (mut worker, first) = Handshake::start(local(ChannelRole::Worker, reads), [0x31; 32]);
    let (mut proxy, hello) = Handshake::start(local(ChannelRole::Proxy, true), [0x21; 32]);
    let [Effect::Send(hello)] = hello.as_slice() else { panic!("{hello:?}") };
    let [Effect::Send(first)] = first.as_slice() else { panic!("{first:?}") };
    assert!(proxy.receive(first, &Connection, NOW_MS).unwrap().is_empty());
    let effects = worker.receive(hello, &Connection, NOW_MS).unwrap();
    let [Effect::Quote(statement)] = effects.as_slice() else { panic!("{effects:?}") };
    *fake.statement.lock().unwrap() = Some(Statement::clone(statement));
    let mut offer = found.offer(statement).unwrap();
    change(&mut offer);
    let effects = worker.quoted(Some(offer)).unwrap();
    let [Effect::Send(offer), ..] = effects.as_slice() else { panic!("{effects:?}") };
    let effects = proxy.receive(offer, &Connection, NOW_MS).unwrap();
    let [Effect::Verify(evidence)] = effects.as_slice() else { panic!("{effects:?}") };
    let collateral = fake.platform.collateral(NOW_S).unwrap();
    let verdict = verify(evidence, &collateral, policy, NOW_MS);
    let result = proxy.judged(&verdict).map(|_| ());
    (evidence.clone(), verdict, result)
}

fn launch(platform: &SimulatedPlatform) -> Digest48 {
    match platform.measurement().unwrap() {
        cocoon_attest::Measurement::Snp(launch) => launch,
        cocoon_attest::Measurement::Td(td) => td.mr_td,
    }
}

/// A policy that knows this paravisor and what its vTPM's registers 4 and 11 hold.
fn policy(platform: &SimulatedPlatform) -> Policy {
    let registers = platform.vtpm().unwrap().registers();
    let register = |number: u8| {
        let values = vec![Digest32::ZERO, registers[usize::from(number)].1];
        VtpmRegister { number, values }
    };
    let vtpm = VtpmPolicy {
        paravisors: vec![launch(platform)],
        registers: vec![register(4), register(11)],
    };
    let policy = Policy { vtpm, image_hashes: Vec::new(), ..platform.policy() };
    policy.check().unwrap();
    assert!(policy.required.contains(&ClaimKind::Image));
    policy
}

#[test]
fn listed_registers_of_a_listed_paravisor_show_the_image_over_a_connection() {
    let fake = tpm(Some(SnpProduct::Genoa), 0);
    let policy = policy(&fake.platform);
    let (evidence, verdict, result) = meet(&fake, &policy, true, |_| ());
    result.unwrap();
    let shown = VtpmQuote::read(&evidence.vtpm.unwrap(), evidence.runtime_data.as_deref());
    assert_eq!(shown.unwrap().registers, fake.platform.vtpm().unwrap().registers());
    let image = verdict.claim(ClaimKind::Image).unwrap();
    assert_eq!((&image.finding, image.source), (&Finding::Holds, Source::Vtpm), "{image:?}");
    assert_eq!(verdict.image_hash(), None, "a paravisor is nobody's image");
    // A peer that never announced that it reads them sees none, and then no image is shown.
    let (evidence, verdict, result) = meet(&fake, &policy, false, |_| ());
    assert_eq!(evidence.vtpm, None);
    assert_eq!(*verdict.finding(ClaimKind::Image), Finding::NotClaimed);
    assert!(matches!(
        result,
        Err(HandshakeFault::Refused(BadEvidence::NotClaimed { claim: ClaimKind::Image }))
    ));
}

#[test]
fn unlisted_paravisors_show_no_image_and_unlisted_registers_refuse_it() {
    let fake = tpm(Some(SnpProduct::Genoa), 0);
    let good = policy(&fake.platform);
    let image = |policy: &Policy| {
        let (_, verdict, _) = meet(&fake, policy, true, |_| ());
        verdict.finding(ClaimKind::Image).clone()
    };
    let mut stranger = good.clone();
    stranger.vtpm.paravisors = vec![Digest48::from([7; 48])];
    assert_eq!(image(&stranger), Finding::NotClaimed);
    let mut other = good.clone();
    other.vtpm.registers[1].values = vec![Digest32::from([7; 32])];
    let Finding::Fails(bad) = image(&other) else { panic!("another image passes") };
    assert!(bad.to_string().starts_with("a register of the vTPM is PCR11 "), "{bad}");
    // Without lists the registers are shown, and say nothing about the image.
    let mut silent = Policy { vtpm: VtpmPolicy::default(), ..good };
    silent.required.retain(|claim| *claim != ClaimKind::Image);
    let (_, verdict, result) = meet(&fake, &silent, true, |_| ());
    result.unwrap();
    assert_eq!(*verdict.finding(ClaimKind::Image), Finding::NotClaimed);
}

#[test]
fn every_lie_about_the_registers_is_refused() {
    let refusal = |fake: &FakeTpm, change: &dyn Fn(&mut Offer)| {
        // Whether or not anybody lists registers: what is shown must be true.
        let mut policy = Policy { vtpm: VtpmPolicy::default(), ..policy(&fake.platform) };
        policy.required.retain(|claim| *claim != ClaimKind::Image);
        let (_, verdict, result) = meet(fake, &policy, true, change);
        let image = verdict.claim(ClaimKind::Image).unwrap();
        assert_eq!(image.source, Source::Vtpm);
        match (&image.finding, result) {
            (Finding::Fails(bad), Err(HandshakeFault::Refused(refused))) => {
                assert_eq!(*bad, refused);
                refused
            }
            other => panic!("{other:?}"),
        }
    };
    let lying = |fault| tpm(Some(SnpProduct::Genoa), 0).with(fault);
    let honest = tpm(Some(SnpProduct::Genoa), 0);
    let bad = refusal(&lying(Fault::OtherKey), &|_| ());
    assert!(matches!(bad, BadEvidence::Signature { .. }), "{bad}");
    let bad = refusal(&lying(Fault::OtherExtraData), &|_| ());
    assert!(matches!(bad, BadEvidence::NotBound { .. }), "{bad}");
    // The quote of an earlier connection of the same machine.
    let earlier = machine(&honest).quote(subject()).unwrap().vtpm;
    let bad = refusal(&honest, &|offer| offer.vtpm.clone_from(&earlier));
    assert!(matches!(bad, BadEvidence::NotBound { .. }), "{bad}");
    // Another machine's, with its key in runtime data that no report of this one covers.
    let other = platform(Some(SnpProduct::Genoa)).quote(subject()).unwrap().vtpm;
    let bad = refusal(&honest, &|offer| offer.vtpm.clone_from(&other));
    assert!(matches!(bad, BadEvidence::Signature { .. }), "{bad}");
    let change = |change: &dyn Fn(&mut VtpmQuote)| {
        refusal(&honest, &|offer| {
            let mut quote = VtpmQuote::decode(offer.vtpm.as_ref().unwrap()).unwrap();
            change(&mut quote);
            offer.vtpm = Some(quote.encode());
        })
    };
    let bad = change(&|quote| quote.registers[4].1.0[0] ^= 1);
    assert!(matches!(bad, BadEvidence::Vtpm { .. }), "{bad}");
    let bad = change(&|quote| quote.registers.swap(4, 5));
    assert!(matches!(bad, BadEvidence::Malformed { .. }), "{bad}");
    let bad = change(&|quote| quote.registers.truncate(23));
    assert!(matches!(bad, BadEvidence::Malformed { .. }), "{bad}");
    let bad = refusal(&honest, &|offer| offer.vtpm.as_mut().unwrap().truncate(900));
    assert!(matches!(bad, BadEvidence::Malformed { .. }), "{bad}");
    let bad = refusal(&honest, &|offer| offer.vtpm.as_mut().unwrap().push(0));
    assert!(matches!(bad, BadEvidence::Malformed { .. }), "{bad}");
}

#[test]
fn registers_without_a_report_that_covers_their_key_show_nothing() {
    for snp in [None, Some(SnpProduct::Genoa)] {
        // A guest of its own making: good hardware, runtime data and registers as it likes.
        let (own, invented) = (platform(snp), platform(snp));
        let policy = policy(&own);
        let report = own.quote(subject()).unwrap();
        let mut evidence = report.to_peer_evidence(&KEY);
        let invented = invented.quote(subject()).unwrap();
        evidence.vtpm = invented.vtpm;
        let judged = |evidence: &PeerEvidence| {
            verify(evidence, &own.collateral(NOW_S).unwrap(), &policy, NOW_MS)
        };
        let verdict = judged(&evidence);
        assert!(matches!(verdict.finding(ClaimKind::Image), Finding::Fails(_)), "{verdict:?}");
        evidence.runtime_data = invented.runtime_data;
        let verdict = judged(&evidence);
        for kind in [ClaimKind::Image, ClaimKind::KeyBinding] {
            assert!(matches!(verdict.finding(kind), Finding::Fails(_)), "{kind:?}: {verdict:?}");
        }
        // And beside a report that names no runtime data.
        evidence.runtime_data = None;
        let verdict = judged(&evidence);
        assert!(matches!(verdict.finding(ClaimKind::Image), Finding::Fails(_)), "{verdict:?}");
    }
}
