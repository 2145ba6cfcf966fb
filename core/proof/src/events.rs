//! What machines measured, event by event, where a genuine quote's registers agree with the log.

use cocoon_attest::tdx::{BootLog, EventLog};
use cocoon_attest::vtpm::VtpmQuote;
use cocoon_attest::{BadEvidence, ClaimKind, Finding, Measurement, PeerEvidence, Policy, Verdict};
use serde::Serialize;

use crate::report_lines::{Examination, Standing};

/// The claims about logs and registers, in the order in which they are said.
pub(crate) const LOG_CLAIMS: [&str; 3] = ["boot_log", "event_log", "vtpm"];

/// One event that a machine measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EventLine {
    /// Which machine, as in [`crate::ClaimLine::subject`].
    pub subject: String,
    /// The register that it went into: `RTMR0` to `RTMR3`, or `MRTD` for what is only told; `PCR0` to
    /// `PCR23` where a vTPM shows its registers without their events.
    pub register: String,
    /// Its type in the words of the firmware profile, which is the log's word in any case, since no
    /// digest covers it; `event` in the running system's own log, `register` where only the value is
    /// shown.
    pub kind: String,
    /// What it says, in printable characters.
    pub text: String,
    /// Whether the digest covers all of `text`. Otherwise the digest is about something else, such as
    /// a file, and the text is only the log's word; or the register is the word of a paravisor that
    /// the policy does not list.
    pub is_measured: bool,
    /// SHA-384 that the register was extended with, hex; of a vTPM's register its value, SHA-256.
    pub digest: String,
    /// The register after it, hex; nothing where the event extends none.
    pub register_after: Option<String>,
}

/// Says what the logs of a machine show, and their events where they hold.
pub(crate) fn examine_logs(
    subject: &str,
    evidence: &PeerEvidence,
    (verdict, policy): (&Verdict, &Policy),
    found: &mut Examination,
) {
    let [boot, runtime, vtpm] = LOG_CLAIMS;
    let registers = match &verdict.measurement {
        Some(Measurement::Td(td)) if *verdict.finding(ClaimKind::Hardware) == Finding::Holds => {
            Some(&td.rtmr)
        }
        _ => None,
    };
    let judge = |log: Option<Result<String, BadEvidence>>, what: &str| match (log, registers) {
        (None, _) => (Standing::NotClaimed, format!("the machine handed on no {what}")),
        (Some(Err(bad)), _) => (Standing::Fails, bad.to_string()),
        (Some(Ok(_)), None) => {
            (Standing::Unknown, "no genuine quote shows the registers it leads to".to_owned())
        }
        (Some(Ok(reason)), Some(_)) => (Standing::Holds, reason),
    };

    let log = evidence.boot_log.as_deref().map(BootLog::read);
    let mut lines = Vec::new();
    let checked = log.map(|log| {
        let log = log?;
        if let Some(rtmr) = registers {
            log.check(rtmr)?;
            lines = boot_lines(subject, &log);
        }
        Ok(format!("{} events lead to the registers of the quote", log.events().len()))
    });
    let (standing, reason) = judge(checked, "boot log");
    found.say(subject, boot, standing, "boot log", reason);
    found.events.append(&mut lines);

    let log = evidence.event_log.as_deref().map(EventLog::read);
    let checked = log.map(|log| {
        let log = log?;
        let steps = log.replay();
        if let Some([_, _, _, rtmr3]) = registers {
            log.check(rtmr3)?;
            lines = steps
                .iter()
                .map(|step| EventLine {
                    subject: subject.to_owned(),
                    register: "RTMR3".to_owned(),
                    kind: "event".to_owned(),
                    text: step.event.clone(),
                    is_measured: true,
                    digest: step.digest.to_string(),
                    register_after: Some(step.register.to_string()),
                })
                .collect();
        }
        Ok(format!("{} events lead to RTMR3 of the quote", steps.len()))
    });
    let (standing, reason) = judge(checked, "event log");
    found.say(subject, runtime, standing, "event log", reason);
    found.events.append(&mut lines);
    let (standing, reason) = examine_vtpm(subject, evidence, (verdict, policy), &mut lines);
    found.say(subject, vtpm, standing, "vTPM", reason);
    found.events.append(&mut lines);
}

/// Says what a vTPM signed. The registers are this machine's where the processor's report is genuine and
/// covers the runtime data that hold the vTPM's key, as the binding of the key says; and they are more
/// than somebody's word where the policy lists the paravisor that runs the vTPM.
fn examine_vtpm(
    subject: &str,
    evidence: &PeerEvidence,
    (verdict, policy): (&Verdict, &Policy),
    lines: &mut Vec<EventLine>,
) -> (Standing, String) {
    let Some(shown) = &evidence.vtpm else {
        return (Standing::NotClaimed, "the machine handed on no registers of a vTPM".to_owned());
    };
    let quote = match VtpmQuote::read(shown, evidence.runtime_data.as_deref()) {
        Ok(quote) => quote,
        Err(bad) => return (Standing::Fails, bad.to_string()),
    };
    let holds = |kind| *verdict.finding(kind) == Finding::Holds;
    if !holds(ClaimKind::Hardware) || !holds(ClaimKind::KeyBinding) {
        return (Standing::Unknown, "no genuine report covers the vTPM's key".to_owned());
    }
    let count = quote.registers.len();
    let is_known = policy.vtpm.lists_paravisor_of(evidence);
    lines.extend(quote.registers.iter().map(|(number, value)| EventLine {
        subject: subject.to_owned(),
        register: format!("PCR{number}"),
        kind: "register".to_owned(),
        text: value.to_string(),
        is_measured: is_known,
        digest: value.to_string(),
        register_after: Some(value.to_string()),
    }));
    if !is_known {
        let reason = "registers are the word of a paravisor that the policy does not list";
        return (Standing::Unknown, format!("{count} {reason}"));
    }
    (Standing::Holds, format!("{count} registers, signed by the key of a listed paravisor"))
}

fn boot_lines(subject: &str, log: &BootLog) -> Vec<EventLine> {
    let line = |step: cocoon_attest::tdx::BootStep<'_>| {
        let kind = step.event.kind_name().map(str::to_owned);
        let (text, is_covered) = step.event.text();
        EventLine {
            subject: subject.to_owned(),
            register: step.event.register.name().to_owned(),
            kind: kind.unwrap_or_else(|| format!("{:#010x}", step.event.kind)),
            text,
            is_measured: step.after.is_some() && is_covered,
            digest: step.event.digest.to_string(),
            register_after: step.after.map(|register| register.to_string()),
        }
    };
    log.replay().into_iter().map(line).collect()
}
