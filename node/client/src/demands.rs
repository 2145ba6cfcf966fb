//! What a user demands of the machines, held against what they showed.

use cocoon_attest::{Digest32, PeerEvidence};
use cocoon_gateway::UpstreamError;
use cocoon_gateway::upstream::Wishes;
use cocoon_proof::{Examination, Requirement, Standing};

/// Kinds of trusted environment that can be demanded; `tee` is any real one.
const KINDS: [&str; 4] = ["tdx", "sev-snp", "simulated", "tee"];
/// Claims that only workers make.
const WORKERS_OWN: [&str; 4] = ["gpu", "weights", "network", "receipt_key"];

/// The demands of one request. Each is about the proxy, the worker or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Demands {
    kinds: Vec<&'static str>,
    proxy: Vec<Requirement>,
    worker: Vec<Requirement>,
}

/// What a machine showed, judged once.
#[derive(Clone, Debug)]
pub(crate) struct Judged {
    pub(crate) found: Examination,
    /// One of [`KINDS`], or empty when its evidence does not hold.
    pub(crate) kind: &'static str,
    /// Key that signs its receipts; a worker's only.
    pub(crate) key: Option<Digest32>,
    /// Full name of its model; a worker's only.
    pub(crate) model: String,
    /// When it has to be asked again, on the node's steady clock.
    pub(crate) until_ms: u64,
}

impl Demands {
    /// Reads the demands of a request; nothing when it has none.
    ///
    /// # Errors
    /// [`UpstreamError::BadRequest`] names a word that is no kind and no claim.
    pub(crate) fn read(wishes: &Wishes) -> Result<Option<Self>, UpstreamError> {
        let (mut kinds, mut proxy, mut worker) = (Vec::new(), Vec::new(), Vec::new());
        for word in &wishes.tee_kinds {
            let word = if word == "snp" { "sev-snp" } else { word.as_str() };
            let Some(kind) = KINDS.into_iter().find(|kind| *kind == word) else {
                let text =
                    format!("'{word}' is no kind of machine; known are {}", KINDS.join(", "));
                return Err(refusal("tee", text));
            };
            kinds.push(kind);
        }
        for word in &wishes.verdicts {
            let wanted: Requirement = word.parse().map_err(|fault| refusal("verdicts", fault))?;
            if !wanted.is_about_machines() {
                let text = format!("'{word}' is no claim about a proxy or a worker");
                return Err(refusal("verdicts", text));
            }
            match wanted.subject.as_deref() {
                Some("proxy") => proxy.push(wanted),
                Some("worker") => worker.push(wanted),
                _ => {
                    if !WORKERS_OWN.contains(&wanted.claim.as_str()) {
                        proxy.push(wanted.clone());
                    }
                    worker.push(wanted);
                }
            }
        }
        let any = !kinds.is_empty() || !proxy.is_empty() || !worker.is_empty();
        Ok(any.then_some(Self { kinds, proxy, worker }))
    }

    /// Why a proxy that showed this must not carry the request.
    pub(crate) fn against_proxy(&self, judged: &Judged) -> Option<Objection> {
        self.against(&self.proxy, judged)
    }

    /// Why a worker that showed this must not get the request.
    pub(crate) fn against_worker(&self, judged: &Judged) -> Option<Objection> {
        self.against(&self.worker, judged)
    }

    fn against(&self, required: &[Requirement], judged: &Judged) -> Option<Objection> {
        let accepts = |kind: &&str| {
            *kind == judged.kind || (*kind == "tee" && ["tdx", "sev-snp"].contains(&judged.kind))
        };
        if !self.kinds.is_empty() && !self.kinds.iter().any(accepts) {
            let shown = if judged.kind.is_empty() { "no TEE" } else { judged.kind };
            let wanted = self.kinds.join(" or ");
            return Some(Objection {
                param: "tee",
                text: format!("{wanted} is demanded, shown is {shown}"),
            });
        }
        let text = judged.found.objections(required).into_iter().next()?;
        Some(Objection { param: "verdicts", text })
    }
}

/// Why a machine does not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Objection {
    /// The wish that it does not meet.
    pub(crate) param: &'static str,
    /// In plain words.
    pub(crate) text: String,
}

/// The kind of machine whose evidence this is. `network` is what this node's own configuration
/// says of the network: simulated machines show the formats of real ones.
pub(crate) fn kind(evidence: &PeerEvidence, found: &Examination, network: &str) -> &'static str {
    let genuine =
        found.claims.iter().any(|line| line.claim == "hardware" && line.verdict == Standing::Holds);
    match (genuine, network, &evidence.tdx_quote, &evidence.sev_report) {
        (true, "simulated", ..) => "simulated",
        (true, _, Some(_), None) => "tdx",
        (true, _, None, Some(_)) => "sev-snp",
        _ => "",
    }
}

/// A request that was not sent, since a demand does not hold.
pub(crate) fn refusal(param: &str, why: impl std::fmt::Display) -> UpstreamError {
    UpstreamError::BadRequest {
        message: format!("A demand of the request is not met: {why}. Nothing was sent."),
        param: Some(param.into()),
        code: Some("demand_not_met".into()),
    }
}

/// The refusal of a request that demands a receipt from a proxy that carries none.
pub(crate) fn no_receipt() -> UpstreamError {
    refusal("receipt", "the proxy carries no receipts")
}

#[cfg(test)]
mod tests {
    use super::*;
    use cocoon_proof::ClaimLine;

    fn wishes(tee: &[&str], verdicts: &[&str]) -> Wishes {
        let texts = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        Wishes { tee_kinds: texts(tee), verdicts: texts(verdicts), ..Wishes::default() }
    }

    fn judged(kind: &'static str, claims: &[(&str, Standing)]) -> Judged {
        let line = |(claim, verdict): &(&str, Standing)| ClaimLine {
            subject: "worker 1".into(),
            claim: (*claim).into(),
            verdict: *verdict,
            source: String::new(),
            age_ms: None,
            reason: "so".into(),
        };
        let claims = claims.iter().map(line).collect();
        Judged {
            found: Examination { judged_at_ms: 0, claims, events: Vec::new() },
            kind,
            key: None,
            model: String::new(),
            until_ms: 0,
        }
    }

    #[test]
    fn words_that_nobody_knows_are_refused_and_none_demand_nothing() {
        assert_eq!(Demands::read(&wishes(&[], &[])).unwrap(), None);
        for (tee, verdicts) in
            [(vec!["sgx"], vec![]), (vec![], vec!["nice"]), (vec![], vec!["price"])]
        {
            let refused = Demands::read(&wishes(&tee, &verdicts)).unwrap_err();
            assert!(matches!(refused, UpstreamError::BadRequest { .. }), "{refused}");
        }
    }

    #[test]
    fn only_what_holds_is_accepted() {
        let demands = Demands::read(&wishes(&["tdx"], &["gpu"])).unwrap().unwrap();
        let worker = |kind, gpu| demands.against_worker(&judged(kind, &[("gpu", gpu)]));
        assert_eq!(worker("tdx", Standing::Holds), None);
        assert_eq!(worker("simulated", Standing::Holds).unwrap().param, "tee");
        assert_eq!(worker("", Standing::Holds).unwrap().param, "tee");
        for bad in [Standing::Fails, Standing::Unknown, Standing::NotClaimed] {
            assert_eq!(worker("tdx", bad).unwrap().param, "verdicts");
        }
        // A claim that nobody mentions does not hold.
        assert!(demands.against_worker(&judged("tdx", &[])).is_some());
        // A proxy has no GPU; what it claims falsely counts against it all the same.
        assert_eq!(demands.against_proxy(&judged("tdx", &[])), None);
        let lie = judged("tdx", &[("image", Standing::Fails)]);
        assert!(demands.against_proxy(&lie).is_some());
    }

    #[test]
    fn a_demand_may_be_about_one_side() {
        let demands = Demands::read(&wishes(&[], &["worker.site"])).unwrap().unwrap();
        assert_eq!(demands.against_proxy(&judged("", &[])), None);
        assert!(demands.against_worker(&judged("", &[])).is_some());
        let both = Demands::read(&wishes(&["snp", "tee"], &["site"])).unwrap().unwrap();
        assert!(both.against_proxy(&judged("tdx", &[])).is_some());
        assert_eq!(both.against_proxy(&judged("tdx", &[("site", Standing::Holds)])), None);
    }
}
