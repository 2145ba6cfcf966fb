//! What can be wrong, sorted by who is guilty.
//!
//! [`BadEvidence`] says that the peer's evidence is wrong: refuse the peer. [`CannotCheck`]
//! says that this side lacks what it needs to decide: keep the peer waiting or refuse it for
//! now, fetch what is missing, and never report the evidence as bad.

use serde::Serialize;
use thiserror::Error;

use crate::evidence::ExtensionKind;
use crate::snp::SnpProduct;
use crate::verdict::ClaimKind;

/// A certificate extension of the protocol that breaks its rules: refuse the certificate.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ExtensionFault {
    /// The same extension occurs twice.
    #[error("the certificate carries the extension {kind:?} twice")]
    Duplicate {
        /// The repeated kind.
        kind: ExtensionKind,
    },
    /// The content is longer than its kind allows.
    #[error("the extension {kind:?} is {len} bytes long, at most {limit} are accepted")]
    TooLong {
        /// The kind.
        kind: ExtensionKind,
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
}

/// The peer's evidence is wrong, whatever else happens: refuse it.
#[derive(Clone, Debug, Error, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum BadEvidence {
    /// Bytes that are not what they should be.
    #[error("{what} cannot be read: {detail}")]
    Malformed {
        /// Which piece of evidence.
        what: &'static str,
        /// Where reading stopped.
        detail: String,
    },
    /// More bytes than any honest peer sends.
    #[error("{what} is {len} bytes long, at most {limit} are accepted")]
    TooLong {
        /// Which piece of evidence.
        what: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A part of the evidence is absent although the rest is there, or all of it is absent
    /// although the policy asks for it.
    #[error("{what} is missing")]
    Missing {
        /// Which piece of evidence.
        what: &'static str,
    },
    /// TDX and SEV evidence in one certificate.
    #[error("the certificate carries TDX and SEV evidence together")]
    TwoPlatforms,
    /// A quote of another kind of TEE where a TD quote belongs.
    #[error("the quote is of TEE type {tee_type:#x}, not of a TDX guest")]
    WrongTee {
        /// TEE type of the quote header.
        tee_type: u32,
    },
    /// The policy does not admit this kind of platform.
    #[error("the policy does not admit evidence of {platform}")]
    PlatformRefused {
        /// The platform in words.
        platform: &'static str,
    },
    /// The report is about another key or another connection.
    #[error("the report data do not match {expected}")]
    NotBound {
        /// What the report data should have covered.
        expected: &'static str,
    },
    /// A signature or a chain of the evidence is wrong.
    #[error("the signatures of {what} do not verify: {detail}")]
    Signature {
        /// Which piece of evidence.
        what: &'static str,
        /// What the check said.
        detail: String,
    },
    /// The evidence ends in a root that is not trusted.
    #[error("{what} ends in a root that is not trusted: {found}")]
    UntrustedRoot {
        /// Which chain.
        what: &'static str,
        /// SHA-384 of the root's public key, hex.
        found: String,
    },
    /// A certificate of the evidence is revoked or out of its dates.
    #[error("{what} is not valid: {detail}")]
    Certificate {
        /// Which certificate.
        what: &'static str,
        /// Revoked, expired, not yet valid.
        detail: String,
    },
    /// The platform's level of patches is not acceptable.
    #[error("the platform's TCB status is {status}{advisories}", advisories = listed(.advisories))]
    Tcb {
        /// Status in Intel's words.
        status: String,
        /// Advisories that apply.
        advisories: Vec<String>,
    },
    /// An advisory applies that the policy names.
    #[error("the advisory {advisory} applies and the policy refuses it")]
    Advisory {
        /// Its name.
        advisory: String,
    },
    /// A component of the platform is older than the policy asks.
    #[error("{component} is at version {found}, the policy asks for {required}")]
    TooOld {
        /// Which component.
        component: &'static str,
        /// Version found in the certificate.
        found: u8,
        /// Version asked for.
        required: u8,
    },
    /// A report states another version than its certificate vouches for.
    #[error("{component} is {report} in the report but {certificate} in the certificate")]
    TcbInflated {
        /// Which component.
        component: &'static str,
        /// Version in the report.
        report: u8,
        /// Version in the certificate.
        certificate: u8,
    },
    /// The guest can be looked into by its host.
    #[error("debugging is on: {detail}")]
    Debug {
        /// Which bit says so.
        detail: &'static str,
    },
    /// An attribute that the policy forbids or demands.
    #[error("{what} is {found}, the policy asks for {required}")]
    Attribute {
        /// Name of the attribute.
        what: &'static str,
        /// Value found.
        found: String,
        /// Value asked for.
        required: String,
    },
    /// A measurement that is not on its list.
    #[error("{register} is {found}, which is on no list of the policy")]
    Measurement {
        /// Name of the register.
        register: &'static str,
        /// Value found, hex.
        found: String,
    },
    /// The event log does not lead to the value of the register.
    #[error("the event log replays to {replayed}, but {register} is {found}")]
    EventLog {
        /// Name of the register.
        register: &'static str,
        /// Value reached by the replay, hex.
        replayed: String,
        /// Value in the report, hex.
        found: String,
    },
    /// The firmware's boot log does not lead to the value of the register.
    #[error("the boot log replays to {replayed}, but {register} is {found}")]
    BootLog {
        /// Name of the register.
        register: &'static str,
        /// Value reached by the replay, hex.
        replayed: String,
        /// Value in the quote, hex.
        found: String,
    },
    /// The registers shown are not those that the vTPM signed.
    #[error("the vTPM signed registers with the digest {signed}, those shown have {shown}")]
    Vtpm {
        /// SHA-256 over what is shown, hex.
        shown: String,
        /// What was signed, hex.
        signed: String,
    },
    /// A processor generation whose keys are known to leak.
    #[error("{product:?} processors are refused: {reason}")]
    Product {
        /// The generation.
        product: SnpProduct,
        /// Why.
        reason: &'static str,
    },
    /// The GPU's evidence is wrong.
    #[error("the GPU evidence is refused: {detail}")]
    Gpu {
        /// What is wrong.
        detail: String,
    },
    /// A claim that the policy requires is not made.
    #[error("the policy requires the claim {claim:?}, which the peer does not make")]
    NotClaimed {
        /// The claim.
        claim: ClaimKind,
    },
    /// The platform is not the one registered for this identity, or was revoked.
    #[error("the platform {platform} is {detail}")]
    Site {
        /// Platform id, hex.
        platform: String,
        /// Why it is refused.
        detail: &'static str,
    },
    /// The endorsement of an owner that the policy names does not fit.
    #[error("the owner's endorsement is refused: {fault}")]
    Endorsement {
        /// What does not fit.
        fault: EndorsementFault,
    },
}

/// An endorsement that ties nothing: whoever shows it is refused, whoever is given it to show has
/// to ask the owner for another one.
#[derive(Clone, Debug, Error, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum EndorsementFault {
    /// The owner's key did not sign it.
    #[error("the owner's key did not sign it")]
    Signature,
    /// It is about another network.
    #[error("it is about network {network_id}, root contract {root_contract}")]
    OtherNetwork {
        /// Network inside.
        network_id: i32,
        /// Root contract inside, hex.
        root_contract: String,
    },
    /// Its time is over.
    #[error("it ended at {not_after_s} (Unix seconds); ask the owner for a new one")]
    Expired {
        /// Its last second, Unix seconds.
        not_after_s: u64,
    },
    /// It came beside evidence that states no id.
    #[error("no statement names the id that it is about")]
    NoStatement,
    /// It is about another id.
    #[error("it is about the id {endorsed}, and the machine states {stated}")]
    OtherId {
        /// Id inside, hex.
        endorsed: String,
        /// Id of the machine's statement, hex.
        stated: String,
    },
    /// It is about another platform.
    #[error("it is about the platform {endorsed}, and this is {found}")]
    OtherPlatform {
        /// Platform inside.
        endorsed: String,
        /// Platform that the evidence names.
        found: String,
    },
    /// The owner may not speak for this id.
    #[error("{site} is not named for the id {endorsed}")]
    NotItsId {
        /// The owner's name in the policy.
        site: String,
        /// Id inside, hex.
        endorsed: String,
    },
}

/// This side cannot decide now: the evidence may be good or bad.
#[derive(Clone, Debug, Error, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum CannotCheck {
    /// The collateral for this platform was never fetched. Fetch it and verify again.
    #[error("{what} has not been fetched; fetch it and verify again")]
    NoCollateral {
        /// Which item.
        what: &'static str,
    },
    /// The collateral is older than its own dates allow. Fetch it again.
    #[error("{what} was to be renewed by {next_update_s} (Unix seconds); fetch it again")]
    StaleCollateral {
        /// Which item.
        what: &'static str,
        /// Its `nextUpdate`, Unix seconds.
        next_update_s: u64,
    },
    /// The collateral is from the future. Check this machine's clock.
    #[error("{what} begins at {issued_s} (Unix seconds), after this clock; check the clock")]
    EarlyCollateral {
        /// Which item.
        what: &'static str,
        /// Its issue date, Unix seconds.
        issued_s: u64,
    },
    /// The collateral is not signed as it should be: its source is broken or hostile.
    #[error("{what} is not trustworthy: {detail}; fetch it from another source")]
    UntrustedCollateral {
        /// Which item.
        what: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// The policy names no trusted root for this platform.
    #[error("no trusted root is configured for {what}")]
    NoRoot {
        /// Which platform.
        what: &'static str,
    },
    /// The policy is outside its own dates.
    #[error("the policy {version} is not in force now; load a current one")]
    PolicyDates {
        /// Version of the policy.
        version: u64,
    },
}

/// A policy that cannot be used: fix the configuration.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PolicyFault {
    /// A list entry is not hex of the right length.
    #[error("{field}: `{value}` is not {bytes} bytes of hex or base64")]
    Digest {
        /// Which field.
        field: &'static str,
        /// The entry.
        value: String,
        /// Bytes expected.
        bytes: usize,
    },
    /// A text that names no platform.
    #[error("`{value}` names no platform: write intel_ppid:HEX or amd_chip:HEX")]
    Platform {
        /// The text.
        value: String,
    },
    /// A rule that cannot hold together with another.
    #[error("{detail}")]
    Contradiction {
        /// What contradicts what.
        detail: &'static str,
    },
}

fn listed(advisories: &[String]) -> String {
    if advisories.is_empty() { String::new() } else { format!(" ({})", advisories.join(", ")) }
}
