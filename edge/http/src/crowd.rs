//! Who may be connected to a port: so many in all, so many of one address, and always somebody new.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::work::Work;

/// How many may be connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrowdLimits {
    /// Connections in all.
    pub connections_max: usize,
    /// Connections of one address (of one /64 of IPv6).
    pub per_address_max: usize,
    /// A user who has kept a request waiting for so long may be given up for somebody new.
    pub slow_after: Duration,
}

/// The connections of one port.
///
/// When the port or an address has all it may have, the connection that keeps nobody but its own user
/// waiting is given up for the new one: of the address with the most connections the one whose last
/// request ended first. So strangers that hold a port full displace each other and nobody else.
#[derive(Debug)]
pub struct Crowd {
    limits: CrowdLimits,
    turn: Arc<AtomicU64>,
    guests: Mutex<Guests>,
}

#[derive(Debug, Default)]
struct Guests {
    next: u64,
    all: BTreeMap<u64, Guest>,
    /// Connections of each address that were not given up. Only addresses that have some.
    shares: HashMap<Option<IpAddr>, usize>,
    /// Those given up whose tasks have not ended yet.
    leaving: usize,
}

#[derive(Debug)]
struct Guest {
    share: Option<IpAddr>,
    work: Work,
    is_leaving: bool,
}

/// Nobody can be given up: all connections are being served. Close the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all connections of the port are being served")]
pub struct Full;

impl Crowd {
    /// An empty port.
    #[must_use]
    pub fn new(limits: CrowdLimits) -> Arc<Crowd> {
        Arc::new(Crowd { limits, turn: Arc::default(), guests: Mutex::default() })
    }

    /// Lets a connection in, and gives up another one for it when there is no room. `None` is an
    /// address without a share of its own, as this machine's.
    ///
    /// # Errors
    /// [`Full`]: close the connection.
    pub fn enter(self: &Arc<Self>, address: Option<IpAddr>) -> Result<Seat, Full> {
        let share = address.map(network_of);
        let mut guests = self.guests();
        let here = guests.shares.get(&share).copied().unwrap_or_default();
        let is_whole_share = share.is_some() && here >= self.limits.per_address_max;
        if is_whole_share {
            guests.give_up(self.limits.slow_after, |guest| guest.share == share)?;
        } else if guests.staying() >= self.limits.connections_max {
            // Tasks that were given up end at once; a flood must not outrun them.
            if guests.leaving >= self.limits.connections_max {
                return Err(Full);
            }
            guests.give_up(self.limits.slow_after, |_| true)?;
        }
        let (id, work) = (guests.next, Work::begun_at(&self.turn));
        guests.next += 1;
        *guests.shares.entry(share).or_default() += 1;
        guests.all.insert(id, Guest { share, work: work.clone(), is_leaving: false });
        Ok(Seat { crowd: self.clone(), id, work })
    }

    fn guests(&self) -> MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guests {
    fn staying(&self) -> usize {
        self.all.len().saturating_sub(self.leaving)
    }

    fn give_up(
        &mut self,
        slow_after: Duration,
        is_candidate: impl Fn(&Guest) -> bool,
    ) -> Result<(), Full> {
        let shares = &self.shares;
        let weight = |guest: &Guest| shares.get(&guest.share).copied().unwrap_or_default();
        let candidates = self.all.values_mut().filter(|guest| {
            !guest.is_leaving && is_candidate(guest) && guest.work.can_be_given_up(slow_after)
        });
        let first = candidates.max_by_key(|guest| (weight(guest), u64::MAX - guest.work.last()));
        let guest = first.ok_or(Full)?;
        guest.is_leaving = true;
        guest.work.give_up();
        let share = guest.share;
        self.leaving += 1;
        self.leave(share);
        Ok(())
    }

    fn leave(&mut self, share: Option<IpAddr>) {
        if let Some(count) = self.shares.get_mut(&share) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.shares.remove(&share);
            }
        }
    }
}

/// The right to be connected; given back when dropped.
#[derive(Debug)]
pub struct Seat {
    crowd: Arc<Crowd>,
    id: u64,
    work: Work,
}

impl Seat {
    /// What the connection is doing: tell it of every request.
    #[must_use]
    pub fn work(&self) -> &Work {
        &self.work
    }

    /// Waits until somebody new gets this place: close the connection. For one task at a time.
    pub async fn given_up(&self) {
        self.work.given_up().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut guests = self.crowd.guests();
        let Some(guest) = guests.all.remove(&self.id) else { return };
        if guest.is_leaving {
            guests.leaving = guests.leaving.saturating_sub(1);
        } else {
            guests.leave(guest.share);
        }
    }
}

/// One IPv4 address, or the /64 that one IPv6 subscriber owns (RFC 6177).
#[must_use]
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;

    fn crowd(connections_max: usize, per_address_max: usize) -> Arc<Crowd> {
        let slow_after = Duration::ZERO;
        Crowd::new(CrowdLimits { connections_max, per_address_max, slow_after })
    }

    fn ip(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, last]))
    }

    fn is_given_up(crowd: &Crowd, seat: &Seat) -> bool {
        crowd.guests().all.get(&seat.id).is_none_or(|guest| guest.is_leaving)
    }

    #[test]
    fn the_one_whose_last_request_ended_first_goes() {
        let crowd = crowd(2, 2);
        let (old, new) = (crowd.enter(None).unwrap(), crowd.enter(None).unwrap());
        drop(old.work().begin());
        let _newest = crowd.enter(None).unwrap();
        assert!(is_given_up(&crowd, &new) && !is_given_up(&crowd, &old));
    }

    #[test]
    fn whoever_is_served_stays_and_whoever_keeps_us_waiting_does_not() {
        let crowd = crowd(1, 1);
        let first = crowd.enter(None).unwrap();
        let answer = first.work().begin();
        assert_eq!(crowd.enter(None).unwrap_err(), Full);
        let waits = first.work().wait_for_peer();
        drop(crowd.enter(None).unwrap());
        assert!(is_given_up(&crowd, &first));
        drop((waits, answer, first));
        assert!(crowd.guests().all.is_empty() && crowd.guests().leaving == 0);
    }

    #[test]
    fn a_slow_user_has_its_time() {
        let limits = CrowdLimits {
            connections_max: 1,
            per_address_max: 1,
            slow_after: Duration::from_secs(3600),
        };
        let crowd = Crowd::new(limits);
        let first = crowd.enter(None).unwrap();
        let _waits = first.work().wait_for_peer();
        assert_eq!(
            crowd.enter(None).unwrap_err(),
            Full,
            "not even without a request: it is written"
        );
    }

    #[test]
    fn the_address_with_the_most_gives_way() {
        let crowd = crowd(4, 3);
        let lonely = crowd.enter(ip(1)).unwrap();
        let many: Vec<Seat> = (0..3).map(|_| crowd.enter(ip(2)).unwrap()).collect();
        let _new = crowd.enter(ip(3)).unwrap();
        assert!(!is_given_up(&crowd, &lonely) && is_given_up(&crowd, &many[0]));
        // Above its share an address displaces itself, even where others are older.
        let _more = (crowd.enter(ip(2)), crowd.enter(ip(2)));
        assert!(!is_given_up(&crowd, &lonely) && is_given_up(&crowd, &many[1]));
    }

    #[test]
    fn a_whole_network_of_ipv6_is_one_user() {
        let six = |text: &str| network_of(text.parse().unwrap());
        assert_eq!(six("2001:db8::1"), six("2001:db8::2"));
        assert_ne!(six("2001:db8::1"), six("2001:db8:0:1::1"));
        assert_eq!(six("::ffff:192.0.2.1"), IpAddr::from([192, 0, 2, 1]));
    }

    proptest! {
        /// Whatever comes and goes: the limits hold, somebody who came alone from an address is let in
        /// unless everybody is served, and the counts are right.
        #[test]
        fn limits_hold(steps in prop::collection::vec((0u8..5, 0u8..6, any::<prop::sample::Index>()), 0..200)) {
            let crowd = crowd(6, 3);
            let mut seats: Vec<(Seat, Option<crate::WorkGuard>)> = Vec::new();
            for (what, address, which) in steps {
                let place = (!seats.is_empty()).then(|| which.index(seats.len()));
                match (what, place) {
                    (0..=2, _) => {
                        let address = (address > 0).then(|| ip(address)).flatten();
                        let all_served = seats.iter().all(|(seat, answer)| answer.is_some() || is_given_up(&crowd, seat));
                        match crowd.enter(address) {
                            Ok(seat) => seats.push((seat, None)),
                            Err(Full) => {
                                let full = crowd.guests().leaving >= 6;
                                let own = crowd.guests().shares.get(&address).copied().unwrap_or(0);
                                prop_assert!(all_served || full || own >= 3);
                            }
                        }
                    }
                    (3, Some(place)) => drop(seats.swap_remove(place)),
                    (4, Some(place)) => {
                        let (seat, answer) = &mut seats[place];
                        *answer = answer.is_none().then(|| seat.work().begin());
                    }
                    _ => {}
                }
                let guests = crowd.guests();
                prop_assert!(guests.staying() <= 6);
                prop_assert_eq!(guests.all.len(), seats.len());
                prop_assert_eq!(guests.shares.values().sum::<usize>(), guests.staying());
                let shared = guests.shares.iter().filter(|(share, _)| share.is_some());
                prop_assert!(shared.map(|(_, count)| *count).max().unwrap_or(0) <= 3);
            }
        }
    }
}
