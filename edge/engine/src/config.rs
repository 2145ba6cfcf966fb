//! What the engine is told at its start.

use std::net::SocketAddr;
use std::path::PathBuf;

use cocoon_units::Secret;

use crate::fault::EngineFault;
use crate::preset::Sha256;

/// Most sequences that one engine decodes at a time; more only waste memory on a CPU.
pub const SEQUENCES_MAX: u32 = 64;
/// Smallest context that a sequence may have, in tokens.
pub const CONTEXT_TOKENS_MIN: u32 = 128;
/// Largest context that a sequence may have, in tokens.
pub const CONTEXT_TOKENS_MAX: u32 = 1 << 20;

/// The environment in which a process that runs an engine should be started.
///
/// The arithmetic's threads wait for each other hundreds of times a token. By default they
/// spin, which is best on an idle machine and ruinous on a shared one: with two threads on
/// two busy cores (load 9, SmolLM2-135M) a model wrote 3 tokens/s spinning and 37 to 55
/// waiting passively; one thread, which waits for nobody, wrote 40. The OpenMP library reads
/// the variable before `main`, so it must be set by whoever starts the process (OpenMP 5.2,
/// section 21.5, `OMP_WAIT_POLICY`).
pub const PROCESS_ENVIRONMENT: &[(&str, &str)] = &[("OMP_WAIT_POLICY", "passive")];

/// What the engine serves, where, and within which limits.
///
/// [`EngineConfig::new`] gives values that fit a small model on a few cores; every field
/// may be changed before [`crate::run`].
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The GGUF file.
    pub model_path: PathBuf,
    /// Names under which clients ask for the model; the first is the one that is listed
    /// first and that must exist. A request for any other name is answered with 404.
    pub model_names: Vec<String>,
    /// What the file must hash to. `None` means that the operator vouches for the file;
    /// it is then hashed all the same, because the fingerprint in the answers needs it.
    pub sha256: Option<Sha256>,
    /// Where to listen. Port 0 lets the system choose; the address is told by
    /// [`crate::EngineEvent::Listening`].
    pub listen: SocketAddr,
    /// When set, every request but `/health` must carry `Authorization: Bearer <this>`.
    pub api_key: Option<Secret<String>>,
    /// Threads for the arithmetic, never more than there are cores: the threads wait for each
    /// other, so one too many costs an order of magnitude (see [`PROCESS_ENVIRONMENT`]).
    pub threads: u32,
    /// Tokens of context that each sequence has (prompt and answer together); cut down to
    /// what the model was trained for. Memory grows with this times `max_sequences`.
    pub context_tokens: u32,
    /// Sequences decoded together in one step.
    pub max_sequences: u32,
    /// Sequences that may wait beyond those; the next one is refused with 429.
    pub max_queued: u32,
    /// Connections open at a time; the next one waits in the system's backlog.
    pub max_connections: u32,
    /// Largest request body in bytes; a larger one is refused with 413.
    pub max_body_bytes: usize,
    /// How long a client may take to send the head of a request, and how long its body.
    pub request_timeout_ms: u64,
    /// How long answers under way may go on after the shutdown signal.
    pub shutdown_grace_ms: u64,
    /// What sampling does when a request does not say.
    pub sampling: SamplingDefaults,
}

/// Sampling for requests that do not say how.
///
/// Temperature and `top_p` are OpenAI's documented defaults. `min_p` cuts the tail that
/// makes small models ramble; it is the default of llama.cpp's server too.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplingDefaults {
    /// Divides the logits; 0 takes the likeliest token.
    pub temperature: f32,
    /// Keeps the likeliest tokens that together have this probability; 1 keeps all.
    pub top_p: f32,
    /// Keeps so many of the likeliest tokens; 0 keeps all.
    pub top_k: u32,
    /// Keeps tokens at least this likely, measured against the likeliest; 0 keeps all.
    pub min_p: f32,
}

impl Default for SamplingDefaults {
    fn default() -> Self {
        Self { temperature: 1.0, top_p: 1.0, top_k: 0, min_p: 0.05 }
    }
}

impl EngineConfig {
    /// A configuration for `model_path` under `model_name`, on a free port of loopback.
    #[must_use]
    pub fn new(model_path: impl Into<PathBuf>, model_name: impl Into<String>) -> Self {
        Self {
            model_path: model_path.into(),
            model_names: vec![model_name.into()],
            sha256: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            api_key: None,
            threads: default_threads(),
            context_tokens: 4096,
            max_sequences: 4,
            max_queued: 64,
            max_connections: 256,
            max_body_bytes: 16 << 20,
            request_timeout_ms: 30_000,
            shutdown_grace_ms: 5_000,
            sampling: SamplingDefaults::default(),
        }
    }

    /// Refuses what cannot work.
    ///
    /// # Errors
    /// [`EngineFault::Configuration`] names the setting, its value and what it may be; the
    /// operator must change it.
    pub fn validate(&self) -> Result<(), EngineFault> {
        let cores = available_cores();
        let refuse = |setting: &'static str, found: String, allowed: String| {
            Err(EngineFault::Configuration { setting, found, allowed })
        };
        if self.model_names.is_empty() || self.model_names.iter().any(|name| !is_name(name)) {
            return refuse(
                "model_names",
                format!("{:?}", self.model_names),
                "one or more names of 1 to 256 printable characters without spaces".into(),
            );
        }
        if self.threads == 0 || self.threads > cores {
            return refuse(
                "threads",
                self.threads.to_string(),
                format!("1 to {cores} (the cores)"),
            );
        }
        if !(CONTEXT_TOKENS_MIN..=CONTEXT_TOKENS_MAX).contains(&self.context_tokens) {
            return refuse(
                "context_tokens",
                self.context_tokens.to_string(),
                format!("{CONTEXT_TOKENS_MIN} to {CONTEXT_TOKENS_MAX}"),
            );
        }
        if self.max_sequences == 0 || self.max_sequences > SEQUENCES_MAX {
            return refuse(
                "max_sequences",
                self.max_sequences.to_string(),
                format!("1 to {SEQUENCES_MAX}"),
            );
        }
        if self.max_connections == 0 || self.max_body_bytes < 1024 || self.request_timeout_ms == 0 {
            return refuse(
                "max_connections, max_body_bytes or request_timeout_ms",
                format!(
                    "{}, {}, {}",
                    self.max_connections, self.max_body_bytes, self.request_timeout_ms
                ),
                "at least 1, 1024 and 1".into(),
            );
        }
        Ok(())
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 256
        && name.chars().all(|c| !c.is_control() && !c.is_whitespace())
}

fn available_cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX))
}

/// All cores if the threads wait passively, else half of them: a thread that shares its core
/// holds up all others (see [`PROCESS_ENVIRONMENT`]).
fn default_threads() -> u32 {
    let passive =
        std::env::var("OMP_WAIT_POLICY").is_ok_and(|policy| policy.eq_ignore_ascii_case("passive"));
    threads_for(available_cores(), passive)
}

fn threads_for(cores: u32, passive: bool) -> u32 {
    if passive { cores.clamp(1, 8) } else { (cores / 2).clamp(1, 8) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid() {
        EngineConfig::new("/m.gguf", "m").validate().unwrap();
    }

    #[test]
    fn threads_leave_room_unless_they_wait_passively() {
        let threads: Vec<_> = [1, 2, 4, 64].map(|cores| threads_for(cores, false)).into();
        assert_eq!(threads, [1, 1, 2, 8]);
        let passive: Vec<_> = [1, 2, 4, 64].map(|cores| threads_for(cores, true)).into();
        assert_eq!(passive, [1, 2, 4, 8]);
    }

    #[test]
    fn each_wrong_setting_is_named() {
        let good = EngineConfig::new("/m.gguf", "m");
        let cases: Vec<(&str, EngineConfig)> = vec![
            ("model_names", EngineConfig { model_names: vec![], ..good.clone() }),
            ("model_names", EngineConfig { model_names: vec!["a b".into()], ..good.clone() }),
            ("threads", EngineConfig { threads: 0, ..good.clone() }),
            ("threads", EngineConfig { threads: 100_000, ..good.clone() }),
            ("context_tokens", EngineConfig { context_tokens: 1, ..good.clone() }),
            ("max_sequences", EngineConfig { max_sequences: 65, ..good.clone() }),
            ("max_body_bytes", EngineConfig { max_body_bytes: 0, ..good.clone() }),
        ];
        for (setting, config) in cases {
            let fault = config.validate().unwrap_err().to_string();
            assert!(fault.contains(setting), "{fault}");
        }
    }
}
