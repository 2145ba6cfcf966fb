//! Who may come in: connections and handshakes, in total and for each address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::settings::PortLimits;

/// Counts what is open at one port.
#[derive(Debug)]
pub struct Gate {
    limits: PortLimits,
    state: Mutex<GateState>,
}

#[derive(Debug, Default)]
struct GateState {
    total: Load,
    /// Only addresses with something open, so its size is bounded by the connections.
    addresses: HashMap<IpAddr, Load>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Load {
    connections: usize,
    handshakes: usize,
}

/// Why somebody may not come in. Close the connection without a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turned {
    /// The port is full.
    Connections,
    /// The address has its share.
    Address,
    /// Too many handshakes run.
    Handshakes,
}

impl Gate {
    /// A gate of a port with these limits.
    #[must_use]
    pub fn new(limits: PortLimits) -> Arc<Self> {
        Arc::new(Self { limits, state: Mutex::default() })
    }

    /// Lets one connection in, in its handshake, if there is room.
    ///
    /// # Errors
    /// [`Turned`]: there is none.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Pass, Turned> {
        let address = network_of(address);
        let mut state = self.lock();
        let here = state.addresses.get(&address).copied().unwrap_or_default();
        let limits = &self.limits;
        if state.total.connections >= limits.connections_max {
            return Err(Turned::Connections);
        }
        if here.connections >= limits.connections_per_address_max {
            return Err(Turned::Address);
        }
        if state.total.handshakes >= limits.handshakes_max
            || here.handshakes >= limits.handshakes_per_address_max
        {
            return Err(Turned::Handshakes);
        }
        state.change(address, |load| {
            load.connections += 1;
            load.handshakes += 1;
        });
        Ok(Pass { gate: self.clone(), address, shaking: true })
    }

    fn lock(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GateState {
    fn change(&mut self, address: IpAddr, change: impl Fn(&mut Load)) {
        change(&mut self.total);
        let load = self.addresses.entry(address).or_default();
        change(load);
        if *load == Load::default() {
            self.addresses.remove(&address);
        }
    }
}

/// The right to be connected; given back when dropped.
#[derive(Debug)]
pub struct Pass {
    gate: Arc<Gate>,
    address: IpAddr,
    shaking: bool,
}

impl Pass {
    /// Tells that the handshake is over and the connection goes on.
    pub fn handshake_over(&mut self) {
        if std::mem::take(&mut self.shaking) {
            self.gate.lock().change(self.address, |load| {
                load.handshakes = load.handshakes.saturating_sub(1);
            });
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.handshake_over();
        self.gate.lock().change(self.address, |load| {
            load.connections = load.connections.saturating_sub(1);
        });
    }
}

/// One IPv4 address, or the /64 that one IPv6 subscriber owns.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            std::net::Ipv6Addr::from(network).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> Arc<Gate> {
        Gate::new(PortLimits {
            connections_max: 4,
            connections_per_address_max: 3,
            handshakes_max: 3,
            handshakes_per_address_max: 2,
        })
    }

    #[test]
    fn each_limit_turns_away_and_passes_come_back() {
        let gate = gate();
        let (one, two) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let mut first = gate.enter(one).unwrap();
        let mut second = gate.enter(one).unwrap();
        assert_eq!(gate.enter(one).unwrap_err(), Turned::Handshakes);
        first.handshake_over();
        first.handshake_over();
        let third = gate.enter(one).unwrap();
        second.handshake_over();
        assert_eq!(gate.enter(one).unwrap_err(), Turned::Address);
        let fourth = gate.enter(two).unwrap();
        assert_eq!(gate.enter(two).unwrap_err(), Turned::Connections);
        drop((first, second, third, fourth));
        let state = gate.lock();
        assert_eq!(state.total, Load::default());
        assert!(state.addresses.is_empty());
    }

    #[test]
    fn one_ipv6_subscriber_is_one_address() {
        let near: IpAddr = "2001:db8::1".parse().unwrap();
        let same: IpAddr = "2001:db8::ffff:1".parse().unwrap();
        let other: IpAddr = "2001:db8:0:1::1".parse().unwrap();
        assert_eq!(network_of(near), network_of(same));
        assert_ne!(network_of(near), network_of(other));
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(network_of(mapped), IpAddr::from([10, 0, 0, 1]));
    }
}
