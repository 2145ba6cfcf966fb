//! The registers of a vTPM: what the guest of a machine with a paravisor booted.
//!
//! There the processor measures the paravisor and the firmware that comes with it; what the guest
//! boots is measured into the registers of a vTPM that the paravisor runs. The vTPM signs them with a
//! restricted key whose public part stands in the paravisor's runtime data (`HCLAkPub`), which the
//! processor's report covers: so the registers are as good as the paravisor, and no better. Sources:
//! TCG, TPM 2.0 Library, part 2, 6.2 (`TPM_GENERATED`), 10.12 (attestation structures) and
//! 11.3 (signatures); RFC 7517 and 7518 (keys in JSON); Microsoft, "Confidential VM guest attestation
//! design", runtime claims.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use crate::codec::{Malformed, Reader};
use crate::digest::{Digest32, Digest48};
use crate::evidence::PeerEvidence;
use crate::fault::BadEvidence;
use crate::runtime::{self, RUNTIME_DATA_LIMIT};
use crate::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use crate::snp::SnpReport;
use crate::tdx::TdReport;

/// Longest encoding of a quote with its registers, in bytes.
pub const VTPM_LIMIT: usize = 4096;

/// Registers of a bank.
pub const REGISTERS: u8 = 24;

/// `TPM_GENERATED_VALUE`: what only the TPM itself writes before it signs with a restricted key.
const GENERATED: u32 = 0xff54_4347;
/// `TPM_ST_ATTEST_QUOTE`.
const QUOTE: u16 = 0x8018;
/// `TPM_ALG_RSASSA`.
const RSASSA: u16 = 0x0014;
/// `TPM_ALG_SHA256`.
const SHA256: u16 = 0x000b;
/// Name of the signing key in the runtime data.
const KEY_NAME: &str = "HCLAkPub";

/// Names the quote in faults.
const WHAT: &str = "the vTPM's quote";
/// First bytes of what the extra data of our quotes cover.
const TAG: &[u8] = b"cocoon.vtpm.v1";

/// What a vTPM signed, and the registers that it is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VtpmQuote {
    /// `TPMS_ATTEST`, the bytes that are signed.
    pub attest: Vec<u8>,
    /// `TPMT_SIGNATURE` over them.
    pub signature: Vec<u8>,
    /// Registers of the SHA-256 bank, by number, ascending.
    pub registers: Vec<(u8, Digest32)>,
}

/// What a `TPMS_ATTEST` of a quote states. Nothing of it is verified here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuoteInfo {
    /// What the asker wanted covered.
    pub extra_data: Vec<u8>,
    /// Numbers of the registers of the SHA-256 bank, ascending.
    pub selected: Vec<u8>,
    /// SHA-256 over their values.
    pub register_digest: Vec<u8>,
}

impl QuoteInfo {
    /// Reads the structure, which must fill `attest` exactly.
    ///
    /// # Errors
    /// [`BadEvidence::Malformed`]: it is no quote over registers of the SHA-256 bank alone.
    pub fn read(attest: &[u8]) -> Result<Self, BadEvidence> {
        read_info(attest).map_err(|fault| fault.of(WHAT))
    }
}

impl VtpmQuote {
    /// Returns what the extra data of a quote have to be so that it belongs to a report about these
    /// bytes.
    #[must_use]
    pub fn extra_data(user_data: &[u8; 64]) -> Digest32 {
        Digest32::sha256(&[TAG, user_data])
    }

    /// Reads the registers shown beside these runtime data, and checks that the vTPM's key in them
    /// signed the registers for the report about the bytes that they name.
    ///
    /// That makes them this machine's only where a genuine report covers the runtime data, which is
    /// for the caller to know ([`runtime::user_data`], or the claim of the key's binding): anybody
    /// writes runtime data with a key of his own.
    ///
    /// # Errors
    /// [`BadEvidence`]: refuse the peer.
    pub fn read(vtpm: &[u8], runtime_data: Option<&[u8]>) -> Result<Self, BadEvidence> {
        let what = "the runtime data that hold the vTPM's key";
        let runtime_data = runtime_data.ok_or(BadEvidence::Missing { what })?;
        let quote = Self::decode(vtpm).map_err(|fault| fault.of(WHAT))?;
        quote.check(runtime_data, &runtime::stated_user_data(runtime_data)?)?;
        Ok(quote)
    }

    /// Returns the value of a register, when it is among those shown.
    #[must_use]
    pub fn register(&self, number: u8) -> Option<Digest32> {
        let found = self.registers.iter().find(|(shown, _)| *shown == number);
        found.map(|(_, value)| *value)
    }

    /// Checks that the key of `runtime_data` signed these registers for a report about `user_data`.
    ///
    /// # Errors
    /// [`BadEvidence`]: refuse the peer.
    pub fn check(&self, runtime_data: &[u8], user_data: &[u8; 64]) -> Result<(), BadEvidence> {
        let key = SigningKey::of(runtime_data)?;
        let signature = read_signature(&self.signature).map_err(|fault| fault.of(WHAT))?;
        key.components().verify(&RSA_PKCS1_2048_8192_SHA256, &self.attest, signature).map_err(
            |_| BadEvidence::Signature {
                what: WHAT,
                detail: "the key of the runtime data did not sign it".to_owned(),
            },
        )?;
        let info = QuoteInfo::read(&self.attest)?;
        if !bool::from(info.extra_data.ct_eq(&Self::extra_data(user_data).0)) {
            let expected = "the report that the vTPM's quote is shown with";
            return Err(BadEvidence::NotBound { expected });
        }
        let numbers = self.registers.iter().map(|(number, _)| *number);
        if !numbers.eq(info.selected.iter().copied()) {
            return Err(Malformed("it is about other registers than are shown").of(WHAT));
        }
        let shown = self.register_digest();
        if !bool::from(info.register_digest.ct_eq(&shown.0)) {
            return Err(BadEvidence::Vtpm {
                shown: shown.to_string(),
                signed: hex::encode(&info.register_digest),
            });
        }
        Ok(())
    }

    /// Returns SHA-256 over the values shown, as a quote states it.
    #[must_use]
    pub fn register_digest(&self) -> Digest32 {
        let values: Vec<&[u8]> = self.registers.iter().map(|(_, value)| &value.0[..]).collect();
        Digest32::sha256(&values)
    }

    /// Writes it: lengths of two bytes, big endian, before quote and signature; a byte for how many
    /// registers, then each with its number before it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for part in [&self.attest, &self.signature] {
            out.extend_from_slice(&u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes());
            out.extend_from_slice(part);
        }
        out.push(u8::try_from(self.registers.len()).unwrap_or(u8::MAX));
        for (number, value) in &self.registers {
            out.push(*number);
            out.extend_from_slice(&value.0);
        }
        out
    }

    /// Reads what [`VtpmQuote::encode`] wrote, and nothing else.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > VTPM_LIMIT {
            return Err(Malformed("it is too long"));
        }
        let mut reader = Reader::new(bytes);
        let (attest, signature) = (reader.counted()?.to_vec(), reader.counted()?.to_vec());
        let count = reader.byte()?;
        let mut registers: Vec<(u8, Digest32)> = Vec::new();
        for _ in 0..count {
            let number = reader.byte()?;
            if number >= REGISTERS || registers.last().is_some_and(|(last, _)| *last >= number) {
                return Err(Malformed("its registers are not in order"));
            }
            registers.push((number, Digest32::from(reader.array()?)));
        }
        reader.finish()?;
        Ok(Self { attest, signature, registers })
    }
}

/// What shows the image of a guest above a paravisor. Without registers no image is shown there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VtpmPolicy {
    /// Paravisors, by what the processor measured at the launch: MRTD of TDX, launch measurement of
    /// SEV-SNP. Name nothing else here: whatever is named may say what it likes about registers.
    pub paravisors: Vec<Digest48>,
    /// Registers that together show the image; all of them have to fit.
    pub registers: Vec<VtpmRegister>,
}

/// What a register may hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VtpmRegister {
    /// Its number in the SHA-256 bank, 0 to 22 but 16: the guest resets 16 and 23 as it likes.
    pub number: u8,
    /// Its accepted values, at least one.
    pub values: Vec<Digest32>,
}

impl VtpmPolicy {
    /// Says whether the report in this evidence, which somebody found genuine, measures a paravisor of
    /// the list.
    #[must_use]
    pub fn lists_paravisor_of(&self, evidence: &PeerEvidence) -> bool {
        let launch = match (&evidence.tdx_quote, &evidence.sev_report) {
            (Some(quote), None) => TdReport::read(quote).map(|report| report.measurement.mr_td),
            (None, Some(report)) => SnpReport::read(report).map(|report| report.measurement),
            _ => return false,
        };
        launch.is_ok_and(|launch| self.paravisors.contains(&launch))
    }

    /// Names the first register that is on no list.
    pub(crate) fn compare(&self, quote: &VtpmQuote) -> Result<(), BadEvidence> {
        for VtpmRegister { number, values } in &self.registers {
            let found = quote.register(*number);
            if !found.is_some_and(|found| values.contains(&found)) {
                let value = found.map_or_else(|| "not shown".to_owned(), |found| found.to_string());
                let (register, found) = ("a register of the vTPM", format!("PCR{number} {value}"));
                return Err(BadEvidence::Measurement { register, found });
            }
        }
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Says what in it cannot hold together.
    pub(crate) fn contradiction(&self) -> Option<&'static str> {
        if !self.registers.is_empty() && self.paravisors.is_empty() {
            return Some(
                "vtpm.registers count by the word of a paravisor: list it in vtpm.paravisors",
            );
        }
        let mut numbers = BTreeSet::new();
        self.registers.iter().find_map(|register| {
            if register.number >= REGISTERS {
                return Some("vtpm.registers names a register above 23");
            }
            // TCG, PC Client Platform TPM Profile: TPM2_PCR_Reset from any locality.
            if matches!(register.number, 16 | 23) {
                return Some("vtpm.registers names 16 or 23, which a guest resets as it likes");
            }
            if register.values.is_empty() {
                return Some("vtpm.registers names a register without values");
            }
            (!numbers.insert(register.number)).then_some("vtpm.registers names a register twice")
        })
    }
}

/// The key in the runtime data (RFC 7517), big endian numbers.
struct SigningKey {
    n: Vec<u8>,
    e: Vec<u8>,
}

impl SigningKey {
    fn of(runtime_data: &[u8]) -> Result<Self, BadEvidence> {
        #[derive(Deserialize)]
        struct Claims {
            keys: Vec<Key>,
        }
        #[derive(Deserialize)]
        struct Key {
            #[serde(default)]
            kid: String,
            #[serde(default)]
            kty: String,
            #[serde(default)]
            n: String,
            #[serde(default)]
            e: String,
        }
        let fault = |detail| Malformed(detail).of("the vTPM's key in the runtime data");
        if runtime_data.len() > RUNTIME_DATA_LIMIT {
            return Err(fault("they are too long"));
        }
        let claims: Claims =
            serde_json::from_slice(runtime_data).map_err(|_| fault("there are no keys"))?;
        let mut named = claims.keys.iter().filter(|key| key.kid == KEY_NAME);
        let (Some(key), None) = (named.next(), named.next()) else {
            return Err(fault("there is not exactly one"));
        };
        let number = |text: &str| URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok();
        match (key.kty.as_str(), number(&key.n), number(&key.e)) {
            ("RSA", Some(n), Some(e)) => Ok(Self { n: stripped(n), e: stripped(e) }),
            _ => Err(fault("it is no RSA key")),
        }
    }

    fn components(&self) -> RsaPublicKeyComponents<&[u8]> {
        RsaPublicKeyComponents { n: &self.n, e: &self.e }
    }
}

/// Numbers have no zeros in front.
fn stripped(mut number: Vec<u8>) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.drain(..zeros);
    number
}

/// Reads a `TPMT_SIGNATURE` by RSASSA with SHA-256.
fn read_signature(bytes: &[u8]) -> Result<&[u8], Malformed> {
    let mut reader = Reader::new(bytes);
    if (reader.u16()?, reader.u16()?) != (RSASSA, SHA256) {
        return Err(Malformed("its signature is not by RSASSA with SHA-256"));
    }
    let signature = reader.counted()?;
    reader.finish()?;
    Ok(signature)
}

fn read_info(attest: &[u8]) -> Result<QuoteInfo, Malformed> {
    let mut reader = Reader::new(attest);
    if reader.u32()? != GENERATED || reader.u16()? != QUOTE {
        return Err(Malformed("it is no quote that a TPM made"));
    }
    let _signer = reader.counted()?;
    let extra_data = reader.counted()?.to_vec();
    // Clock (8), reset and restart counts (4 each), whether the clock is safe (1), firmware (8).
    reader.take(25)?;
    if reader.u32()? != 1 || reader.u16()? != SHA256 {
        return Err(Malformed("it is about other banks than that of SHA-256"));
    }
    let len = reader.byte()?;
    if len > REGISTERS / 8 {
        return Err(Malformed("it names registers that no TPM has"));
    }
    let bits = reader.take(usize::from(len))?;
    let is_selected = |number: &u8| {
        bits.get(usize::from(number / 8)).is_some_and(|byte| byte >> (number % 8) & 1 == 1)
    };
    let selected = (0..REGISTERS).filter(is_selected).collect();
    let register_digest = reader.counted()?.to_vec();
    reader.finish()?;
    Ok(QuoteInfo { extra_data, selected, register_digest })
}
