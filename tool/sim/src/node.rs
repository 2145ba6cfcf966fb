//! What every simulated process has: a life, a clock, a journal.

use crate::disk::Disk;
use crate::plan::{NodeId, Point};
use crate::world::{Event, World};

/// Time of the wall at the start, milliseconds since 1970.
pub(crate) const WALL_START_MS: u64 = 1_795_000_000_000;

/// When and where the process will die.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fuse {
    pub(crate) point: Point,
    pub(crate) countdown: u64,
    pub(crate) down_ms: u64,
    pub(crate) quiet: bool,
}

/// The life of a process.
#[derive(Default)]
pub(crate) struct Base {
    pub(crate) up: bool,
    /// Grows with every start: what was meant for an earlier life is dropped.
    pub(crate) life: u64,
    /// How far its wall clock is off.
    pub(crate) clock_ms: i64,
    pub(crate) paused_until_ms: u64,
    pub(crate) disk: Disk,
    pub(crate) syncing: bool,
    pub(crate) disk_slow_until_ms: u64,
    pub(crate) disk_full_until_ms: u64,
    pub(crate) fuse: Option<Fuse>,
    /// It is not started again.
    pub(crate) is_lost: bool,
    /// Until when a misfortune of its own excuses delays.
    pub(crate) excused_until_ms: u64,
}

impl World {
    pub(crate) fn base(&mut self, node: NodeId) -> Option<&mut Base> {
        match node {
            NodeId::Client(n) => self.clients.get_mut(usize::from(n)).map(|node| &mut node.base),
            NodeId::Proxy(n) => self.proxies.get_mut(usize::from(n)).map(|node| &mut node.base),
            NodeId::Worker(n) => self.workers.get_mut(usize::from(n)).map(|node| &mut node.base),
            NodeId::Chain => None,
        }
    }

    pub(crate) fn is_up(&mut self, node: NodeId) -> bool {
        self.base(node).is_some_and(|base| base.up)
    }

    pub(crate) fn life(&mut self, node: NodeId) -> u64 {
        self.base(node).map_or(0, |base| base.life)
    }

    /// What the node's wall clock shows, in milliseconds.
    pub(crate) fn wall_ms(&mut self, node: NodeId) -> u64 {
        let offset = self.base(node).map_or(0, |base| base.clock_ms);
        (WALL_START_MS + self.now_ms).saturating_add_signed(offset)
    }

    /// Excuses delays of a node until then.
    pub(crate) fn excuse(&mut self, node: NodeId, until_ms: u64) {
        if let Some(base) = self.base(node) {
            base.excused_until_ms = base.excused_until_ms.max(until_ms);
        }
    }

    /// Passes a point where a process may die; true when it just did.
    pub(crate) fn dies_at(&mut self, node: NodeId, point: Point) -> bool {
        let Some(base) = self.base(node) else { return false };
        let Some(fuse) = base.fuse.as_mut().filter(|fuse| fuse.point == point) else {
            return false;
        };
        if fuse.countdown > 0 {
            fuse.countdown -= 1;
            return false;
        }
        let fuse = *fuse;
        self.crash(node, fuse);
        true
    }

    /// Starts a sync when there is something to sync and none runs.
    pub(crate) fn sync_soon(&mut self, node: NodeId) {
        let now_ms = self.now_ms;
        let delay_ms = self.chance.between(1, 25);
        let Some(base) = self.base(node) else { return };
        if base.syncing || !base.disk.is_behind() {
            return;
        }
        base.syncing = true;
        let (life, ticket) = (base.life, base.disk.newest());
        let full_until_ms = base.disk_full_until_ms;
        let at_ms = (now_ms + delay_ms).max(base.disk_slow_until_ms).max(full_until_ms);
        self.at(at_ms, Event::Synced { node, life, ticket });
        if let NodeId::Proxy(p) = node
            && full_until_ms > now_ms
        {
            self.proxy_stalls(p, true);
        }
    }

    /// A sync has ended.
    pub(crate) fn synced(&mut self, node: NodeId, ticket: u64) {
        let Some(base) = self.base(node) else { return };
        base.syncing = false;
        base.disk.synced(ticket);
        match node {
            NodeId::Proxy(p) => self.proxy_records_durable(p, ticket),
            NodeId::Client(_) | NodeId::Worker(_) => self.peer_synced(node, ticket),
            NodeId::Chain => {}
        }
        if self.dies_at(node, Point::Synced) {
            return;
        }
        if let NodeId::Proxy(p) = node {
            self.proxy_synced(p, ticket);
        }
        self.sync_soon(node);
    }

    /// The process dies. What its disk had not made durable is lost, its connections end.
    pub(crate) fn crash(&mut self, node: NodeId, fuse: Fuse) {
        self.note(node, "dies", fuse.down_ms, u64::from(fuse.quiet));
        let now_ms = self.now_ms;
        let mut chance = self.chance.clone();
        let lying = self.mutant == Some(crate::Mutant::LyingDisk);
        let Some(base) = self.base(node) else { return };
        base.up = false;
        base.life += 1;
        base.fuse = None;
        base.syncing = false;
        let survived = base.disk.crash(&mut chance);
        if lying {
            base.disk.lose(60);
        }
        self.chance = chance;
        self.excuse(node, now_ms + fuse.down_ms + 10_000);
        match node {
            NodeId::Proxy(p) => self.proxy_died(p, survived),
            NodeId::Client(_) | NodeId::Worker(_) => self.peer_died(node, survived),
            NodeId::Chain => {}
        }
        self.links_died(node, fuse.quiet);
        self.at(now_ms + fuse.down_ms, Event::Restart(node));
    }
}
