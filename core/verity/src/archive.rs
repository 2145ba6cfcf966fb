//! The archive of a model's folder: the tar that GNU tar 1.34 writes for the network's options.
//!
//! POSIX.1-2001 (pax) headers, members sorted by the bytes of their names within each folder,
//! owner 0, time 0, rights as [`file_mode`] says, a final padding to the next 4096 bytes
//! (protocol notes, wire 6.3). A member gets an extended header when its path is longer than 100
//! bytes or not ASCII (`path`), or its size has more than 33 bits (`size`).

use crate::fault::ArchiveFault;
use crate::shape::BLOCK_BYTES;

/// Bytes of a header, and unit of everything in an archive.
const RECORD: u64 = 512;
/// Records that GNU tar writes at once: the archive ends at a multiple of them.
const FACTOR: u64 = 20 * RECORD;
/// Most members of a model.
const MEMBERS_MAX: usize = 100_000;
/// Longest path, bytes.
const PATH_BYTES_MAX: usize = 4096;
/// Largest size that a plain header holds.
const PLAIN_SIZE_MAX: u64 = 0o77_777_777_777;

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A file of this many bytes.
    File {
        /// Its bytes.
        size: u64,
    },
}

/// One member of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Parts of its path below the model's folder; none is the folder itself.
    pub path: Vec<Vec<u8>>,
    /// What it is.
    pub kind: Kind,
    /// Rights of its file, as the system gives them.
    pub mode: u32,
}

/// The rights in an archive: owner's rights are everybody's, but nobody else writes
/// (`go+u,go-w`), so that a machine's umask does not matter.
#[must_use]
pub const fn file_mode(mode: u32) -> u32 {
    let owner = (mode >> 6) & 7;
    (mode & 0o7777 | owner << 3 | owner) & !0o022
}

/// An archive as a plan: members in their order, and how long everything is.
#[derive(Clone, Debug)]
pub struct Archive {
    members: Vec<Member>,
    bytes: u64,
}

impl Archive {
    /// Orders the members and checks their paths. The folder itself must be among them.
    ///
    /// # Errors
    /// [`ArchiveFault`]: the folder is no model, or the caller gave members twice.
    pub fn new(mut members: Vec<Member>) -> Result<Self, ArchiveFault> {
        if members.len() > MEMBERS_MAX {
            return Err(ArchiveFault::TooMany { limit: MEMBERS_MAX });
        }
        members.sort_by(|one, other| one.path.cmp(&other.path));
        let mut bytes = 0u64;
        let mut before: Option<&Member> = None;
        for member in &members {
            let shown = || String::from_utf8_lossy(&shown_path(member)).chars().take(200).collect();
            if !is_sound(member) {
                return Err(ArchiveFault::Path { path: shown() });
            }
            if before.is_some_and(|before| before.path == member.path) {
                return Err(ArchiveFault::Order { path: shown() });
            }
            before = Some(member);
            let contents = match member.kind {
                Kind::Folder => 0,
                Kind::File { size } => {
                    size.checked_next_multiple_of(RECORD).ok_or(ArchiveFault::TooLarge)?
                }
            };
            let header = header(member).len() as u64;
            bytes = bytes
                .checked_add(header)
                .and_then(|sum| sum.checked_add(contents))
                .filter(|sum| *sum < 1 << 62)
                .ok_or(ArchiveFault::TooLarge)?;
        }
        Ok(Self { members, bytes })
    }

    /// The members in the order of the archive.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The bytes before a member's contents.
    #[must_use]
    pub fn header(member: &Member) -> Vec<u8> {
        header(member)
    }

    /// Zero bytes after contents of this size.
    #[must_use]
    pub const fn padding(size: u64) -> u64 {
        size.next_multiple_of(RECORD) - size
    }

    /// Zero bytes after the last member: two records, up to tar's factor, then up to the next
    /// block. The last step adds a whole block where none is needed, as the reference does.
    #[must_use]
    pub const fn ending(&self) -> u64 {
        self.total_bytes() - self.bytes
    }

    /// Bytes of the whole archive, a multiple of 4096.
    #[must_use]
    pub const fn total_bytes(&self) -> u64 {
        let tar = (self.bytes + 2 * RECORD).next_multiple_of(FACTOR);
        tar + (BLOCK_BYTES as u64 - tar % BLOCK_BYTES as u64)
    }
}

/// Whether a path can stand in an archive and be taken out again within its folder.
fn is_sound(member: &Member) -> bool {
    let part_is_sound = |part: &Vec<u8>| {
        !part.is_empty()
            && part != b"."
            && part != b".."
            && !part.iter().any(|b| [0, b'/'].contains(b))
    };
    let length: usize = member.path.iter().map(|part| part.len() + 1).sum();
    length <= PATH_BYTES_MAX
        && member.path.iter().all(part_is_sound)
        && (!member.path.is_empty() || member.kind == Kind::Folder)
}

/// `./a/b`, with a slash at the end of a folder.
fn shown_path(member: &Member) -> Vec<u8> {
    let mut path = b".".to_vec();
    for part in &member.path {
        path.push(b'/');
        path.extend_from_slice(part);
    }
    if member.kind == Kind::Folder {
        path.push(b'/');
    }
    path
}

fn header(member: &Member) -> Vec<u8> {
    let path = shown_path(member);
    let size = match member.kind {
        Kind::Folder => 0,
        Kind::File { size } => size,
    };
    let mut extended = Vec::new();
    if path.len() > 100 || !path.is_ascii() {
        extend(&mut extended, b"path", &path);
    }
    let mut plain_size = size;
    if size > PLAIN_SIZE_MAX {
        extend(&mut extended, b"size", size.to_string().as_bytes());
        plain_size = 0;
    }
    let mut out = Vec::with_capacity(512);
    if !extended.is_empty() {
        out.extend(record(&extended_name(member), 0o644, extended.len() as u64, b'x'));
        out.extend_from_slice(&extended);
        out.resize(out.len().next_multiple_of(RECORD as usize), 0);
    }
    let kind = if member.kind == Kind::Folder { b'5' } else { b'0' };
    out.extend(record(&path, file_mode(member.mode), plain_size, kind));
    out
}

/// `%d/PaxHeaders/%f`.
fn extended_name(member: &Member) -> Vec<u8> {
    let mut name = b".".to_vec();
    let (last, folders) = match member.path.split_last() {
        Some((last, folders)) => (last.as_slice(), folders),
        None => (&b"."[..], &[][..]),
    };
    for part in folders {
        name.push(b'/');
        name.extend_from_slice(part);
    }
    name.extend_from_slice(b"/PaxHeaders/");
    name.extend_from_slice(last);
    name
}

/// One line of an extended header: its own length, a keyword, a value (POSIX.1-2001, pax).
fn extend(out: &mut Vec<u8>, keyword: &[u8], value: &[u8]) {
    let rest = keyword.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(keyword);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// One header record (POSIX.1-1988, ustar). Extended headers leave the device numbers empty.
fn record(name: &[u8], mode: u32, size: u64, kind: u8) -> [u8; RECORD as usize] {
    let mut bytes = [0; RECORD as usize];
    let mut put = |at: usize, field: &[u8]| {
        if let Some(place) = bytes.get_mut(at..at + field.len()) {
            place.copy_from_slice(field);
        }
    };
    put(0, name.get(..name.len().min(100)).unwrap_or_default());
    put(100, format!("{mode:07o}\0").as_bytes());
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    if kind != b'x' {
        put(329, b"0000000\0");
        put(337, b"0000000\0");
    }
    let sum: u32 = bytes.iter().map(|byte| u32::from(*byte)).sum();
    let sum = format!("{sum:06o}\0 ");
    if let Some(place) = bytes.get_mut(148..156) {
        place.copy_from_slice(sum.as_bytes());
    }
    bytes
}
