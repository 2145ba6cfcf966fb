//! The boot log of a TDX guest: what the firmware measured into the runtime registers, event by event.
//!
//! The firmware leaves it where the ACPI table CCEL points. Sources: UEFI 2.10, 38.4.1, virtual
//! platform CC event log, and 38.4.2 for the registers of TDX; ACPI 6.5, 5.2.34; TCG, PC Client
//! Platform Firmware Profile 1.06, chapter 10 (events, crypto-agile format, `TCG_EfiSpecIDEvent`).
//!
//! The log itself is nobody's word: only the digests that lead to the registers of a quote are. Of an
//! event nothing counts but what its digest covers ([`BootEvent::covered`], [`BootEvent::text`]); its
//! kind never does, since no digest covers that.

use crate::codec::{Malformed, Reader};
use crate::digest::Digest48;
use crate::evidence::BOOT_LOG_LIMIT;
use crate::fault::BadEvidence;

/// Most events of one log; machines of 2026 have some hundred.
const EVENT_LIMIT: usize = 4096;
/// Most banks of digests that one log may announce.
const BANK_LIMIT: usize = 8;
/// `TPM_ALG_SHA384` (TCG Algorithm Registry).
const SHA384: u16 = 0x000c;
/// First event of every crypto-agile log.
const SIGNATURE: &[u8; 16] = b"Spec ID Event03\0";
/// Length of the SHA-1 digest in the first event, which has the older form.
const OLD_DIGEST_LEN: usize = 20;
/// What firmware fills the rest of the log's area with.
const PADDING: u32 = 0xffff_ffff;
/// Longest text that is shown of one event, in characters.
const TEXT_LIMIT: usize = 160;

const NO_ACTION: u32 = 3;
const SEPARATOR: u32 = 4;
/// What a separator may say: all is well (two forms), or the boot failed before it (PFP, 10.4.1).
const SEPARATORS: [&[u8]; 3] = [&[0; 4], &[0xff; 4], &[1, 0, 0, 0]];
const VARIABLES: [u32; 4] = [0x8000_0001, 0x8000_0002, 0x8000_000c, 0x8000_00e0];

/// The register that an event went into, by the index of the UEFI specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BootRegister {
    /// 0: measured before the guest runs; nothing is extended into it later.
    MrTd,
    /// 1: the firmware's configuration.
    Rtmr0,
    /// 2: the loader, or the kernel that was booted directly.
    Rtmr1,
    /// 3: what the loader measured: kernel, initial disk, command line.
    Rtmr2,
    /// 4: left to the running system.
    Rtmr3,
}

impl BootRegister {
    const ALL: [Self; 5] = [Self::MrTd, Self::Rtmr0, Self::Rtmr1, Self::Rtmr2, Self::Rtmr3];

    /// Returns the name for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MrTd => "MRTD",
            Self::Rtmr0 => "RTMR0",
            Self::Rtmr1 => "RTMR1",
            Self::Rtmr2 => "RTMR2",
            Self::Rtmr3 => "RTMR3",
        }
    }

    /// Place among the four runtime registers.
    const fn runtime(self) -> Option<usize> {
        match self {
            Self::MrTd => None,
            Self::Rtmr0 => Some(0),
            Self::Rtmr1 => Some(1),
            Self::Rtmr2 => Some(2),
            Self::Rtmr3 => Some(3),
        }
    }
}

/// One event. Everything in it is the log's word until the log was checked, and even then only
/// [`BootEvent::digest`] and [`BootEvent::covered`] are measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootEvent {
    /// Where it went.
    pub register: BootRegister,
    /// Its type, by number.
    pub kind: u32,
    /// What the register was extended with.
    pub digest: Digest48,
    /// What the log says about it.
    pub data: Vec<u8>,
}

/// A boot log as it was read, not yet compared with registers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootLog {
    events: Vec<BootEvent>,
}

/// One step of a replay, to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootStep<'a> {
    /// The event.
    pub event: &'a BootEvent,
    /// The register after it; nothing where the event extends none.
    pub after: Option<Digest48>,
}

impl BootEvent {
    /// Whether a register was extended with it: informative events and those of MRTD are not.
    #[must_use]
    pub const fn is_extended(&self) -> bool {
        self.kind != NO_ACTION && self.register.runtime().is_some()
    }

    /// Returns the name of the type; nothing when the profile has none.
    #[must_use]
    pub const fn kind_name(&self) -> Option<&'static str> {
        Some(match self.kind {
            0x01 => "EV_POST_CODE",
            0x03 => "EV_NO_ACTION",
            0x04 => "EV_SEPARATOR",
            0x05 => "EV_ACTION",
            0x06 => "EV_EVENT_TAG",
            0x07 => "EV_S_CRTM_CONTENTS",
            0x08 => "EV_S_CRTM_VERSION",
            0x09 => "EV_CPU_MICROCODE",
            0x0a => "EV_PLATFORM_CONFIG_FLAGS",
            0x0b => "EV_TABLE_OF_DEVICES",
            0x0c => "EV_COMPACT_HASH",
            0x0d => "EV_IPL",
            0x0e => "EV_IPL_PARTITION_DATA",
            0x0f => "EV_NONHOST_CODE",
            0x10 => "EV_NONHOST_CONFIG",
            0x11 => "EV_NONHOST_INFO",
            0x12 => "EV_OMIT_BOOT_DEVICE_EVENTS",
            0x8000_0001 => "EV_EFI_VARIABLE_DRIVER_CONFIG",
            0x8000_0002 => "EV_EFI_VARIABLE_BOOT",
            0x8000_0003 => "EV_EFI_BOOT_SERVICES_APPLICATION",
            0x8000_0004 => "EV_EFI_BOOT_SERVICES_DRIVER",
            0x8000_0005 => "EV_EFI_RUNTIME_SERVICES_DRIVER",
            0x8000_0006 => "EV_EFI_GPT_EVENT",
            0x8000_0007 => "EV_EFI_ACTION",
            0x8000_0008 => "EV_EFI_PLATFORM_FIRMWARE_BLOB",
            0x8000_0009 => "EV_EFI_HANDOFF_TABLES",
            0x8000_000a => "EV_EFI_PLATFORM_FIRMWARE_BLOB2",
            0x8000_000b => "EV_EFI_HANDOFF_TABLES2",
            0x8000_000c => "EV_EFI_VARIABLE_BOOT2",
            0x8000_000d => "EV_EFI_GPT_EVENT2",
            0x8000_0010 => "EV_EFI_HCRTM_EVENT",
            0x8000_00e0 => "EV_EFI_VARIABLE_AUTHORITY",
            0x8000_00e1 => "EV_EFI_SPDM_FIRMWARE_BLOB",
            0x8000_00e2 => "EV_EFI_SPDM_FIRMWARE_CONFIG",
            _ => return None,
        })
    }

    /// Returns the part of [`BootEvent::data`] that the digest covers: all of it, or what firmware
    /// and loaders are known to measure of it (a variable's value, a text without its end, a command
    /// without the word before it). Nothing when the digest is about something else, such as a file:
    /// the text is then only the log's word.
    #[must_use]
    pub fn covered(&self) -> Option<&[u8]> {
        let data = self.data.as_slice();
        let text = data.strip_suffix(&[0]).unwrap_or(data);
        let colon = text.windows(2).position(|two| two == b": ");
        let command = colon.and_then(|at| text.get(at + 2..));
        let value = Variable::read(self).map(|variable| variable.value);
        let parts = [Some(data), Some(text), command, value];
        parts.into_iter().flatten().find(|part| Digest48::sha384(&[part]) == self.digest)
    }

    /// Returns what the event says, in printable characters (a variable's name, a text, or how long it
    /// is), and whether its digest covers all of that. A command is shown without the uncovered word
    /// before it; a variable of which only the value is covered by its name, which is then only told.
    #[must_use]
    pub fn text(&self) -> (String, bool) {
        let covered = self.covered();
        if self.kind == SEPARATOR && SEPARATORS.contains(&self.data.as_slice()) {
            return ("separator".to_owned(), covered == Some(&self.data));
        }
        let is_whole = |part: &&[u8]| part.len() + 1 >= self.data.len();
        if let Some(variable) = Variable::read(self) {
            let text = format!("{} ({} bytes)", variable.name, variable.value.len());
            return (text, covered == Some(&self.data));
        }
        match covered.filter(|part| !is_whole(part)) {
            Some(command) => (shown(command), true),
            None => (shown(&self.data), covered.is_some()),
        }
    }
}

/// Bytes as a text, or how many there are.
fn shown(data: &[u8]) -> String {
    let text = data.strip_suffix(&[0]).unwrap_or(data);
    match plain_text(text).or_else(|| wide_text(data)) {
        Some(text) => cut(&text),
        None => format!("{} bytes", data.len()),
    }
}

/// `UEFI_VARIABLE_DATA` (TCG PFP, 10.4.3): GUID, two lengths, name in UTF-16, value.
struct Variable<'a> {
    name: String,
    value: &'a [u8],
}

impl<'a> Variable<'a> {
    fn read(event: &'a BootEvent) -> Option<Self> {
        if !VARIABLES.contains(&event.kind) {
            return None;
        }
        let mut reader = Reader::new(&event.data);
        reader.take(16).ok()?;
        let mut len = || usize::try_from(reader.u64_le().ok()?).ok();
        let (name_len, value_len) = (len()?, len()?);
        let name = reader.take(name_len.checked_mul(2)?).ok()?;
        let value = reader.take(value_len).ok()?;
        let name = wide_text(name).unwrap_or_else(|| "a variable".to_owned());
        reader.rest().is_empty().then(|| Self { name: cut(&name), value })
    }
}

impl BootLog {
    /// Reads a log without the padding behind it.
    ///
    /// # Errors
    /// [`BadEvidence`]: bytes that are no log of this form, an event for a register that TDX has
    /// not, an event without SHA-384, too many bytes or events: refuse the peer.
    pub fn read(bytes: &[u8]) -> Result<Self, BadEvidence> {
        let (log, rest) = Self::read_front(bytes)?;
        if rest.is_empty() { Ok(log) } else { Err(malformed(Malformed("bytes follow it"))) }
    }

    /// Returns the log at the front of an area that is padded with bytes 0xff or 0, as the system
    /// hands it over.
    ///
    /// # Errors
    /// Like [`BootLog::read`].
    pub fn trim(area: &[u8]) -> Result<&[u8], BadEvidence> {
        let (_, rest) = Self::read_front(area)?;
        let len = area.len() - rest.len();
        area.get(..len).ok_or_else(|| malformed(Malformed("it ends early")))
    }

    /// Returns the log and what follows its last event.
    fn read_front(bytes: &[u8]) -> Result<(Self, &[u8]), BadEvidence> {
        let mut reader = Reader::new(bytes);
        let banks = read_header(&mut reader).map_err(malformed)?;
        let mut events = Vec::new();
        while !reader.rest().is_empty() && !is_padding(reader.rest()) {
            if events.len() == EVENT_LIMIT {
                return Err(malformed(Malformed("it has too many events")));
            }
            events.push(read_event(&mut reader, &banks).map_err(malformed)?);
            let len = bytes.len() - reader.rest().len();
            if len > BOOT_LOG_LIMIT {
                let what = "the boot log";
                return Err(BadEvidence::TooLong { what, len, limit: BOOT_LOG_LIMIT });
            }
        }
        Ok((Self { events }, reader.rest()))
    }

    /// Returns a log of these events.
    #[must_use]
    pub fn from_events(events: impl IntoIterator<Item = BootEvent>) -> Self {
        Self { events: events.into_iter().collect() }
    }

    /// Writes the log, with SHA-384 as its only bank.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&1_u32.to_le_bytes());
        out.extend_from_slice(&NO_ACTION.to_le_bytes());
        out.extend_from_slice(&[0; OLD_DIGEST_LEN]);
        out.extend_from_slice(&33_u32.to_le_bytes());
        out.extend_from_slice(SIGNATURE);
        // Platform class 0 (client), version 2.0, errata 0, integers of 64 bits, one bank.
        out.extend_from_slice(&[0, 0, 0, 0, 0, 2, 0, 2, 1, 0, 0, 0]);
        out.extend_from_slice(&SHA384.to_le_bytes());
        out.extend_from_slice(&48_u16.to_le_bytes());
        out.push(0);
        for event in &self.events {
            out.extend_from_slice(&(event.register as u32).to_le_bytes());
            out.extend_from_slice(&event.kind.to_le_bytes());
            out.extend_from_slice(&1_u32.to_le_bytes());
            out.extend_from_slice(&SHA384.to_le_bytes());
            out.extend_from_slice(&event.digest.0);
            let len = u32::try_from(event.data.len()).unwrap_or(u32::MAX);
            out.extend_from_slice(&len.to_le_bytes());
            out.extend_from_slice(&event.data);
        }
        out
    }

    /// Returns the events in their order.
    #[must_use]
    pub fn events(&self) -> &[BootEvent] {
        &self.events
    }

    /// Replays the log from zero bytes: `register = SHA-384(register ‖ digest)`.
    #[must_use]
    pub fn replay(&self) -> Vec<BootStep<'_>> {
        let mut registers = [Digest48::ZERO; 4];
        let step = |event| BootStep { event, after: extend(&mut registers, event) };
        self.events.iter().map(step).collect()
    }

    /// Returns the four registers that the log leads to.
    #[must_use]
    pub fn registers(&self) -> [Digest48; 4] {
        let mut registers = [Digest48::ZERO; 4];
        for event in &self.events {
            let _ = extend(&mut registers, event);
        }
        registers
    }

    /// Checks that the log leads to the registers of a quote. RTMR3 belongs to the running system:
    /// it is compared only where the log has events of it.
    ///
    /// # Errors
    /// [`BadEvidence::BootLog`]: the log is not the one that was measured.
    pub fn check(&self, rtmr: &[Digest48; 4]) -> Result<(), BadEvidence> {
        let registers = BootRegister::ALL.into_iter().skip(1);
        for ((register, replayed), found) in registers.zip(self.registers()).zip(rtmr) {
            let of_it = |event: &BootEvent| event.register == register && event.is_extended();
            let is_free = register == BootRegister::Rtmr3 && !self.events.iter().any(of_it);
            if replayed != *found && !is_free {
                return Err(BadEvidence::BootLog {
                    register: register.name(),
                    replayed: replayed.to_string(),
                    found: found.to_string(),
                });
            }
        }
        Ok(())
    }
}

fn extend(registers: &mut [Digest48; 4], event: &BootEvent) -> Option<Digest48> {
    let at = event.register.runtime().filter(|_| event.is_extended())?;
    let register = registers.get_mut(at)?;
    *register = Digest48::sha384(&[&register.0, &event.digest.0]);
    Some(*register)
}

/// What a log's header announces: algorithms and the lengths of their digests.
type Banks = Vec<(u16, usize)>;

/// Reads the first event: the older form around `TCG_EfiSpecIDEvent`.
fn read_header(reader: &mut Reader<'_>) -> Result<Banks, Malformed> {
    let _index = reader.u32_le()?;
    if reader.u32_le()? != NO_ACTION {
        return Err(Malformed("its first event is another than the header"));
    }
    reader.take(OLD_DIGEST_LEN)?;
    let len = reader.u32_le()?;
    let mut reader = Reader::new(reader.take(usize::try_from(len).unwrap_or(usize::MAX))?);
    if reader.take(SIGNATURE.len())? != SIGNATURE {
        return Err(Malformed("its form is not the crypto-agile one"));
    }
    // Platform class, version, errata, width of integers.
    reader.take(8)?;
    let count = reader.u32_le()?;
    let mut banks = Banks::new();
    for _ in 0..count {
        if banks.len() == BANK_LIMIT {
            return Err(Malformed("it announces too many algorithms"));
        }
        banks.push((reader.u16_le()?, usize::from(reader.u16_le()?)));
    }
    let vendor_len = reader.byte()?;
    reader.take(usize::from(vendor_len))?;
    match reader.rest() {
        [] if banks.contains(&(SHA384, 48)) => Ok(banks),
        [] => Err(Malformed("it has no digests by SHA-384")),
        _ => Err(Malformed("bytes follow its header")),
    }
}

/// Reads one `TCG_PCR_EVENT2`.
fn read_event(reader: &mut Reader<'_>, banks: &Banks) -> Result<BootEvent, Malformed> {
    let index = usize::try_from(reader.u32_le()?).unwrap_or(usize::MAX);
    let register = BootRegister::ALL.get(index).copied();
    let register = register.ok_or(Malformed("an event is of a register unknown to TDX"))?;
    let kind = reader.u32_le()?;
    let count = reader.u32_le()?;
    let mut digest = None;
    if usize::try_from(count).unwrap_or(usize::MAX) > banks.len() {
        return Err(Malformed("an event has more digests than the header announces"));
    }
    for _ in 0..count {
        let algorithm = reader.u16_le()?;
        let bank = banks.iter().find(|(known, _)| *known == algorithm);
        let (_, len) = bank.ok_or(Malformed("an event's algorithm was not announced"))?;
        let bytes = reader.take(*len)?;
        if algorithm == SHA384 {
            let bytes: [u8; 48] = bytes.try_into().map_err(|_| Malformed("a short digest"))?;
            if digest.replace(Digest48::from(bytes)).is_some() {
                return Err(Malformed("an event has two digests by SHA-384"));
            }
        }
    }
    let digest = digest.ok_or(Malformed("an event has no digest by SHA-384"))?;
    let len = reader.u32_le()?;
    let data = reader.take(usize::try_from(len).unwrap_or(usize::MAX))?.to_vec();
    Ok(BootEvent { register, kind, digest, data })
}

/// Whether nothing but the rest of the area follows.
fn is_padding(rest: &[u8]) -> bool {
    match rest.first_chunk() {
        Some(index) if u32::from_le_bytes(*index) == PADDING => true,
        _ => rest.iter().all(|byte| *byte == 0),
    }
}

/// A text in ASCII, its lines joined; nothing when it is none.
fn plain_text(bytes: &[u8]) -> Option<String> {
    let shown = |byte: &u8| match byte {
        b'\n' | b'\t' => Some(' '),
        0x20..0x7f => Some(char::from(*byte)),
        _ => None,
    };
    let text: String = bytes.iter().map(shown).collect::<Option<_>>()?;
    (!text.is_empty()).then_some(text)
}

/// A text in UTF-16, as firmware and loaders write names; nothing when it is none.
fn wide_text(bytes: &[u8]) -> Option<String> {
    let units = bytes.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
    if bytes.len() < 2 || !bytes.len().is_multiple_of(2) {
        return None;
    }
    let text: String = char::decode_utf16(units).collect::<Result<_, _>>().ok()?;
    let text = text.trim_end_matches('\0');
    let is_shown = |character: char| (' '..='~').contains(&character);
    (!text.is_empty() && text.chars().all(is_shown)).then(|| text.to_owned())
}

/// A text that is not too long to be shown.
fn cut(text: &str) -> String {
    text.chars().take(TEXT_LIMIT).collect()
}

fn malformed(fault: Malformed) -> BadEvidence {
    fault.of("the boot log")
}
