//! Misfortunes: how each one strikes, and how it ends.

use std::sync::Arc;

use cocoon_contract::root::RootState;
use cocoon_role_proxy::{Command, Now, Outbox, Proxy};

use crate::chain::Message;
use crate::node::Fuse;
use crate::plan::{Fault, FaultKind, NodeId};
use crate::world::{Event, World, root};

/// How long a connection may take to find out that it is dead, and to come back.
const RECOVERY_MS: u64 = 90_000;

impl World {
    /// A misfortune begins.
    pub(crate) fn strike(&mut self, index: usize) {
        let Some((number, Fault { kind, .. })) = self.plan.faults.get(index).cloned() else {
            return;
        };
        let now_ms = self.now_ms;
        self.note(NodeId::Chain, fault_name(&kind), number as u64, 0);
        match kind {
            FaultKind::Crash { node, point, countdown, down_ms, quiet } => {
                if let Some(base) = self.base(node) {
                    base.fuse = Some(Fuse { point, countdown, down_ms, quiet });
                }
            }
            FaultKind::Break { peer, proxy } => self.break_link(peer, proxy, false),
            FaultKind::HalfOpen { peer, proxy } => self.break_link(peer, proxy, true),
            FaultKind::Partition { peer, proxy, ms } => {
                self.parted.insert((peer, proxy), now_ms + ms);
                self.excuse_links(peer, proxy, now_ms + ms + RECOVERY_MS);
            }
            FaultKind::Pause { node, ms } => {
                self.excuse(node, now_ms + ms + RECOVERY_MS);
                if let Some(base) = self.base(node) {
                    base.paused_until_ms = base.paused_until_ms.max(now_ms + ms);
                }
            }
            FaultKind::DiskSlow { node, ms } => {
                self.excuse(node, now_ms + ms + RECOVERY_MS);
                if let Some(base) = self.base(node) {
                    base.disk_slow_until_ms = base.disk_slow_until_ms.max(now_ms + ms);
                }
            }
            FaultKind::DiskFull { node, ms } => {
                self.excuse(node, now_ms + ms + RECOVERY_MS);
                if let Some(base) = self.base(node) {
                    base.disk_full_until_ms = base.disk_full_until_ms.max(now_ms + ms);
                }
            }
            FaultKind::DialAgain { peer, proxy } => self.dial(peer, proxy),
            FaultKind::ClockStep { node, step_ms } => {
                if let Some(base) = self.base(node) {
                    base.clock_ms = base.clock_ms.saturating_add(step_ms);
                }
            }
            other => self.strike_operation(index, other),
        }
    }

    /// What people do to nodes, and what happens to the chain.
    fn strike_operation(&mut self, index: usize, kind: FaultKind) {
        let now_ms = self.now_ms;
        match kind {
            FaultKind::Disable { worker, ms } => {
                self.disable_worker(worker, true);
                self.at(now_ms + ms, Event::Undo(index));
            }
            FaultKind::Coefficient { worker, milli } => self.set_coefficient(worker, milli),
            FaultKind::Garbage { peer, proxy } => self.spoil_link(peer, proxy),
            FaultKind::Root { parameters } => self.change_root(parameters),
            FaultKind::ChainStall { ms } => {
                self.chain.stalled_until_ms = self.chain.stalled_until_ms.max(now_ms + ms);
            }
            FaultKind::ChainLoses { ms } => {
                self.chain.loses_until_ms = self.chain.loses_until_ms.max(now_ms + ms);
            }
            FaultKind::ProxyOff { proxy, ms } => {
                self.excuse(NodeId::Proxy(proxy), now_ms + ms + 5_000);
                let off = Command::Disable { until_params_version: None };
                self.operator(proxy, |machine, now, out| machine.command(1, off, now, out));
                self.at(now_ms + ms, Event::Undo(index));
            }
            FaultKind::Commit { proxy } => {
                let commit = Command::Commit;
                self.operator(proxy, |machine, now, out| machine.command(2, commit, now, out));
            }
            FaultKind::Snapshot { node: NodeId::Proxy(p) } => self.snapshot_proxy(p),
            FaultKind::Snapshot { node } => self.snapshot_peer(node),
            FaultKind::TopUp { client, proxy } => {
                if self.plan.real_chain {
                    self.send_to_chain(proxy, Message::TopUp { client });
                }
            }
            FaultKind::CloseClient { client, proxy } => {
                if self.has_contract(client, proxy) {
                    self.closing.insert((client, proxy));
                    self.send_to_chain(proxy, Message::Close { client });
                }
            }
            // Told apart by the caller.
            FaultKind::Crash { .. }
            | FaultKind::Break { .. }
            | FaultKind::HalfOpen { .. }
            | FaultKind::Partition { .. }
            | FaultKind::Pause { .. }
            | FaultKind::DiskSlow { .. }
            | FaultKind::DiskFull { .. }
            | FaultKind::DialAgain { .. }
            | FaultKind::ClockStep { .. } => {}
        }
    }

    /// A misfortune that has an end ends.
    pub(crate) fn undo(&mut self, index: usize) {
        let Some((_, fault)) = self.plan.faults.get(index).cloned() else { return };
        match fault.kind {
            FaultKind::Disable { worker, .. } => self.disable_worker(worker, false),
            FaultKind::ProxyOff { proxy, .. } => {
                let on = Command::Enable;
                self.operator(proxy, |machine, now, out| machine.command(3, on, now, out));
            }
            _ => {}
        }
    }

    fn operator(&mut self, p: u8, order: impl FnOnce(&mut Proxy, Now, &mut Outbox)) {
        if !self.is_up(NodeId::Proxy(p)) {
            return;
        }
        let unix_us = self.wall_ms(NodeId::Proxy(p)).saturating_mul(1_000);
        let now = Now { ms: self.now_ms, unix_us };
        self.with_machine(p, |machine, out| order(machine, now, out));
    }

    /// The root contract changes; nodes learn it one after the other.
    fn change_root(&mut self, parameters: bool) {
        let version = self.root.version + 1;
        let params_version = self.root.network.params.params_version + u32::from(parameters);
        let Ok(changed) = root(version, params_version) else { return };
        self.root = Arc::clone(&changed);
        let nodes = (0..self.plan.proxies)
            .map(NodeId::Proxy)
            .chain((0..self.plan.clients).map(NodeId::Client))
            .chain((0..self.plan.workers).map(NodeId::Worker));
        for node in nodes.collect::<Vec<_>>() {
            let at_ms = self.now_ms + self.chance.between(100, 20_000);
            self.excuse(node, at_ms + RECOVERY_MS);
            self.at(at_ms, Event::Root { node, root: Arc::clone(&changed) });
        }
    }

    /// A node learns the new state of the root contract.
    pub(crate) fn root_changes(&mut self, node: NodeId, root: Arc<RootState>) {
        if !self.is_up(node) {
            // It reads the newest one when it starts.
            return;
        }
        self.note(node, "learns the root", root.version.into(), 0);
        match node {
            NodeId::Proxy(p) => {
                let proxy = &mut self.proxies[usize::from(p)];
                if proxy.root.version >= root.version {
                    return;
                }
                proxy.root = Arc::clone(&root);
                let mut refused = None;
                self.operator(p, |machine, now, out| {
                    refused = machine.root_changed(root, now, out).err();
                });
                if let Some(fault) = refused {
                    self.fail("a root state was refused", fault.to_string());
                }
            }
            NodeId::Client(c) => {
                let client = &mut self.clients[usize::from(c)];
                if client.identity.root_version < i32::try_from(root.version).unwrap_or(0) {
                    client.identity = crate::client::identity(c, &root);
                }
            }
            NodeId::Worker(w) => {
                let worker = &mut self.workers[usize::from(w)];
                if worker.root_version < root.version {
                    worker.root_version = root.version;
                    worker.identity.network = root.network.clone();
                }
            }
            NodeId::Chain => {}
        }
    }
}

/// When a plan's last misfortune is over.
pub(crate) fn last_end_ms(faults: &[(usize, Fault)]) -> u64 {
    let end = |fault: &Fault| {
        let lasts_ms = match &fault.kind {
            FaultKind::Crash { down_ms, .. } => *down_ms,
            FaultKind::Partition { ms, .. }
            | FaultKind::Pause { ms, .. }
            | FaultKind::DiskSlow { ms, .. }
            | FaultKind::DiskFull { ms, .. }
            | FaultKind::Disable { ms, .. }
            | FaultKind::ChainStall { ms }
            | FaultKind::ChainLoses { ms }
            | FaultKind::ProxyOff { ms, .. } => *ms,
            FaultKind::Root { .. } => 20_000,
            _ => 0,
        };
        fault.at_ms + lasts_ms
    };
    faults.iter().map(|(_, fault)| end(fault)).max().unwrap_or(0)
}

fn fault_name(kind: &FaultKind) -> &'static str {
    match kind {
        FaultKind::Crash { .. } => "fault: crash",
        FaultKind::Break { .. } => "fault: break",
        FaultKind::HalfOpen { .. } => "fault: half open",
        FaultKind::Partition { .. } => "fault: partition",
        FaultKind::Pause { .. } => "fault: pause",
        FaultKind::DiskSlow { .. } => "fault: slow disk",
        FaultKind::DiskFull { .. } => "fault: full disk",
        FaultKind::DialAgain { .. } => "order: dial again",
        FaultKind::ClockStep { .. } => "fault: clock step",
        FaultKind::Disable { .. } => "fault: worker off",
        FaultKind::Coefficient { .. } => "fault: price factor",
        FaultKind::Garbage { .. } => "fault: garbage",
        FaultKind::Root { .. } => "fault: root update",
        FaultKind::ChainStall { .. } => "fault: chain stalls",
        FaultKind::ChainLoses { .. } => "fault: chain loses",
        FaultKind::ProxyOff { .. } => "fault: proxy off",
        FaultKind::Commit { .. } => "order: commit",
        FaultKind::Snapshot { .. } => "order: snapshot",
        FaultKind::TopUp { .. } => "order: top up",
        FaultKind::CloseClient { .. } => "order: close client",
    }
}
