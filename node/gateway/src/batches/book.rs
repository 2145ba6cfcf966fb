//! What is known of files and batches. Pure: time and ids are inputs.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::room::Room;

/// How long a batch may take, and how long it is shown at least after its end, seconds.
pub(super) const WINDOW_S: u64 = 24 * 3600;

/// Places of a batch with work left: its own, and those of the files of answers and of errors.
pub(super) const BATCH_PLACES: usize = 3;

/// All files and batches, by id.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Book {
    pub(super) files: BTreeMap<String, FileRecord>,
    pub(super) batches: BTreeMap<String, BatchRecord>,
    /// Counts up, so that ids sort by age.
    pub(super) serial: u64,
}

/// One file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct FileRecord {
    pub(super) id: String,
    /// Key that owns it; empty without keys.
    pub(super) owner: String,
    pub(super) name: String,
    pub(super) purpose: String,
    pub(super) bytes: u64,
    pub(super) created_s: u64,
}

/// One batch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct BatchRecord {
    pub(super) id: String,
    pub(super) owner: String,
    pub(super) endpoint: String,
    pub(super) input_file: String,
    pub(super) output_file: Option<String>,
    pub(super) error_file: Option<String>,
    pub(super) stage: Stage,
    pub(super) created_s: u64,
    pub(super) ended_s: Option<u64>,
    pub(super) cancelled_s: Option<u64>,
    pub(super) total: u64,
    pub(super) completed: u64,
    pub(super) failed: u64,
    pub(super) metadata: Option<Value>,
    pub(super) faults: Vec<LineFault>,
}

/// How far a batch has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    /// Its input had faults, so that nothing was run; or a file was damaged later.
    Failed,
    /// Requests run or wait.
    InProgress,
    /// A user gave it up; running requests end.
    Cancelling,
    /// Given up.
    Cancelled,
    /// Everything has an answer.
    Completed,
    /// The time was over before the end.
    Expired,
}

/// What is wrong with a line of the input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LineFault {
    /// From 1; 0 for none.
    pub(super) line: u64,
    pub(super) code: String,
    pub(super) message: String,
}

impl Book {
    /// A new id that sorts behind all older ones.
    pub(super) fn next_id(&mut self, prefix: &str, random: u64) -> String {
        self.serial += 1;
        format!("{prefix}{:08x}{random:016x}", self.serial)
    }

    /// What everybody's files and batches take, and what those of one owner take.
    pub(super) fn room(&self, owner: &str) -> (Room, Room) {
        let file = |file: &FileRecord| Room { places: 1, bytes: file.bytes };
        let batch = |batch: &BatchRecord| Room { places: batch.places(), bytes: 0 };
        let files = self.files.values().map(|record| (&record.owner, file(record)));
        let batches = self.batches.values().map(|record| (&record.owner, batch(record)));
        files.chain(batches).fold(Default::default(), |(all, own), (who, room)| {
            (all + room, if who == owner { own + room } else { own })
        })
    }

    /// Forgets the oldest batch of this owner, or of anybody, that ended a day ago or earlier. Nobody
    /// can delete a batch, as at OpenAI, so old ones must not keep new ones out. Its files stay.
    pub(super) fn forget_oldest(&mut self, owner: Option<&str>, now_s: u64) -> bool {
        let is_old = |batch: &&BatchRecord| {
            owner.is_none_or(|owner| batch.owner == owner)
                && batch.ended_s.is_some_and(|ended_s| ended_s.saturating_add(WINDOW_S) <= now_s)
        };
        let oldest = self.batches.values().find(is_old).map(|batch| batch.id.clone());
        oldest.is_some_and(|id| self.batches.remove(&id).is_some())
    }

    /// Of each owner without work in hand, the oldest batch with work left.
    pub(super) fn next_work(&self, in_hand: impl Fn(&str) -> bool) -> Vec<BatchRecord> {
        let mut oldest = BTreeMap::new();
        let open = self.batches.values().filter(|batch| batch.is_open());
        for batch in open.filter(|batch| !in_hand(&batch.owner)) {
            oldest.entry(&batch.owner).or_insert(batch);
        }
        oldest.into_values().cloned().collect()
    }

    /// How many owners have batches with work left.
    pub(super) fn owners_with_work(&self) -> usize {
        let open = self.batches.values().filter(|batch| batch.is_open());
        open.map(|batch| &batch.owner).collect::<BTreeSet<_>>().len()
    }
}

impl FileRecord {
    /// OpenAI's file object.
    pub(super) fn show(&self) -> Value {
        json!({
            "id": self.id,
            "object": "file",
            "bytes": self.bytes,
            "created_at": self.created_s,
            "filename": self.name,
            "purpose": self.purpose,
            "status": "processed",
        })
    }
}

impl BatchRecord {
    /// OpenAI's batch object.
    pub(super) fn show(&self) -> Value {
        let at = |stage: Stage| (self.stage == stage).then_some(self.ended_s).flatten();
        let faults: Vec<Value> = self
            .faults
            .iter()
            .map(|fault| {
                let line = (fault.line > 0).then_some(fault.line);
                json!({"code": fault.code, "line": line, "message": fault.message, "param": null})
            })
            .collect();
        let errors =
            if faults.is_empty() { Value::Null } else { json!({"object": "list", "data": faults}) };
        json!({
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "errors": errors,
            "input_file_id": self.input_file,
            "completion_window": "24h",
            "status": self.stage,
            "output_file_id": self.output_file,
            "error_file_id": self.error_file,
            "created_at": self.created_s,
            "in_progress_at": if self.stage == Stage::Failed { None } else { Some(self.created_s) },
            "expires_at": self.expires_s(),
            "finalizing_at": at(Stage::Completed),
            "completed_at": at(Stage::Completed),
            "failed_at": at(Stage::Failed),
            "expired_at": at(Stage::Expired),
            "cancelling_at": self.cancelled_s,
            "cancelled_at": at(Stage::Cancelled),
            "request_counts": {"total": self.total, "completed": self.completed, "failed": self.failed},
            "metadata": self.metadata,
        })
    }

    /// Places it takes among what is kept: its own, and those of its results while they may come.
    pub(super) fn places(&self) -> usize {
        if self.is_open() { BATCH_PLACES } else { 1 }
    }

    /// Whether it has work left.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.stage, Stage::InProgress | Stage::Cancelling)
    }

    pub(super) fn expires_s(&self) -> u64 {
        self.created_s.saturating_add(WINDOW_S)
    }
}
