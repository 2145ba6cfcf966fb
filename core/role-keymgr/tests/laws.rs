//! Laws of the key manager and of those who ask it.

#![allow(clippy::unwrap_used, reason = "a failure fails the test")]

use std::collections::BTreeSet;

use cocoon_role_keymgr::{
    Act, Asker, AuditChain, AuditEvent, ConnId, KEYS_MAX, KeyManager, KeyPeer, KeyPoll, KeyRecord,
    KeyRegistry, KeySettings, PollAct, fuzz,
};
use cocoon_units::{ImageHash, PublicKey, Role, Secret};
use cocoon_wire::cocoon::{Introduce, Introduced};
use cocoon_wire::key_manager::{
    GetProxyPrivateKeys, GetProxyPrivateKeysBase, GetWorkerPrivateKeys, PrivateKeys,
};
use cocoon_wire::tl;
use proptest::prelude::*;

const PROXY: ImageHash = ImageHash([1; 32]);
const WORKER: ImageHash = ImageHash([2; 32]);
const NOW_S: u64 = 1_795_262_400;
const HOUR: u64 = 3_600;

fn registry() -> KeyRegistry {
    let (proxies, workers) = (BTreeSet::from([PROXY]), BTreeSet::from([WORKER]));
    KeyRegistry { version: 1, proxies, workers }
}

struct Scene {
    manager: KeyManager,
    out: Vec<Act>,
    drawn: u64,
    records: Vec<Vec<u8>>,
    audit: Vec<AuditEvent>,
}

impl Scene {
    fn new() -> Self {
        Self::restarted(Vec::new(), NOW_S)
    }

    fn restarted(records: Vec<Vec<u8>>, now_s: u64) -> Self {
        Self::started(records, registry(), now_s)
    }

    fn started(records: Vec<Vec<u8>>, registry: KeyRegistry, now_s: u64) -> Self {
        let mut out = Vec::new();
        let history = records.iter().map(|bytes| KeyRecord::decode(bytes).unwrap());
        let manager =
            KeyManager::open(KeySettings::default(), registry, history, now_s, &mut out).unwrap();
        let mut scene = Self { manager, out, drawn: 0, records, audit: Vec::new() };
        scene.take(true);
        scene
    }

    /// Takes what was put out; keeps records, durable at once or never.
    fn take(&mut self, durable: bool) -> Vec<Act> {
        let mut rest = Vec::new();
        for act in std::mem::take(&mut self.out) {
            match act {
                Act::Record { number, record } => {
                    self.records.push(record.encode());
                    if durable {
                        self.manager.durable(number);
                    }
                }
                Act::Audit(entry) => self.audit.push(entry.event),
                other => rest.push(other),
            }
        }
        rest
    }

    fn tick(&mut self, now_s: u64) {
        self.drawn += 1;
        let mut fresh = [9; 32];
        fresh[..8].copy_from_slice(&self.drawn.to_le_bytes());
        self.manager.tick(now_s, &Secret::new(fresh), &mut self.out);
        self.take(true);
    }

    fn ask(&mut self, image: Option<ImageHash>, data: &[u8], now_s: u64) -> Result<usize, String> {
        let conn = ConnId(5);
        self.manager.opened(conn, KeyPeer { image, key: Some(PublicKey([3; 32])), fresh: false });
        self.manager.query(Asker { conn, query: 8 }, data, now_s, &mut self.out);
        self.manager.closed(conn);
        match self.take(true).pop().unwrap() {
            Act::Answer { data, .. } => Ok(tl::decode::<PrivateKeys>(&data).unwrap().keys.len()),
            Act::Refuse { message, code, .. } => Err(format!("{code} {message}")),
            other => panic!("{other:?}"),
        }
    }

    fn proxy(&mut self, now_s: u64) -> Result<usize, String> {
        self.ask(Some(PROXY), &tl::encode(&GetProxyPrivateKeys { proto_version: 0 }), now_s)
    }
}

#[test]
fn keys_go_to_listed_images_of_their_role_alone() {
    let mut scene = Scene::new();
    scene.tick(NOW_S);
    assert_eq!(scene.proxy(NOW_S), Ok(1));
    let worker = tl::encode(&GetWorkerPrivateKeys { proto_version: 0 });
    assert_eq!(scene.ask(Some(WORKER), &worker, NOW_S), Ok(1));
    let base = tl::encode(&GetProxyPrivateKeysBase { min_config_version: 0 });
    assert_eq!(scene.ask(Some(PROXY), &base, NOW_S), Ok(1));
    let unknown = |role: &str| Err(format!("601 unknown {role} hash"));
    assert_eq!(scene.ask(None, &worker, NOW_S), unknown("worker"), "unattested");
    assert_eq!(scene.ask(Some(PROXY), &worker, NOW_S), unknown("worker"), "a proxy as a worker");
    assert_eq!(scene.ask(Some(ImageHash([9; 32])), &base, NOW_S), unknown("proxy"), "wrong image");
    assert_eq!(scene.ask(Some(PROXY), b"what", NOW_S), Err("601 unknown query magic".to_owned()));
    // An image that leaves the registry gets nothing more.
    let without = KeyRegistry { version: 2, ..KeyRegistry::default() };
    scene.manager.registry_changed(without, &mut scene.out);
    assert_eq!(scene.proxy(NOW_S), unknown("proxy"));
    scene.manager.registry_changed(registry(), &mut scene.out);
    assert_eq!(scene.proxy(NOW_S), unknown("proxy"), "an older registry does not come back");
}

#[test]
fn an_older_registry_does_not_come_back_over_a_restart() {
    let version = |version| KeyRegistry { version, ..registry() };
    let unknown = Err("601 unknown proxy hash".to_owned());
    // Known at the start, or learnt later: from the journal, or from a snapshot of it.
    let mut learnt = Scene::started(Vec::new(), version(2), NOW_S);
    learnt.manager.registry_changed(version(4), &mut learnt.out);
    learnt.tick(NOW_S);
    let known = Scene::started(Vec::new(), version(4), NOW_S);
    let snapshot = known.manager.snapshot().iter().map(KeyRecord::encode).collect();
    for records in [learnt.records, snapshot] {
        let mut scene = Scene::started(records, version(3), NOW_S);
        scene.tick(NOW_S);
        assert_eq!(scene.manager.newest_version(), 4);
        assert_eq!(scene.proxy(NOW_S), unknown);
        scene.manager.registry_changed(version(3), &mut scene.out);
        assert_eq!(scene.proxy(NOW_S), unknown);
        // Nor over one more, and the newest is believed again.
        let snapshot = scene.manager.snapshot().iter().map(KeyRecord::encode).collect();
        let mut scene = Scene::started(snapshot, version(3), NOW_S);
        assert_eq!(scene.proxy(NOW_S), unknown);
        scene.manager.registry_changed(version(4), &mut scene.out);
        assert_eq!(scene.proxy(NOW_S), Ok(1));
    }
    // Without the record, by the keys that were drawn under it.
    let mut scene = Scene::started(Vec::new(), version(4), NOW_S);
    scene.tick(NOW_S);
    assert_eq!(Scene::started(scene.records, version(3), NOW_S).proxy(NOW_S), unknown);
}

#[test]
fn a_key_is_handed_out_only_when_it_is_durable() {
    let mut scene = Scene::new();
    scene.manager.tick(NOW_S, &Secret::new([4; 32]), &mut scene.out);
    scene.take(false);
    assert_eq!(scene.proxy(NOW_S), Ok(0));
    scene.manager.durable(u64::MAX);
    assert_eq!(scene.proxy(NOW_S), Ok(1));
    // A crash before the disk confirmed: the key was never handed out, and none is lost.
    let mut scene = Scene::restarted(scene.records, NOW_S);
    assert_eq!(scene.proxy(NOW_S), Ok(1));
}

#[test]
fn keys_rotate_every_hour_and_end_after_a_day() {
    let mut scene = Scene::new();
    for hour in 0..72 {
        for quarter in 0..4 {
            scene.tick(NOW_S + hour * HOUR + quarter * 900);
        }
        let expected = usize::try_from(hour.min(23)).unwrap() + 1;
        assert_eq!(scene.proxy(NOW_S + hour * HOUR + 2_700), Ok(expected));
        assert!(scene.manager.keys().count() <= 49);
    }
    let drawn =
        scene.audit.iter().filter(|event| matches!(event, AuditEvent::Drawn { .. })).count();
    assert_eq!(drawn, 72);
    let ended = scene.audit.iter().filter(|e| matches!(e, AuditEvent::Expired { .. })).count();
    assert_eq!(ended, 48, "each end is told once");
    // The same keys after a restart, from the snapshot alone.
    let now_s = NOW_S + 71 * HOUR + 2_700;
    let before = scene.proxy(now_s);
    let records = scene.manager.snapshot().iter().map(KeyRecord::encode).collect();
    let mut again = Scene::restarted(records, now_s);
    assert_eq!(again.proxy(now_s), before);
    again.tick(now_s);
    assert_eq!(again.proxy(now_s), before, "a restart draws no key before its time");
}

#[test]
fn a_clock_that_steps_costs_no_key_and_makes_no_flood() {
    let mut scene = Scene::new();
    scene.tick(NOW_S);
    // A day and a half ahead, and back: the key ended meanwhile, and holds again.
    let ahead = NOW_S + 36 * HOUR;
    scene.tick(ahead);
    assert_eq!(scene.proxy(ahead), Ok(1), "only the new one");
    scene.tick(NOW_S + 10);
    assert_eq!(scene.proxy(NOW_S + 10), Ok(2));
    // Far back: one new key, not one at each tick.
    let back = NOW_S - 100 * HOUR;
    for second in 0..1_000 {
        scene.tick(back + second);
    }
    assert_eq!(scene.proxy(back + 999), Ok(3));
    // To and fro for ever stays within the limit.
    for step in 0..500 {
        scene.tick(NOW_S + (step % 7) * 5 * HOUR);
    }
    assert!(scene.manager.keys().count() <= KEYS_MAX);
}

#[test]
fn the_audit_names_who_got_what_once_and_never_a_private_key() {
    let mut scene = Scene::new();
    scene.tick(NOW_S);
    for second in 0..100 {
        scene.proxy(NOW_S + second).unwrap();
    }
    scene.tick(NOW_S + HOUR);
    scene.proxy(NOW_S + HOUR).unwrap();
    let handed: Vec<usize> = scene
        .audit
        .iter()
        .filter_map(|event| match event {
            AuditEvent::Handed { keys, .. } => Some(keys.len()),
            _ => None,
        })
        .collect();
    assert_eq!(handed, [1, 1], "one line for each new key");
    for _ in 0..1_000 {
        scene.ask(None, &tl::encode(&GetProxyPrivateKeys { proto_version: 0 }), NOW_S).unwrap_err();
    }
    let refused = scene.audit.iter().filter(|e| matches!(e, AuditEvent::Refused { .. })).count();
    assert_eq!(refused, 60, "strangers do not fill the disk");
    let mut chain = AuditChain::default();
    let entry =
        |event: &AuditEvent| cocoon_role_keymgr::AuditEntry { at_s: 1, event: event.clone() };
    let lines: Vec<String> = scene.audit.iter().map(|event| chain.line(&entry(event))).collect();
    let private = "09".repeat(20);
    assert!(!lines.iter().any(|line| line.contains(&private)));
    assert!(!format!("{:?}", scene.manager).contains(&private), "nor does Debug show one");
    let follow = |lines: &[String]| {
        let mut chain = AuditChain::default();
        lines.iter().try_for_each(|line| chain.follow(line)).map(|()| chain.head())
    };
    assert_eq!(follow(&lines), Ok(chain.head()));
    let (mut dropped, mut changed, mut swapped) = (lines.clone(), lines.clone(), lines);
    dropped.remove(1);
    changed[1] = changed[1].replacen("at_s\":1", "at_s\":2", 1);
    swapped.swap(1, 2);
    for broken in [dropped, changed, swapped] {
        follow(&broken).unwrap_err();
    }
}

#[test]
fn rotation_under_load_loses_no_peer_a_key() {
    let mut scene = Scene::new();
    scene.tick(NOW_S);
    let query = tl::encode(&GetProxyPrivateKeys { proto_version: 0 });
    for peer in 0..500u64 {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&peer.to_le_bytes());
        let shown = KeyPeer { image: Some(PROXY), key: Some(PublicKey(key)), fresh: false };
        scene.manager.opened(ConnId(peer), shown);
    }
    let mut last = 0;
    for minute in 0..240 {
        let now_s = NOW_S + minute * 60;
        for peer in 0..500 {
            // A new key in the middle of the questions.
            if peer == 250 {
                scene.tick(now_s);
            }
            let asker = Asker { conn: ConnId(peer), query: 1 };
            scene.manager.query(asker, &query, now_s, &mut scene.out);
            let Some(Act::Answer { data, .. }) = scene.take(true).pop() else { panic!("refused") };
            let keys = tl::decode::<PrivateKeys>(&data).unwrap().keys.len();
            assert!(keys >= last, "a peer got fewer keys than one before it");
            last = keys;
        }
    }
    assert_eq!(last, 4);
    let handed = scene.audit.iter().filter(|e| matches!(e, AuditEvent::Handed { .. })).count();
    assert_eq!(handed, 500 * 4, "one line for each peer and key");
}

#[test]
fn a_poll_keeps_what_holds_and_only_from_the_right_image() {
    let mut scene = Scene::new();
    scene.tick(NOW_S);
    let mut poll = KeyPoll::new(Role::Proxy, Some(ImageHash([6; 32])));
    let mut out = Vec::new();
    poll.opened(Some(ImageHash([5; 32])), 0, &mut out);
    assert!(matches!(out.pop(), Some(PollAct::Close { reason: "wrong key manager image hash" })));
    poll.opened(Some(ImageHash([6; 32])), 0, &mut out);
    let Some(PollAct::Query { data, .. }) = out.pop() else { panic!("no query") };
    let conn = ConnId(1);
    scene.manager.opened(conn, KeyPeer { image: Some(PROXY), key: None, fresh: false });
    // First the introductions.
    let introduction = tl::encode(&Introduce::as_role(Role::Proxy));
    assert_eq!(data, introduction);
    scene.manager.query(Asker { conn, query: 1 }, &data, NOW_S, &mut scene.out);
    let Some(Act::Answer { data, .. }) = scene.take(true).pop() else { panic!("no answer") };
    assert!(tl::decode::<Introduced>(&data).is_ok());
    poll.answered(&data, NOW_S, &mut out);
    let Some(PollAct::Query { data, .. }) = out.pop() else { panic!("no query") };
    scene.manager.query(Asker { conn, query: 2 }, &data, NOW_S, &mut scene.out);
    let Some(Act::Answer { data, .. }) = scene.take(true).pop() else { panic!("no answer") };
    poll.answered(&data, NOW_S, &mut out);
    assert_eq!(std::mem::take(&mut out), [PollAct::Changed]);
    assert_eq!(poll.keys().keys().next(), scene.manager.keys().next().map(|line| &line.public));
    poll.answered(&data, NOW_S, &mut out);
    assert!(out.is_empty(), "nothing new");
    // The key manager is away: keys stay until they end.
    poll.closed();
    poll.tick(1_000_000, NOW_S + 86_399, 0, &mut out);
    assert!(out.is_empty() && poll.keys().len() == 1);
    poll.tick(1_000_001, NOW_S + 86_400, 0, &mut out);
    assert_eq!(std::mem::take(&mut out), [PollAct::Changed]);
    assert!(poll.keys().is_empty());
    // Questions are spread, and never two at once.
    poll.opened(Some(ImageHash([6; 32])), 2_000_000, &mut out);
    out.clear();
    poll.tick(2_060_000, NOW_S, 3, &mut out);
    assert!(out.is_empty(), "the first has no answer yet");
    // One of the reference knows no introduction: it is asked all the same.
    poll.failed(&mut out);
    let asks = |act: Option<PollAct>| {
        let Some(PollAct::Query { data, .. }) = act else { panic!("no query") };
        tl::decode::<GetProxyPrivateKeys>(&data).unwrap();
    };
    asks(out.pop());
    poll.failed(&mut out);
    assert!(out.is_empty(), "at its time");
    poll.tick(2_070_000, NOW_S, 3, &mut out);
    asks(out.pop());
    // Keys in the place of an introduction: nobody showed anything yet.
    poll.closed();
    poll.opened(Some(ImageHash([6; 32])), 3_000_000, &mut out);
    out.clear();
    poll.answered(&data, NOW_S, &mut out);
    assert!(matches!(out.pop(), Some(PollAct::Close { .. })) && poll.keys().is_empty());
}

#[test]
fn the_recorded_answer_of_the_reference_is_understood() {
    // keyManager.privateKeys with the static test key (protocol notes, wire 4.8).
    let text = "2ce56cd60e0100000000943577070ad82e6132dab32067fb720afd0060555a64f905bbec0dc28490\
                88951b3a63000000";
    let bytes: Vec<u8> = (0..text.len() / 2)
        .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
        .collect();
    let mut poll = KeyPoll::new(Role::Proxy, None);
    let mut out = Vec::new();
    poll.opened(None, 0, &mut out);
    poll.failed(&mut out);
    // Behind the length byte and before its padding.
    poll.answered(&bytes[1..45], NOW_S, &mut out);
    let public = PublicKey::parse("+2fQ/NM48g4NSVfZ6CrcEB0uNROkSKOrRgUu4biMWBg=").unwrap();
    let (_, until_s) = poll.keys().get(&public).unwrap();
    assert_eq!(*until_s, 2_000_000_000);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_and_never_get_keys(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzz::query(&bytes);
        fuzz::answers(&bytes);
    }
}
