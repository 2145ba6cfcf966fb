//! The writer thread: group commit.

use crate::fault::Fault;
use crate::frame::{Header, JournalKey, PLAIN_LEN_MAX, push_record};
use crate::segment::{Segment, generation_of};
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long the writer waits before it tries again on a full disk.
const RETRY: Duration = Duration::from_millis(500);

/// Where and how to write.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directory of the journal; made when missing, readable by its owner only.
    pub dir: PathBuf,
    /// Generation to write: one above what [`recover`](crate::recover) found.
    pub generation: u64,
}

/// What the writer reports, in order.
#[derive(Debug)]
pub enum Event {
    /// All records up to this ticket are durable.
    Durable(u64),
    /// Nothing can be written now (disk full): what waits will be written when there is room.
    /// Take no new obligations until the next [`Event::Durable`].
    Stalled(Fault),
    /// The journal is gone: stop the node. What was reported durable is safe.
    Failed(Fault),
}

enum Job {
    Append { ticket: u64, records: Vec<Vec<u8>> },
    Snapshot { records: Vec<Vec<u8>> },
    Stop,
}

/// What the handle knows of the writer, which works behind it.
struct Lengths {
    /// Bytes in the current segment.
    now: AtomicU64,
    /// Bytes that its snapshot took; all of it when a later snapshot failed.
    begun: AtomicU64,
    /// Snapshots on their way.
    snapshots: AtomicU64,
}

/// Handle of a running journal. Dropping it writes what is queued and stops the writer.
pub struct Journal {
    jobs: Sender<Job>,
    thread: Option<JoinHandle<()>>,
    lengths: Arc<Lengths>,
    stopping: Arc<AtomicBool>,
    _lock: File,
}

impl Journal {
    /// Starts a new segment with `snapshot` as its first records (at least one) and removes older
    /// segments once it is safe. `report` is called on the writer's thread; it must not block.
    ///
    /// # Errors
    /// [`Fault`]: the node must not start; older segments are untouched.
    pub fn start(
        options: &Options,
        key: JournalKey,
        snapshot: Vec<Vec<u8>>,
        report: impl Fn(Event) + Send + 'static,
    ) -> Result<Self, Fault> {
        make_dir(&options.dir)?;
        let lock = lock(&options.dir)?;
        let segment = new_segment(&options.dir, options.generation, &key, snapshot)?;
        let (jobs, queue) = channel();
        let lengths = Arc::new(Lengths {
            now: AtomicU64::new(segment.len()),
            begun: AtomicU64::new(segment.len()),
            snapshots: AtomicU64::new(0),
        });
        let stopping = Arc::new(AtomicBool::new(false));
        let writer = Writer {
            dir: options.dir.clone(),
            generation: options.generation,
            key,
            segment,
            report: Box::new(report),
            lengths: Arc::clone(&lengths),
            stopping: Arc::clone(&stopping),
        };
        let thread = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || writer.run(&queue))
            .map_err(Fault::io("start the writer of", &options.dir))?;
        Ok(Self { jobs, thread: Some(thread), lengths, stopping, _lock: lock })
    }

    /// Queues records; [`Event::Durable`] names `ticket` when they are on disk. Tickets must rise.
    ///
    /// # Errors
    /// [`Fault::TooLarge`] for a record over 4 MiB, [`Fault::Stopped`] after a failure.
    pub fn append(&self, ticket: u64, records: Vec<Vec<u8>>) -> Result<(), Fault> {
        for record in &records {
            if record.len() + 4 > PLAIN_LEN_MAX {
                return Err(Fault::TooLarge { len: record.len(), limit: PLAIN_LEN_MAX - 4 });
            }
        }
        self.jobs.send(Job::Append { ticket, records }).map_err(|_| Fault::Stopped)
    }

    /// Replaces everything queued so far by a snapshot in a new segment.
    ///
    /// # Errors
    /// [`Fault::Stopped`] after a failure.
    pub fn snapshot(&self, records: Vec<Vec<u8>>) -> Result<(), Fault> {
        self.lengths.snapshots.fetch_add(1, Ordering::Relaxed);
        self.jobs.send(Job::Snapshot { records }).map_err(|_| Fault::Stopped)
    }

    /// Whether to take a snapshot now: the segment is longer than `bytes_max`, which is what
    /// recovery may cost, and than twice the snapshot it began with, and no snapshot is on its way.
    /// One that failed is tried again when the segment has doubled.
    #[must_use]
    pub fn wants_snapshot(&self, bytes_max: u64) -> bool {
        // In this order: whoever sees the snapshot written sees its lengths.
        self.lengths.snapshots.load(Ordering::Acquire) == 0
            && self.segment_len()
                > bytes_max.max(self.lengths.begun.load(Ordering::Relaxed).saturating_mul(2))
    }

    /// Bytes in the current segment.
    #[must_use]
    pub fn segment_len(&self) -> u64 {
        self.lengths.now.load(Ordering::Relaxed)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        let _ = self.jobs.send(Job::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Writer {
    dir: PathBuf,
    generation: u64,
    key: JournalKey,
    segment: Segment,
    report: Box<dyn Fn(Event) + Send>,
    lengths: Arc<Lengths>,
    stopping: Arc<AtomicBool>,
}

/// What one turn of the writer does.
#[derive(Default)]
struct Batch {
    plain: Vec<u8>,
    ticket: Option<u64>,
    snapshot: Option<Vec<Vec<u8>>>,
    stop: bool,
}

impl Writer {
    fn run(mut self, queue: &Receiver<Job>) {
        let mut batch = Batch::default();
        let mut left_over = None;
        loop {
            let Some(job) = left_over.take().or_else(|| queue.recv().ok()) else {
                return;
            };
            left_over = batch.take(job);
            // Group commit: everything that waits goes into the same fdatasync.
            while left_over.is_none() && !batch.is_full() {
                let Ok(job) = queue.try_recv() else { break };
                left_over = batch.take(job);
            }
            if !self.turn(&mut batch) {
                return;
            }
        }
    }

    /// Writes a batch; false when the writer must end.
    fn turn(&mut self, batch: &mut Batch) -> bool {
        if !batch.plain.is_empty() && !self.write(batch) {
            return false;
        }
        if let Some(records) = batch.snapshot.take() {
            if let Err(fault) = self.rotate(records) {
                // The old segment is whole and goes on being used.
                tracing::warn!(error = %fault, "snapshot failed, journal goes on");
            }
            self.lengths.now.store(self.segment.len(), Ordering::Relaxed);
            self.lengths.begun.store(self.segment.len(), Ordering::Relaxed);
            self.lengths.snapshots.fetch_sub(1, Ordering::Release);
        }
        self.lengths.now.store(self.segment.len(), Ordering::Relaxed);
        !batch.stop
    }

    fn write(&mut self, batch: &mut Batch) -> bool {
        let mut stalled = false;
        loop {
            match self.segment.append(&batch.plain) {
                Ok(()) => break,
                Err(fault @ Fault::Io { action: "extend", .. }) => {
                    if !stalled {
                        (self.report)(Event::Stalled(fault));
                    }
                    stalled = true;
                    // What else was queued waits in the queue; only the end of the node ends this.
                    if self.stopping.load(Ordering::Relaxed) {
                        return false;
                    }
                    std::thread::sleep(RETRY);
                }
                Err(fault) => {
                    (self.report)(Event::Failed(fault));
                    return false;
                }
            }
        }
        batch.plain.clear();
        if let Some(ticket) = batch.ticket.take() {
            (self.report)(Event::Durable(ticket));
        }
        true
    }

    fn rotate(&mut self, records: Vec<Vec<u8>>) -> Result<(), Fault> {
        let generation = self.generation + 1;
        self.segment = new_segment(&self.dir, generation, &self.key, records)?;
        self.generation = generation;
        Ok(())
    }
}

impl Batch {
    /// Takes a job in, or gives it back when it does not fit any more.
    fn take(&mut self, job: Job) -> Option<Job> {
        match job {
            Job::Append { ticket, records } => {
                let len: usize = records.iter().map(|record| record.len() + 4).sum();
                let full = !self.plain.is_empty() && self.plain.len() + len > PLAIN_LEN_MAX;
                // Records that follow a snapshot belong into the new segment.
                if full || self.snapshot.is_some() {
                    return Some(Job::Append { ticket, records });
                }
                for record in &records {
                    push_record(&mut self.plain, record);
                }
                self.ticket = Some(ticket);
            }
            Job::Snapshot { records } => self.snapshot = Some(records),
            Job::Stop => self.stop = true,
        }
        None
    }

    fn is_full(&self) -> bool {
        self.stop || self.snapshot.is_some() || self.plain.len() >= PLAIN_LEN_MAX / 2
    }
}

fn new_segment(
    dir: &Path,
    generation: u64,
    key: &JournalKey,
    snapshot: Vec<Vec<u8>>,
) -> Result<Segment, Fault> {
    let header = Header { generation, salt: rand::random() };
    let mut segment = Segment::create(dir, key, &header)?;
    let mut plain = Vec::new();
    for record in &snapshot {
        if plain.len() + record.len() + 4 > PLAIN_LEN_MAX && !plain.is_empty() {
            segment.append(&plain)?;
            plain.clear();
        }
        push_record(&mut plain, record);
    }
    segment.append(&plain)?;
    segment.publish(dir, generation)?;
    remove_older(dir, generation);
    Ok(segment)
}

/// Removes segments that the new one replaces. A left-over costs space only.
fn remove_older(dir: &Path, generation: u64) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_str().and_then(generation_of).is_some_and(|found| found < generation)
            && let Err(fault) = std::fs::remove_file(entry.path())
        {
            tracing::warn!(error = %fault, "an older journal segment could not be removed");
        }
    }
}

fn make_dir(dir: &Path) -> Result<(), Fault> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(Fault::io("create", dir))
}

/// Holds the directory for this process; released when the process ends, however it ends.
fn lock(dir: &Path) -> Result<File, Fault> {
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(Fault::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Fault::InUse { path }),
        Err(TryLockError::Error(fault)) => Err(Fault::io("lock", &path)(fault)),
    }
}

/// Keeps writers away while a journal is read; nothing where nobody ever wrote one.
pub(crate) fn hold_to_read(dir: &Path) -> Result<Option<File>, Fault> {
    let path = dir.join("lock");
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(fault) => return Err(Fault::io("open", &path)(fault)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(Fault::InUse { path }),
        Err(TryLockError::Error(fault)) => Err(Fault::io("lock", &path)(fault)),
    }
}
