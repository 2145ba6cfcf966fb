//! The model's bytes: hashed before its name is announced, watched while it is served.
//!
//! What the watch can and cannot do: it sees every change that the file system tells (see
//! [`CheckedModel::is_unchanged`]) within [`WATCH_EVERY`], takes the worker out of service at once
//! and hashes again. It cannot see what the model server read before or between; where that
//! matters the image is mounted through dm-verity, and the kernel checks each block as it is read.

use cocoon_model::{CheckedModel, ModelFault, Root, check, promised_root};
use cocoon_units::ModelName;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use thiserror::Error;
use tokio::sync::mpsc::{Receiver, channel};

/// How often the files are looked at; a look reads no contents.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Pause between two lines of the log while a long file is hashed.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// The bytes of a model are not those its name promises.
#[derive(Debug, Error)]
pub enum WeightsFault {
    /// At the start: nothing was announced.
    #[error("the model {name} is not announced: {fault}")]
    Unchecked {
        /// Its full name.
        name: String,
        /// Why not.
        fault: ModelFault,
    },
    /// Later: the worker was taken out of service and ends.
    #[error("the model {name} was swapped after the check, the worker ends: {fault}")]
    Swapped {
        /// Its full name.
        name: String,
        /// What was found.
        fault: ModelFault,
    },
}

/// What the watch tells the loop.
#[derive(Debug)]
pub(crate) enum WeightsEvent {
    /// Something was changed: serve nobody until it is clear what.
    Suspect,
    /// The bytes are those of the name after all.
    Confirmed,
    /// They are not.
    Lost(WeightsFault),
}

/// What is being served, shared by loop, watch and changes of the model.
#[derive(Clone, Debug)]
pub(crate) struct Weights {
    path: PathBuf,
    shelf: Arc<Mutex<Shelf>>,
}

#[derive(Debug, Default)]
struct Shelf {
    checked: Option<(ModelName, CheckedModel)>,
    /// A program is replacing the files.
    changing: bool,
}

impl Weights {
    /// Nothing checked yet; the model lies at `path`.
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), shelf: Arc::default() }
    }

    /// Hashes the model when its name promises bytes, and keeps it for the watch.
    ///
    /// # Errors
    /// [`WeightsFault::Unchecked`]: do not announce the name.
    pub(crate) async fn check(&self, name: &ModelName) -> Result<(), WeightsFault> {
        let checked = match promised_root(name) {
            None => None,
            Some(root) => Some((
                name.clone(),
                self.hash(root).await.map_err(|fault| WeightsFault::Unchecked {
                    name: name.as_str().to_owned(),
                    fault,
                })?,
            )),
        };
        if let Some((_, model)) = &checked {
            tracing::info!(root = %model.root(), "the model's bytes are those of its name");
        }
        let mut shelf = self.shelf();
        *shelf = Shelf { checked, changing: false };
        Ok(())
    }

    /// The files will change now, by the operator's wish: the watch looks away until
    /// [`check`](Self::check) or [`keep`](Self::keep).
    pub(crate) fn begin_change(&self) {
        self.shelf().changing = true;
    }

    /// The change failed: what was served before is watched again.
    pub(crate) fn keep(&self) {
        self.shelf().changing = false;
    }

    async fn hash(&self, root: Root) -> Result<CheckedModel, ModelFault> {
        let path = self.path.clone();
        let hashing = tokio::task::spawn_blocking(move || {
            let mut said = Instant::now();
            check(&path, root, &mut |done, total| {
                if said.elapsed() >= SAY_EVERY {
                    said = Instant::now();
                    let percent = done.saturating_mul(100) / total.max(1);
                    tracing::info!(percent, total, "hashing the model");
                }
                true
            })
        });
        // A hash that panicked is a fault of ours, and nothing was checked.
        hashing.await.unwrap_or(Err(ModelFault::GivenUp))
    }

    /// Looks at the files until the receiver is gone.
    pub(crate) fn watch(&self) -> Receiver<WeightsEvent> {
        let (tell, events) = channel(1);
        let weights = self.clone();
        tokio::spawn(async move {
            while !tell.is_closed() {
                tokio::time::sleep(WATCH_EVERY).await;
                let Some((name, model)) = weights.watched() else { continue };
                let root = model.root();
                let look = tokio::task::spawn_blocking(move || model.is_unchanged());
                if matches!(look.await, Ok(Ok(true))) || weights.watched().is_none() {
                    continue;
                }
                tracing::warn!(model = name.as_str(), "the model's files changed, hashing again");
                if tell.send(WeightsEvent::Suspect).await.is_err() {
                    return;
                }
                let event = match weights.hash(root).await {
                    Ok(model) => {
                        weights.shelf().checked = Some((name, model));
                        WeightsEvent::Confirmed
                    }
                    Err(fault) => {
                        let name = name.as_str().to_owned();
                        WeightsEvent::Lost(WeightsFault::Swapped { name, fault })
                    }
                };
                if tell.send(event).await.is_err() {
                    return;
                }
            }
        });
        events
    }

    fn watched(&self) -> Option<(ModelName, CheckedModel)> {
        let shelf = self.shelf();
        shelf.checked.clone().filter(|_| !shelf.changing)
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
