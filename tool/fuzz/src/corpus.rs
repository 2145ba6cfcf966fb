//! What is kept of past runs: one file a target, inputs one after the other, each behind its
//! length (4 bytes, little-endian).

use anyhow::{Context as _, Result, ensure};
use std::path::{Path, PathBuf};

/// Most bytes of one file.
const FILE_LEN_MAX: u64 = 8 << 20;

/// Where the corpus of a target lies.
#[must_use]
pub fn path(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(format!("{target}.corpus"))
}

/// Reads a corpus; none is an empty one.
///
/// # Errors
/// The file is damaged: restore it.
pub fn read(path: &Path) -> Result<Vec<Vec<u8>>> {
    let Ok(about) = std::fs::metadata(path) else { return Ok(Vec::new()) };
    ensure!(about.len() <= FILE_LEN_MAX, "{}: {} bytes", path.display(), about.len());
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    let mut rest = bytes.as_slice();
    let mut inputs = Vec::new();
    while let Some((len, tail)) = rest.split_first_chunk() {
        let (input, tail) = tail
            .split_at_checked(u32::from_le_bytes(*len) as usize)
            .with_context(|| format!("{} is cut off", path.display()))?;
        inputs.push(input.to_vec());
        rest = tail;
    }
    ensure!(rest.is_empty(), "{} is cut off", path.display());
    Ok(inputs)
}

/// Writes a corpus, shortest inputs first, so that the same inputs make the same file.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, mut inputs: Vec<Vec<u8>>) -> Result<()> {
    inputs.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
    inputs.dedup();
    let mut bytes = Vec::new();
    for input in &inputs {
        bytes.extend_from_slice(&u32::try_from(input.len())?.to_le_bytes());
        bytes.extend_from_slice(input);
    }
    std::fs::write(path, bytes).with_context(|| path.display().to_string())
}
