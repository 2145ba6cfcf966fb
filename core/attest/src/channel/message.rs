//! The two messages of the handshake and their encoding.
//!
//! Integers are big endian; a byte string is a length of four bytes and the bytes; an
//! optional one begins with a byte 0 or 1. Reading accepts exactly what writing makes.

use super::fault::HandshakeFault;
use super::statement::{ADDRESS_LIMIT, ChannelRole};
use crate::codec::{Malformed, Reader};
use crate::digest::Digest32;
use crate::endorsement::ENDORSEMENT_LIMIT;
use crate::evidence::{BOOT_LOG_LIMIT, EVENT_LOG_LIMIT, QUOTE_LIMIT, VCEK_LIMIT};
use crate::gpu::{GpuEvidence, GpuMode};
use crate::runtime::RUNTIME_DATA_LIMIT;
use crate::snp::REPORT_LEN;
use crate::vtpm::VTPM_LIMIT;

/// Longest message in bytes.
pub const MESSAGE_LIMIT: usize = 256 * 1024;

/// Longest GPU report and GPU chain in bytes.
const GPU_LIMIT: usize = 64 * 1024;

const HELLO: u8 = 1;
const OFFER: u8 = 2;

/// One message of the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The first of each side.
    Hello(Hello),
    /// Evidence, sent by a side that attests to a side that demands it.
    Offer(Box<Offer>),
}

/// Opens the handshake.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hello {
    /// Role of the sender.
    pub role: ChannelRole,
    /// Nonce for the evidence of the receiver.
    pub nonce: [u8; 32],
    /// Whether the sender can attest.
    pub attests: bool,
    /// Whether the sender wants the receiver to attest.
    pub demands: bool,
    /// The address that the sender dialled, as it wrote it; nothing from the side that was
    /// dialled. At most [`ADDRESS_LIMIT`] bytes.
    pub dialled: Option<String>,
}

/// What the attesting side states about itself beyond what the verifier knows anyway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Announcement {
    /// Own contract or worker id.
    pub own_id: Digest32,
    /// Digest of the keys used for anything else.
    pub keyset: Digest32,
    /// Own image hash.
    pub image: Digest32,
    /// Digest of the model served; zero for none.
    pub model: Digest32,
    /// Digest of the GPU evidence; zero for none.
    pub gpu: Digest32,
    /// A recent block of the chain.
    pub beacon: Digest32,
    /// Last second in which the statement counts, Unix seconds.
    pub not_after_s: u64,
}

/// Evidence over the statement that the receiver expects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// The free parts of the statement.
    pub announcement: Announcement,
    /// TDX quote.
    pub tdx_quote: Option<Vec<u8>>,
    /// SEV-SNP report.
    pub sev_report: Option<Vec<u8>>,
    /// VCEK certificate in PEM.
    pub sev_vcek_pem: Option<Vec<u8>>,
    /// GPU evidence.
    pub gpu: Option<GpuEvidence>,
    /// Event log.
    pub event_log: Option<Vec<u8>>,
    /// Runtime data of Azure's paravisor; written only when there are some.
    pub runtime_data: Option<Vec<u8>>,
    /// The firmware's boot log; written only when there is one.
    pub boot_log: Option<Vec<u8>>,
    /// Endorsement by the machine's owner; written only when there is one, and only to peers that
    /// announced that they read it.
    pub endorsement: Option<Vec<u8>>,
    /// The registers of the vTPM beside a paravisor ([`crate::vtpm::VtpmQuote::encode`]); written only
    /// when there are some, and only to peers that announced that they read them.
    pub vtpm: Option<Vec<u8>>,
}

impl Message {
    /// Writes the message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Hello(hello) => {
                let flags = u8::from(hello.attests)
                    | u8::from(hello.demands) << 1
                    | u8::from(hello.dialled.is_some()) << 2;
                let mut out = vec![HELLO, hello.role.byte(), flags];
                out.extend_from_slice(&hello.nonce);
                if let Some(address) = &hello.dialled {
                    // Longer ones are cut and then refused by whoever compares them.
                    let address = address.as_bytes();
                    let address = address.get(..ADDRESS_LIMIT).unwrap_or(address);
                    out.push(u8::try_from(address.len()).unwrap_or(u8::MAX));
                    out.extend_from_slice(address);
                }
                out
            }
            Self::Offer(offer) => encode_offer(offer),
        }
    }

    /// Reads a message, which must fill `bytes` exactly.
    ///
    /// # Errors
    /// [`HandshakeFault::Malformed`]: close the connection.
    pub fn decode(bytes: &[u8]) -> Result<Self, HandshakeFault> {
        if bytes.len() > MESSAGE_LIMIT {
            return Err(Malformed("it is too long").into());
        }
        let mut reader = Reader::new(bytes);
        let message = match reader.byte()? {
            HELLO => Self::Hello(decode_hello(&mut reader)?),
            OFFER => Self::Offer(Box::new(decode_offer(&mut reader)?)),
            _ => return Err(Malformed("its kind is unknown").into()),
        };
        reader.finish()?;
        Ok(message)
    }
}

fn decode_hello(reader: &mut Reader<'_>) -> Result<Hello, Malformed> {
    let role = ChannelRole::from_byte(reader.byte()?).ok_or(Malformed("its role"))?;
    let flags = reader.byte()?;
    if flags > 7 {
        return Err(Malformed("its flags"));
    }
    let nonce = reader.array()?;
    let dialled = if flags & 4 == 0 {
        None
    } else {
        let len = usize::from(reader.byte()?);
        let address = std::str::from_utf8(reader.take(len)?);
        // It ends in logs and pages.
        let printable = |text: &&str| text.bytes().all(|byte| byte.is_ascii_graphic());
        let address = address.ok().filter(printable).ok_or(Malformed("its address"))?;
        Some(address.to_owned())
    };
    Ok(Hello { role, nonce, attests: flags & 1 != 0, demands: flags & 2 != 0, dialled })
}

fn encode_offer(offer: &Offer) -> Vec<u8> {
    let mut out = vec![OFFER];
    let said = &offer.announcement;
    for digest in [said.own_id, said.keyset, said.image, said.model, said.gpu, said.beacon] {
        out.extend_from_slice(&digest.0);
    }
    out.extend_from_slice(&said.not_after_s.to_be_bytes());
    write(&mut out, offer.tdx_quote.as_deref());
    write(&mut out, offer.sev_report.as_deref());
    write(&mut out, offer.sev_vcek_pem.as_deref());
    write(&mut out, offer.event_log.as_deref());
    match &offer.gpu {
        None => out.push(0),
        Some(gpu) => {
            out.push(1);
            out.push(u8::from(gpu.mode.confidential) | u8::from(gpu.mode.developer) << 1);
            write(&mut out, Some(&gpu.report));
            write(&mut out, Some(&gpu.chain_pem));
        }
    }
    // What only some have stands at the end, and is written as far as there is any.
    let tail = [&offer.runtime_data, &offer.boot_log, &offer.endorsement, &offer.vtpm];
    let written = tail.iter().rposition(|part| part.is_some()).map_or(0, |last| last + 1);
    for part in tail.into_iter().take(written) {
        write(&mut out, part.as_deref());
    }
    out
}

fn decode_offer(reader: &mut Reader<'_>) -> Result<Offer, Malformed> {
    let announcement = Announcement {
        own_id: Digest32::from(reader.array()?),
        keyset: Digest32::from(reader.array()?),
        image: Digest32::from(reader.array()?),
        model: Digest32::from(reader.array()?),
        gpu: Digest32::from(reader.array()?),
        beacon: Digest32::from(reader.array()?),
        not_after_s: u64::from_be_bytes(reader.array()?),
    };
    let mut offer = Offer {
        announcement,
        tdx_quote: optional(reader, QUOTE_LIMIT)?,
        sev_report: optional(reader, REPORT_LEN)?,
        sev_vcek_pem: optional(reader, VCEK_LIMIT)?,
        event_log: optional(reader, EVENT_LOG_LIMIT)?,
        gpu: decode_gpu(reader)?,
        ..Offer::default()
    };
    let tail = [
        (&mut offer.runtime_data, RUNTIME_DATA_LIMIT),
        (&mut offer.boot_log, BOOT_LOG_LIMIT),
        (&mut offer.endorsement, ENDORSEMENT_LIMIT),
        (&mut offer.vtpm, VTPM_LIMIT),
    ];
    let mut is_ended = true;
    for (part, limit) in tail {
        if reader.rest().is_empty() {
            break;
        }
        *part = optional(reader, limit)?;
        is_ended = part.is_some();
    }
    if !is_ended {
        return Err(Malformed("its last part is announced as absent"));
    }
    Ok(offer)
}

fn decode_gpu(reader: &mut Reader<'_>) -> Result<Option<GpuEvidence>, Malformed> {
    match reader.byte()? {
        0 => return Ok(None),
        1 => {}
        _ => return Err(Malformed("a mark is neither 0 nor 1")),
    }
    let flags = reader.byte()?;
    if flags > 3 {
        return Err(Malformed("the GPU's flags"));
    }
    let mode = GpuMode { confidential: flags & 1 != 0, developer: flags & 2 != 0 };
    let absent = Malformed("a part of the GPU evidence is absent");
    let report = optional(reader, GPU_LIMIT)?.ok_or(absent)?;
    let chain_pem = optional(reader, GPU_LIMIT)?.ok_or(absent)?;
    Ok(Some(GpuEvidence { report, chain_pem, mode }))
}

fn write(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => out.push(0),
        Some(bytes) => {
            out.push(1);
            out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
            out.extend_from_slice(bytes);
        }
    }
}

/// Reads a byte string that may be absent.
fn optional(reader: &mut Reader<'_>, limit: usize) -> Result<Option<Vec<u8>>, Malformed> {
    match reader.byte()? {
        0 => Ok(None),
        1 => {
            let len = usize::try_from(u32::from_be_bytes(reader.array()?)).unwrap_or(usize::MAX);
            if len > limit {
                return Err(Malformed("a part of it is too long"));
            }
            Ok(Some(reader.take(len)?.to_vec()))
        }
        _ => Err(Malformed("a mark is neither 0 nor 1")),
    }
}
