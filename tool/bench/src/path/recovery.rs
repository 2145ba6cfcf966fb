//! What happens when the proxy is killed.

use super::Fault;
use super::ask::Endpoint;
use super::network::Network;
use crate::process::Process;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long the next answer may take.
const LIMIT: Duration = Duration::from_secs(30);
/// Between two requests. Not one after the other: a gateway may hold the first one for long and
/// answer a later one at once, or the other way round.
const ASK_EVERY: Duration = Duration::from_millis(20);
/// Most requests in flight.
const ASKING_MAX: usize = 50;

/// What came after `kill -9` of the proxy.
#[derive(Clone, Debug, Serialize)]
pub struct Recovery {
    /// From the kill to the next answer to a request made after it.
    pub next_answer: Duration,
    /// What requests made meanwhile got, by status or fault.
    pub meanwhile: BTreeMap<String, u64>,
}

/// Kills the proxy and waits for the next answer.
pub(crate) fn kill_proxy(network: &mut Network) -> Result<Recovery, Fault> {
    let not_ready = |last: &str| Fault::NotReady {
        what: "no answer came after the proxy was killed",
        limit: LIMIT,
        last: last.to_owned(),
        log: String::new(),
    };
    let proxies = network.processes().into_iter().filter(|(role, _)| role == "proxy");
    let proxy = proxies.map(|(_, process)| process).next();
    let proxy = proxy.ok_or_else(|| not_ready("no process is the proxy"))?;
    let killed = Instant::now();
    if !proxy.signal("KILL") {
        return Err(not_ready("the proxy cannot be killed"));
    }
    while Process::read(proxy.id).is_some() && killed.elapsed() < LIMIT {
        std::thread::yield_now();
    }
    network.revive("proxy")?;
    let (answers, answered) = mpsc::channel();
    let (endpoint, model) = (network.endpoint().clone(), network.model().to_owned());
    let mut meanwhile: BTreeMap<String, u64> = BTreeMap::new();
    let mut asking = 0;
    while killed.elapsed() < LIMIT {
        if asking < ASKING_MAX {
            asking += 1;
            let (endpoint, model, answers) = (endpoint.clone(), model.clone(), answers.clone());
            std::thread::spawn(move || {
                let _ = answers.send((ask(&endpoint, &model), Instant::now()));
            });
        }
        if let Ok((answer, at)) = answered.recv_timeout(ASK_EVERY) {
            asking -= 1;
            if answer == "200" {
                return Ok(Recovery { next_answer: at.duration_since(killed), meanwhile });
            }
            *meanwhile.entry(answer).or_default() += 1;
        }
    }
    Err(not_ready(&format!("{meanwhile:?}")))
}

fn ask(endpoint: &Endpoint, model: &str) -> String {
    match endpoint.chat(model, LIMIT) {
        Ok(status) => status.to_string(),
        Err(fault) => fault.kind().to_string(),
    }
}
