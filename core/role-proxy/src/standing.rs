//! Whether the proxy serves.

/// Reasons not to serve, independent of each other.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// The session's first commit is not confirmed yet: nobody is served (protocol notes, chain
    /// 3.6).
    starting: bool,
    /// The node is shutting down: what runs goes on, nothing new begins.
    draining: bool,
    /// Switched off until the root's `params_version` reaches this.
    disabled_until: Option<i64>,
    /// Something that a person must look at.
    stopped: Option<String>,
    /// The journal cannot be written now: no new obligations.
    stalled: bool,
    /// The proxy contract is closing or closed: nobody is served under these parameters.
    closing: bool,
    /// The chain is away for too long: no new obligations.
    chain_away: bool,
}

impl Standing {
    pub(crate) fn starting() -> Self {
        Self { starting: true, ..Self::default() }
    }

    pub(crate) fn committed(&mut self) {
        self.starting = false;
    }

    /// A new contract instance begins: nobody is served before its first commit.
    pub(crate) fn begin_anew(&mut self) {
        (self.starting, self.closing) = (true, false);
    }

    /// Whether that is news.
    pub(crate) fn set_closing(&mut self, closing: bool) -> bool {
        std::mem::replace(&mut self.closing, closing) != closing
    }

    pub(crate) fn chain_away(&mut self, is_away: bool) {
        self.chain_away = is_away;
    }

    pub(crate) fn is_chain_away(&self) -> bool {
        self.chain_away
    }

    pub(crate) fn drain(&mut self) {
        self.draining = true;
    }

    pub(crate) fn stop(&mut self, why: String) {
        self.stopped.get_or_insert(why);
    }

    pub(crate) fn stall(&mut self, stalled: bool) {
        self.stalled = stalled;
    }

    pub(crate) fn disable_until(&mut self, params_version: i64) {
        self.disabled_until = Some(params_version);
    }

    pub(crate) fn enable(&mut self) {
        self.disabled_until = None;
    }

    pub(crate) fn params_reached(&mut self, params_version: u32) {
        if self.disabled_until.is_some_and(|until| i64::from(params_version) >= until) {
            self.disabled_until = None;
        }
    }

    pub(crate) fn is_disabled(&self) -> bool {
        self.disabled_until.is_some()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining
    }

    pub(crate) fn is_starting(&self) -> bool {
        self.starting
    }

    pub(crate) fn stopped(&self) -> Option<&str> {
        self.stopped.as_deref()
    }

    /// Why a new connection is closed at once (protocol notes 10.2 no. 21).
    pub(crate) fn turns_away(&self) -> Option<&'static str> {
        if self.stopped.is_some() {
            return Some("proxy has stopped");
        }
        if self.disabled_until.is_some() {
            return Some("proxy is disabled");
        }
        if self.closing {
            return Some("proxy contract is closing");
        }
        self.draining.then_some("proxy is shutting down")
    }

    /// Why a handshake fails.
    pub(crate) fn refuses(&self) -> Option<&'static str> {
        if let Some(text) = self.turns_away() {
            return Some(text);
        }
        if self.stalled {
            return Some("proxy cannot write its journal, try again later");
        }
        if self.chain_away {
            return Some("proxy cannot reach the chain, try again later");
        }
        self.starting.then_some("proxy is starting, try again")
    }
}
