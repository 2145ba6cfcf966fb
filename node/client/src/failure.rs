//! From a node's words to a reason that a user understands.

use cocoon_gateway::{InferenceRequest, UpstreamError};
use cocoon_role_client::Refused;
use cocoon_units::{Coefficient, Nanoton};
use std::time::Duration;

/// Code of a request that a worker's own check refused.
pub(crate) const REFUSED_BY_WORKER: &str = "refused_by_worker";
/// When to try again after "all busy".
const BUSY_RETRY: Duration = Duration::from_secs(1);
/// When to try again after "nobody is there".
const AWAY_RETRY: Duration = Duration::from_secs(5);

/// What is known of the request that failed.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) model: String,
    pub(crate) max_coefficient: Coefficient,
    pub(crate) timeout: Duration,
    /// Price of a token, to tell balances in TON.
    pub(crate) price: Nanoton,
}

impl Asked {
    /// What is known of this request, at the network's price of a token.
    pub(crate) fn of(request: &InferenceRequest, price: Nanoton) -> Self {
        let (max_coefficient, timeout) = (request.max_coefficient, request.timeout);
        Self { model: request.model.clone(), max_coefficient, timeout, price }
    }
}

/// Reads code and text of proxies and workers of both lines (protocol notes, wire 3.6, 3.8, 4.5).
/// The texts are the only way to tell most reasons apart.
pub(crate) fn reason(refused: &Refused, asked: &Asked, offered: &[String]) -> UpstreamError {
    let text = refused.message.as_str();
    let model = || asked.model.clone();
    match refused.code {
        652 => UpstreamError::Timeout { after: asked.timeout },
        653 => UpstreamError::WorkerLost { reason: "cancelled".into() },
        621 if text.starts_with("unknown model") => {
            UpstreamError::UnknownModel { model: model(), offered: offered.to_vec() }
        }
        651 if text.starts_with("no workers for model") => {
            UpstreamError::NoWorker { model: model(), retry_after: AWAY_RETRY }
        }
        651 if text.contains("coefficient=") => UpstreamError::TooExpensive {
            cheapest: Coefficient::clamped(number_after(text, "coefficient=").unwrap_or(0)),
            cap: asked.max_coefficient,
        },
        602 | 651 if text.contains("balance is too low") => no_money(text, asked),
        651 if text.contains("closing") || away(refused) => {
            UpstreamError::NoProxy { retry_after: AWAY_RETRY }
        }
        651 => UpstreamError::Busy { retry_after: BUSY_RETRY },
        602 if text.contains("too many active queries") => {
            UpstreamError::Busy { retry_after: BUSY_RETRY }
        }
        621 => UpstreamError::BadRequest {
            message: format!(
                "The worker that took the request refuses it: {text}. Its model server or its \
                 version of the network's software sets this limit."
            ),
            param: None,
            code: Some(REFUSED_BY_WORKER.into()),
        },
        _ => UpstreamError::WorkerLost { reason: text.chars().take(200).collect() },
    }
}

/// Whether the proxy as a whole takes nothing now: it refused before it began anything, so that
/// another proxy may be asked (protocol notes, wire 3.6 row 5).
pub(crate) fn away(refused: &Refused) -> bool {
    let states = [
        "proxy is shutting down",
        "proxy is disabled",
        "proxy is starting",
        "proxy has stopped",
        "proxy cannot write its journal",
    ];
    refused.code == 651 && states.iter().any(|state| refused.message.starts_with(state))
}

fn no_money(text: &str, asked: &Asked) -> UpstreamError {
    let tokens = |name| u64::try_from(number_after(text, name).unwrap_or(0)).unwrap_or(0);
    let price = asked.price.0;
    let needed = tokens("to_reserve=").max(tokens("max_tokens="));
    let payed = tokens("tokens_payed=").min(tokens("tokens_stake=").max(1));
    let gone = tokens("tokens_used=").saturating_add(tokens("tokens_reserved="));
    let available = tokens("available=").max(payed.saturating_sub(gone));
    UpstreamError::NoMoney {
        needed: Nanoton(needed.saturating_mul(price)),
        available: Nanoton(available.saturating_mul(price)),
    }
}

fn number_after(text: &str, name: &str) -> Option<i64> {
    let rest = &text[text.find(name)? + name.len()..];
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(rest.len());
    rest[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: i32, message: &str) -> UpstreamError {
        let asked = Asked {
            model: "m".into(),
            max_coefficient: Coefficient::ONE,
            timeout: Duration::from_secs(7),
            price: Nanoton(20),
        };
        reason(&Refused { code, message: message.into() }, &asked, &["other".into()])
    }

    #[test]
    fn every_known_refusal_has_its_reason() {
        use UpstreamError as E;
        assert!(matches!(of(621, "unknown model m"), E::UnknownModel { .. }));
        assert!(matches!(of(651, "no workers for model m"), E::NoWorker { .. }));
        assert!(matches!(of(651, "no ready workers for modelm"), E::Busy { .. }));
        let E::TooExpensive { cheapest, .. } = of(651, "can run this query with coefficient=1500")
        else {
            panic!("not too expensive")
        };
        assert_eq!(cheapest.milli(), 1500);
        let text = "client balance is too low: max_tokens=10 tokens_payed=9 tokens_used=5 \
                    tokens_reserved=1 tokens_stake=8";
        let E::NoMoney { needed, available } = of(602, text) else { panic!("not money") };
        assert_eq!((needed, available), (Nanoton(200), Nanoton(40)));
        for away in ["proxy is shutting down", "proxy cannot write its journal, try again later"] {
            assert!(matches!(of(651, away), E::NoProxy { .. }), "{away}");
        }
        assert!(matches!(of(652, "timeout in proxy"), E::Timeout { .. }));
        assert!(matches!(of(621, "worker: invalid http request: x"), E::BadRequest { .. }));
        assert!(matches!(of(602, "too many active queries"), E::Busy { .. }));
        assert!(matches!(of(602, "worker: http failed: x"), E::WorkerLost { .. }));
    }
}
