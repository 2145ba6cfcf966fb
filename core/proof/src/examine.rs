//! Judges a bundle: the chain from the user's gateway to the weights, claim by claim.

use cocoon_attest::channel::ChannelRole;
use cocoon_attest::{
    Binding, Claim, ClaimKind, Collateral, Digest32, Finding, PeerEvidence, Policy, Verdict, verify,
};

use crate::bundle::{Bundle, Machine, MachineRole, RootView, Shown};
use crate::events::{LOG_CLAIMS, examine_logs};
use crate::report_lines::{ClaimLine, Examination, Standing};

/// What whoever examines a bundle brings along. Nothing in a bundle can replace it.
#[derive(Clone, Debug)]
pub struct Asker {
    /// Rules and trusted roots. Images and models come from the registry.
    pub policy: Policy,
    /// Nonce that the asker drew for this question; nothing for a bundle of others.
    pub nonce: Option<Digest32>,
    /// The registry as the asker read it; nothing takes the bundle's word, which is then shown
    /// as unknown.
    pub root: Option<RootView>,
    /// The date to judge at, Unix milliseconds.
    pub now_ms: u64,
    /// Whether the date is the asker's own clock's.
    pub date_is_now: bool,
}

impl Asker {
    /// Whether the evidence was made for this question just now: then the gateway's nonces are young,
    /// too, as far as the gateway is believed.
    const fn is_live(&self) -> bool {
        self.nonce.is_some() && self.date_is_now
    }
}

/// Judges a bundle.
#[must_use]
pub fn examine(bundle: &Bundle, asker: &Asker) -> Examination {
    let mut found =
        Examination { judged_at_ms: asker.now_ms, claims: Vec::new(), events: Vec::new() };
    let root = registry(bundle, asker, &mut found);
    let (mut proxies, mut workers) = (0, 0);
    for machine in &bundle.machines {
        let number = match machine.role {
            MachineRole::Proxy => &mut proxies,
            MachineRole::Worker => &mut workers,
        };
        *number += 1;
        let subject = format!("{} {number}", machine.role.word());
        judge_machine(bundle, machine, &subject, asker, root, &mut found);
    }
    for (claim, count, word) in [("proxies", proxies, "proxy"), ("workers", workers, "worker")] {
        if count == 0 {
            let reason = format!("the gateway knows of no {word}");
            found.say("network", claim, Standing::NotClaimed, "the gateway", reason);
        } else {
            let reason = format!("{count} {word}(s) were asked");
            found.say("network", claim, Standing::Holds, "the gateway", reason);
        }
    }
    found
}

/// Says where the date of the judgement comes from.
pub(crate) fn date(subject: &str, asker: &Asker, found: &mut Examination) {
    if asker.date_is_now {
        found.say(subject, "date", Standing::Holds, "this machine's clock", "judged now");
    } else {
        let reason = "the date is the file's own word or was typed; nothing proves it";
        found.say(subject, "date", Standing::Unknown, "the file", reason);
    }
}

/// Says where the registry comes from, and which one counts.
fn registry<'a>(bundle: &'a Bundle, asker: &'a Asker, found: &mut Examination) -> &'a RootView {
    date("registry", asker, found);
    let Some(own) = &asker.root else {
        let reason = "the lists of allowed images and models are the bundle's word; give the \
                      registry to compare with";
        found.say("registry", "registry", Standing::Unknown, "the bundle", reason);
        return &bundle.root;
    };
    let said = &bundle.root;
    if said.contract != own.contract || said.network_id != own.network_id {
        let reason =
            format!("the gateway is in the network of {}, not of {}", said.contract, own.contract);
        found.say("registry", "registry", Standing::Fails, "the registry", reason);
    } else {
        let reason = format!("version {} of root contract {}", own.version, own.contract);
        found.say("registry", "registry", Standing::Holds, "the registry", reason);
    }
    own
}

fn judge_machine(
    bundle: &Bundle,
    machine: &Machine,
    subject: &str,
    asker: &Asker,
    root: &RootView,
    found: &mut Examination,
) {
    let nothing = Collateral::default();
    let collateral =
        machine.collateral.and_then(|place| bundle.collateral.get(place)).unwrap_or(&nothing);
    let policy = policy_for(machine.role, asker, root);
    let judge = |evidence: &PeerEvidence| verify(evidence, collateral, &policy, asker.now_ms);
    match &machine.shown {
        Shown::Nothing { reason } => silent(subject, Standing::NotClaimed, reason, found),
        Shown::Failed { reason } => silent(subject, Standing::Unknown, reason, found),
        Shown::Evidence(evidence) => {
            let verdict = judge(evidence);
            for claim in &verdict.claims {
                let mut line = line(subject, claim);
                if claim.kind == ClaimKind::Freshness && !asker.is_live() {
                    weaken(&mut line);
                }
                found.claims.push(line);
            }
            stated_network(subject, machine.role, evidence, (&verdict, root), found);
            examine_logs(subject, evidence, (&verdict, &policy), found);
        }
        Shown::Report(text) => match Shown::read_report(text) {
            Err(reason) => silent(subject, Standing::Fails, &reason, found),
            Ok(report) => {
                let nonce = asker.nonce.unwrap_or(bundle.nonce);
                let evidence = report.to_peer_evidence(nonce);
                let verdict = judge(&evidence);
                for claim in &verdict.claims {
                    let mut line = line(subject, claim);
                    if claim.kind == ClaimKind::Freshness && asker.nonce.is_none() {
                        weaken(&mut line);
                    }
                    found.claims.push(line);
                }
                reported(subject, &report, &verdict, root, found);
                examine_logs(subject, &evidence, (&verdict, &policy), found);
            }
        },
    }
}

/// Only whoever drew the nonce knows that the evidence is not older than it.
fn weaken(line: &mut ClaimLine) {
    if line.verdict == Standing::Holds {
        line.verdict = Standing::Unknown;
        line.reason = "signed over another's nonce; only whoever drew it knows when".to_owned();
    }
}

/// What a report shows beyond the claims of every evidence.
fn reported(
    subject: &str,
    report: &cocoon_attest::report::Report,
    verdict: &Verdict,
    root: &RootView,
    found: &mut Examination,
) {
    let source = "the worker's report";
    if verdict.unbound().is_none() {
        let reason = format!("the report vouches for key {}", report.keyset.receipt_key);
        found.say(subject, "receipt_key", Standing::Holds, source, reason);
    } else {
        let reason = "the report that names the key is not shown to be a TEE's";
        found.say(subject, "receipt_key", Standing::Unknown, source, reason);
    }
    let named = (report.role, report.network_id, report.root_contract);
    network(subject, (MachineRole::Worker, source), named, (verdict, root), found);
}

/// Says which network the statement that came with a machine's evidence is about; a certificate names
/// none.
fn stated_network(
    subject: &str,
    role: MachineRole,
    evidence: &PeerEvidence,
    judged: (&Verdict, &RootView),
    found: &mut Examination,
) {
    let (named, source) = match &evidence.binding {
        Binding::CertificateKey => return,
        Binding::Channel(said) => {
            ((said.role, said.network_id, said.root_contract), "channel statement")
        }
        Binding::Report(said) => {
            ((said.role, said.network_id, said.root_contract), "the worker's report")
        }
    };
    network(subject, (role, source), named, judged, found);
}

/// Says whether a machine speaks in its role, and in the network that was asked about.
fn network(
    subject: &str,
    (role, source): (MachineRole, &str),
    (said, id, contract): (ChannelRole, i32, Digest32),
    (verdict, root): (&Verdict, &RootView),
    found: &mut Examination,
) {
    let is_role = match role {
        MachineRole::Proxy => said == ChannelRole::Proxy,
        MachineRole::Worker => said == ChannelRole::Worker,
    };
    let (standing, reason) = match verdict.unbound() {
        _ if !is_role => (Standing::Fails, format!("it speaks as {said:?}")),
        _ if contract != root.contract || id != root.network_id => {
            (Standing::Fails, format!("it is about network {id} of root contract {contract}"))
        }
        None => (Standing::Holds, "it names this network".to_owned()),
        Some(claim) => (standing(&claim.finding), claim.reason.clone()),
    };
    found.say(subject, "network", standing, source, reason);
}

fn silent(subject: &str, verdict: Standing, reason: &str, found: &mut Examination) {
    for kind in ClaimKind::ALL {
        found.say(subject, kind_name(kind), verdict, "nothing", reason);
    }
    for claim in LOG_CLAIMS {
        found.say(subject, claim, verdict, "nothing", reason);
    }
}

const fn standing(finding: &Finding) -> Standing {
    match finding {
        Finding::Holds => Standing::Holds,
        Finding::Fails(_) => Standing::Fails,
        Finding::Unknown(_) => Standing::Unknown,
        Finding::NotClaimed => Standing::NotClaimed,
    }
}

fn line(subject: &str, claim: &Claim) -> ClaimLine {
    ClaimLine {
        subject: subject.to_owned(),
        claim: kind_name(claim.kind).to_owned(),
        verdict: standing(&claim.finding),
        source: source_name(claim).to_owned(),
        age_ms: claim.age_ms,
        reason: claim.reason.clone(),
    }
}

/// The asker's policy with the registry's lists for this role. An empty list of the registry
/// allows nobody, so the claim must not turn into "not looked at".
pub(crate) fn policy_for(role: MachineRole, asker: &Asker, root: &RootView) -> Policy {
    let images = match role {
        MachineRole::Proxy => &root.proxy_images,
        MachineRole::Worker => &root.worker_images,
    };
    let listed = |list: &[Digest32]| {
        if list.is_empty() { vec![Digest32::ZERO] } else { list.to_vec() }
    };
    let mut policy = asker.policy.clone();
    policy.image_hashes = listed(images);
    policy.models = listed(&root.models);
    policy
}

/// Names a claim as the verdicts do.
pub(crate) const fn kind_name(kind: ClaimKind) -> &'static str {
    match kind {
        ClaimKind::Hardware => "hardware",
        ClaimKind::Tcb => "tcb",
        ClaimKind::Image => "image",
        ClaimKind::DebugOff => "debug_off",
        ClaimKind::Gpu => "gpu",
        ClaimKind::Weights => "weights",
        ClaimKind::Freshness => "freshness",
        ClaimKind::KeyBinding => "key_binding",
        ClaimKind::Site => "site",
    }
}

const fn source_name(claim: &Claim) -> &'static str {
    use cocoon_attest::Source;
    match claim.source {
        Source::TdxQuote => "TDX quote",
        Source::SnpReport => "SEV-SNP report",
        Source::GpuReport => "GPU report",
        Source::EventLog => "event log",
        Source::BootLog => "boot log",
        Source::Vtpm => "vTPM",
        Source::ChannelStatement => "channel statement",
        Source::Report => "the worker's report",
        Source::Certificate => "certificate",
        Source::Policy => "policy",
        Source::Endorsement => "owner's endorsement",
        Source::FakeEvidence => "fake evidence",
        Source::Nothing => "nothing",
    }
}
