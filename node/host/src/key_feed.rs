//! Keys of end-to-end encryption, as a key manager hands them out (protocol notes, wire 3.10).

use cocoon_link::{Dialer, Event, LinkHandle, LinkSettings, Links, Tag};
use cocoon_role_keymgr::{HeldKeys, KeyPoll, PollAct};
use cocoon_units::{ImageHash, Role};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

use crate::config::ConfigFault;
use crate::peers::{Presence, Transport};
use crate::{Stop, clock};

/// How often the poll looks at the clock.
const TICK: Duration = Duration::from_secs(1);
/// Events that may wait; one connection makes few.
const EVENTS_MAX: usize = 64;

/// A key manager that is asked for keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyManagerAt {
    /// Where it listens.
    pub address: SocketAddr,
    /// The image it must show, base64 or hex; empty checks nothing, in test mode only.
    #[serde(default)]
    pub image_hash: String,
}

impl KeyManagerAt {
    /// Reads the image.
    ///
    /// # Errors
    /// [`ConfigFault::Member`].
    pub fn image(&self, is_test: bool) -> Result<Option<ImageHash>, ConfigFault> {
        let member = "key_manager.image_hash";
        if self.image_hash.is_empty() {
            let reason = "can be left out in test mode only".to_owned();
            return if is_test { Ok(None) } else { Err(ConfigFault::Member { member, reason }) };
        }
        let read = ImageHash::parse(&self.image_hash);
        read.map(Some).map_err(|fault| ConfigFault::Member { member, reason: fault.to_string() })
    }
}

/// The newest keys; waits for ever where no key manager is asked.
#[derive(Debug, Default)]
pub struct KeyFeed(Option<watch::Receiver<Arc<HeldKeys>>>);

impl KeyFeed {
    /// Asks the key manager until `stop`.
    ///
    /// # Errors
    /// [`ConfigFault`]: its image cannot be read.
    pub fn start(
        at: &KeyManagerAt,
        (role, is_test): (Role, bool),
        (presence, transport): (&Presence, &Transport),
        stop: &Stop,
    ) -> Result<Self, ConfigFault> {
        let image = at.image(is_test)?;
        let poll = KeyPoll::new(role, image);
        let contradicts = |reason| ConfigFault::Member { member: "key_manager.image_hash", reason };
        let asking = presence.asking_for_keys(image.map(|image| image.0)).map_err(contradicts)?;
        let route = asking.route(transport, cocoon_ratls::WORK_BITS_MAX);
        let (events_in, events) = mpsc::channel(EVENTS_MAX);
        let links = Links::new(LinkSettings::default(), events_in);
        let kept = Dialer::new(&links, route).keep(at.address, Tag(0));
        let (tell, newest) = watch::channel(Arc::default());
        let asking = Asking { poll, link: None, tell, started: Instant::now() };
        let stop = stop.clone();
        tokio::spawn(async move {
            asking.run(events, &stop).await;
            drop(kept);
            links.close().await;
        });
        Ok(Self(Some(newest)))
    }

    /// Waits until the keys are others. May be dropped and called again.
    pub async fn changed(&mut self) -> Arc<HeldKeys> {
        if let Some(newest) = &mut self.0
            && newest.changed().await.is_ok()
        {
            return newest.borrow_and_update().clone();
        }
        // Nobody asks, or the node ends.
        std::future::pending().await
    }
}

struct Asking {
    poll: KeyPoll,
    link: Option<LinkHandle>,
    tell: watch::Sender<Arc<HeldKeys>>,
    started: Instant,
}

impl Asking {
    async fn run(mut self, mut events: mpsc::Receiver<cocoon_link::LinkEvent>, stop: &Stop) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let mut out = Vec::new();
            tokio::select! {
                () = stop.asked() => return,
                event = events.recv() => match event {
                    None => return,
                    Some(event) => self.event(event.event, &mut out),
                },
                _ = ticks.tick() => {
                    let chance = u64::from_le_bytes(clock::random());
                    self.poll.tick(self.now_ms(), clock::now_ms() / 1000, chance, &mut out);
                }
            }
            for act in out {
                self.act(act);
            }
        }
    }

    /// Steady milliseconds: a clock that steps does not hold up questions.
    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn event(&mut self, event: Event, out: &mut Vec<PollAct>) {
        match event {
            Event::Opened(opened) => {
                let image = opened.identity.image_hash.map(ImageHash);
                self.link = Some(opened.link);
                self.poll.opened(image, self.now_ms(), out);
            }
            Event::Answer { data, .. } => self.poll.answered(&data, clock::now_ms() / 1000, out),
            Event::QueryFailed { code, message, .. } => {
                let message: String = message.chars().take(200).collect();
                tracing::warn!(code, message, "the key manager gives no keys");
                self.poll.failed(out);
            }
            Event::Attested(verdicts) => {
                tracing::debug!(fresh = verdicts.is_fresh(), "the key manager attested");
            }
            Event::Closed(fault) => {
                tracing::debug!(%fault, "connection to the key manager closed");
                self.link = None;
                self.poll.closed();
            }
            Event::DialFailed { target, fault, .. } => {
                tracing::debug!(%target, %fault, "the key manager cannot be reached");
            }
            _ => {}
        }
    }

    fn act(&mut self, act: PollAct) {
        match act {
            PollAct::Query { data, timeout_ms } => {
                let id = i64::from_le_bytes(clock::random());
                let timeout = Duration::from_millis(timeout_ms);
                let asked = self.link.as_ref().map(|link| link.query(id, data, timeout));
                if !matches!(asked, Some(Ok(()))) {
                    self.leave();
                }
            }
            PollAct::Close { reason } => {
                tracing::warn!(reason, "key manager left");
                self.leave();
            }
            PollAct::Changed => {
                tracing::info!(keys = self.poll.keys().len(), "keys of end-to-end encryption");
                self.tell.send_replace(Arc::new(self.poll.keys().clone()));
            }
        }
    }

    fn leave(&mut self) {
        if let Some(link) = self.link.take() {
            link.close();
        }
        self.poll.closed();
    }
}
