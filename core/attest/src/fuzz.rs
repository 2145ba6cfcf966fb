//! Entry points for fuzzers: every reader of evidence on arbitrary bytes.
//!
//! Each function returns normally for every input or panics on a broken law.

use crate::channel::Message;
use crate::collateral::{Collateral, CollateralNeed, SnpCollateral, TdxCollateral};
use crate::digest::Digest32;
use crate::endorsement::SignedEndorsement;
use crate::evidence::{ExtensionKind, PeerEvidence};
use crate::gpu::{GpuEvidence, GpuMode, SpdmReport};
use crate::policy::Policy;
use crate::report::Report;
use crate::snp::{SnpProduct, SnpReport};
use crate::tdx::{BootLog, EventLog, TdReport, collateral_dates};
use crate::verdict::Outcome;
use crate::verifier::verify;
use crate::vtpm::{QuoteInfo, VtpmQuote};

/// Any quote.
///
/// # Panics
/// When arbitrary bytes are accepted.
pub fn tdx_quote(data: &[u8]) {
    let _ = TdReport::read(data);
    let key = [0; 32];
    never(&PeerEvidence {
        tdx_quote: Some(data.to_vec()),
        user_claims: Some(key.to_vec()),
        ..PeerEvidence::new(key)
    });
}

/// Any SEV-SNP report with any VCEK; the first two bytes say where one ends.
///
/// # Panics
/// When arbitrary bytes are accepted.
pub fn snp_report(data: &[u8]) {
    let _ = SnpReport::read(data);
    let (report, vcek) = split(data);
    never(&PeerEvidence {
        sev_report_data: report.get(0x50..0x90).map(Vec::from),
        sev_report: Some(report.to_vec()),
        sev_vcek_pem: Some(vcek.to_vec()),
        ..PeerEvidence::new([0; 32])
    });
}

/// Any GPU report with any chain.
///
/// # Panics
/// When arbitrary bytes are accepted.
pub fn gpu_report(data: &[u8]) {
    let _ = SpdmReport::read(data);
    let (report, chain) = split(data);
    let mode = GpuMode { confidential: true, developer: false };
    let gpu = GpuEvidence { report: report.to_vec(), chain_pem: chain.to_vec(), mode };
    never(&PeerEvidence { gpu: Some(gpu), ..PeerEvidence::new([0; 32]) });
}

/// Any event log.
///
/// # Panics
/// When a log that was read does not read back from its text.
pub fn event_log(data: &[u8]) {
    if let Ok(log) = EventLog::read(data) {
        assert_eq!(EventLog::read(log.to_text().as_bytes()).as_ref(), Ok(&log));
    }
}

/// Any boot log, with padding behind it or without.
///
/// # Panics
/// When a log reads otherwise without its padding, or its registers are not those of its replay.
pub fn boot_log(data: &[u8]) {
    let Ok(front) = BootLog::trim(data) else {
        assert!(BootLog::read(data).is_err(), "an untrimmed log is read");
        return;
    };
    let log = BootLog::read(front);
    let Ok(log) = log else { panic!("a trimmed log is refused: {log:?}") };
    assert_eq!(BootLog::read(&log.encode()).as_ref(), Ok(&log), "a log reads as another");
    let registers = log.registers();
    assert_eq!(log.check(&registers), Ok(()), "a log does not lead to its own registers");
    let last = log.replay().into_iter().rev().find_map(|step| step.after);
    assert!(last.is_none_or(|last| registers.contains(&last)));
    for event in log.events() {
        let (text, is_measured) = event.text();
        assert!(!is_measured || event.covered().is_some(), "{text:?} is called measured");
        assert!(text.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{text:?} is shown");
        let _ = (event.covered(), event.kind_name());
    }
    let key = [0; 32];
    never(&PeerEvidence {
        boot_log: Some(front.to_vec()),
        user_claims: Some(key.to_vec()),
        tdx_quote: Some(data.to_vec()),
        ..PeerEvidence::new(key)
    });
}

/// Any registers of a vTPM, with any quote and any key: registers, and registers behind runtime data
/// whose length the first two bytes give.
///
/// # Panics
/// When registers have two encodings, or arbitrary bytes count as signed.
pub fn vtpm(data: &[u8]) {
    const KEY: &[u8] = br#"{"keys":[{"kid":"HCLAkPub","kty":"RSA","n":"AQAB","e":"AQAB"}]}"#;
    let _ = QuoteInfo::read(data);
    if let Ok(quote) = VtpmQuote::decode(data) {
        assert_eq!(quote.encode(), data);
        assert!(quote.check(KEY, &[0; 64]).is_err(), "arbitrary bytes count as signed");
        let _ = QuoteInfo::read(&quote.attest);
    }
    // The corpus holds quotes of a real key, so this may pass; then the registers are those signed.
    let (keys, vtpm) = split(data);
    if let Ok(quote) = VtpmQuote::read(vtpm, Some(keys)) {
        let info = QuoteInfo::read(&quote.attest);
        let signed = info.map(|info| info.register_digest);
        assert_eq!(signed, Ok(quote.register_digest().0.to_vec()));
    }
    let (runtime_data, vtpm) = (Some(keys.to_vec()), Some(vtpm.to_vec()));
    never(&PeerEvidence { runtime_data, vtpm, ..PeerEvidence::new([0; 32]) });
}

/// Any runtime data of Azure's paravisor, below a report that names them.
///
/// # Panics
/// When what the guest chose does not stand in them, or arbitrary bytes are accepted.
pub fn runtime_data(data: &[u8]) {
    let mut named = [0; 64];
    named[..32].copy_from_slice(&Digest32::sha256(&[data]).0);
    if let Ok(chosen) = crate::runtime::user_data(data, &named) {
        let text = String::from_utf8_lossy(data).to_lowercase();
        // A text of JSON may write digits as escapes; then it is longer than they are.
        assert!(text.contains(&hex::encode(chosen)) || text.contains("\\u00"));
    }
    let runtime_data = Some(data.to_vec());
    never(&PeerEvidence { runtime_data, ..PeerEvidence::new([0; 32]) });
}

/// Any message of the channel handshake.
///
/// # Panics
/// When a message has two encodings.
pub fn channel_message(data: &[u8]) {
    if let Ok(message) = Message::decode(data) {
        assert_eq!(message.encode(), data);
    }
}

/// Any report of a worker.
///
/// # Panics
/// When a report has two encodings, or arbitrary evidence is accepted.
pub fn report(data: &[u8]) {
    if let Ok(report) = Report::decode(data) {
        assert_eq!(report.encode(), data);
        never(&report.to_peer_evidence(Digest32::ZERO));
    }
}

/// Any endorsement, as it travels and as a file.
///
/// # Panics
/// When an endorsement has two encodings.
pub fn endorsement(data: &[u8]) {
    if let Ok(signed) = SignedEndorsement::decode(data) {
        assert_eq!(signed.encode(), data);
        assert_eq!(SignedEndorsement::of_text(signed.to_text().as_bytes()), Ok(signed.clone()));
        let _ = signed.check(-3, Digest32::ZERO, 0);
    }
    let _ = SignedEndorsement::of_text(data);
}

/// Any extension of a certificate; the first byte chooses the kind.
pub fn extension(data: &[u8]) {
    let (first, value) = data.split_first().unwrap_or((&0, data));
    let mut evidence = PeerEvidence::new([0; 32]);
    let _ = evidence.take_extension(value, first & 1 != 0, value);
    for kind in ExtensionKind::ALL {
        let _ = evidence.take_extension(&kind.oid(), first & 1 != 0, value);
    }
    never(&evidence);
}

/// Any collateral: JSON of Intel's items, or AMD's certificates and list.
///
/// # Panics
/// When arbitrary bytes count as collateral of AMD.
pub fn collateral(data: &[u8]) {
    if let Ok(dcap) = serde_json::from_slice(data) {
        let _ = collateral_dates(&TdxCollateral { dcap, fetched_ms: 0 }, 1_800_000_000);
    }
    let (ark, crl) = split(data);
    let (product, ask) = (SnpProduct::Genoa, ark.to_vec());
    let snp = SnpCollateral { product, ark: ark.to_vec(), ask, crl: crl.to_vec(), fetched_ms: 0 };
    let _ = Collateral { tdx: None, snp: Some(snp) }.dates(1_800_000_000);
}

/// Any policy as a file.
pub fn policy(data: &[u8]) {
    if let Ok(policy) = serde_json::from_slice::<Policy>(data) {
        let _ = policy.check();
        let _ = verify(&PeerEvidence::new([0; 32]), &Collateral::default(), &policy, 0);
    }
}

/// Any file of evidence, read for its image hash.
///
/// # Panics
/// When the hash is not that of the parts.
pub fn image(data: &[u8]) {
    if let Ok(reading) = crate::ImageReading::of_file(data) {
        let parts: Vec<&[u8]> = reading.parts.iter().map(|part| part.bytes.as_slice()).collect();
        assert_eq!(crate::Digest32::sha256(&parts), reading.hash);
    }
}

/// Checks that nobody gets in.
fn never(evidence: &PeerEvidence) {
    let _ = CollateralNeed::of(evidence);
    let verdict = verify(evidence, &Collateral::default(), &Policy::tee(), 1_800_000_000_000);
    assert!(verdict.outcome() != Outcome::Accept, "arbitrary evidence was accepted");
}

/// Splits at the length that the first two bytes give.
fn split(data: &[u8]) -> (&[u8], &[u8]) {
    let (len, rest) = data.split_first_chunk().unwrap_or((&[0; 2], data));
    rest.split_at_checked(usize::from(u16::from_le_bytes(*len))).unwrap_or((rest, &[]))
}
