//! The loop with a model of arithmetic instead of weights: the token after `t` is `t + 1`.

use super::*;
use crate::generate::job::FinishReason;
use crate::generate::sampler::SamplingParams;
use crate::model::DecodeFault;
use std::collections::HashMap;

const SIZE: usize = 64;
const END: TokenId = 63;

struct Letters;

impl Vocabulary for Letters {
    fn size(&self) -> usize {
        SIZE
    }
    fn tokenize(&self, _: &str, _: bool, _: bool) -> Vec<TokenId> {
        Vec::new()
    }
    fn piece(&self, token: TokenId) -> Vec<u8> {
        if token == END { Vec::new() } else { vec![b'0' + u8::try_from(token).unwrap()] }
    }
    fn special_piece(&self, token: TokenId) -> Vec<u8> {
        self.piece(token)
    }
    fn is_end(&self, token: TokenId) -> bool {
        token == END
    }
}

/// Remembers what each sequence holds and insists that positions have no gaps.
#[derive(Default)]
struct Successor {
    memory: HashMap<u32, Vec<TokenId>>,
    logits: Vec<Option<Vec<f32>>>,
    batches: Vec<usize>,
    fail_next: bool,
}

impl Decoder for Successor {
    fn batch_tokens_max(&self) -> usize {
        512
    }
    fn decode(&mut self, batch: &[BatchToken]) -> Result<(), DecodeFault> {
        assert!(!batch.is_empty() && batch.len() <= 512);
        self.batches.push(batch.len());
        if std::mem::take(&mut self.fail_next) {
            return Err(DecodeFault("told to fail".into()));
        }
        self.logits.clear();
        for token in batch {
            let held = self.memory.entry(token.sequence).or_default();
            assert_eq!(held.len(), token.position as usize, "a gap in a sequence");
            held.push(token.token);
            self.logits.push(token.logits.then(|| {
                let next = (token.token as usize + 1) % SIZE;
                (0..SIZE).map(|index| if index == next { 9.0 } else { 0.0 }).collect()
            }));
        }
        Ok(())
    }
    fn logits(&self, index: usize) -> &[f32] {
        self.logits[index].as_ref().expect("logits were not asked for")
    }
    fn forget(&mut self, sequence: u32, position: u32) -> bool {
        self.memory.entry(sequence).or_default().truncate(position as usize);
        true
    }
    fn embed(&mut self, tokens: &[TokenId]) -> Result<Vec<f32>, DecodeFault> {
        Ok(vec![tokens.len() as f32])
    }
}

fn scheduler(sequences: u32, context_tokens: u32) -> Scheduler<Successor> {
    let metrics = Arc::new(Metrics::default());
    Scheduler::new(Successor::default(), Arc::new(Letters), sequences, context_tokens, metrics)
}

fn job(prompt: Vec<TokenId>, tokens_max: u32) -> (Job, mpsc::UnboundedReceiver<(u32, JobEvent)>) {
    let (events, receiver) = mpsc::unbounded_channel();
    let sampling = SamplingParams {
        temperature: 0.0,
        top_p: 1.0,
        top_k: 0,
        min_p: 0.0,
        frequency_penalty: 0.0,
        presence_penalty: 0.0,
        seed: 0,
        choice: 0,
        logit_bias: vec![],
    };
    let job = Job {
        prompt,
        tokens_max,
        tokens_min: 0,
        ignore_end: false,
        sampling,
        constraint: None,
        stops: vec![],
        logprobs: None,
        prompt_logprobs: false,
        index: 0,
        events,
        permit: None,
    };
    (job, receiver)
}

fn run_dry(scheduler: &mut Scheduler<Successor>) {
    for _ in 0..10_000 {
        if scheduler.is_idle() {
            return;
        }
        scheduler.step();
    }
    panic!("the loop does not come to rest");
}

struct Answer {
    text: String,
    cached: u32,
    end: JobEvent,
}

fn answer(receiver: &mut mpsc::UnboundedReceiver<(u32, JobEvent)>) -> Answer {
    let (mut text, mut cached) = (String::new(), 0);
    loop {
        match receiver.try_recv().expect("the answer has an end").1 {
            JobEvent::Started { cached_tokens, .. } => cached = cached_tokens,
            JobEvent::Delta { text: more, .. } => text.push_str(&more),
            end => return Answer { text, cached, end },
        }
    }
}

fn finished(reason: FinishReason, generated_tokens: u32) -> JobEvent {
    JobEvent::Finished { reason, generated_tokens }
}

#[test]
fn answers_end_at_their_limit_the_end_token_a_stop_and_the_context() {
    let mut scheduler = scheduler(4, 40);
    let (limit, mut limit_events) = job(vec![1, 2], 3);
    let (end, mut end_events) = job(vec![60], 30);
    let (mut stop, mut stop_events) = job(vec![1], 30);
    stop.stops = vec!["45".into()];
    let (context, mut context_events) = job(vec![1; 36], 30);
    for job in [limit, end, stop, context] {
        scheduler.take(Work::Generate(Box::new(job)));
    }
    run_dry(&mut scheduler);
    let limit = answer(&mut limit_events);
    assert_eq!((limit.text.as_str(), limit.end), ("345", finished(FinishReason::Length, 3)));
    let end = answer(&mut end_events);
    assert_eq!((end.text.as_str(), end.end), ("mn", finished(FinishReason::Stop, 3)));
    let stop = answer(&mut stop_events);
    assert_eq!((stop.text.as_str(), stop.end), ("23", finished(FinishReason::Stop, 4)));
    let context = answer(&mut context_events);
    assert_eq!((context.text.as_str(), context.end), ("2345", finished(FinishReason::Length, 4)));
}

#[test]
fn an_end_may_be_ignored_or_put_off() {
    let mut scheduler = scheduler(2, 100);
    let (mut ignoring, mut ignoring_events) = job(vec![61], 5);
    ignoring.ignore_end = true;
    let (mut at_least, mut at_least_events) = job(vec![61], 50);
    at_least.tokens_min = 3;
    for job in [ignoring, at_least] {
        scheduler.take(Work::Generate(Box::new(job)));
    }
    run_dry(&mut scheduler);
    assert_eq!(answer(&mut ignoring_events).end, finished(FinishReason::Length, 5));
    let JobEvent::Finished { generated_tokens, .. } = answer(&mut at_least_events).end else {
        panic!("the answer finishes")
    };
    assert!(generated_tokens > 3);
}

#[test]
fn more_jobs_than_slots_are_all_answered_in_order() {
    let mut scheduler = scheduler(2, 600);
    let mut receivers = Vec::new();
    for index in 0..9 {
        let (job, events) = job(vec![index; 1 + 40 * index as usize], 4);
        scheduler.take(Work::Generate(Box::new(job)));
        receivers.push(events);
    }
    run_dry(&mut scheduler);
    for (index, receiver) in (0_u8..).zip(&mut receivers) {
        let first = char::from(b'0' + index + 1);
        assert!(answer(receiver).text.starts_with(first));
    }
}

#[test]
fn a_long_prompt_does_not_hold_up_an_answer_under_way() {
    let mut scheduler = scheduler(2, 2000);
    let (short, mut short_events) = job(vec![1], 20);
    scheduler.take(Work::Generate(Box::new(short)));
    scheduler.step();
    let (long, _long_events) = job(vec![5; 1500], 2);
    scheduler.take(Work::Generate(Box::new(long)));
    for _ in 0..6 {
        let before = short_events.len();
        scheduler.step();
        assert!(short_events.len() > before, "each step brings the answer on");
    }
    assert!(scheduler.decoder.batches.iter().all(|size| *size <= PIECE_TOKENS + 1));
    short_events.close();
}

#[test]
fn a_repeated_prompt_is_reused_in_whole_pieces() {
    let mut scheduler = scheduler(2, 1000);
    let prompt: Vec<TokenId> = (0..300).map(|index| index % 50).collect();
    let (first, mut first_events) = job(prompt.clone(), 2);
    scheduler.take(Work::Generate(Box::new(first)));
    run_dry(&mut scheduler);
    assert_eq!(answer(&mut first_events).cached, 0);
    let (again, mut again_events) = job(prompt[..290].to_vec(), 2);
    let (other, mut other_events) = job(vec![7; 300], 2);
    scheduler.take(Work::Generate(Box::new(again)));
    scheduler.take(Work::Generate(Box::new(other)));
    run_dry(&mut scheduler);
    assert_eq!(answer(&mut again_events).cached, 256);
    assert_eq!(answer(&mut other_events).cached, 0);
    let (exact, mut exact_events) = job(prompt[..256].to_vec(), 2);
    scheduler.take(Work::Generate(Box::new(exact)));
    run_dry(&mut scheduler);
    assert_eq!(answer(&mut exact_events).cached, 128, "the last token is always decoded");
}

#[test]
fn a_client_that_goes_away_frees_its_slot_at_the_next_step() {
    let mut scheduler = scheduler(1, 1000);
    let (gone, gone_events) = job(vec![1], 900);
    let (queued_gone, queued_gone_events) = job(vec![1], 900);
    let (next, mut next_events) = job(vec![3], 2);
    for job in [gone, queued_gone, next] {
        scheduler.take(Work::Generate(Box::new(job)));
    }
    scheduler.step();
    drop((gone_events, queued_gone_events));
    scheduler.step();
    assert_eq!(next_events.len(), 2, "the next job has begun");
    run_dry(&mut scheduler);
    assert_eq!(answer(&mut next_events).text, "45");
}

#[test]
fn a_failed_step_ends_its_jobs_and_leaves_nothing_behind() {
    let mut scheduler = scheduler(2, 1000);
    let (failing, mut failing_events) = job(vec![1; 200], 5);
    scheduler.take(Work::Generate(Box::new(failing)));
    scheduler.step();
    scheduler.decoder.fail_next = true;
    scheduler.step();
    assert!(matches!(answer(&mut failing_events).end, JobEvent::Failed { .. }));
    let (after, mut after_events) = job(vec![1; 200], 5);
    scheduler.take(Work::Generate(Box::new(after)));
    run_dry(&mut scheduler);
    assert_eq!(answer(&mut after_events).cached, 0, "nothing of a failed step is reused");
}

#[test]
fn embeddings_and_log_probabilities_are_delivered() {
    let mut scheduler = scheduler(1, 1000);
    let (answer_to, mut embedding) = tokio::sync::oneshot::channel();
    let work = EmbeddingJob { tokens: vec![1, 2, 3], answer: answer_to, permit: None };
    scheduler.take(Work::Embed(work));
    let (mut echo, mut echo_events) = job((0..150).map(|index| index % 60).collect(), 1);
    echo.logprobs = Some(2);
    echo.prompt_logprobs = true;
    scheduler.take(Work::Generate(Box::new(echo)));
    run_dry(&mut scheduler);
    assert_eq!(embedding.try_recv().unwrap(), Ok(vec![3.0]));
    let JobEvent::Started { prompt_logprobs, .. } = echo_events.try_recv().unwrap().1 else {
        panic!("the first event says that the prompt is read")
    };
    assert_eq!(prompt_logprobs.len(), 150);
    assert_eq!(prompt_logprobs[0], None);
    let second = prompt_logprobs[1].as_ref().unwrap();
    assert_eq!((second.chosen.token, second.top.len(), second.top[0].token), (1, 2, 1));
    let JobEvent::Delta { tokens, .. } = echo_events.try_recv().unwrap().1 else {
        panic!("then comes text")
    };
    assert_eq!(tokens[0].logprobs.as_ref().unwrap().top.len(), 2);
}

#[test]
fn the_loop_ends_when_told_and_when_nobody_can_ask() {
    let (sender, receiver) = mpsc::unbounded_channel();
    let (work, mut events) = job(vec![1], 3);
    sender.send(Work::Generate(Box::new(work))).unwrap();
    drop(sender);
    scheduler(1, 100).run(receiver, &AtomicBool::new(false));
    assert_eq!(answer(&mut events).text, "234");
    let (_sender, receiver) = mpsc::unbounded_channel();
    scheduler(1, 100).run(receiver, &AtomicBool::new(true));
}
