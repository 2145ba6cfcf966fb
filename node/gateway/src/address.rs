//! Limits for each address that users come from, so that one of them cannot crowd out the others.
//!
//! Loopback is the operator's own machine and has none, unless a reverse proxy stands there: then
//! the address is the one that the proxy names in `X-Forwarded-For`.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cocoon_openai::ApiError;
use http::HeaderMap;

use crate::config::GatewayConfig;
use crate::failure::Refusal;
use crate::pace::Pace;

/// Most addresses that are remembered; further ones share one account.
const REMEMBERED_MAX: usize = 65_536;

/// The account of addresses beyond that.
const OTHERS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// What each address uses now.
#[derive(Debug)]
pub(crate) struct Addresses {
    connections_max: usize,
    requests_per_minute: u32,
    behind_proxy: bool,
    trusted_proxies: Vec<IpAddr>,
    table: Mutex<HashMap<IpAddr, Account>>,
}

#[derive(Debug)]
struct Account {
    connections: usize,
    pace: Pace,
}

/// Why a connection is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unwelcome {
    /// The address has all the connections it may have.
    TooMany,
    /// Only the reverse proxy may connect, and this is another machine.
    NotTheProxy,
}

/// Counts a connection until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    addresses: Arc<Addresses>,
    address: Option<IpAddr>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        if let Some(account) = self.addresses.table().get_mut(&address) {
            account.connections = account.connections.saturating_sub(1);
        }
    }
}

impl Addresses {
    pub(crate) fn new(config: &GatewayConfig) -> Addresses {
        Addresses {
            connections_max: config.limits.connections_per_address,
            requests_per_minute: config.limits.requests_per_minute_per_address,
            behind_proxy: config.behind_trusted_proxy,
            trusted_proxies: config.trusted_proxies.iter().map(IpAddr::to_canonical).collect(),
            table: Mutex::default(),
        }
    }

    fn table(&self) -> MutexGuard<'_, HashMap<IpAddr, Account>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a new connection.
    pub(crate) fn connect(self: &Arc<Self>, peer: IpAddr) -> Result<Place, Unwelcome> {
        let peer = peer.to_canonical();
        let known = self.trusted_proxies.is_empty() || self.trusted_proxies.contains(&peer);
        if self.behind_proxy && !known {
            return Err(Unwelcome::NotTheProxy);
        }
        if self.behind_proxy || peer.is_loopback() || self.connections_max == 0 {
            return Ok(Place { addresses: self.clone(), address: None });
        }
        let address = account_of(peer);
        let mut table = self.table();
        let (address, account) = self.account(&mut table, address);
        if account.connections >= self.connections_max {
            return Err(Unwelcome::TooMany);
        }
        account.connections += 1;
        drop(table);
        Ok(Place { addresses: self.clone(), address: Some(address) })
    }

    /// Takes one request from the allowance of the address it comes from.
    ///
    /// # Errors
    /// A 429 with the time when the next one may come.
    pub(crate) fn admit(
        &self,
        peer: IpAddr,
        headers: &HeaderMap,
        now: Instant,
    ) -> Result<(), Box<Refusal>> {
        if self.requests_per_minute == 0 {
            return Ok(());
        }
        let Some(address) = self.user(peer, headers) else { return Ok(()) };
        let mut table = self.table();
        let (_, account) = self.account(&mut table, account_of(address));
        account.pace.take(self.requests_per_minute, now).map_err(|wait| {
            let message = format!(
                "This gateway takes {} requests a minute from one address.",
                self.requests_per_minute
            );
            let error = ApiError::new(429, "rate_limit_error", message);
            let refusal = Refusal::from(error.with_code("address_rate_limit"));
            Box::new(Refusal { retry_after: Some(wait), ..refusal })
        })
    }

    /// Forgets addresses without connections whose allowance is whole again.
    pub(crate) fn forget_idle(&self, now: Instant) {
        self.table().retain(|_, account| {
            account.connections > 0 || account.pace.idle(now) < Duration::from_secs(60)
        });
    }

    /// Whose request this is; `None` for those without limits.
    fn user(&self, peer: IpAddr, headers: &HeaderMap) -> Option<IpAddr> {
        if !self.behind_proxy {
            return (!peer.is_loopback()).then_some(peer);
        }
        // The last entry is the one that the trusted proxy itself wrote; a user may have sent
        // those before it.
        let last = headers.get_all("x-forwarded-for").iter().next_back()?;
        let last = last.to_str().ok()?.rsplit(',').next()?.trim();
        last.parse().ok()
    }

    fn account<'a>(
        &self,
        table: &'a mut HashMap<IpAddr, Account>,
        address: IpAddr,
    ) -> (IpAddr, &'a mut Account) {
        let room = table.len() < REMEMBERED_MAX || table.contains_key(&address);
        let address = if room { address } else { OTHERS };
        let fresh = || Account {
            connections: 0,
            pace: Pace::new(self.requests_per_minute, Instant::now()),
        };
        (address, table.entry(address).or_insert_with(fresh))
    }
}

/// A whole /64 of IPv6 is one user's (RFC 6177).
fn account_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => {
            let network = u128::from(six) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
        four => four,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn addresses(change: impl FnOnce(&mut GatewayConfig)) -> Arc<Addresses> {
        let mut config = GatewayConfig::default();
        config.limits.connections_per_address = 2;
        config.limits.requests_per_minute_per_address = 2;
        change(&mut config);
        Arc::new(Addresses::new(&config))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_address_has_its_own_connections() {
        let addresses = addresses(|_| {});
        let first = addresses.connect(ip("192.0.2.1")).unwrap();
        let _second = addresses.connect(ip("::ffff:192.0.2.1")).unwrap();
        assert_eq!(addresses.connect(ip("192.0.2.1")).unwrap_err(), Unwelcome::TooMany);
        assert!(addresses.connect(ip("192.0.2.2")).is_ok());
        let kept: Vec<_> = (0..9).map(|_| addresses.connect(ip("127.0.0.1")).unwrap()).collect();
        drop((first, kept));
        assert!(addresses.connect(ip("192.0.2.1")).is_ok());
        let _six = (
            addresses.connect(ip("2001:db8::1")).unwrap(),
            addresses.connect(ip("2001:db8::2")).unwrap(),
        );
        assert!(addresses.connect(ip("2001:db8::3")).is_err(), "one network, one user");
        assert!(addresses.connect(ip("2001:db8:0:1::3")).is_ok());
    }

    #[test]
    fn requests_are_paced_and_idle_addresses_forgotten() {
        let addresses = addresses(|_| {});
        let (none, now) = (HeaderMap::new(), Instant::now());
        let user = ip("192.0.2.1");
        assert!(addresses.admit(user, &none, now).is_ok());
        assert!(addresses.admit(user, &none, now).is_ok());
        let refusal = addresses.admit(user, &none, now).unwrap_err();
        assert_eq!((refusal.error.status, refusal.retry_after.is_some()), (429, true));
        assert!(addresses.admit(ip("192.0.2.9"), &none, now).is_ok());
        assert!((0..9).all(|_| addresses.admit(ip("::1"), &none, now).is_ok()));
        addresses.forget_idle(now);
        assert_eq!(addresses.table().len(), 2);
        addresses.forget_idle(now + Duration::from_secs(61));
        assert!(addresses.table().is_empty());
    }

    #[test]
    fn behind_a_proxy_its_last_word_counts() {
        let addresses = addresses(|config| {
            config.behind_trusted_proxy = true;
            config.trusted_proxies = vec![ip("10.0.0.1")];
        });
        assert_eq!(addresses.connect(ip("10.0.0.2")).unwrap_err(), Unwelcome::NotTheProxy);
        let _many: Vec<_> = (0..9).map(|_| addresses.connect(ip("10.0.0.1")).unwrap()).collect();
        let now = Instant::now();
        let from = |text: &'static str| {
            let value = HeaderValue::from_static(text);
            HeaderMap::from_iter([(http::HeaderName::from_static("x-forwarded-for"), value)])
        };
        let asked = |headers: &HeaderMap| addresses.admit(ip("10.0.0.1"), headers, now).is_ok();
        assert!(asked(&from("203.0.113.7, 192.0.2.1")) && asked(&from("192.0.2.1")));
        assert!(!asked(&from("198.51.100.1, 192.0.2.1")), "what the user wrote counts nothing");
        assert!(asked(&from("192.0.2.2")));
        assert!(asked(&from("nonsense")) && asked(&HeaderMap::new()));
    }
}
