//! The scheduler: jobs in, assignments out.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use crate::fault::{JoinFault, Refusal};
use crate::line::Wish;
use crate::pace::{Outcome, Pace};
use crate::pool::{Job, ModelOffers, Offer, Pool, WorkerOffer};
use crate::tree::Score;
use crate::{ClientId, Ticket, WorkerId};

/// How long after a refusal for want of room nobody may wait. While more come than can be served a
/// line keeps no slot busy that would not be busy anyway; it only makes everybody late.
const CALM_MS: u64 = 2_000;
/// Requests that may wait however few the slots are: a program that asks a handful at once.
const BURST: usize = 8;

/// Bounds on everything a peer could make grow.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests that may wait for one model.
    pub waiting_per_model_max: usize,
    /// Requests that may wait for each slot of the model's workers that take requests, in
    /// thousandths; rounded up, and at least eight in all. The line is for bursts: two seconds after
    /// a request found no room in it, nobody may wait. Does not hold while no worker takes any
    /// request.
    pub waiting_per_slot_milli: u32,
    /// Requests of one client that may wait for one model.
    pub waiting_per_client_max: usize,
    /// Worker connections in all.
    pub workers_max: usize,
    /// Models in use at once.
    pub models_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            waiting_per_model_max: 1_024,
            waiting_per_slot_milli: u32::MAX,
            waiting_per_client_max: 256,
            workers_max: 4_096,
            models_max: 1_024,
        }
    }
}

/// Answer to [`Scheduler::submit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Send the request to this worker now.
    Assigned {
        /// The connection to use.
        worker: WorkerId,
        /// The coefficient it announced, to be sent along and used for the price.
        coefficient: u32,
    },
    /// The request waits; an [`Event`] follows.
    Queued {
        /// How many requests for this model were waiting before it.
        position: usize,
    },
    /// The request gets no worker; the ticket is forgotten.
    Refused(Refusal),
}

/// What happened to a request that waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Send the request to this worker now.
    Assigned {
        /// The request.
        ticket: Ticket,
        /// The connection to use.
        worker: WorkerId,
        /// The coefficient it announced.
        coefficient: u32,
    },
    /// Its deadline passed while it waited; the ticket is forgotten.
    Expired {
        /// The request.
        ticket: Ticket,
    },
}

/// Counts for status pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Worker connections.
    pub workers: usize,
    /// Requests on workers.
    pub running: usize,
    /// Requests in lines.
    pub waiting: usize,
}

struct Worker {
    pool: usize,
    account: u64,
    coefficient: u32,
    running_max: u32,
    /// Of them, counted among the pool's slots now.
    counted: u32,
    keys: bool,
    enabled: bool,
    is_free: bool,
    running: BTreeSet<Ticket>,
    pace: Pace,
    last_assigned: u64,
    alarm_ms: Option<u64>,
}

impl Worker {
    fn load(&self) -> u32 {
        u32::try_from(self.running.len()).unwrap_or(u32::MAX)
    }
}

enum Place {
    Waiting { pool: usize, client: ClientId, deadline_ms: u64 },
    Running { worker: WorkerId, beside: u32 },
}

/// Pools of workers and lines of requests, one of each per model.
pub struct Scheduler {
    limits: Limits,
    models: BTreeMap<Arc<str>, usize>,
    pools: Vec<Pool>,
    workers: HashMap<WorkerId, Worker>,
    places: HashMap<Ticket, Place>,
    deadlines: BTreeSet<(u64, Ticket)>,
    alarms: BTreeSet<(u64, WorkerId)>,
    events: VecDeque<Event>,
    assignments: u64,
    /// What was learned about accounts whose connections have left, oldest first.
    known: VecDeque<((u64, usize), Pace)>,
}

// house: twelve inputs and questions, each with at most one helper.
impl Scheduler {
    /// A scheduler without workers.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            models: BTreeMap::new(),
            pools: Vec::new(),
            workers: HashMap::new(),
            places: HashMap::new(),
            deadlines: BTreeSet::new(),
            alarms: BTreeSet::new(),
            events: VecDeque::new(),
            assignments: 0,
            known: VecDeque::new(),
        }
    }

    /// Takes a worker connection into its model's pool, disabled: it gets nothing before
    /// [`Scheduler::enable`] (protocol notes 3.3).
    ///
    /// # Errors
    ///
    /// See [`JoinFault`]; the caller closes the connection.
    pub fn join(&mut self, id: WorkerId, offer: Offer<'_>, now_ms: u64) -> Result<(), JoinFault> {
        if self.workers.contains_key(&id) {
            return Err(JoinFault::Twice(id.0));
        }
        if offer.running_max == 0 {
            return Err(JoinFault::NoSlots);
        }
        if self.workers.len() >= self.limits.workers_max {
            return Err(JoinFault::WorkersFull(self.workers.len()));
        }
        let pool = self.pool_for(offer.model)?;
        self.pools[pool].members.insert((offer.coefficient, id));
        let pace = self.recall((offer.account, pool)).unwrap_or_else(|| Pace::new(now_ms));
        let worker = Worker {
            pool,
            account: offer.account,
            coefficient: offer.coefficient,
            running_max: offer.running_max,
            counted: 0,
            keys: offer.keys,
            enabled: false,
            is_free: false,
            running: BTreeSet::new(),
            pace,
            last_assigned: 0,
            alarm_ms: None,
        };
        self.workers.insert(id, worker);
        Ok(())
    }

    /// Takes a worker connection out and returns the requests that ran on it, oldest ticket
    /// first. They are forgotten here; the caller submits again those it may retry.
    pub fn leave(&mut self, id: WorkerId, now_ms: u64) -> Vec<Ticket> {
        self.enable(id, false, now_ms);
        let Some(mut worker) = self.workers.remove(&id) else {
            return Vec::new();
        };
        self.pools[worker.pool].members.remove(&(worker.coefficient, id));
        if let Some(at) = worker.alarm_ms {
            self.alarms.remove(&(at, id));
        }
        if !worker.running.is_empty() {
            worker.pace.learn(Outcome::Failed, worker.load(), now_ms);
        }
        if self.known.len() >= self.limits.workers_max {
            self.known.pop_front();
        }
        self.known.push_back(((worker.account, worker.pool), worker.pace));
        for ticket in &worker.running {
            self.places.remove(ticket);
        }
        worker.running.into_iter().collect()
    }

    /// Sets whether a worker takes requests. Requests running on it go on.
    pub fn enable(&mut self, id: WorkerId, enabled: bool, now_ms: u64) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        if worker.enabled == enabled {
            return;
        }
        worker.enabled = enabled;
        let at = (worker.coefficient, id);
        self.pools[worker.pool].set_enabled(at, worker.keys, enabled);
        self.settle(id, now_ms);
        self.fill(id, now_ms);
    }

    /// Changes a worker's price for requests assigned from now on.
    pub fn set_coefficient(&mut self, id: WorkerId, coefficient: u32, now_ms: u64) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let (before, enabled) = (worker.coefficient, worker.enabled);
        if before == coefficient {
            return;
        }
        let pool = worker.pool;
        self.enable(id, false, now_ms);
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.coefficient = coefficient;
        }
        self.pools[pool].members.remove(&(before, id));
        self.pools[pool].members.insert((coefficient, id));
        self.enable(id, enabled, now_ms);
    }

    /// Places a request: on the best free worker, in the line, or nowhere.
    ///
    /// The ticket must be new; a known one is refused as [`Refusal::Busy`] and keeps its place.
    pub fn submit(&mut self, job: Job<'_>, now_ms: u64) -> Placement {
        self.wake(now_ms);
        let Some(&at) = self.models.get(job.model) else {
            return Placement::Refused(Refusal::UnknownModel);
        };
        let pool = &self.pools[at];
        let best = match job.among {
            [] => pool.best(job.keys, job.coefficient_max),
            _ => self.best_among(at, &job),
        };
        if let Some(worker) = best
            && !self.places.contains_key(&job.ticket)
        {
            let coefficient = self.assign(job.ticket, worker, now_ms);
            return Placement::Assigned { worker, coefficient };
        }
        if let Some(refusal) = self.refusal(pool, &job, now_ms) {
            // A request that was too late when it came says nothing about the line.
            if matches!(refusal, Refusal::Busy { .. }) && job.deadline_ms > now_ms {
                self.pools[at].full_until_ms = now_ms.saturating_add(CALM_MS);
            }
            return Placement::Refused(refusal);
        }
        let position = if job.first { 0 } else { pool.line.len() };
        let (ticket, client, deadline_ms) = (job.ticket, job.client, job.deadline_ms);
        let (coefficient_max, among) = (job.coefficient_max, job.among.into());
        let wish = Wish { ticket, coefficient_max, keys: job.keys, among };
        self.pools[at].line.push(client, wish, job.first);
        self.places.insert(ticket, Place::Waiting { pool: at, client, deadline_ms });
        self.deadlines.insert((deadline_ms, ticket));
        Placement::Queued { position }
    }

    /// Ends a running request and gives its slot to the next in line. Says whether it ran.
    pub fn finish(&mut self, ticket: Ticket, outcome: Outcome, now_ms: u64) -> bool {
        let Some(Place::Running { worker: id, beside }) = self.places.get(&ticket) else {
            return false;
        };
        let (id, beside) = (*id, *beside);
        self.places.remove(&ticket);
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.running.remove(&ticket);
            // The load in the middle of its life, taken from both ends.
            let beside = beside.midpoint(worker.load());
            worker.pace.learn(outcome, beside, now_ms);
        }
        self.settle(id, now_ms);
        self.fill(id, now_ms);
        true
    }

    /// Takes a waiting request out of the line. Says whether it waited; a running one is ended
    /// with [`Scheduler::finish`].
    pub fn cancel(&mut self, ticket: Ticket) -> bool {
        let Some(Place::Waiting { pool, client, deadline_ms }) = self.places.get(&ticket) else {
            return false;
        };
        let (pool, client, deadline_ms) = (*pool, *client, *deadline_ms);
        self.places.remove(&ticket);
        self.deadlines.remove(&(deadline_ms, ticket));
        self.pools[pool].line.remove(client, ticket)
    }

    /// Lets time pass: deadlines in the line, ends of cool-downs.
    pub fn tick(&mut self, now_ms: u64) {
        while let Some(&(deadline_ms, ticket)) = self.deadlines.first() {
            if deadline_ms > now_ms {
                break;
            }
            if !self.cancel(ticket) {
                self.deadlines.pop_first();
                continue;
            }
            self.events.push_back(Event::Expired { ticket });
        }
        self.wake(now_ms);
    }

    /// The next thing that happened to waiting requests; call until `None` after every input.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Scheduler::tick`] has something to do.
    #[must_use]
    pub fn next_tick_ms(&self) -> Option<u64> {
        let deadline = self.deadlines.first().map(|(at, _)| *at);
        let alarm = self.alarms.first().map(|(at, _)| *at);
        deadline.into_iter().chain(alarm).min()
    }

    /// The worker a request runs on.
    #[must_use]
    pub fn worker_of(&self, ticket: Ticket) -> Option<WorkerId> {
        match self.places.get(&ticket) {
            Some(Place::Running { worker, .. }) => Some(*worker),
            _ => None,
        }
    }

    /// All models ever seen and not evicted, in order of name (protocol notes 3.4).
    pub fn models(&self, now_ms: u64) -> impl Iterator<Item = ModelOffers> + '_ {
        self.models.values().map(move |&at| {
            let pool = &self.pools[at];
            let workers = pool.members.iter().filter_map(|(_, id)| self.offer(*id, now_ms));
            ModelOffers {
                model: Arc::clone(&pool.name),
                workers: workers.collect(),
                waiting: pool.line.len(),
            }
        })
    }

    /// One connection as clients may see it.
    #[must_use]
    pub fn offer(&self, id: WorkerId, now_ms: u64) -> Option<WorkerOffer> {
        let worker = self.workers.get(&id)?;
        Some(WorkerOffer {
            worker: id,
            coefficient: worker.coefficient,
            running: worker.load(),
            running_max: worker.running_max,
            enabled: worker.enabled,
            cooling: worker.pace.is_cooling(now_ms),
            failed_milli: worker.pace.failed_milli(),
        })
    }

    /// Counts for status pages.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let waiting = self.deadlines.len();
        let running = self.places.len() - waiting;
        Tally { workers: self.workers.len(), running, waiting }
    }

    /// The free worker with the least expected wait among those that the request names, which are
    /// few.
    fn best_among(&self, pool: usize, job: &Job<'_>) -> Option<WorkerId> {
        let suits = |worker: &Worker| {
            worker.pool == pool
                && worker.is_free
                && worker.coefficient <= job.coefficient_max
                && (worker.keys || !job.keys)
        };
        let named = job.among.iter().filter_map(|id| Some((*id, self.workers.get(id)?)));
        named
            .filter(|(_, worker)| suits(worker))
            .min_by_key(|(_, worker)| {
                (worker.pace.expected_us(worker.load()), worker.last_assigned)
            })
            .map(|(id, _)| id)
    }

    /// Why nobody serves this request now; `None` means that it may wait.
    fn refusal(&self, pool: &Pool, job: &Job<'_>, now_ms: u64) -> Option<Refusal> {
        if pool.members.is_empty() {
            return Some(Refusal::NoConnections);
        }
        let cheapest = match job.among {
            [] => pool.cheapest(job.keys),
            named => {
                let here = |id: &&WorkerId| {
                    self.workers.get(id).is_some_and(|w| self.pools[w.pool].name == pool.name)
                };
                if !named.iter().any(|id| here(&id)) {
                    return Some(Refusal::NoConnections);
                }
                let ready = named.iter().filter(here).filter_map(|id| self.workers.get(id));
                let ready = ready.filter(|worker| worker.enabled && (worker.keys || !job.keys));
                ready.map(|worker| worker.coefficient).min()
            }
        };
        let Some(cheapest) = cheapest else {
            return Some(Refusal::NoneReady);
        };
        if cheapest > job.coefficient_max {
            return Some(Refusal::TooExpensive { cheapest });
        }
        let waiting = pool.line.len();
        // Who was let down by a worker has waited already.
        let room = if job.first { usize::MAX } else { self.room(pool, now_ms) };
        let out_of_time = job.deadline_ms <= now_ms;
        let known = self.places.contains_key(&job.ticket);
        if waiting >= self.limits.waiting_per_model_max.min(room) || out_of_time || known {
            return Some(Refusal::Busy { waiting });
        }
        let waiting = pool.line.len_of(job.client);
        (waiting >= self.limits.waiting_per_client_max).then_some(Refusal::ClientBusy { waiting })
    }

    /// How many may wait so that none waits long.
    fn room(&self, pool: &Pool, now_ms: u64) -> usize {
        if pool.slots == 0 || self.limits.waiting_per_slot_milli == u32::MAX {
            return usize::MAX;
        }
        if now_ms < pool.full_until_ms {
            return 0;
        }
        let room = pool.slots.saturating_mul(self.limits.waiting_per_slot_milli.into());
        usize::try_from(room.div_ceil(1_000)).unwrap_or(usize::MAX).max(BURST)
    }

    fn pool_for(&mut self, model: &str) -> Result<usize, JoinFault> {
        if let Some(&at) = self.models.get(model) {
            return Ok(at);
        }
        let at = if self.pools.len() < self.limits.models_max {
            self.pools.push(Pool::new(model));
            self.pools.len() - 1
        } else {
            let unused = self.pools.iter().position(Pool::is_unused);
            let at = unused.ok_or(JoinFault::ModelsFull(self.pools.len()))?;
            self.models.remove(&self.pools[at].name);
            self.known.retain(|((_, pool), _)| *pool != at);
            self.pools[at] = Pool::new(model);
            at
        };
        self.models.insert(Arc::clone(&self.pools[at].name), at);
        Ok(at)
    }

    fn recall(&mut self, whose: (u64, usize)) -> Option<Pace> {
        let at = self.known.iter().rposition(|(known, _)| *known == whose)?;
        self.known.remove(at).map(|(_, pace)| pace)
    }

    /// Handles alarms of workers: ends of cool-downs, stale measurements.
    fn wake(&mut self, now_ms: u64) {
        while let Some(&(at, id)) = self.alarms.first() {
            if at > now_ms {
                break;
            }
            self.alarms.pop_first();
            if let Some(worker) = self.workers.get_mut(&id) {
                worker.alarm_ms = None;
                worker.pace.refresh(now_ms);
            }
            self.settle(id, now_ms);
            self.fill(id, now_ms);
        }
    }

    /// Puts a worker where it belongs after anything about it changed: among the free ones with
    /// its present score, or not.
    fn settle(&mut self, id: WorkerId, now_ms: u64) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let pool = &mut self.pools[worker.pool];
        let at = (worker.coefficient, id);
        if worker.is_free {
            pool.remove_free(at, worker.keys);
        }
        let load = worker.load();
        let takes = worker.enabled && !worker.pace.is_cooling(now_ms);
        let counts = if takes { worker.running_max } else { 0 };
        pool.slots = pool.slots.saturating_sub(worker.counted.into()).saturating_add(counts.into());
        worker.counted = counts;
        let free = takes && load < worker.running_max;
        worker.is_free = free;
        if free {
            let wait_us = worker.pace.expected_us(load);
            let score = Score { wait_us, last_assigned: worker.last_assigned };
            pool.add_free(at, worker.keys, score);
        }
        let alarm_ms = worker.pace.alarm_ms(now_ms);
        if alarm_ms != worker.alarm_ms {
            if let Some(old) = worker.alarm_ms {
                self.alarms.remove(&(old, id));
            }
            if let Some(new) = alarm_ms {
                self.alarms.insert((new, id));
            }
            worker.alarm_ms = alarm_ms;
        }
    }

    /// Gives a worker's free slots to those who wait.
    fn fill(&mut self, id: WorkerId, now_ms: u64) {
        loop {
            let Some(worker) = self.workers.get(&id) else {
                return;
            };
            if !worker.is_free {
                return;
            }
            let (pool, coefficient, keys) = (worker.pool, worker.coefficient, worker.keys);
            let Some(ticket) = self.pools[pool].line.pop(id, coefficient, keys) else {
                return;
            };
            if let Some(Place::Waiting { deadline_ms, .. }) = self.places.remove(&ticket) {
                self.deadlines.remove(&(deadline_ms, ticket));
            }
            self.assign(ticket, id, now_ms);
            self.events.push_back(Event::Assigned { ticket, worker: id, coefficient });
        }
    }

    fn assign(&mut self, ticket: Ticket, id: WorkerId, now_ms: u64) -> u32 {
        let Some(worker) = self.workers.get_mut(&id) else {
            return 0;
        };
        self.assignments += 1;
        worker.last_assigned = self.assignments;
        let beside = worker.load();
        worker.running.insert(ticket);
        let coefficient = worker.coefficient;
        self.places.insert(ticket, Place::Running { worker: id, beside });
        self.settle(id, now_ms);
        coefficient
    }
}
