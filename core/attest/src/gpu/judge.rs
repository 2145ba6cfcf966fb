//! The claim that GPU evidence decides.

use x509_parser::certificate::X509Certificate;

use super::spdm::{OpaqueField, SpdmReport};
use super::{GpuEvidence, GpuPolicy, GpuProfile, KnownGpus};
use crate::chain;
use crate::digest::Digest32;
use crate::draft::Draft;
use crate::evidence::{Binding, PeerEvidence};
use crate::fault::BadEvidence;
use crate::policy::Policy;
use crate::roots::TrustRoots;
use crate::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};
use crate::tdx::{EventLog, GPU_EVENT, READY_EVENT};
use crate::verdict::{ClaimKind, Source};

/// Longest chain in bytes of PEM.
const CHAIN_LIMIT: usize = 64 * 1024;

/// TCG DICE `TcbInfo`, 2.23.133.5.4.1, which ends in the firmware's digest.
const DICE_TCB_INFO: &[u8] = &[0x67, 0x81, 0x05, 0x05, 0x04, 0x01];

/// A GPU that passed every check but the one of belonging to the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedGpu {
    /// Name of the matching profile.
    pub profile: String,
    /// Nonce that the report was made for.
    pub nonce: [u8; 32],
    /// Digest to extend into the event log as [`GPU_EVENT`].
    pub digest: Digest32,
    /// Until when its certificates hold, Unix seconds.
    pub valid_until_s: u64,
}

/// Judges the GPU evidence. `log` is the event log when its replay led to the register.
pub(crate) fn judge(
    evidence: &PeerEvidence,
    log: Option<&EventLog>,
    policy: &Policy,
    now_s: u64,
    known: Option<&mut KnownGpus>,
    draft: &mut Draft,
) {
    let (kind, source) = (ClaimKind::Gpu, Source::GpuReport);
    let stated = evidence.binding.stated().map(|stated| stated.gpu).filter(|gpu| !gpu.is_zero());
    let Some(gpu) = &evidence.gpu else {
        if stated.is_some() {
            let bad = BadEvidence::Missing { what: "the GPU evidence named in the statement" };
            draft.fails(kind, source, bad);
        }
        return;
    };
    // The log shown by a machine that cannot be checked now may be the measured one.
    let is_open = evidence.event_log.is_some() && draft.is_unknown(ClaimKind::Hardware);
    let result =
        checked(gpu, evidence.gpu_nonce.as_ref(), policy, now_s, known).and_then(|checked| {
            let shown = belongs(evidence, &checked, stated, (log, is_open), &policy.gpu)?;
            draft.valid_until_s(checked.valid_until_s);
            Ok(format!("the GPU matches {}, and {shown}", checked.profile))
        });
    draft.judge(kind, source, result);
}

/// Checks a GPU, or remembers that it was checked. With a nonce of our own nothing is
/// remembered.
fn checked(
    gpu: &GpuEvidence,
    nonce: Option<&[u8; 32]>,
    policy: &Policy,
    now_s: u64,
    known: Option<&mut KnownGpus>,
) -> Result<CheckedGpu, BadEvidence> {
    let Some(known) = known.filter(|_| nonce.is_none()) else {
        return check(gpu, nonce, &policy.gpu, &policy.roots, now_s);
    };
    if let Some(checked) = known.find(&gpu.digest(), now_s) {
        return Ok(checked);
    }
    let checked = check(gpu, nonce, &policy.gpu, &policy.roots, now_s)?;
    known.keep(checked.clone(), now_s);
    Ok(checked)
}

/// Checks that the GPU is the one of this machine; says what shows it. While the log is open, and
/// where only the statement shows it, the claim stands as `hardware` does in the end
/// ([`Draft::unbind`]).
fn belongs(
    evidence: &PeerEvidence,
    gpu: &CheckedGpu,
    stated: Option<Digest32>,
    (log, is_open): (Option<&EventLog>, bool),
    rules: &GpuPolicy,
) -> Result<&'static str, BadEvidence> {
    let refused = |detail: &str| Err(BadEvidence::Gpu { detail: detail.to_owned() });
    let has_statement = evidence.binding != Binding::CertificateKey;
    if has_statement && stated != Some(gpu.digest) {
        return refused("it is not the evidence named in the statement");
    }
    // An event, where there is one, must be right even if nobody asked for it.
    if let Some(log) = log.filter(|log| log.contains_prefix(GPU_EVENT)) {
        let digest = gpu.digest.to_string();
        if log.value_before(GPU_EVENT, READY_EVENT) == Some(digest.as_str()) {
            return Ok("the measured event log names it");
        }
        return refused("the event log names another GPU, or none before the workload started");
    }
    if rules.require_measured || !has_statement {
        if is_open {
            return Ok("a log that cannot be checked now may name it");
        }
        return refused("no measured event log shows that this GPU is in this machine");
    }
    Ok("the statement of the measured image names it")
}

/// Checks a GPU by itself: signature, chain, nonce, firmware, modes.
///
/// This is what a worker does at boot with a nonce it has just drawn, before it extends
/// [`CheckedGpu::digest`] into the event log.
///
/// # Errors
/// [`BadEvidence`]: do not start the workload on this GPU.
pub fn check(
    gpu: &GpuEvidence,
    nonce: Option<&[u8; 32]>,
    rules: &GpuPolicy,
    roots: &TrustRoots,
    now_s: u64,
) -> Result<CheckedGpu, BadEvidence> {
    let report = SpdmReport::read(&gpu.report)?;
    let valid_until_s = chain_and_signature(gpu, &report, rules, roots, now_s)?;
    let refused = |detail: &str| Err(BadEvidence::Gpu { detail: detail.to_owned() });
    if nonce.is_some_and(|nonce| *nonce != report.nonce) {
        return refused("its report was made for another nonce");
    }
    if !gpu.mode.confidential {
        return refused("confidential mode is off");
    }
    if gpu.mode.developer {
        return refused("developer mode is on");
    }
    let profile = profile(&report, rules)?;
    let (profile, nonce, digest) = (profile.name.clone(), report.nonce, gpu.digest());
    Ok(CheckedGpu { profile, nonce, digest, valid_until_s })
}

/// Checks who signed; says until when the certificates hold, Unix seconds.
fn chain_and_signature(
    gpu: &GpuEvidence,
    report: &SpdmReport,
    rules: &GpuPolicy,
    roots: &TrustRoots,
    now_s: u64,
) -> Result<u64, BadEvidence> {
    let what = "the GPU certificate chain";
    let malformed = |detail| BadEvidence::Malformed { what, detail };
    if gpu.chain_pem.len() > CHAIN_LIMIT {
        let len = gpu.chain_pem.len();
        return Err(BadEvidence::TooLong { what, len, limit: CHAIN_LIMIT });
    }
    let ders = chain::certificates_of_pem(&gpu.chain_pem).map_err(malformed)?;
    let chain: Vec<X509Certificate<'_>> = ders
        .iter()
        .map(|der| chain::certificate(der))
        .collect::<Result<_, _>>()
        .map_err(malformed)?;
    let (Some(leaf), Some(root)) = (chain.first(), chain.last()) else {
        return Err(malformed("it is empty".to_owned()));
    };
    let found = chain::key_digest(root);
    if !roots.gpu.contains(&found) {
        return Err(BadEvidence::UntrustedRoot { what, found: found.to_string() });
    }
    for pair in chain.windows(2) {
        let [child, issuer] = pair else { continue };
        let unsigned = |detail| BadEvidence::Signature { what, detail };
        chain::is_authority(issuer).map_err(unsigned)?;
        chain::issued_by(child, issuer).map_err(unsigned)?;
    }
    for certificate in &chain {
        let invalid = |detail| BadEvidence::Certificate { what, detail };
        chain::in_dates(certificate, now_s).map_err(invalid)?;
        if rules.revoked_keys.contains(&chain::key_digest(certificate)) {
            return Err(invalid(format!("{} is revoked by the policy", certificate.subject())));
        }
    }
    firmware(leaf, report)?;
    let signed = gpu.report.get(..report.signed_len).unwrap_or_default();
    UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, &leaf.public_key().subject_public_key.data)
        .verify(signed, &report.signature)
        .map_err(|_| BadEvidence::Signature {
            what: "the GPU report",
            detail: "the device of this chain did not sign it".to_owned(),
        })?;
    Ok(chain.iter().map(chain::last_second).fold(u64::MAX, u64::min))
}

/// Checks that the certificate was issued to the firmware that made the report.
fn firmware(leaf: &X509Certificate<'_>, report: &SpdmReport) -> Result<(), BadEvidence> {
    let Some(id) = report.field(OpaqueField::FirmwareId) else {
        return Ok(());
    };
    let certified = leaf
        .extensions()
        .iter()
        .find(|extension| extension.oid.as_bytes() == DICE_TCB_INFO)
        .is_some_and(|extension| extension.value.ends_with(id));
    if certified && id.len() == 48 {
        return Ok(());
    }
    Err(BadEvidence::Gpu {
        detail: "its certificate was issued to other firmware than made the report".to_owned(),
    })
}

/// Finds the profile whose every measurement the report matches.
fn profile<'a>(report: &SpdmReport, rules: &'a GpuPolicy) -> Result<&'a GpuProfile, BadEvidence> {
    let driver = report.text(OpaqueField::DriverVersion).unwrap_or_default();
    let vbios = hex::encode(report.field(OpaqueField::VbiosVersion).unwrap_or_default());
    let refused = |detail: String| Err(BadEvidence::Gpu { detail });
    let mut named = rules
        .profiles
        .iter()
        .filter(|profile| profile.driver == driver && profile.vbios.eq_ignore_ascii_case(&vbios))
        .peekable();
    if named.peek().is_none() {
        return refused(format!("driver {driver:?} with VBIOS {vbios} is on no list"));
    }
    let mut first_difference = None;
    for profile in named {
        match profile.measurements.iter().find(|(index, accepted)| {
            report.measurements.get(index).is_none_or(|found| !accepted.contains(found))
        }) {
            None if !profile.measurements.is_empty() => return Ok(profile),
            None => {}
            Some((index, _)) => {
                first_difference.get_or_insert(*index);
            }
        }
    }
    refused(match first_difference {
        Some(index) => format!("measurement {index} is not the maker's for this driver and VBIOS"),
        None => "its profile lists no measurements".to_owned(),
    })
}
