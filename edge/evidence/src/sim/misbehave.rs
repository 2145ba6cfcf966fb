//! The ways in which a simulated platform can be told to lie.

use serde::{Deserialize, Serialize};

/// One lie. Everything else stays as an honest platform does it, signatures included, so
/// that only the check for this very lie can catch it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Misbehave {
    /// The report is about another key or statement: a stolen or relayed quote.
    OtherReportData,
    /// The TD attribute DEBUG is set.
    DebugTd,
    /// A profiling bit of the TD attributes is set.
    ProfiledTd,
    /// The guest may be migrated.
    MigratableTd,
    /// Another initial image.
    WrongMrTd,
    /// Another value in the runtime register of this number, 0 to 3.
    WrongRtmr(u8),
    /// Another configuration in `MRCONFIGID`.
    WrongConfig,
    /// Another TDX module signer.
    WrongSeamSigner,
    /// A platform whose patches are out of date.
    TcbOutOfDate,
    /// A platform that needs hardening, to which an advisory applies.
    TcbAdvisory,
    /// A platform at a revoked level.
    TcbRevoked,
    /// The platform's own certificate is on the revocation list.
    PckRevoked,
    /// TCB info with a level changed after signing.
    ForgedTcbInfo,
    /// QE identity changed after signing.
    ForgedQeIdentity,
    /// Revocation lists signed by somebody else.
    ForgedCrl,
    /// TCB info whose time is over.
    ExpiredTcbInfo,
    /// Revocation lists whose time is over.
    ExpiredCrl,
    /// Evidence that ends in another root.
    WrongRoot,
    /// A quote of an SGX enclave.
    SgxQuote,
    /// The quote ends early.
    TruncatedQuote,
    /// The quote is longer than the protocol allows.
    OversizedQuote,
    /// Random bytes in place of a quote.
    GarbageQuote,
    /// One bit of the quote is flipped after signing.
    FlippedBit,
    /// TDX and SEV evidence together.
    BothPlatforms,
    /// The guest policy allows debugging.
    SnpDebug,
    /// The report is made at a low privilege level.
    SnpLowPrivilege,
    /// The guest policy allows a migration agent.
    SnpMigration,
    /// The report states higher versions than the certificate.
    SnpInflatedTcb,
    /// The certificate's versions are below the policy's.
    SnpOldTcb,
    /// The report is of another chip than the certificate.
    SnpOtherChip,
    /// Another launch measurement.
    SnpWrongMeasurement,
    /// AMD's intermediate is on the revocation list.
    SnpRevokedAuthority,
    /// No GPU evidence although the image promises it.
    GpuAbsent,
    /// The GPU is in developer mode.
    GpuDeveloperMode,
    /// Confidential mode is off.
    GpuConfidentialOff,
    /// The evidence is of a genuine GPU in another machine.
    GpuOfAnother,
    /// The report was made for an older nonce.
    GpuOldNonce,
    /// The report is signed by another device than the chain's.
    GpuForeignSignature,
    /// Firmware that is on no list.
    GpuUnknownFirmware,
    /// The event log does not lead to the register.
    EventLogAltered,
    /// The firmware's boot log does not lead to the register.
    BootLogAltered,
    /// The image announces that it is a debugging one.
    DebugImage,
}

impl Misbehave {
    /// All lies, for tests that go through every one.
    pub const ALL: [Self; 45] = [
        Self::OtherReportData,
        Self::DebugTd,
        Self::ProfiledTd,
        Self::MigratableTd,
        Self::WrongMrTd,
        Self::WrongRtmr(0),
        Self::WrongRtmr(1),
        Self::WrongRtmr(2),
        Self::WrongRtmr(3),
        Self::WrongConfig,
        Self::WrongSeamSigner,
        Self::TcbOutOfDate,
        Self::TcbAdvisory,
        Self::TcbRevoked,
        Self::PckRevoked,
        Self::ForgedTcbInfo,
        Self::ForgedQeIdentity,
        Self::ForgedCrl,
        Self::ExpiredTcbInfo,
        Self::ExpiredCrl,
        Self::WrongRoot,
        Self::SgxQuote,
        Self::TruncatedQuote,
        Self::OversizedQuote,
        Self::GarbageQuote,
        Self::FlippedBit,
        Self::BothPlatforms,
        Self::SnpDebug,
        Self::SnpLowPrivilege,
        Self::SnpMigration,
        Self::SnpInflatedTcb,
        Self::SnpOldTcb,
        Self::SnpOtherChip,
        Self::SnpWrongMeasurement,
        Self::SnpRevokedAuthority,
        Self::GpuAbsent,
        Self::GpuDeveloperMode,
        Self::GpuConfidentialOff,
        Self::GpuOfAnother,
        Self::GpuOldNonce,
        Self::GpuForeignSignature,
        Self::GpuUnknownFirmware,
        Self::EventLogAltered,
        Self::BootLogAltered,
        Self::DebugImage,
    ];

    /// Says whether the lie is one of SEV-SNP guests alone.
    #[must_use]
    pub const fn is_snp(self) -> bool {
        matches!(
            self,
            Self::SnpDebug
                | Self::SnpLowPrivilege
                | Self::SnpMigration
                | Self::SnpInflatedTcb
                | Self::SnpOldTcb
                | Self::SnpOtherChip
                | Self::SnpWrongMeasurement
                | Self::SnpRevokedAuthority
        )
    }
}
