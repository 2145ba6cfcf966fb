//! Limits for each address that users come from, so that one of them cannot crowd out the others.
//!
//! Loopback is the operator's own machine and has none, unless a reverse proxy stands there: then
//! the address is the one that the proxy names in `X-Forwarded-For`.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cocoon_http::network_of;
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
    requests_per_minute: u32,
    behind_proxy: bool,
    trusted_proxies: Vec<IpAddr>,
    table: Mutex<HashMap<IpAddr, Pace>>,
}

/// Only the reverse proxy may connect, and this is another machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotTheProxy;

impl Addresses {
    pub(crate) fn new(config: &GatewayConfig) -> Addresses {
        Addresses {
            requests_per_minute: config.limits.requests_per_minute_per_address,
            behind_proxy: config.behind_trusted_proxy,
            trusted_proxies: config.trusted_proxies.iter().map(IpAddr::to_canonical).collect(),
            table: Mutex::default(),
        }
    }

    fn table(&self) -> MutexGuard<'_, HashMap<IpAddr, Pace>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The address whose share of the connections a new one is; `None` for those without a share.
    pub(crate) fn share_of(&self, peer: IpAddr) -> Result<Option<IpAddr>, NotTheProxy> {
        let peer = peer.to_canonical();
        let known = self.trusted_proxies.is_empty() || self.trusted_proxies.contains(&peer);
        if self.behind_proxy && !known {
            return Err(NotTheProxy);
        }
        Ok((!self.behind_proxy && !peer.is_loopback()).then_some(peer))
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
        self.pace(&mut table, network_of(address)).take(self.requests_per_minute, now).map_err(
            |wait| {
                let message = format!(
                    "This gateway takes {} requests a minute from one address.",
                    self.requests_per_minute
                );
                let error = ApiError::new(429, "rate_limit_error", message);
                let refusal = Refusal::from(error.with_code("address_rate_limit"));
                Box::new(Refusal { retry_after: Some(wait), ..refusal })
            },
        )
    }

    /// Forgets addresses whose allowance is whole again.
    pub(crate) fn forget_idle(&self, now: Instant) {
        self.table().retain(|_, pace| pace.idle(now) < Duration::from_secs(60));
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

    fn pace<'a>(&self, table: &'a mut HashMap<IpAddr, Pace>, address: IpAddr) -> &'a mut Pace {
        let room = table.len() < REMEMBERED_MAX || table.contains_key(&address);
        let fresh = || Pace::new(self.requests_per_minute, Instant::now());
        table.entry(if room { address } else { OTHERS }).or_insert_with(fresh)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::HeaderValue;

    use super::*;

    fn addresses(change: impl FnOnce(&mut GatewayConfig)) -> Arc<Addresses> {
        let mut config = GatewayConfig::default();
        config.limits.requests_per_minute_per_address = 2;
        change(&mut config);
        Arc::new(Addresses::new(&config))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn everybody_but_this_machine_has_a_share() {
        let addresses = addresses(|_| {});
        let mapped = addresses.share_of(ip("::ffff:192.0.2.1"));
        assert_eq!(mapped, Ok(Some(ip("192.0.2.1"))));
        assert_eq!(addresses.share_of(ip("::ffff:127.0.0.1")), Ok(None));
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
        assert_eq!(addresses.share_of(ip("10.0.0.2")), Err(NotTheProxy));
        assert_eq!(addresses.share_of(ip("10.0.0.1")), Ok(None));
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
