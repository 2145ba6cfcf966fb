//! What somebody in the middle can try who holds the TLS keys of both sides.

use std::sync::Arc;

use cocoon_attest::channel::{
    Announcement, ChannelRole, Hello, Local, Message, Nonce, Offer, Statement,
};
use cocoon_attest::{Digest32, PeerEvidence, PeerVerdicts};
use cocoon_evidence::sim::{DevPki, SimulatedPlatform, SimulatedPlatformForm};
use cocoon_evidence::{EvidenceProvider as _, QuoteSubject};
use cocoon_host::clock;
use cocoon_link::{Entry, Event, Facing, Guard, Judgement, Later, LinkHandle};
use cocoon_ratls::{
    Acceptor, AnyPeer, CertificateRequest, Credentials, CredentialsHolder, NodeKey, OwnEvidence,
    Security,
};
use cocoon_wire::cocoon::{self, ATTESTED_CHANNEL, Attest, CancelQuery};
use cocoon_wire::tl::{decode, encode};

use crate::party::{Node, PROXY_SEED, World, attest, introduce, introduced};

/// What came to the attacker.
enum Came {
    Query(i64, Vec<u8>),
    Answer(i64, Vec<u8>),
    Message(Vec<u8>),
    End,
}

async fn came(node: &mut Node) -> Came {
    match node.next().await {
        Event::Query { id, data } => Came::Query(id, data.to_vec()),
        Event::Answer { id, data } => Came::Answer(id, data.to_vec()),
        Event::Message(data) => Came::Message(data.to_vec()),
        _ => Came::End,
    }
}

fn pass(link: &LinkHandle, came: Came) {
    // The other side may have gone already.
    let _ = match came {
        Came::Query(id, data) => link.query(id, data, std::time::Duration::from_secs(60)),
        Came::Answer(id, data) => link.answer(id, data),
        Came::Message(data) => link.message(data),
        Came::End => {
            link.close();
            Ok(())
        }
    };
}

/// Sits between an honest worker and an honest proxy, changes what passes, and returns why each
/// of them closed; nothing where it was closed upon.
async fn between(change: impl Fn(&mut Vec<u8>, &str)) -> [Option<String>; 2] {
    let world = World::new();
    let (mut worker, mut proxy) = (Node::new(), Node::new());
    let (mut towards_worker, mut towards_proxy) = (Node::new(), Node::new());
    let real = proxy.listen(world.proxy()).await;
    let false_ = towards_worker.listen(world.false_proxy()).await;
    worker.dial(world.worker(), false_.address());
    towards_proxy.dial(world.false_worker(), real.address());
    let (left, right) = (towards_worker.opened().await, towards_proxy.opened().await);
    introduce(&worker.opened().await);
    let to_worker = proxy.opened().await;
    let address = real.address().to_string();
    let relayed = async {
        let mut ended = 0;
        while ended < 2 {
            let (to, mut thing) = tokio::select! {
                thing = came(&mut towards_worker) => (&right, thing),
                thing = came(&mut towards_proxy) => (&left, thing),
            };
            match &mut thing {
                Came::Query(_, data) | Came::Answer(_, data) | Came::Message(data) => {
                    change(data, &address)
                }
                Came::End => ended += 1,
            }
            pass(to, thing);
        }
    };
    let at_proxy = async {
        loop {
            match proxy.next().await {
                Event::Query { id, .. } => to_worker.answer(id, introduced()).unwrap(),
                Event::Closed(fault) => break fault,
                other => panic!("the proxy learns nothing else: {other:?}"),
            }
        }
    };
    let at_worker = async {
        loop {
            match worker.next().await {
                Event::QueryFailed { .. } => {}
                Event::Closed(fault) => break fault,
                other => panic!("the worker learns nothing else: {other:?}"),
            }
        }
    };
    let ((), proxy, worker) = tokio::join!(relayed, at_proxy, at_worker);
    [worker, proxy].map(|fault| match fault {
        cocoon_link::SessionFault::Attestation(reason) => Some(reason),
        _ => None,
    })
}

/// Makes the proxy believe that it was dialled itself.
fn readdress(data: &mut Vec<u8>, address: &str) {
    let Ok(message) = decode::<Attest<'_>>(data) else { return };
    if let Ok(Message::Hello(hello)) = Message::decode(message.data.0)
        && hello.dialled.is_some()
    {
        let hello = Hello { dialled: Some(address.to_owned()), ..hello };
        *data = attest(&Message::Hello(hello).encode());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn worker_led_to_another_address() {
    let [_, proxy] = between(|_, _| {}).await;
    assert!(proxy.unwrap().contains("no address of this node"));
}

#[tokio::test(flavor = "multi_thread")]
async fn quote_from_another_session_relayed() {
    let [worker, proxy] = between(readdress).await;
    // Whoever is first to see that the quote is about another session hangs up.
    let reasons: Vec<String> = [worker, proxy].into_iter().flatten().collect();
    assert!(!reasons.is_empty());
    for reason in reasons {
        assert!(reason.contains("the statement expected on this connection"), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn downgrade_of_the_extension_bits() {
    let strip = |data: &mut Vec<u8>, _: &str| {
        if let Some((_, bits)) = cocoon::introduction(data) {
            let stripped = bits.0 & !ATTESTED_CHANNEL.0;
            data[4..8].copy_from_slice(&stripped.to_le_bytes());
        }
    };
    let [worker, proxy] = between(strip).await;
    // The proxy refuses the stripped introduction; the worker only sees that it hung up.
    assert!(proxy.unwrap().contains("offers no fresh evidence"));
    assert_eq!(worker, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn offer_taken_away_inside_the_handshake() {
    let strip = |data: &mut Vec<u8>, address: &str| {
        readdress(data, address);
        let Ok(message) = decode::<Attest<'_>>(data) else { return };
        if let Ok(Message::Hello(hello)) = Message::decode(message.data.0) {
            *data = attest(&Message::Hello(Hello { attests: false, ..hello }).encode());
        }
    };
    let reasons: Vec<String> = between(strip).await.into_iter().flatten().collect();
    assert!(!reasons.is_empty());
    for reason in reasons {
        assert!(reason.contains("offers no fresh evidence"), "{reason}");
    }
}

/// Lets an honest worker come to a false proxy, up to the worker's hello.
async fn lured(world: &World) -> (Node, Node, LinkHandle, Hello) {
    let (mut worker, mut attacker) = (Node::new(), Node::new());
    let listener = attacker.listen(world.false_proxy()).await;
    worker.dial(world.worker(), listener.address());
    let link = attacker.opened().await;
    introduce(&worker.opened().await);
    let (id, _) = attacker.query().await;
    let mut answer = introduced();
    cocoon::announce(&mut answer, ATTESTED_CHANNEL);
    link.answer(id, answer).unwrap();
    let hello = attacker.message().await;
    let hello = Message::decode(decode::<Attest<'_>>(&hello).unwrap().data.0).unwrap();
    let Message::Hello(hello) = hello else { panic!("{hello:?}") };
    (worker, attacker, link, hello)
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_and_role_swap() {
    let world = World::new();
    let (mut worker, _attacker, link, hello) = lured(&world).await;
    link.message(attest(&Message::Hello(hello).encode())).unwrap();
    assert!(worker.refused().await.contains("our own nonce"));
    let (mut worker, _attacker, link, hello) = lured(&world).await;
    let swapped = Hello { nonce: [9; 32], ..hello };
    link.message(attest(&Message::Hello(swapped).encode())).unwrap();
    assert!(worker.refused().await.contains("it is a Worker, this connection is for a Proxy"));
}

/// Answers a worker's hello with a hello of the proxy's role and this offer.
async fn offered(world: &World, offer: impl FnOnce(&Hello) -> Offer) -> String {
    let (mut worker, mut attacker, link, hello) = lured(world).await;
    let role = ChannelRole::Proxy;
    let own = Hello { role, nonce: [9; 32], attests: true, demands: true, dialled: None };
    link.message(attest(&Message::Hello(own).encode())).unwrap();
    // The worker shows its evidence; the attacker has no use for it.
    assert!(!attacker.message().await.is_empty());
    let offer = Message::Offer(Box::new(offer(&hello)));
    link.message(attest(&offer.encode())).unwrap();
    worker.refused().await
}

fn announcement() -> Announcement {
    let not_after_s = clock::now_ms() / 1000 + 600;
    Announcement { not_after_s, ..Announcement::default() }
}

/// A machine of the world's maker.
fn machine(world: &World, image: &str, number: u64) -> SimulatedPlatform {
    let pki = DevPki::load_or_generate(&world.roots(), clock::now_ms() / 1000).unwrap();
    let form = SimulatedPlatformForm { image: image.to_owned(), number, ..Default::default() };
    SimulatedPlatform::boot(Arc::new(pki), form).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn yesterdays_quote_and_the_certificates_quote() {
    let world = World::new();
    // A false worker gets a fresh quote of the real proxy, for a nonce of its own.
    let (mut proxy, mut thief) = (Node::new(), Node::new());
    let listener = proxy.listen(world.proxy()).await;
    thief.dial(world.false_worker(), listener.address());
    let (to_thief, to_proxy) = (proxy.opened().await, thief.opened().await);
    let mut query = encode(&cocoon_wire::worker::ConnectToProxy::default());
    cocoon::announce(&mut query, ATTESTED_CHANNEL);
    to_proxy.query(1, query, std::time::Duration::from_secs(60)).unwrap();
    let (id, _) = proxy.query().await;
    to_thief.answer(id, introduced()).unwrap();
    assert!(!thief.answer().await.is_empty());
    let hello = Hello {
        role: ChannelRole::Worker,
        nonce: [8; 32],
        attests: true,
        demands: true,
        dialled: Some(listener.address().to_string()),
    };
    to_proxy.message(attest(&Message::Hello(hello).encode())).unwrap();
    let old = loop {
        let message = thief.message().await;
        let message = Message::decode(decode::<Attest<'_>>(&message).unwrap().data.0).unwrap();
        if let Message::Offer(offer) = message {
            break *offer;
        }
    };
    let reason = offered(&world, |_| old).await;
    assert!(reason.contains("the statement expected on this connection"), "{reason}");
    // The quote of the certificate is genuine and about the right key, but fresh it is not.
    let key = NodeKey::from_seed(&[PROXY_SEED; 32]).unwrap();
    let machine = machine(&world, "proxy", 1);
    let quote = machine.quote(QuoteSubject::CertificateKey(key.public_key())).unwrap().tdx_quote;
    let offer = |_: &Hello| Offer {
        announcement: Announcement { image: machine.image_hash(), ..announcement() },
        tdx_quote: quote,
        event_log: machine.event_log(),
        ..Offer::default()
    };
    let reason = offered(&world, offer).await;
    assert!(reason.contains("the statement expected on this connection"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_that_is_absent_or_empty() {
    let world = World::new();
    let said = || Offer { announcement: announcement(), ..Offer::default() };
    let reason = offered(&world, |_| said()).await;
    assert!(reason.contains("refused"), "{reason}");
    let reason = offered(&world, |_| Offer { tdx_quote: Some(Vec::new()), ..said() }).await;
    assert!(reason.contains("refused"), "{reason}");
    let reason = offered(&world, |_| Offer { sev_report: Some(Vec::new()), ..said() }).await;
    assert!(reason.contains("refused"), "{reason}");
    // A statement that has expired, whatever the evidence.
    let reason = offered(&world, |_| Offer::default()).await;
    assert!(reason.contains("in the past"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_before_the_evidence() {
    let world = World::new();
    let (mut worker, _attacker, link, _) = lured(&world).await;
    link.message(encode(&CancelQuery::default())).unwrap();
    assert!(worker.refused().await.contains("before it had shown its evidence"));
    let (mut worker, _attacker, link, _) = lured(&world).await;
    link.message(attest(b"no message of the handshake")).unwrap();
    assert!(worker.refused().await.contains("cannot be read"));
}

/// A genuine machine that attests honestly over the connection, under the certificate of another.
#[derive(Debug)]
struct OtherMachine {
    machine: Arc<SimulatedPlatform>,
    honest: Arc<dyn Guard>,
}

impl Guard for OtherMachine {
    fn begin(&self, facing: &Facing) -> (Local, Nonce) {
        let (mut local, nonce) = self.honest.begin(facing);
        if let Some(said) = &mut local.announcement {
            said.image = self.machine.image_hash();
            said.gpu = Digest32::ZERO;
        }
        (local, nonce)
    }

    fn quote(&self, statement: Box<Statement>) -> Later<Option<Offer>> {
        let offer = self.machine.offer(&statement).ok();
        Box::pin(std::future::ready(offer))
    }

    fn judge(&self, facing: &Facing, evidence: Box<PeerEvidence>) -> Later<Judgement> {
        self.honest.judge(facing, evidence)
    }

    fn settled(
        &self,
        facing: &Facing,
        address: &str,
        judged: Option<Judgement>,
    ) -> Result<PeerVerdicts, cocoon_attest::channel::HandshakeFault> {
        self.honest.settled(facing, address, judged)
    }
}

/// The stolen key and certificate of the proxy, with the evidence of `other` over the connection.
fn swapped(world: &World, other: SimulatedPlatform) -> Entry {
    let Entry::Attested { guard: honest, .. } = world.proxy() else { panic!("a guard") };
    let key = NodeKey::from_seed(&[PROXY_SEED; 32]).unwrap();
    let shown = machine(world, "proxy", 1);
    let quote = shown.quote(QuoteSubject::CertificateKey(key.public_key())).unwrap().tdx_quote;
    let evidence = OwnEvidence::Tdx { quote: quote.unwrap() };
    let request =
        CertificateRequest { evidence, ..CertificateRequest::new(clock::now_ms() / 1000, 60) };
    let credentials = CredentialsHolder::new(Credentials::make(key, &request).unwrap());
    let mut acceptor = Acceptor::new(Security::new(credentials, Arc::new(AnyPeer)));
    acceptor.work_bits = 0;
    let guard = Arc::new(OtherMachine { machine: Arc::new(other), honest });
    Entry::Attested { acceptor: Box::new(acceptor), guard }
}

async fn meet(world: &World, entry: Entry) -> (Node, Node) {
    let (mut proxy, mut worker) = (Node::new(), Node::new());
    let listener = proxy.listen(entry).await;
    worker.dial(world.worker(), listener.address());
    let (to_worker, to_proxy) = (proxy.opened().await, worker.opened().await);
    introduce(&to_proxy);
    let (id, _) = proxy.query().await;
    to_worker.answer(id, introduced()).unwrap();
    (proxy, worker)
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_swapped_between_worker_and_proxy() {
    let world = World::new();
    // A genuine worker's machine speaks for the proxy whose key it stole.
    let (_proxy, mut worker) = meet(&world, swapped(&world, machine(&world, "worker", 2))).await;
    assert!(worker.refused().await.contains("another platform than its certificate"));
    // And another image on the very machine of the proxy.
    let (_proxy, mut worker) = meet(&world, swapped(&world, machine(&world, "worker", 1))).await;
    assert!(worker.refused().await.contains("another image than its certificate"));
    // The same machine and image pass: it is the swap that was refused.
    let (_proxy, mut worker) = meet(&world, swapped(&world, machine(&world, "proxy", 1))).await;
    assert!(worker.attested().await.is_fresh());
}
