//! The operator's hand: money moved while the gateway runs, and who may ask for that
//! (protocol notes, wire 4.1 and chain 5.4: `/request/topup`, `charge`, `withdraw`, `close`).

use std::net::IpAddr;

use cocoon_openai::ApiError;
use cocoon_openai::fault::INVALID_REQUEST;
use cocoon_units::{Address, Nanoton};
use http::{HeaderMap, StatusCode, header};

use crate::failure::Refusal;
use crate::gateway::{Gateway, Reply};
use crate::pages;
use crate::route::percent_decoded;
use crate::upstream::Upstream;

/// What an operator wants done with the money at one proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MoneyOrder {
    /// What to do.
    pub act: MoneyAct,
    /// The proxy contract, or our own contract there.
    pub contract: Address,
    /// Only say what it would cost and bring.
    pub is_dry_run: bool,
}

/// What can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoneyAct {
    /// Add to the balance.
    TopUp(TopUp),
    /// Submit the proxy's signed total.
    Charge,
    /// Take back what exceeds the stake.
    Withdraw,
    /// Take everything back and close, for good.
    Close,
}

/// How much is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopUp {
    /// The network's least stake, as the reference does.
    Stake,
    /// So much. Asked for twice, it happens twice.
    By(Nanoton),
    /// As much as is missing until so much is paid in, in all. Asked for twice, it happens once.
    Until(Nanoton),
}

/// Why an order is not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoneyRefusal {
    /// There is no such contract here. Look at `/jsonstats` for those there are.
    #[error("{0}")]
    Unknown(String),
    /// It cannot be done as things are; the sentence says what to change.
    #[error("{0}")]
    Refused(String),
    /// Not now; ask again.
    #[error("{0}")]
    NotNow(String),
}

impl From<MoneyRefusal> for Refusal {
    fn from(refusal: MoneyRefusal) -> Refusal {
        let (status, code) = match &refusal {
            MoneyRefusal::Unknown(_) => (404, "unknown_contract"),
            MoneyRefusal::Refused(_) => (409, "money_refused"),
            MoneyRefusal::NotNow(_) => (503, "money_not_now"),
        };
        ApiError::new(status, INVALID_REQUEST, refusal.to_string()).with_code(code).into()
    }
}

/// The paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OperatorPath {
    TopUp,
    Charge,
    Withdraw,
    Close,
}

impl OperatorPath {
    pub(crate) fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/request/topup" => Self::TopUp,
            "/request/charge" => Self::Charge,
            "/request/withdraw" => Self::Withdraw,
            "/request/close" => Self::Close,
            _ => return None,
        })
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub(crate) peer: IpAddr,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) query: &'a str,
}

impl<U: Upstream> Gateway<U> {
    /// Carries out what an operator asks.
    pub(crate) async fn operate(
        &self,
        path: OperatorPath,
        asker: Asker<'_>,
    ) -> Result<Reply, Box<Refusal>> {
        self.is_operator(asker)?;
        let order = order(path, asker.query)
            .map_err(|(member, message)| Box::new(ApiError::invalid(member, message).into()))?;
        let done = self.upstream().operate(order).await.map_err(Refusal::from)?;
        Ok(pages::json(StatusCode::OK, done.to_string().into()))
    }

    /// Whether an access word is configured and stands in the query.
    pub(crate) fn has_access_word(&self, query: &str) -> bool {
        let word = self.config().http_access_hash.as_bytes();
        let shown = value(query, "access_hash").unwrap_or_default();
        !word.is_empty() && same(shown.as_bytes(), word)
    }

    /// The access word opens, from anywhere. Without one configured, only programs of this machine
    /// may, and only where nobody else's requests can look as if they came from it.
    fn is_operator(&self, asker: Asker<'_>) -> Result<(), Box<Refusal>> {
        let config = self.config();
        let refuse = |message: &str| {
            let error = ApiError::new(403, "permission_error", message);
            Err(Box::new(Refusal::from(error.with_code("operator_only"))))
        };
        if !config.http_access_hash.is_empty() {
            return match self.has_access_word(asker.query) {
                true => Ok(()),
                false => refuse("The access word (?access_hash=) is missing or wrong."),
            };
        }
        let is_shared = config.keys_required() || config.behind_trusted_proxy;
        if is_shared || asker.headers.contains_key(header::ORIGIN) || !asker.peer.is_loopback() {
            return refuse(
                "Only the operator moves money: set `http_access_hash` and ask with it, or ask from \
                 a program on the gateway's own machine.",
            );
        }
        Ok(())
    }
}

fn order(path: OperatorPath, query: &str) -> Result<MoneyOrder, (&'static str, String)> {
    let proxy = value(query, "proxy").ok_or(("proxy", "Say ?proxy=ADDRESS.".to_owned()))?;
    let contract = Address::parse(&proxy).map_err(|fault| ("proxy", fault.to_string()))?;
    let amount = |name: &'static str| {
        let text = value(query, name);
        let read = text.map(|text| Nanoton::parse(&text)).transpose();
        read.map_err(|fault| (name, fault.to_string()))
    };
    let act = match path {
        OperatorPath::TopUp => MoneyAct::TopUp(match (amount("amount")?, amount("until")?) {
            (None, None) => TopUp::Stake,
            (Some(by), None) => TopUp::By(by),
            (None, Some(until)) => TopUp::Until(until),
            (Some(_), Some(_)) => {
                return Err(("until", "Say either amount= or until=, not both.".to_owned()));
            }
        }),
        OperatorPath::Charge => MoneyAct::Charge,
        OperatorPath::Withdraw => MoneyAct::Withdraw,
        OperatorPath::Close => MoneyAct::Close,
    };
    let is_dry_run = match value(query, "dry_run").as_deref() {
        None | Some("no") => false,
        Some("yes") => true,
        Some(_) => return Err(("dry_run", "Say dry_run=yes or leave it out.".to_owned())),
    };
    Ok(MoneyOrder { act, contract, is_dry_run })
}

/// A value of the query. A plus sign stays one: addresses in Base64 hold it.
fn value(query: &str, name: &str) -> Option<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let found = pairs.into_iter().find(|(key, _)| *key == name)?;
    percent_decoded(found.1)
}

/// Compares without telling by its time how much fits.
fn same(shown: &[u8], wanted: &[u8]) -> bool {
    let differs = shown.iter().zip(wanted).fold(0, |sum, (a, b)| sum | (a ^ b));
    shown.len() == wanted.len() && differs == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read() {
        let raw = "0%3A0303030303030303030303030303030303030303030303030303030303030303";
        let read = |path, more: &str| order(path, &format!("proxy={raw}{more}"));
        let topped = read(OperatorPath::TopUp, "&amount=1.5").unwrap();
        assert_eq!(topped.act, MoneyAct::TopUp(TopUp::By(Nanoton(1_500_000_000))));
        assert_eq!((topped.contract, topped.is_dry_run), (Address::new(0, [3; 32]), false));
        let until = read(OperatorPath::TopUp, "&until=2&dry_run=yes").unwrap();
        assert_eq!(until.act, MoneyAct::TopUp(TopUp::Until(Nanoton(2_000_000_000))));
        assert!(until.is_dry_run);
        assert_eq!(read(OperatorPath::TopUp, "").unwrap().act, MoneyAct::TopUp(TopUp::Stake));
        for (more, member) in
            [("&amount=x", "amount"), ("&amount=1&until=2", "until"), ("&dry_run=1", "dry_run")]
        {
            assert_eq!(read(OperatorPath::TopUp, more).unwrap_err().0, member);
        }
        assert_eq!(order(OperatorPath::Close, "proxy=moon").unwrap_err().0, "proxy");
        assert_eq!(order(OperatorPath::Close, "").unwrap_err().0, "proxy");
    }
}
