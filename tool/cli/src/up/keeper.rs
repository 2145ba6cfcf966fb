//! Keeps the nodes running, and ends them in order.

use anyhow::Result;
use cocoon_host::Stop;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

use super::child::{Recipe, Running};
use super::show::Show;

/// First pause before a node that ended is started again; grows up to the second.
const RESTART_FIRST: Duration = Duration::from_millis(50);
const RESTART_MAX: Duration = Duration::from_secs(5);
/// A node that ends so soon, so often, will not start at all.
const TOO_SOON: Duration = Duration::from_secs(2);
const TOO_OFTEN: u32 = 5;
/// Time for all nodes to end after Ctrl-C, then they are killed.
const END_WITHIN: Duration = Duration::from_millis(4_500);

/// Last words of nodes that will not start, and process ids of those that run.
#[derive(Debug, Default)]
struct Board {
    gave_up: HashMap<String, String>,
    ids: HashMap<String, u32>,
}

/// The nodes of this network.
pub(crate) struct Keeper {
    kept: Vec<(Stop, JoinHandle<()>)>,
    /// What everybody else stands on: ended after all others.
    last: Vec<(Stop, JoinHandle<()>)>,
    board: Arc<Mutex<Board>>,
    show: Show,
}

impl Keeper {
    pub(crate) fn new(show: Show) -> Self {
        Self { kept: Vec::new(), last: Vec::new(), board: Arc::default(), show }
    }

    /// Starts a node and keeps it running.
    pub(crate) fn keep(&mut self, recipe: Recipe) -> Result<()> {
        let kept = self.start(recipe)?;
        self.kept.push(kept);
        Ok(())
    }

    /// Starts a node that ends after all others.
    pub(crate) fn keep_last(&mut self, recipe: Recipe) -> Result<()> {
        let kept = self.start(recipe)?;
        self.last.push(kept);
        Ok(())
    }

    fn start(&self, recipe: Recipe) -> Result<(Stop, JoinHandle<()>)> {
        let running = Running::start(recipe)?;
        let stop = Stop::new();
        let (board, show) = (Arc::clone(&self.board), self.show.clone());
        note(&board, &running);
        let task = tokio::spawn(keep_for_ever(running, stop.clone(), board, show));
        Ok((stop, task))
    }

    /// The last words of a node that will not start.
    pub(crate) fn gave_up(&self, name: &str) -> Option<String> {
        lock(&self.board).gave_up.get(name).cloned()
    }

    /// Process ids by name.
    pub(crate) fn ids(&self) -> HashMap<String, u32> {
        lock(&self.board).ids.clone()
    }

    /// Ends all nodes, one after the other in the order they were started; whoever is still
    /// there when the time is over is killed.
    pub(crate) async fn end(self) {
        let deadline = tokio::time::Instant::now() + END_WITHIN;
        for (stop, mut task) in self.kept.into_iter().chain(self.last) {
            stop.now();
            if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
                // Ends the task; the child inside is killed when it is dropped.
                task.abort();
                let _ = task.await;
            }
        }
    }
}

async fn keep_for_ever(mut running: Running, stop: Stop, board: Arc<Mutex<Board>>, show: Show) {
    let mut pause = RESTART_FIRST;
    let mut soon = 0;
    loop {
        let began = Instant::now();
        let status = tokio::select! {
            status = running.ended() => status,
            () = stop.asked() => {
                running.end(END_WITHIN).await;
                return;
            }
        };
        let name = running.recipe.name.clone();
        if began.elapsed() < TOO_SOON {
            soon += 1;
        } else {
            (soon, pause) = (0, RESTART_FIRST);
        }
        if soon >= TOO_OFTEN || is_mistake(status) {
            lock(&board).gave_up.insert(name.clone(), running.last_words(12));
            show.gave_up(&name, &status.to_string());
            return;
        }
        show.ended(&name, &status.to_string());
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.asked() => return,
        }
        pause = (pause * 2).min(RESTART_MAX);
        running = match Running::start(running.recipe.clone()) {
            Ok(running) => running,
            Err(fault) => {
                lock(&board).gave_up.insert(name, format!("{fault:#}"));
                return;
            }
        };
        note(&board, &running);
        show.restarted(&running.recipe.name, running.id());
    }
}

/// A node that refuses its configuration will refuse it again.
fn is_mistake(status: std::process::ExitStatus) -> bool {
    status.code() == Some(crate::USER_MISTAKE.into())
}

fn note(board: &Mutex<Board>, running: &Running) {
    if let Some(id) = running.id() {
        lock(board).ids.insert(running.recipe.name.clone(), id);
    }
}

fn lock(board: &Mutex<Board>) -> std::sync::MutexGuard<'_, Board> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}
