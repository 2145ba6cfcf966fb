//! Collateral kept over restarts: one file for each platform.

use std::io;
use std::path::{Path, PathBuf};

use cocoon_attest::{Collateral, CollateralNeed};
use serde::{Deserialize, Serialize};

use super::{CollateralSource, CollateralStore};
use crate::fault::EvidenceFault;

/// Longest file that is read, in bytes: TCB info of a large platform has some 100 KiB.
const FILE_LEN_MAX: u64 = 4 << 20;

/// Most files that are read.
const FILES_MAX: usize = 256;

/// A source whose answers are also written to a directory.
///
/// What is read back is judged by its own dates and by the makers' signatures like anything
/// else: whoever can write there can only make a verdict "cannot check now".
#[derive(Clone, Debug)]
pub struct KeptOnDisk<S> {
    source: S,
    directory: PathBuf,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    need: CollateralNeed,
    collateral: Collateral,
}

impl<S> KeptOnDisk<S> {
    /// Returns the source with its directory, which is made if it is not there.
    ///
    /// # Errors
    /// The directory cannot be made: choose another.
    pub fn new(source: S, directory: PathBuf) -> Result<Self, EvidenceFault> {
        std::fs::create_dir_all(&directory).map_err(|source| EvidenceFault::Device {
            what: "making the directory for collateral",
            path: directory.clone(),
            source,
        })?;
        Ok(Self { source, directory })
    }

    fn write(&self, need: &CollateralNeed, collateral: &Collateral) -> io::Result<()> {
        let kept = Kept { need: need.clone(), collateral: collateral.clone() };
        let text = serde_json::to_vec(&kept)?;
        let name = match need {
            CollateralNeed::Nothing => return Ok(()),
            CollateralNeed::Tdx { fmspc, issuer } => {
                format!("tdx-{}-{issuer:?}.json", hex::encode(fmspc)).to_lowercase()
            }
            CollateralNeed::Snp { product } => {
                format!("snp-{}.json", product.name()).to_lowercase()
            }
        };
        // Written beside and renamed, so that no reader sees half a file.
        let half = self.directory.join(format!("{name}.new"));
        std::fs::write(&half, text)?;
        std::fs::rename(half, self.directory.join(name))
    }
}

impl<S: CollateralSource> CollateralSource for KeptOnDisk<S> {
    async fn fetch(&self, need: &CollateralNeed, now_ms: u64) -> Result<Collateral, EvidenceFault> {
        let fresh = self.source.fetch(need, now_ms).await?;
        // A full disk costs the next start a fetch, nothing else.
        let _ = self.write(need, &fresh);
        Ok(fresh)
    }
}

impl<S: CollateralSource> CollateralStore<KeptOnDisk<S>> {
    /// Puts in what was kept on disk and still counts at `now_ms`; returns how many platforms.
    /// Stale, damaged and foreign files are passed over: what they held is fetched anew.
    pub async fn load(&self, now_ms: u64) -> usize {
        let Ok(files) = std::fs::read_dir(&self.source().directory) else { return 0 };
        let mut loaded = 0;
        for file in files.flatten().take(FILES_MAX) {
            let Some(kept) = read(&file.path()) else { continue };
            loaded += usize::from(self.put(&kept.need, kept.collateral, now_ms).await.is_ok());
        }
        loaded
    }
}

fn read(path: &Path) -> Option<Kept> {
    let is_ours = path.extension().is_some_and(|extension| extension == "json");
    if !is_ours || std::fs::metadata(path).ok()?.len() > FILE_LEN_MAX {
        return None;
    }
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}
