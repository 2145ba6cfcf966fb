//! Entry points for fuzzers: everything that reads bytes of others.
//!
//! Each function returns normally for every input or panics on a broken law.

use cocoon_units::{Role, Secret};
use cocoon_wire::cocoon::Introduced;
use cocoon_wire::key_manager::PrivateKeys;
use cocoon_wire::tl;

use crate::{
    Act, Asker, AuditChain, ConnId, KeyManager, KeyPeer, KeyPoll, KeyRecord, KeyRegistry,
    KeySettings,
};

/// A stranger's query: never answered with keys.
///
/// # Panics
/// When it is.
pub fn query(data: &[u8]) {
    let mut out = Vec::new();
    let (settings, registry) = (KeySettings::default(), KeyRegistry::default());
    let Ok(mut manager) = KeyManager::open(settings, registry, [], 1, &mut out) else { return };
    manager.tick(1, &Secret::new([7; 32]), &mut out);
    manager.durable(u64::MAX);
    manager.opened(ConnId(1), KeyPeer::default());
    manager.query(Asker { conn: ConnId(1), query: 1 }, data, 1, &mut out);
    let keys = |act: &Act| matches!(act, Act::Answer { data, .. } if tl::decode::<PrivateKeys>(data).is_ok());
    assert!(!out.iter().any(keys), "a stranger got keys");
}

/// A key manager's answer, a record of the journal, a line of the trail.
///
/// # Panics
/// When a record that was read does not read back.
pub fn answers(data: &[u8]) {
    let mut out = Vec::new();
    let mut poll = KeyPoll::new(Role::Proxy, None);
    poll.opened(None, 0, &mut out);
    poll.answered(data, 1, &mut out);
    poll.opened(None, 1, &mut out);
    poll.answered(&tl::encode(&Introduced::default()), 1, &mut out);
    poll.answered(data, 1, &mut out);
    if let Ok(record) = KeyRecord::decode(data) {
        assert_eq!(record.encode(), data);
    }
    let _ = AuditChain::default().follow(&String::from_utf8_lossy(data));
}
