//! The life of an engine: check, listen, load, serve, stop.

use std::future::Future;
use std::sync::Arc;

use crate::config::EngineConfig;
use crate::event::EngineEvent;
use crate::fault::EngineFault;

/// Who is told what the engine does; called from several threads.
pub type Observer = Arc<dyn Fn(EngineEvent) + Send + Sync>;

/// Runs an engine until `shutdown` completes: listens, hashes and loads the model, tells
/// `observer` when it is ready, and serves.
///
/// Between the signal and the end, answers under way have
/// [`EngineConfig::shutdown_grace_ms`] to finish. Must be called inside a tokio runtime with
/// time and I/O enabled. A fault inside llama.cpp ends the whole process, so a node runs this
/// in a process of its own.
///
/// # Errors
/// [`EngineFault`] says who must do what; the engine can be started again after that.
pub async fn run(
    config: EngineConfig,
    observer: Observer,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), EngineFault> {
    config.validate()?;
    #[cfg(feature = "llama")]
    {
        crate::cpu::check_processor()?;
        running::run(config, observer, shutdown).await
    }
    #[cfg(not(feature = "llama"))]
    {
        let _ = (observer, shutdown);
        Err(EngineFault::NotBuiltIn)
    }
}

#[cfg(feature = "llama")]
mod running {
    use std::future::Future;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use tokio::net::TcpListener;
    use tokio::sync::{Semaphore, mpsc, oneshot, watch};
    use tokio::task::JoinHandle;

    use crate::config::EngineConfig;
    use crate::event::EngineEvent;
    use crate::fault::EngineFault;
    use crate::generate::constraint::ConstraintFactory;
    use crate::generate::job::Work;
    use crate::generate::scheduler::Scheduler;
    use crate::http::accept::accept_all;
    use crate::http::route::now_s;
    use crate::http::served::{Phase, Served, Shared};
    use crate::metrics::Metrics;
    use crate::model::Vocabulary;
    use crate::model::llama::{DecoderShape, LlamaDecoder, LoadedModel};
    use crate::preset::Sha256;
    use crate::serve::Observer;
    use crate::template::ChatTemplate;
    use crate::verify::VerifiedFile;

    /// What the decoding thread shares with the rest.
    #[derive(Clone)]
    struct Desk {
        config: EngineConfig,
        observer: Observer,
        phase: Arc<watch::Sender<Phase>>,
        metrics: Arc<Metrics>,
        stop: Arc<AtomicBool>,
    }

    pub(super) async fn run(
        config: EngineConfig,
        observer: Observer,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), EngineFault> {
        let unbound = |source| EngineFault::Listen { addr: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(unbound)?;
        let addr = listener.local_addr().map_err(unbound)?;
        observer(EngineEvent::Listening { addr });
        let (phase, phase_seen) = watch::channel(Phase::Loading(0.0));
        let desk = Desk {
            config,
            observer,
            phase: Arc::new(phase),
            metrics: Arc::new(Metrics::default()),
            stop: Arc::new(AtomicBool::new(false)),
        };
        let network = Network::open(&desk, listener, phase_seen);
        let (work, waiting_work) = mpsc::unbounded_channel();
        let (ended, mut thread_ended) = oneshot::channel();
        let (thread_desk, thread_work) = (desk.clone(), work.clone());
        let thread = std::thread::Builder::new()
            .name("engine-decode".to_owned())
            .spawn(move || {
                let outcome = decode_thread(&thread_desk, addr, thread_work, waiting_work);
                // Without a receiver the engine is gone already.
                let _ = ended.send(outcome);
            })
            .map_err(|fault| EngineFault::DecodingThread { reason: fault.to_string() })?;
        let early = tokio::select! {
            () = shutdown => None,
            result = &mut thread_ended => Some(result),
        };
        (desk.observer)(EngineEvent::Stopping);
        desk.phase.send_replace(Phase::Stopping);
        // Without the thread nothing can be finished, so nothing is waited for.
        let grace_ms = if early.is_none() { desk.config.shutdown_grace_ms } else { 0 };
        network.close(Duration::from_millis(grace_ms)).await;
        desk.stop.store(true, Ordering::Release);
        let _ = work.send(Work::Wake);
        let result = match early {
            Some(result) => result,
            None => thread_ended.await,
        };
        // It has sent its outcome, or dropped the sender in a panic: it is at its end.
        let _ = thread.join();
        result.unwrap_or_else(|_| {
            let reason = "it panicked; its message is on standard error".to_owned();
            Err(EngineFault::DecodingThread { reason })
        })
    }

    /// The listener and all connections.
    struct Network {
        connections: Arc<Semaphore>,
        connections_max: u32,
        stop: watch::Sender<bool>,
        accepting: JoinHandle<()>,
    }

    impl Network {
        fn open(desk: &Desk, listener: TcpListener, phase: watch::Receiver<Phase>) -> Self {
            let config = &desk.config;
            let places = config.max_sequences.saturating_add(config.max_queued);
            let shared = Arc::new(Shared {
                phase,
                metrics: Arc::clone(&desk.metrics),
                places: Arc::new(Semaphore::new(usize::try_from(places).unwrap_or(usize::MAX))),
                started_s: now_s(),
                config: config.clone(),
            });
            let connections_max = config.max_connections;
            let count = usize::try_from(connections_max).unwrap_or(usize::MAX);
            let connections = Arc::new(Semaphore::new(count));
            let (stop, stop_seen) = watch::channel(false);
            let accepting =
                tokio::spawn(accept_all(listener, shared, Arc::clone(&connections), stop_seen));
            Self { connections, connections_max, stop, accepting }
        }

        /// Accepts no more, and waits for the connections under way, but not for ever: what
        /// is left ends when the decoding thread drops its jobs.
        async fn close(self, grace: Duration) {
            let _ = self.stop.send(true);
            let all = self.connections.acquire_many(self.connections_max);
            let _ = tokio::time::timeout(grace, all).await;
            let _ = self.accepting.await;
        }
    }

    /// Loads the model and decodes until the stop flag is set.
    fn decode_thread(
        desk: &Desk,
        addr: std::net::SocketAddr,
        work: mpsc::UnboundedSender<Work>,
        waiting_work: mpsc::UnboundedReceiver<Work>,
    ) -> Result<(), EngineFault> {
        let loaded = match load(desk) {
            Ok(loaded) => loaded,
            // The shutdown came while the file was being read: no fault at all.
            Err(_) if desk.stop.load(Ordering::Acquire) => return Ok(()),
            Err(fault) => return Err(fault),
        };
        let (model, sha256) = loaded;
        let config = &desk.config;
        let facts = model.facts();
        let context_tokens = config.context_tokens.min(facts.trained_context_tokens.max(1));
        let shape = DecoderShape {
            context_tokens,
            sequences: config.max_sequences,
            threads: config.threads,
        };
        let decoder = LlamaDecoder::new(&model, shape)?;
        let vocabulary: Arc<dyn Vocabulary> = Arc::new(model.clone());
        let refuse =
            |reason: String| EngineFault::ModelUnusable { path: config.model_path.clone(), reason };
        let template =
            ChatTemplate::new(facts.chat_template.as_deref(), &facts.begin_text, &facts.end_text)
                .map_err(|fault| refuse(fault.to_string()))?;
        let constraints = ConstraintFactory::new(Arc::clone(&vocabulary))
            .map_err(|fault| refuse(fault.to_string()))?;
        let mut scheduler = Scheduler::new(
            decoder,
            Arc::clone(&vocabulary),
            config.max_sequences,
            context_tokens,
            Arc::clone(&desk.metrics),
        );
        let fingerprint = fingerprint_of(sha256);
        desk.phase.send_if_modified(|phase| {
            // A shutdown that came first stays.
            if matches!(phase, Phase::Stopping) {
                return false;
            }
            *phase = Phase::Ready(Arc::new(Served {
                vocabulary,
                facts,
                template,
                constraints,
                context_tokens,
                fingerprint,
                work,
            }));
            true
        });
        (desk.observer)(EngineEvent::Ready { addr, sha256, context_tokens });
        scheduler.run(waiting_work, &desk.stop);
        Ok(())
    }

    fn load(desk: &Desk) -> Result<(LoadedModel, Sha256), EngineFault> {
        let config = &desk.config;
        let going_on = |desk: &Desk| !matches!(*desk.phase.borrow(), Phase::Stopping);
        let file =
            VerifiedFile::open(&config.model_path, config.sha256, |done_bytes, total_bytes| {
                (desk.observer)(EngineEvent::Hashing { done_bytes, total_bytes });
                going_on(desk)
            });
        let file = match file {
            Ok(file) => file,
            Err(_) if !going_on(desk) => {
                desk.stop.store(true, Ordering::Release);
                return Err(EngineFault::DecodingThread { reason: "stopped".to_owned() });
            }
            Err(fault) => return Err(fault),
        };
        let told = desk.clone();
        let loaded = LoadedModel::load(&file, move |fraction| {
            (told.observer)(EngineEvent::Loading { fraction });
            told.phase.send_if_modified(|phase| {
                if let Phase::Loading(seen) = phase {
                    *seen = fraction;
                }
                false
            });
            !matches!(*told.phase.borrow(), Phase::Stopping)
        });
        match loaded {
            Ok(model) => Ok((model, file.sha256())),
            Err(fault) => {
                if !going_on(desk) {
                    desk.stop.store(true, Ordering::Release);
                }
                Err(fault)
            }
        }
    }

    /// The same weights and the same version of the engine give the same fingerprint.
    fn fingerprint_of(sha256: Sha256) -> String {
        let weights: String = sha256.to_string().chars().take(12).collect();
        format!("fp_{weights}_{}", env!("CARGO_PKG_VERSION"))
    }
}
