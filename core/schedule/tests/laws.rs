//! Laws of the scheduler, held against a naive oracle over random histories.

use std::collections::{BTreeMap, BTreeSet};

use cocoon_schedule::{
    ClientId, Event, Job, Limits, Offer, Outcome, Placement, Refusal, Scheduler, Ticket, WorkerId,
};
use proptest::prelude::*;

const MODELS: [&str; 3] = ["a", "b", "c"];
const LIMITS: Limits = Limits {
    waiting_per_model_max: 12,
    waiting_per_slot_milli: u32::MAX,
    waiting_per_client_max: 5,
    workers_max: 8,
    models_max: 2,
};

#[derive(Clone, Debug)]
enum Step {
    Join { worker: u64, model: usize, coefficient: u32, slots: u32, keys: bool },
    Leave { worker: u64 },
    Enable { worker: u64, on: bool },
    Price { worker: u64, coefficient: u32 },
    Submit { client: u64, model: usize, cap: u32, keys: bool, only: Option<u64>, patience_ms: u64 },
    Finish { nth: usize, outcome: u8 },
    Cancel { nth: usize },
    Wait { ms: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let worker = 0u64..9;
    let join = |(worker, model, coefficient, slots, keys)| Step::Join {
        worker,
        model,
        coefficient,
        slots,
        keys,
    };
    let submit = |(client, model, cap, keys, only, patience_ms)| Step::Submit {
        client,
        model,
        cap,
        keys,
        only,
        patience_ms,
    };
    let only = prop::option::weighted(0.3, 0u64..9);
    let rarely = prop::bool::weighted(0.3);
    let mostly = prop::bool::weighted(0.8);
    let step = prop_oneof![
        2 => (worker.clone(), 0usize..3, 0u32..5, 1u32..4, any::<bool>()).prop_map(join),
        1 => worker.clone().prop_map(|worker| Step::Leave { worker }),
        3 => (worker.clone(), mostly).prop_map(|(worker, on)| Step::Enable { worker, on }),
        1 => (worker, 0u32..5).prop_map(|(worker, coefficient)| Step::Price { worker, coefficient }),
        8 => (0u64..4, 0usize..3, 0u32..5, rarely, only, 0u64..5_000).prop_map(submit),
        5 => (0usize..8, 0u8..12).prop_map(|(nth, outcome)| Step::Finish { nth, outcome }),
        1 => (0usize..8).prop_map(|nth| Step::Cancel { nth }),
        3 => (0u64..3_000).prop_map(|ms| Step::Wait { ms }),
    ];
    prop::collection::vec(step, 1..120)
}

#[derive(Clone, Copy)]
struct PlainWorker {
    model: usize,
    coefficient: u32,
    slots: u32,
    keys: bool,
    enabled: bool,
}

#[derive(Clone, Copy)]
struct PlainJob {
    client: u64,
    model: usize,
    cap: u32,
    keys: bool,
    /// The only worker that it may go to.
    only: Option<u64>,
    deadline_ms: u64,
}

/// A plain model: sets and scans, no cleverness.
#[derive(Default)]
struct Oracle {
    now_ms: u64,
    workers: BTreeMap<u64, PlainWorker>,
    seen: BTreeSet<usize>,
    jobs: BTreeMap<u64, PlainJob>,
    running: BTreeMap<u64, u64>,
    waiting: BTreeSet<u64>,
    next: u64,
}

impl Oracle {
    fn load(&self, worker: u64) -> u32 {
        self.running.values().filter(|at| **at == worker).count() as u32
    }

    fn suits(id: u64, worker: &PlainWorker, job: &PlainJob) -> bool {
        worker.model == job.model
            && job.only.is_none_or(|only| only == id)
            && worker.enabled
            && worker.coefficient <= job.cap
            && (worker.keys || !job.keys)
    }

    /// Workers that could take the job now, cooling ones left out as the scheduler reports them.
    fn candidates(&self, pool: &Scheduler, job: &PlainJob) -> Vec<u64> {
        let free = |id: u64, w: &PlainWorker| {
            let cooling = pool.offer(WorkerId(id), self.now_ms).is_some_and(|offer| offer.cooling);
            Self::suits(id, w, job) && self.load(id) < w.slots && !cooling
        };
        self.workers.iter().filter(|(id, w)| free(**id, w)).map(|(id, _)| *id).collect()
    }

    fn refusal(&self, job: &PlainJob) -> Option<Refusal> {
        if !self.seen.contains(&job.model) {
            return Some(Refusal::UnknownModel);
        }
        let named = |id: u64| job.only.is_none_or(|only| only == id);
        let of_model = self.workers.iter().filter(|(_, w)| w.model == job.model);
        let members: Vec<_> = of_model.filter(|(id, _)| named(**id)).map(|(_, w)| w).collect();
        if members.is_empty() {
            return Some(Refusal::NoConnections);
        }
        let ready = members.iter().filter(|w| w.enabled && (w.keys || !job.keys));
        let Some(cheapest) = ready.map(|w| w.coefficient).min() else {
            return Some(Refusal::NoneReady);
        };
        if cheapest > job.cap {
            return Some(Refusal::TooExpensive { cheapest });
        }
        let waits = |client: Option<u64>| {
            let same = |t: &&u64| {
                self.jobs[t].model == job.model && client.is_none_or(|c| self.jobs[t].client == c)
            };
            self.waiting.iter().filter(same).count()
        };
        if waits(None) >= LIMITS.waiting_per_model_max || job.deadline_ms <= self.now_ms {
            return Some(Refusal::Busy { waiting: waits(None) });
        }
        let mine = waits(Some(job.client));
        (mine >= LIMITS.waiting_per_client_max).then_some(Refusal::ClientBusy { waiting: mine })
    }

    fn assigned(&mut self, ticket: u64, worker: u64) {
        let (job, at) = (self.jobs[&ticket], self.workers[&worker]);
        assert!(Self::suits(worker, &at, &job), "{ticket} does not suit {worker}");
        assert!(self.load(worker) < at.slots, "worker {worker} is over its limit");
        self.waiting.remove(&ticket);
        self.running.insert(ticket, worker);
    }

    fn follow(&mut self, pool: &mut Scheduler) {
        while let Some(event) = pool.next_event() {
            match event {
                Event::Assigned { ticket, worker, .. } => {
                    assert!(self.waiting.contains(&ticket.0), "assigned {ticket:?} did not wait");
                    self.assigned(ticket.0, worker.0);
                }
                Event::Expired { ticket } => {
                    assert!(self.waiting.remove(&ticket.0), "expired {ticket:?} did not wait");
                    assert!(self.jobs[&ticket.0].deadline_ms <= self.now_ms, "expired too early");
                }
            }
        }
    }

    fn check(&self, pool: &Scheduler) {
        let tally = pool.tally();
        assert_eq!(
            (tally.workers, tally.running, tally.waiting),
            (self.workers.len(), self.running.len(), self.waiting.len())
        );
        for ticket in &self.waiting {
            let job = &self.jobs[ticket];
            assert!(
                self.candidates(pool, job).is_empty(),
                "{ticket} waits though somebody is free"
            );
        }
        for (id, worker) in &self.workers {
            let offer = pool.offer(WorkerId(*id), self.now_ms).expect("known worker");
            assert_eq!(
                (offer.running, offer.enabled, offer.coefficient),
                (self.load(*id), worker.enabled, worker.coefficient)
            );
        }
    }
}

fn outcome(code: u8) -> Outcome {
    match code {
        0..7 => {
            Outcome::Served { service_ms: 1 + u64::from(code) * 300, tokens: u64::from(code) * 40 }
        }
        7 => Outcome::Neutral,
        8..11 => Outcome::Failed,
        _ => Outcome::Lied,
    }
}

fn play(pool: &mut Scheduler, plain: &mut Oracle, step: Step) {
    let now = plain.now_ms;
    match step {
        Step::Join { worker, model, coefficient, slots, keys } => {
            let fresh = PlainWorker { model, coefficient, slots, keys, enabled: false };
            join(pool, plain, worker, fresh);
        }
        Step::Leave { worker } => {
            let lost: BTreeSet<u64> =
                pool.leave(WorkerId(worker), now).into_iter().map(|t| t.0).collect();
            let expected: BTreeSet<u64> =
                plain.running.iter().filter(|(_, at)| **at == worker).map(|(t, _)| *t).collect();
            assert_eq!(lost, expected);
            plain.running.retain(|_, at| *at != worker);
            plain.workers.remove(&worker);
        }
        Step::Enable { worker, on } => {
            pool.enable(WorkerId(worker), on, now);
            if let Some(w) = plain.workers.get_mut(&worker) {
                w.enabled = on;
            }
        }
        Step::Price { worker, coefficient } => {
            pool.set_coefficient(WorkerId(worker), coefficient, now);
            if let Some(w) = plain.workers.get_mut(&worker) {
                w.coefficient = coefficient;
            }
        }
        Step::Submit { client, model, cap, keys, only, patience_ms } => {
            submit(
                pool,
                plain,
                PlainJob { client, model, cap, keys, only, deadline_ms: now + patience_ms },
            );
        }
        Step::Finish { nth, outcome: code } => {
            if let Some((&ticket, _)) = plain.running.iter().nth(nth) {
                assert!(pool.finish(Ticket(ticket), outcome(code), now));
                plain.running.remove(&ticket);
            }
        }
        Step::Cancel { nth } => {
            if let Some(&ticket) = plain.waiting.iter().nth(nth) {
                assert!(pool.cancel(Ticket(ticket)));
                plain.waiting.remove(&ticket);
            }
        }
        Step::Wait { ms } => {
            plain.now_ms += ms;
            pool.tick(plain.now_ms);
        }
    }
}

fn join(pool: &mut Scheduler, plain: &mut Oracle, worker: u64, fresh: PlainWorker) {
    let offer = Offer {
        model: MODELS[fresh.model],
        coefficient: fresh.coefficient,
        running_max: fresh.slots,
        keys: fresh.keys,
        account: worker,
    };
    if pool.join(WorkerId(worker), offer, plain.now_ms).is_ok() {
        assert!(plain.workers.insert(worker, fresh).is_none());
        let known = |name: &str| MODELS.iter().position(|model| *model == name);
        plain.seen = pool.models(plain.now_ms).filter_map(|m| known(&m.model)).collect();
    } else {
        let known = plain.workers.contains_key(&worker);
        assert!(known || plain.workers.len() == 8 || plain.seen.len() == 2);
    }
}

fn submit(pool: &mut Scheduler, plain: &mut Oracle, job: PlainJob) {
    let ticket = plain.next;
    plain.next += 1;
    let free = plain.candidates(pool, &job);
    let refusal = plain.refusal(&job);
    let among: Vec<WorkerId> = job.only.map(WorkerId).into_iter().collect();
    let asked = Job {
        ticket: Ticket(ticket),
        client: ClientId(job.client),
        model: MODELS[job.model],
        coefficient_max: job.cap,
        keys: job.keys,
        among: &among,
        deadline_ms: job.deadline_ms,
        first: false,
    };
    plain.jobs.insert(ticket, job);
    match pool.submit(asked, plain.now_ms) {
        Placement::Assigned { worker, coefficient } => {
            assert!(free.contains(&worker.0), "chosen worker is no candidate");
            assert_eq!(coefficient, plain.workers[&worker.0].coefficient);
            plain.assigned(ticket, worker.0);
        }
        Placement::Queued { .. } => {
            assert_eq!((free.len(), refusal), (0, None), "queued though it could run or not wait");
            plain.waiting.insert(ticket);
        }
        Placement::Refused(reason) => {
            assert_eq!((free.len(), refusal), (0, Some(reason)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Any history: choices are lawful, nobody waits beside a free worker, limits hold, and every
    /// ticket is in one place.
    #[test]
    fn histories_follow_the_rules(steps in steps()) {
        let mut pool = Scheduler::new(LIMITS);
        let mut plain = Oracle::default();
        for step in steps {
            play(&mut pool, &mut plain, step);
            plain.follow(&mut pool);
            plain.check(&pool);
        }
        // When time has run out nobody waits any more.
        plain.now_ms += 10_000;
        pool.tick(plain.now_ms);
        plain.follow(&mut pool);
        prop_assert!(plain.waiting.is_empty());
    }
}

fn pool_of(workers: &[(u64, u32)]) -> Scheduler {
    let mut pool = Scheduler::new(Limits::default());
    for (id, slots) in workers {
        let offer =
            Offer { model: "m", coefficient: 1000, running_max: *slots, keys: true, account: *id };
        pool.join(WorkerId(*id), offer, 0).expect("there is room");
        pool.enable(WorkerId(*id), true, 0);
    }
    pool
}

fn job(ticket: u64, client: u64) -> Job<'static> {
    Job {
        ticket: Ticket(ticket),
        client: ClientId(client),
        model: "m",
        coefficient_max: 4000,
        keys: false,
        among: &[],
        deadline_ms: 60_000,
        first: false,
    }
}

#[test]
fn equal_workers_share_equally() {
    let mut pool = pool_of(&[(1, 60), (2, 60), (3, 60)]);
    for ticket in 0..30 {
        assert!(matches!(pool.submit(job(ticket, 1), 0), Placement::Assigned { .. }));
    }
    let loads: Vec<u32> = (1..4).map(|id| pool.offer(WorkerId(id), 0).unwrap().running).collect();
    assert_eq!(loads, [10, 10, 10]);
}

#[test]
fn a_worker_four_times_as_quick_gets_most_of_the_work_but_not_all() {
    let mut pool = pool_of(&[(1, 60), (2, 60)]);
    let mut ends: BTreeSet<(u64, u64, u64)> = BTreeSet::new();
    let mut served = [0u32; 2];
    let mut now = 0;
    for ticket in 0..400 {
        now += 90;
        while let Some(&(end, done, took)) = ends.first() {
            if end > now {
                break;
            }
            ends.pop_first();
            pool.finish(Ticket(done), Outcome::Served { service_ms: took, tokens: 256 }, end);
        }
        if let Placement::Assigned { worker, .. } = pool.submit(job(ticket, 1), now) {
            // Both slow down with load, as engines that share one device do.
            let load = u64::from(pool.offer(worker, now).unwrap().running);
            let took = load * if worker.0 == 1 { 100 } else { 400 };
            served[(worker.0 - 1) as usize] += 1;
            ends.insert((now + took, ticket, took));
        }
    }
    assert!(served[0] > 2 * served[1], "{served:?}");
    assert!(served[1] > 20, "the slow one is used too: {served:?}");
}

#[test]
fn a_burst_waits_and_is_served_fairly() {
    let mut pool = pool_of(&[(1, 2)]);
    for ticket in 0..10 {
        pool.submit(job(ticket, 1), 0);
    }
    assert_eq!(pool.submit(job(100, 2), 0), Placement::Queued { position: 8 });
    pool.finish(Ticket(0), Outcome::Served { service_ms: 5, tokens: 9 }, 5);
    pool.finish(Ticket(1), Outcome::Served { service_ms: 5, tokens: 9 }, 5);
    let order: Vec<_> = std::iter::from_fn(|| pool.next_event()).collect();
    let assigned =
        |ticket| Event::Assigned { ticket: Ticket(ticket), worker: WorkerId(1), coefficient: 1000 };
    assert_eq!(order, [assigned(2), assigned(100)]);
}

#[test]
fn bad_workers_rest_and_their_name_is_remembered() {
    let mut pool = pool_of(&[(1, 1)]);
    pool.submit(job(1, 1), 0);
    pool.finish(Ticket(1), Outcome::Lied, 0);
    assert!(pool.offer(WorkerId(1), 0).unwrap().cooling);
    pool.leave(WorkerId(1), 1);
    let offer = Offer { model: "m", coefficient: 1000, running_max: 1, keys: true, account: 1 };
    pool.join(WorkerId(7), offer, 2).unwrap();
    pool.enable(WorkerId(7), true, 2);
    assert_eq!(pool.submit(job(2, 1), 2), Placement::Queued { position: 0 });
    assert_eq!(pool.next_tick_ms(), Some(30_000));
    pool.tick(30_000);
    let event = Event::Assigned { ticket: Ticket(2), worker: WorkerId(7), coefficient: 1000 };
    assert_eq!(pool.next_event(), Some(event));
}

#[test]
fn the_line_is_as_long_as_its_slots_allow() {
    let limits = Limits { waiting_per_slot_milli: 500, ..Limits::default() };
    let mut pool = Scheduler::new(limits);
    for id in 1..=2 {
        let offer =
            Offer { model: "m", coefficient: 1_000, running_max: 16, keys: true, account: id };
        pool.join(WorkerId(id), offer, 0).unwrap();
        pool.enable(WorkerId(id), true, 0);
    }
    let job = |ticket, first| Job {
        ticket: Ticket(ticket),
        client: ClientId(1),
        model: "m",
        coefficient_max: 4_000,
        keys: false,
        among: &[],
        deadline_ms: 60_000,
        first,
    };
    for ticket in 0..32 {
        assert!(matches!(pool.submit(job(ticket, false), 0), Placement::Assigned { .. }));
    }
    for ticket in 32..48 {
        assert!(matches!(pool.submit(job(ticket, false), 0), Placement::Queued { .. }));
    }
    let busy = |waiting| Placement::Refused(Refusal::Busy { waiting });
    assert_eq!(pool.submit(job(48, false), 0), busy(16));
    assert_eq!(pool.submit(job(49, true), 0), Placement::Queued { position: 0 }, "let down before");
    // After a refusal nobody may wait for a while, however short the line has become.
    for ticket in 32..48 {
        assert!(pool.cancel(Ticket(ticket)));
    }
    assert_eq!(pool.submit(job(50, false), 1_999), busy(1));
    assert_eq!(pool.submit(job(51, false), 3_999), Placement::Queued { position: 1 });
    // With fewer slots fewer may wait, but a handful always.
    pool.enable(WorkerId(1), false, 4_000);
    for ticket in 60..66 {
        assert!(matches!(pool.submit(job(ticket, false), 4_000), Placement::Queued { .. }));
    }
    assert_eq!(pool.submit(job(66, false), 4_000), busy(8));
}

#[test]
fn a_request_that_comes_too_late_leaves_the_line_open_for_others() {
    let limits = Limits { waiting_per_slot_milli: 500, ..Limits::default() };
    let mut pool = Scheduler::new(limits);
    let offer = Offer { model: "m", coefficient: 1_000, running_max: 1, keys: true, account: 1 };
    pool.join(WorkerId(1), offer, 0).unwrap();
    pool.enable(WorkerId(1), true, 0);
    assert!(matches!(pool.submit(job(1, 1), 0), Placement::Assigned { .. }));
    let dead = Job { deadline_ms: 5, ..job(2, 2) };
    assert_eq!(pool.submit(dead, 5), Placement::Refused(Refusal::Busy { waiting: 0 }));
    assert_eq!(pool.submit(job(3, 1), 6), Placement::Queued { position: 0 });
}
