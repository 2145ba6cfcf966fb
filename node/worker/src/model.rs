//! `worker.changeModel`: serving another model on a proxy operator's word (protocol notes, wire
//! 3.8). The work is the configured script's; the node checks the name and waits.

use cocoon_contract::cell::Hash;
use cocoon_host::ServedModel;
use cocoon_units::ModelName;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use thiserror::Error;

use crate::weights::Weights;

/// How long the script may run: the proxy waits no longer (protocol notes, wire 3.4).
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(60);

/// Why another model is not served. The text is the answer to the proxy, with code 602.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum ModelFault {
    /// Peer: not a name, or its hash is not in the root contract.
    #[error("cannot change model: unknown model")]
    Unknown,
    /// Configuration: nothing says how.
    #[error("cannot change model: no script in config")]
    NoScript,
    /// Environment: the script cannot be run, failed, or ran too long.
    #[error("cannot change model: model change script failed")]
    Script,
    /// Configuration or environment: the name promises bytes, and those here are others or
    /// cannot be checked.
    #[error("cannot change model: its bytes are not those of its name")]
    Weights,
    /// Peer: another change has not ended yet.
    #[error("cannot change model: another change is running")]
    Busy,
}

/// How and to what the model may be changed.
#[derive(Clone, Debug)]
pub(crate) struct ModelChange {
    script: Option<PathBuf>,
    /// SHA-256 of the names that may be served; `None` checks nothing (test mode only).
    allowed: Option<BTreeSet<Hash>>,
    weights: Weights,
    running: bool,
    /// What the worker states over its connections.
    served: ServedModel,
}

impl ModelChange {
    /// An empty path is no script.
    pub(crate) fn new(script: &Path, allowed: Option<BTreeSet<Hash>>, weights: Weights) -> Self {
        let script = Some(script.to_owned()).filter(|path| !path.as_os_str().is_empty());
        let served = ServedModel::default();
        Self { script, allowed, weights, running: false, served }
    }

    /// Tells the worker's connections which model they are to state.
    pub(crate) fn stating(self, served: ServedModel) -> Self {
        Self { served, ..self }
    }

    /// The bytes that are served.
    pub(crate) fn weights(&self) -> Weights {
        self.weights.clone()
    }

    /// Begins a change: gives the script to [`run`]; [`ended`](Self::ended) must follow.
    pub(crate) fn begin(&mut self, model: &str) -> Result<(PathBuf, ModelName), ModelFault> {
        let name = ModelName::new(model.to_owned()).map_err(|_| ModelFault::Unknown)?;
        // The script would take it for an option, or write its control characters somewhere.
        if model.starts_with('-') || model.chars().any(char::is_control) {
            return Err(ModelFault::Unknown);
        }
        let hash = Hash(Sha256::digest(model).into());
        if self.allowed.as_ref().is_some_and(|allowed| !allowed.contains(&hash)) {
            return Err(ModelFault::Unknown);
        }
        let script = self.script.clone().ok_or(ModelFault::NoScript)?;
        if std::mem::replace(&mut self.running, true) {
            return Err(ModelFault::Busy);
        }
        Ok((script, name))
    }

    /// Another model is served from now on.
    pub(crate) fn serves(&self, model: &ModelName) {
        self.served.set(model.as_str());
    }

    /// The script has ended.
    pub(crate) fn ended(&mut self) {
        self.running = false;
    }
}

/// Runs the script, then checks the bytes it left when the new name promises some.
pub(crate) async fn change(
    script: &Path,
    model: &ModelName,
    weights: &Weights,
) -> Result<(), ModelFault> {
    weights.begin_change();
    let changed = run(script, model).await;
    let checked = match changed {
        Ok(()) => weights.check(model).await.map_err(|fault| {
            tracing::warn!(%fault, "the model was not changed");
            ModelFault::Weights
        }),
        Err(fault) => Err(fault),
    };
    if checked.is_err() {
        // The old name goes on only over the old bytes: the watch looks again.
        weights.keep();
    }
    checked
}

/// Runs the script with the model's name as its only argument, never through a shell, and waits
/// for its end. A script that runs too long is killed.
pub(crate) async fn run(script: &Path, model: &ModelName) -> Result<(), ModelFault> {
    let mut command = tokio::process::Command::new(script);
    command.arg(model.as_str()).stdin(Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(SCRIPT_TIMEOUT, command.status()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => {
            tracing::warn!(%status, script = %script.display(), "model change script failed");
            Err(ModelFault::Script)
        }
        Ok(Err(fault)) => {
            tracing::warn!(%fault, script = %script.display(), "model change script cannot run");
            Err(ModelFault::Script)
        }
        Err(_) => {
            tracing::warn!(script = %script.display(), "model change script ran too long");
            Err(ModelFault::Script)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails says where")]

    use super::*;

    fn weights() -> Weights {
        Weights::new(Path::new(""))
    }

    #[test]
    fn only_models_of_the_root_contract_are_served_one_change_at_a_time() {
        let hash = Hash(Sha256::digest("known@1:00").into());
        let mut change =
            ModelChange::new(Path::new("/script"), Some(BTreeSet::from([hash])), weights());
        assert_eq!(change.begin("other@1:00"), Err(ModelFault::Unknown));
        assert_eq!(change.begin(""), Err(ModelFault::Unknown));
        let (script, name) = change.begin("known@1:00").unwrap();
        assert_eq!((script.as_path(), name.as_str()), (Path::new("/script"), "known@1:00"));
        assert_eq!(change.begin("known@1:00"), Err(ModelFault::Busy));
        change.ended();
        assert!(change.begin("known@1:00").is_ok());
    }

    #[test]
    fn an_unknown_model_is_refused_before_the_missing_script() {
        let mut change = ModelChange::new(Path::new(""), Some(BTreeSet::new()), weights());
        assert_eq!(change.begin("other@1:00"), Err(ModelFault::Unknown));
        let mut change = ModelChange::new(Path::new(""), None, weights());
        assert_eq!(change.begin("other@1:00"), Err(ModelFault::NoScript));
    }

    #[test]
    fn a_name_is_no_option_of_the_script() {
        let mut change = ModelChange::new(Path::new("/script"), None, weights());
        for name in ["--delete", "-", "model\n--x", "model\u{1b}[2J"] {
            assert_eq!(change.begin(name), Err(ModelFault::Unknown), "{name:?}");
        }
        assert!(change.begin("org/a-model@1:00").is_ok());
    }

    #[tokio::test]
    async fn a_name_that_promises_other_bytes_is_not_changed_to() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("weights");
        std::fs::write(&file, b"some").unwrap();
        let promised = ModelName::new(format!("other@1:{}", "ab".repeat(32))).unwrap();
        let script = Path::new("/bin/true");
        let outcome = change(script, &promised, &Weights::new(&file)).await;
        assert_eq!(outcome, Err(ModelFault::Weights));
        let outcome = change(script, &promised, &weights()).await;
        assert_eq!(outcome, Err(ModelFault::Weights), "nothing to check");
        let free = ModelName::new("other@1:unverified").unwrap();
        assert_eq!(change(script, &free, &weights()).await, Ok(()));
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_fails() {
        let model = ModelName::new("known@1:00").unwrap();
        let outcome = run(Path::new("/nonexistent/script"), &model).await;
        assert_eq!(outcome, Err(ModelFault::Script));
    }
}
