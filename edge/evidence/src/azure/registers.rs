//! The registers of a TPM 2.0, signed: TCG, TPM 2.0 Library, part 3, 18.4 (`TPM2_Quote`) and 22.4
//! (`TPM2_PCR_Read`). Integers are big endian.

use cocoon_attest::vtpm::{QuoteInfo, REGISTERS, VTPM_LIMIT, VtpmQuote};
use cocoon_attest::{BadEvidence, Digest32};

use super::tpm::{NoAnswer, Tpm, command, counted, transmit, u16_bytes};
use crate::fault::EvidenceFault;

const QUOTE: u32 = 0x0000_0158;
const PCR_READ: u32 = 0x0000_017e;
/// `TPM_ALG_NULL`: the scheme that the key was made with.
const OWN_SCHEME: u16 = 0x0010;
const SHA256: u16 = 0x000b;
/// Most registers in one answer, by the library's `TPML_DIGEST`.
const AT_ONCE: u8 = 8;
/// How often registers are read until none is extended before the TPM signs them.
const ATTEMPTS: u32 = 4;

/// Names a key that the TPM keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHandle(pub u32);

/// Has the TPM sign all registers of its SHA-256 bank, with these extra data.
pub(crate) fn quote(
    tpm: &dyn Tpm,
    key: KeyHandle,
    extra_data: &Digest32,
) -> Result<VtpmQuote, EvidenceFault> {
    for _ in 0..ATTEMPTS {
        let registers = read(tpm)?;
        let (attest, signature) = sign(tpm, key, extra_data)?;
        let quote = VtpmQuote { attest, signature, registers };
        let len = quote.encode().len();
        if len > VTPM_LIMIT {
            let (what, limit) = ("the vTPM's quote", VTPM_LIMIT);
            return Err(BadEvidence::TooLong { what, len, limit }.into());
        }
        if QuoteInfo::read(&quote.attest)?.register_digest == quote.register_digest().0 {
            return Ok(quote);
        }
    }
    Err(fault(format!("a register was extended while they were read, {ATTEMPTS} times")))
}

/// Reads all registers.
fn read(tpm: &dyn Tpm) -> Result<Vec<(u8, Digest32)>, EvidenceFault> {
    let mut registers = Vec::new();
    for first in (0..REGISTERS).step_by(usize::from(AT_ONCE)) {
        let mut bits = [0; 3];
        if let Some(byte) = bits.get_mut(usize::from(first / 8)) {
            *byte = 0xff;
        }
        let asked = selection(bits);
        let answer = transmit(tpm, &command(PCR_READ, &[], false, &asked)).map_err(no_answer)?;
        let values = values(&answer, &asked);
        let values = values.ok_or_else(|| fault("an answer that gives not those asked for"))?;
        registers.extend((first..).zip(values));
    }
    Ok(registers)
}

/// The values in an answer: a counter of changes, what was selected, how many values follow.
fn values(answer: &[u8], asked: &[u8]) -> Option<[Digest32; AT_ONCE as usize]> {
    let rest = answer.get(4..)?.strip_prefix(asked)?;
    let mut rest = rest.strip_prefix(&u32::from(AT_ONCE).to_be_bytes())?;
    let mut values = [Digest32::ZERO; AT_ONCE as usize];
    for value in &mut values {
        let bytes = counted(rest)?;
        *value = Digest32::from(<[u8; 32]>::try_from(bytes).ok()?);
        rest = rest.get(2 + bytes.len()..)?;
    }
    rest.is_empty().then_some(values)
}

/// Returns the quote's `TPMS_ATTEST` and its `TPMT_SIGNATURE`.
fn sign(
    tpm: &dyn Tpm,
    key: KeyHandle,
    extra_data: &Digest32,
) -> Result<(Vec<u8>, Vec<u8>), EvidenceFault> {
    let mut parameters = u16_bytes(extra_data.0.len()).to_vec();
    parameters.extend_from_slice(&extra_data.0);
    parameters.extend_from_slice(&OWN_SCHEME.to_be_bytes());
    parameters.extend_from_slice(&selection([0xff; 3]));
    let answer = transmit(tpm, &command(QUOTE, &[key.0], true, &parameters)).map_err(no_answer)?;
    let parts = || {
        // Before the answer's session: parameters, behind their length.
        let (len, rest) = answer.split_first_chunk()?;
        let parameters = rest.get(..usize::try_from(u32::from_be_bytes(*len)).ok()?)?;
        let attest = counted(parameters)?;
        Some((attest.to_vec(), parameters.get(2 + attest.len()..)?.to_vec()))
    };
    parts().ok_or_else(|| fault("a short answer to the question for a signature"))
}

/// `TPML_PCR_SELECTION` of registers of the SHA-256 bank.
fn selection(bits: [u8; 3]) -> Vec<u8> {
    let mut out = vec![0, 0, 0, 1];
    out.extend_from_slice(&SHA256.to_be_bytes());
    out.push(3);
    out.extend_from_slice(&bits);
    out
}

fn no_answer(why: NoAnswer) -> EvidenceFault {
    match why {
        NoAnswer::Device(device) => device,
        NoAnswer::Refused(detail) => fault(detail),
    }
}

fn fault(detail: impl Into<String>) -> EvidenceFault {
    EvidenceFault::Registers { detail: detail.into() }
}
