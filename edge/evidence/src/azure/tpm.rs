//! Non-volatile storage of a TPM 2.0: as much of its command language as that needs (TCG, TPM 2.0
//! Library, part 3, chapter 31). Integers are big endian.

use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;

use crate::fault::EvidenceFault;

/// The kernel's resource manager.
const DEVICE: &str = "/dev/tpmrm0";

const NO_SESSIONS: u16 = 0x8001;
const SESSIONS: u16 = 0x8002;
const NV_DEFINE_SPACE: u32 = 0x0000_012a;
const NV_WRITE: u32 = 0x0000_0137;
const NV_READ: u32 = 0x0000_014e;
const NV_READ_PUBLIC: u32 = 0x0000_0169;
/// The owner, with an empty password.
const OWNER: u32 = 0x4000_0001;
const PASSWORD: u32 = 0x4000_0009;
const SHA256: u16 = 0x000b;
/// The owner may write (bit 1) and read (bit 17).
const OWNER_WRITES_AND_READS: u32 = 1 << 1 | 1 << 17;
/// Most bytes of one read; every TPM gives at least so many.
const CHUNK: usize = 512;
/// Longest content of an index that is read, bytes.
const INDEX_LIMIT: usize = 64 * 1024;
/// Longest answer, bytes.
const ANSWER_LIMIT: usize = 4096;
/// What answers begin with: tag, length, code.
const HEAD_LEN: usize = 10;

/// Names a piece of the storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NvIndex(pub u32);

/// A TPM that takes one command at a time.
pub trait Tpm: Send + Sync {
    /// Sends a command and returns the answer.
    ///
    /// # Errors
    /// The device failed.
    fn transmit(&self, command: &[u8]) -> io::Result<Vec<u8>>;
}

/// The TPM of this machine.
#[derive(Clone, Debug)]
pub struct TpmDevice {
    path: PathBuf,
}

impl Default for TpmDevice {
    fn default() -> Self {
        Self { path: DEVICE.into() }
    }
}

impl Tpm for TpmDevice {
    fn transmit(&self, command: &[u8]) -> io::Result<Vec<u8>> {
        let mut device = std::fs::OpenOptions::new().read(true).write(true).open(&self.path)?;
        device.write_all(command)?;
        let mut answer = vec![0; ANSWER_LIMIT];
        let len = device.read(&mut answer)?;
        answer.truncate(len);
        Ok(answer)
    }
}

/// Why a TPM gave no good answer.
pub(super) enum NoAnswer {
    /// The device failed.
    Device(EvidenceFault),
    /// It refused, or answered too little.
    Refused(String),
}

/// Reads the whole content of an index.
pub(super) fn read(tpm: &dyn Tpm, index: NvIndex) -> Result<Vec<u8>, EvidenceFault> {
    let len = size(tpm, index)?;
    if len > INDEX_LIMIT {
        return Err(fault(index, format!("its content has {len} bytes")));
    }
    let mut content = Vec::with_capacity(len);
    while content.len() < len {
        let wanted = CHUNK.min(len - content.len());
        let mut parameters = u16_bytes(wanted).to_vec();
        parameters.extend_from_slice(&u16_bytes(content.len()));
        let answer = by_owner(tpm, NV_READ, index, &parameters)?;
        // Behind the length of the parameters: a counted string.
        let part = answer.get(4..).and_then(counted).filter(|part| part.len() == wanted);
        content.extend_from_slice(part.ok_or_else(|| fault(index, "a short answer".to_owned()))?);
    }
    Ok(content)
}

/// Writes an index of exactly this length; makes it when it is not there.
pub(super) fn write(tpm: &dyn Tpm, index: NvIndex, bytes: &[u8]) -> Result<(), EvidenceFault> {
    match size(tpm, index) {
        Ok(len) if len == bytes.len() => {}
        Ok(len) => return Err(fault(index, format!("it is made for {len} bytes"))),
        Err(_) => define(tpm, index, bytes.len())?,
    }
    let mut parameters = u16_bytes(bytes.len()).to_vec();
    parameters.extend_from_slice(bytes);
    parameters.extend_from_slice(&[0, 0]);
    by_owner(tpm, NV_WRITE, index, &parameters).map(drop)
}

fn define(tpm: &dyn Tpm, index: NvIndex, len: usize) -> Result<(), EvidenceFault> {
    let mut public = index.0.to_be_bytes().to_vec();
    public.extend_from_slice(&SHA256.to_be_bytes());
    public.extend_from_slice(&OWNER_WRITES_AND_READS.to_be_bytes());
    // No policy.
    public.extend_from_slice(&[0, 0]);
    public.extend_from_slice(&u16_bytes(len));
    // An empty password of the index, then its public part.
    let mut parameters = vec![0, 0];
    parameters.extend_from_slice(&u16_bytes(public.len()));
    parameters.extend_from_slice(&public);
    let command = command(NV_DEFINE_SPACE, &[OWNER], true, &parameters);
    ask(tpm, index, &command).map(drop)
}

/// Length of the content of an index.
fn size(tpm: &dyn Tpm, index: NvIndex) -> Result<usize, EvidenceFault> {
    let command = command(NV_READ_PUBLIC, &[index.0], false, &[]);
    let answer = ask(tpm, index, &command)?;
    let public = counted(&answer);
    let len = public.and_then(|public| public.last_chunk::<2>());
    let len = len.ok_or_else(|| fault(index, "a short answer".to_owned()))?;
    Ok(usize::from(u16::from_be_bytes(*len)))
}

fn by_owner(
    tpm: &dyn Tpm,
    code: u32,
    index: NvIndex,
    parameters: &[u8],
) -> Result<Vec<u8>, EvidenceFault> {
    ask(tpm, index, &command(code, &[OWNER, index.0], true, parameters))
}

pub(super) fn command(code: u32, handles: &[u32], authorised: bool, parameters: &[u8]) -> Vec<u8> {
    let mut rest = code.to_be_bytes().to_vec();
    for handle in handles {
        rest.extend_from_slice(&handle.to_be_bytes());
    }
    if authorised {
        // Nine bytes: the password session, no nonce, no attributes, an empty password.
        rest.extend_from_slice(&9_u32.to_be_bytes());
        rest.extend_from_slice(&PASSWORD.to_be_bytes());
        rest.extend_from_slice(&[0; 5]);
    }
    rest.extend_from_slice(parameters);
    let tag = if authorised { SESSIONS } else { NO_SESSIONS };
    let mut out = tag.to_be_bytes().to_vec();
    let len = u32::try_from(rest.len() + 6).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(&rest);
    out
}

/// Sends a command about an index.
fn ask(tpm: &dyn Tpm, index: NvIndex, command: &[u8]) -> Result<Vec<u8>, EvidenceFault> {
    transmit(tpm, command).map_err(|why| match why {
        NoAnswer::Device(device) => device,
        NoAnswer::Refused(detail) => fault(index, detail),
    })
}

/// Sends a command; returns what follows the head of a good answer.
pub(super) fn transmit(tpm: &dyn Tpm, command: &[u8]) -> Result<Vec<u8>, NoAnswer> {
    let answer = tpm.transmit(command).map_err(|source| {
        let (what, path) = ("asking the TPM", DEVICE.into());
        NoAnswer::Device(EvidenceFault::Device { what, path, source })
    })?;
    let code = answer.get(6..HEAD_LEN).and_then(|code| code.try_into().ok());
    match code.map(u32::from_be_bytes) {
        Some(0) => Ok(answer.get(HEAD_LEN..).unwrap_or_default().to_vec()),
        Some(code) => Err(NoAnswer::Refused(format!("answer code {code:#x}"))),
        None => Err(NoAnswer::Refused("a short answer".to_owned())),
    }
}

/// A string behind its length of two bytes.
pub(super) fn counted(bytes: &[u8]) -> Option<&[u8]> {
    let (len, rest) = bytes.split_first_chunk::<2>()?;
    rest.get(..usize::from(u16::from_be_bytes(*len)))
}

pub(super) fn u16_bytes(number: usize) -> [u8; 2] {
    u16::try_from(number).unwrap_or(u16::MAX).to_be_bytes()
}

fn fault(index: NvIndex, detail: String) -> EvidenceFault {
    let found = format!("a TPM whose index {:#010x} cannot be used: {detail}", index.0);
    EvidenceFault::NoTee { found }
}
