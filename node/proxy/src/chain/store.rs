//! The root contract's states under which this proxy had contracts: what their addresses follow
//! from. Kept until the contracts are wound down.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use cocoon_contract::boc;
use cocoon_contract::root::RootState;

use crate::fault::RunFault;

/// Largest file that is read, bytes.
const FILE_LEN_MAX: u64 = 8 << 20;

/// One file for each `params_version`.
#[derive(Clone, Debug)]
pub(crate) struct Roots {
    dir: PathBuf,
}

impl Roots {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    fn path(&self, epoch: u32) -> PathBuf {
        self.dir.join(format!("{epoch}.boc"))
    }

    /// Makes a state durable, in place of an earlier one with the same parameters.
    pub(crate) fn keep(&self, root: &RootState) -> Result<(), RunFault> {
        let path = self.path(root.network.params.params_version);
        let cell = root.cell().map_err(|fault| RunFault::file(&path, &fault))?;
        write(&self.dir, &path, &boc::encode(&cell)).map_err(|fault| RunFault::file(&path, &fault))
    }

    /// The state with these parameters, if it was kept.
    pub(crate) fn read(&self, epoch: u32) -> Result<Option<RootState>, RunFault> {
        let path = self.path(epoch);
        let fault = |fault: &dyn std::fmt::Display| RunFault::file(&path, fault);
        match std::fs::metadata(&path) {
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(fault(&source)),
            Ok(meta) if meta.len() > FILE_LEN_MAX => return Err(fault(&"it is too long")),
            Ok(_) => {}
        }
        let bytes = std::fs::read(&path).map_err(|source| fault(&source))?;
        let cell = boc::decode(&bytes, boc::Limits::ROOT).map_err(|source| fault(&source))?;
        RootState::parse(&cell).map(Some).map_err(|source| fault(&source))
    }

    /// The state with the newest parameters.
    pub(crate) fn newest(&self) -> Result<Option<RootState>, RunFault> {
        let Ok(entries) = std::fs::read_dir(&self.dir) else { return Ok(None) };
        let epoch = |entry: std::fs::DirEntry| {
            entry.path().file_stem().and_then(|stem| stem.to_str()?.parse::<u32>().ok())
        };
        match entries.flatten().filter_map(epoch).max() {
            Some(epoch) => self.read(epoch),
            None => Ok(None),
        }
    }

    /// Forgets a state whose contracts are wound down.
    pub(crate) fn forget(&self, epoch: u32) {
        if let Err(fault) = std::fs::remove_file(self.path(epoch)) {
            tracing::warn!(epoch, %fault, "a state of the root contract is kept for nothing");
        }
    }
}

fn write(dir: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let fresh = path.with_extension("new");
    let mut file = std::fs::File::create(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    std::fs::File::open(dir)?.sync_all()
}
