//! Connections: the real byte machine at both ends, and what can happen between them.

use bytes::Bytes;
use cocoon_session::{Connection, Encoded, Event as Heard, Limits, Side};

use crate::mutant::Mutant;
use crate::plan::NodeId;
use crate::world::{Event, World};

/// The end that dialled.
pub(crate) const PEER: usize = 0;
/// The end that was dialled.
pub(crate) const PROXY: usize = 1;

/// One end of a connection.
pub(crate) struct End {
    pub(crate) conn: Connection,
    pub(crate) open: bool,
    /// Bytes to this end arrive in order: not before this.
    arrival_ms: u64,
}

/// A connection between a peer and a proxy.
pub(crate) struct Link {
    pub(crate) peer: NodeId,
    pub(crate) proxy: u8,
    pub(crate) ends: [End; 2],
    /// Carries nothing any more.
    silent: bool,
    /// Somebody put bytes into it that mean nothing.
    pub(crate) spoilt: bool,
    /// Until when a misfortune excuses delays.
    pub(crate) excused_until_ms: u64,
    /// Highest total the proxy stated over it.
    pub(crate) told: u64,
}

impl Link {
    pub(crate) fn node(&self, end: usize) -> NodeId {
        if end == PEER { self.peer } else { NodeId::Proxy(self.proxy) }
    }
}

impl World {
    /// A peer dials a proxy; tries again when nobody is there.
    pub(crate) fn dial(&mut self, peer: NodeId, proxy: u8) {
        let target = NodeId::Proxy(proxy);
        let reachable = self.is_up(target) && !self.is_parted(peer, proxy);
        if !reachable || !self.is_up(peer) || self.links.len() > 4_000 {
            self.dial_later(peer, proxy);
            return;
        }
        self.next_link += 1;
        let id = self.next_link;
        let now_ms = self.now_ms;
        let connecting = Side::Connecting { connect_id: self.chance.bits().cast_signed() };
        let end = |side, limits| End {
            conn: Connection::new(side, limits, now_ms),
            open: true,
            arrival_ms: now_ms,
        };
        let link = Link {
            peer,
            proxy,
            ends: [
                end(connecting, Limits::connecting()),
                end(Side::Accepting, Limits::accepting()),
            ],
            silent: false,
            spoilt: false,
            excused_until_ms: 0,
            told: 0,
        };
        self.links.insert(id, link);
        self.remember_link(id, proxy);
        self.note(peer, "dials", u64::from(proxy), id);
        self.pump(id, PEER);
    }

    pub(crate) fn dial_later(&mut self, peer: NodeId, proxy: u8) {
        let life = self.life(peer);
        let at_ms = self.now_ms + self.chance.between(300, 3_000);
        self.at(at_ms, Event::Dial { peer, life, proxy });
    }

    pub(crate) fn is_parted(&self, peer: NodeId, proxy: u8) -> bool {
        self.parted.get(&(peer, proxy)).is_some_and(|until_ms| *until_ms > self.now_ms)
    }

    /// Puts what an end wants to send under way.
    pub(crate) fn pump(&mut self, id: u64, end: usize) {
        let now_ms = self.now_ms;
        let latency_ms = self.chance.between(1, 60);
        let mutant = self.mutant;
        let odd = self.chance.percent(2);
        let Some(link) = self.links.get_mut(&id) else { return };
        let (peer, proxy) = (link.peer, link.proxy);
        let from = &mut link.ends[end];
        let data = Bytes::copy_from_slice(from.conn.output());
        if data.is_empty() {
            return;
        }
        from.conn.written(data.len(), now_ms);
        let healed_ms = self.parted.get(&(peer, proxy)).copied().unwrap_or(0);
        let to = &mut link.ends[1 - end];
        let mut at_ms = (now_ms.max(healed_ms) + latency_ms).max(to.arrival_ms);
        if mutant == Some(Mutant::BytesReordered) && odd {
            at_ms = at_ms.saturating_sub(50).max(now_ms);
        } else {
            to.arrival_ms = at_ms;
        }
        self.log.bytes(&data);
        if mutant == Some(Mutant::BytesTwice) && odd {
            self.at(at_ms, Event::Bytes { link: id, end: 1 - end, data: data.clone() });
        }
        self.at(at_ms, Event::Bytes { link: id, end: 1 - end, data });
    }

    /// Bytes arrive.
    pub(crate) fn arrive(&mut self, id: u64, end: usize, data: &[u8]) {
        let now_ms = self.now_ms;
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.silent {
            return;
        }
        if !link.ends[end].open {
            // Whoever sends to a process that is gone is told so by its system.
            let node = link.node(end);
            if self.is_up(node) {
                self.at(now_ms + 20, Event::Gone { link: id, end: 1 - end });
            }
            return;
        }
        link.ends[end].conn.input().extend_from_slice(data);
        self.drain(id, end);
    }

    /// Takes the events that an end has, and sends what follows from them.
    pub(crate) fn drain(&mut self, id: u64, end: usize) {
        loop {
            let now_ms = self.now_ms;
            let Some(link) = self.links.get_mut(&id) else { return };
            let node = link.node(end);
            if !link.ends[end].open {
                return;
            }
            let Some(event) = link.ends[end].conn.poll_event(now_ms) else { break };
            if let Heard::Closed(fault) = &event {
                let honest = !link.spoilt && !self.plan.lies(link.peer);
                let honest = honest && !self.plan.lies(NodeId::Proxy(link.proxy));
                if fault.is_violation() && honest {
                    let text = format!("{node} on connection {id}: {fault}");
                    self.fail("honest bytes were refused", text);
                }
                self.note(node, "connection ended", id, 0);
                // Output may still be written, then the other end hears of it.
                self.pump(id, end);
                self.shut(id, end);
            }
            match node {
                NodeId::Proxy(p) => self.proxy_hears(p, id, event),
                NodeId::Client(c) => self.client_hears(c, id, event),
                NodeId::Worker(w) => self.worker_hears(w, id, event),
                NodeId::Chain => {}
            }
            if self.violation.is_some() {
                return;
            }
        }
        self.pump(id, end);
    }

    /// One end is closed; the other one is told after what is under way.
    pub(crate) fn shut(&mut self, id: u64, end: usize) {
        let now_ms = self.now_ms;
        let Some(link) = self.links.get_mut(&id) else { return };
        link.ends[end].open = false;
        let at_ms = link.ends[1 - end].arrival_ms.max(now_ms) + 5;
        let (silent, alone) = (link.silent, !link.ends[1 - end].open);
        if alone {
            self.links.remove(&id);
        } else if !silent {
            self.at(at_ms, Event::Gone { link: id, end: 1 - end });
        }
    }

    /// An end learns that the other one is gone.
    pub(crate) fn gone(&mut self, id: u64, end: usize) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.ends[end].open {
            link.ends[end].conn.disconnected(None);
            self.drain(id, end);
        }
    }

    /// All connections of a process that died. `quiet`: nobody tells the other ends.
    pub(crate) fn links_died(&mut self, node: NodeId, quiet: bool) {
        let now_ms = self.now_ms;
        let ids: Vec<u64> = self.links.keys().copied().collect();
        for id in ids {
            let Some(link) = self.links.get_mut(&id) else { continue };
            let Some(end) = (0..2).find(|end| link.node(*end) == node) else { continue };
            link.ends[end].open = false;
            link.excused_until_ms = u64::MAX;
            if link.ends[1 - end].open {
                let at_ms = now_ms + 10;
                if !quiet {
                    self.at(at_ms, Event::Gone { link: id, end: 1 - end });
                }
            } else {
                self.links.remove(&id);
            }
        }
    }

    /// The connection that a peer has with a proxy now.
    pub(crate) fn link_between(&self, peer: NodeId, proxy: u8) -> Option<u64> {
        self.links
            .iter()
            .rev()
            .find(|(_, link)| link.peer == peer && link.proxy == proxy && link.ends[PEER].open)
            .map(|(id, _)| *id)
    }

    /// Excuses delays on every connection between the two.
    pub(crate) fn excuse_links(&mut self, peer: NodeId, proxy: u8, until_ms: u64) {
        for link in self.links.values_mut() {
            if link.peer == peer && link.proxy == proxy {
                link.excused_until_ms = link.excused_until_ms.max(until_ms);
            }
        }
    }

    /// Breaks a connection: what is under way is lost, both ends are told unless `silently`.
    pub(crate) fn break_link(&mut self, peer: NodeId, proxy: u8, silently: bool) {
        let now_ms = self.now_ms;
        let Some(id) = self.link_between(peer, proxy) else { return };
        self.note(peer, "connection breaks", id, u64::from(silently));
        if let Some(link) = self.links.get_mut(&id) {
            link.silent = true;
            link.excused_until_ms = u64::MAX;
        }
        if !silently {
            self.at(now_ms + 3, Event::Gone { link: id, end: PEER });
            self.at(now_ms + 7, Event::Gone { link: id, end: PROXY });
        }
    }

    /// A peer puts bytes into a connection that mean nothing.
    pub(crate) fn spoil_link(&mut self, peer: NodeId, proxy: u8) {
        let Some(id) = self.link_between(peer, proxy) else { return };
        self.note(peer, "sends garbage", id, 0);
        let (now_ms, bytes, framed) = (self.now_ms, self.chance.bytes(), self.chance.percent(50));
        let Some(link) = self.links.get_mut(&id) else { return };
        link.spoilt = true;
        link.excused_until_ms = u64::MAX;
        if framed {
            let _ = link.ends[PEER].conn.message(&Encoded(&bytes), now_ms);
            self.pump(id, PEER);
        } else {
            let at_ms = (now_ms + 20).max(link.ends[PROXY].arrival_ms);
            link.ends[PROXY].arrival_ms = at_ms;
            let data = Bytes::copy_from_slice(&bytes);
            self.at(at_ms, Event::Bytes { link: id, end: PROXY, data });
        }
    }

    /// Sends a one-way message.
    pub(crate) fn send(&mut self, id: u64, end: usize, data: &[u8]) {
        let now_ms = self.now_ms;
        if let Some(link) = self.links.get_mut(&id)
            && link.ends[end].open
        {
            let _ = link.ends[end].conn.message(&Encoded(data), now_ms);
            self.pump(id, end);
        }
    }

    /// Carries out what a session wants sent.
    pub(crate) fn command(&mut self, id: u64, command: &cocoon_channel::Command) {
        use cocoon_channel::Command;
        let now_ms = self.now_ms;
        let Some(link) = self.links.get_mut(&id) else { return };
        let conn = &mut link.ends[PEER].conn;
        let _ = match command {
            Command::Query { id, data, timeout_ms } => {
                conn.query(*id, &Encoded(data), *timeout_ms, now_ms)
            }
            Command::Message(data) => conn.message(&Encoded(data), now_ms),
            Command::Answer { id, data } => conn.answer(*id, &Encoded(data), now_ms),
            Command::AnswerError { id, code, message } => {
                conn.answer_error(*id, *code, message, now_ms)
            }
        };
        self.pump(id, PEER);
    }

    /// Lets the connections of a node look at the clock.
    pub(crate) fn tick_links(&mut self, node: NodeId) {
        let now_ms = self.now_ms;
        let mine = |link: &Link| (0..2).find(|end| link.node(*end) == node);
        let due: Vec<(u64, usize)> = self
            .links
            .iter()
            .filter_map(|(id, link)| {
                let end = mine(link).filter(|end| link.ends[*end].open)?;
                let due = link.ends[end].conn.next_deadline_ms();
                due.is_some_and(|due_ms| due_ms <= now_ms).then_some((*id, end))
            })
            .collect();
        for (id, end) in due {
            if let Some(link) = self.links.get_mut(&id) {
                link.ends[end].conn.tick(now_ms);
                self.drain(id, end);
            }
        }
    }
}
