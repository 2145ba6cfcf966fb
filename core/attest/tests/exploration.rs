//! The handshake explored exhaustively: an attacker sits in every TLS session, because the
//! leaf keys leaked, and may deliver whatever it saw or can make, to anyone, in any order.
//!
//! Evidence is ideal: only an honest machine makes it, over its own statement. The search
//! must find no way to make one side believe; and to show that it would find one, the same
//! search over a broken TLS library (one exporter for all sessions) must find the relay.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod party;

use std::collections::BTreeSet;

use cocoon_attest::channel::{ChannelRole, Effect, Exporter, Handshake, Hello, Message, Offer};
use stateright::{Checker as _, Expectation, Model, Property};

use party::{Connection, NOW_MS, local, sign, verdict_over};

/// Whether the TLS library gives each session its own exporter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Library {
    Sound,
    Constant,
}

/// The machines in play; every one of them talks to the attacker.
struct Network {
    library: Library,
    parties: Vec<(ChannelRole, ChannelRole)>,
    /// Whether the first two parties share one session, as without an attacker.
    joined: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    machines: Vec<Handshake>,
    /// Sides that met a fault: nothing reaches them any more.
    dead: Vec<bool>,
    /// Everything ever sent, and what the attacker makes itself.
    known: BTreeSet<Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Deliver {
    to: usize,
    message: Vec<u8>,
}

impl Network {
    fn session(&self, party: usize) -> Connection {
        match (self.library, self.joined && party < 2) {
            (Library::Constant, _) | (Library::Sound, true) => Connection(0),
            (Library::Sound, false) => Connection(party as u8 + 1),
        }
    }

    /// Messages that need no secret: hellos with the nonces and roles in play, stripped or
    /// not, and an offer with empty evidence.
    fn forged(&self, known: &BTreeSet<Vec<u8>>) -> Vec<Vec<u8>> {
        let mut made = vec![Message::Offer(Box::<Offer>::default()).encode()];
        for bytes in known {
            let Ok(Message::Hello(hello)) = Message::decode(bytes) else { continue };
            for role in [ChannelRole::Worker, ChannelRole::Proxy] {
                for attests in [true, false] {
                    made.push(Message::Hello(Hello { role, attests, ..hello.clone() }).encode());
                }
            }
        }
        made
    }

    /// Delivers a message and carries out what follows inside the machine.
    fn deliver(&self, state: &mut State, to: usize, message: &[u8]) {
        let session = self.session(to);
        let machine = &mut state.machines[to];
        let mut work = match machine.receive(message, &session, NOW_MS) {
            Ok(effects) => effects,
            Err(_) => {
                state.dead[to] = true;
                return;
            }
        };
        while let Some(effect) = work.pop() {
            let more = match effect {
                Effect::Send(bytes) => {
                    state.known.insert(bytes);
                    Ok(Vec::new())
                }
                Effect::Quote(statement) => machine.quoted(Some(sign(&statement))),
                Effect::Verify(evidence) => machine.judged(&verdict_over(&evidence)),
                Effect::Ready { .. } => Ok(Vec::new()),
            };
            match more {
                Ok(more) => work.extend(more),
                Err(_) => {
                    state.dead[to] = true;
                    return;
                }
            }
        }
    }
}

impl Model for Network {
    type State = State;
    type Action = Deliver;

    fn init_states(&self) -> Vec<State> {
        let mut known = BTreeSet::new();
        let mut machines = Vec::new();
        for (number, (role, peer_role)) in self.parties.iter().enumerate() {
            let nonce = [number as u8 + 0x10; 32];
            let (machine, effects) = Handshake::start(local(*role, *peer_role), nonce);
            for effect in effects {
                if let Effect::Send(bytes) = effect {
                    known.insert(bytes);
                }
            }
            machines.push(machine);
        }
        if !self.joined {
            known.extend(self.forged(&known));
        }
        let dead = vec![false; machines.len()];
        vec![State { machines, dead, known }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Deliver>) {
        for to in (0..state.machines.len()).filter(|to| !state.dead[*to]) {
            actions
                .extend(state.known.iter().map(|message| Deliver { to, message: message.clone() }));
        }
    }

    fn next_state(&self, state: &State, action: Deliver) -> Option<State> {
        let mut next = state.clone();
        self.deliver(&mut next, action.to, &action.message);
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("nobody believes the attacker", |model: &Self, state: &State| {
                model.joined || !state.machines.iter().any(Handshake::is_fresh)
            }),
            // Every party here demands evidence, so that none may stand without it.
            Property::always("no channel without fresh evidence", |_: &Self, state: &State| {
                state.machines.iter().all(|machine| !machine.is_ready() || machine.is_fresh())
            }),
            Property::sometimes("both ends stand", |_: &Self, state: &State| {
                state.machines.iter().take(2).all(Handshake::is_fresh)
            }),
        ]
    }
}

const WORKER: (ChannelRole, ChannelRole) = (ChannelRole::Worker, ChannelRole::Proxy);
const PROXY: (ChannelRole, ChannelRole) = (ChannelRole::Proxy, ChannelRole::Worker);
const PEER: (ChannelRole, ChannelRole) = (ChannelRole::Worker, ChannelRole::Worker);

fn explore(library: Library, parties: &[(ChannelRole, ChannelRole)], joined: bool) -> Vec<String> {
    let network = Network { library, parties: parties.to_vec(), joined };
    assert_eq!(network.properties().len(), 3);
    let checker = network.checker().spawn_bfs().join();
    assert!(checker.is_done());
    let found = checker.discoveries();
    let always = |name: &&str| {
        let properties = checker.model().properties();
        properties.iter().any(|p| p.name == *name && p.expectation == Expectation::Always)
    };
    found.keys().filter(|name| always(name)).map(ToString::to_string).collect()
}

#[test]
fn relay_reflection_role_swap_reordering_and_downgrade_are_found_by_nobody() {
    for parties in [
        &[WORKER, PROXY][..],
        &[WORKER, PROXY, WORKER],
        &[WORKER, PROXY, PROXY],
        &[PEER, PEER],
        &[PEER],
    ] {
        assert_eq!(explore(Library::Sound, parties, false), Vec::<String>::new(), "{parties:?}");
    }
}

#[test]
fn the_search_finds_the_relay_when_the_exporter_is_the_same_everywhere() {
    let found = explore(Library::Constant, &[WORKER, PROXY], false);
    assert_eq!(found, ["nobody believes the attacker"]);
}

#[test]
fn honest_ends_of_one_session_do_meet() {
    let network = Network { library: Library::Sound, parties: vec![WORKER, PROXY], joined: true };
    let checker = network.checker().spawn_bfs().join();
    checker.assert_any_discovery("both ends stand");
    let session = network_session();
    assert!(session.export(b"label", b"context").is_some());
}

fn network_session() -> Connection {
    Connection(0)
}
