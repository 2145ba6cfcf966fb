//! The router's certificate: from files, read again when they change.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use cocoon_host::Stop;
use cocoon_ratls::{Credentials, CredentialsHolder};
use zeroize::Zeroizing;

/// Largest file read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where certificate and key stand.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    certificate: PathBuf,
    key: PathBuf,
}

/// Times of both files; another is another pair.
type Stamp = [Option<SystemTime>; 2];

impl Pair {
    /// `<base>_cert.pem` and `<base>_key.pem` (protocol notes, wire 2.4).
    pub(crate) fn new(base: &str) -> Self {
        Self {
            certificate: format!("{base}_cert.pem").into(),
            key: format!("{base}_key.pem").into(),
        }
    }

    pub(crate) fn read(&self) -> Result<Credentials, String> {
        let file = |path: &Path| -> Result<Zeroizing<Vec<u8>>, String> {
            let fault = |fault: std::io::Error| format!("{}: {fault}", path.display());
            let length = std::fs::metadata(path).map_err(fault)?.len();
            if length > FILE_BYTES_MAX {
                return Err(format!("{}: {length} bytes are no PEM file", path.display()));
            }
            std::fs::read(path).map(Zeroizing::new).map_err(fault)
        };
        let read = Credentials::from_pem(&file(&self.certificate)?, &file(&self.key)?);
        read.map_err(|fault| format!("{}: {fault}", self.certificate.display()))
    }

    fn stamp(&self) -> Stamp {
        let time = |path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        [time(&self.certificate), time(&self.key)]
    }

    /// Shows the new pair on new connections whenever the files changed. A pair that cannot be
    /// used, such as one half written, leaves the old one in use and is looked at again.
    pub(crate) async fn reload(self, holder: CredentialsHolder, every: Duration, stop: Stop) {
        let mut shown = self.stamp();
        loop {
            tokio::select! {
                () = stop.asked() => return,
                () = tokio::time::sleep(every) => {}
            }
            let now = self.stamp();
            if now == shown {
                continue;
            }
            match self.read() {
                Ok(fresh) => {
                    shown = now;
                    holder.replace(fresh);
                    tracing::info!(path = %self.certificate.display(), "certificate reloaded");
                }
                Err(fault) => tracing::warn!(%fault, "certificate not reloaded, the old one stays"),
            }
        }
    }
}
