//! `cocoon up`: the whole network on this machine.

mod child;
mod found;
mod keeper;
mod model;
mod plan;
mod show;

use anyhow::{Context as _, Result, bail};
use cocoon_host::Stop;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::arguments::UpOptions;
use crate::http_get::Http;
use keeper::Keeper;
use model::Model;
use plan::{Ground, Plan};
use show::Show;

/// Longest wait for one node to become ready. The embedded model is loaded from disk in it.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// How often a node is asked whether it is ready.
const READY_EVERY: Duration = Duration::from_millis(20);

pub(crate) fn run(options: UpOptions) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let outcome = runtime.block_on(up(options));
    runtime.shutdown_timeout(Duration::from_millis(500));
    outcome
}

async fn up(options: UpOptions) -> Result<()> {
    let started = Instant::now();
    let show = Show::new(options.json);
    let stop = Stop::new();
    stop.on_signals().context("cannot listen for signals")?;
    let data_dir = match &options.data_dir {
        Some(dir) => dir.clone(),
        None => default_data_dir()?,
    };
    let home = plan::Home::open(&data_dir, options.fresh)?;
    let http = Http::new();
    let model = model::choose(&options, &http, &show).await?;
    let plan = Plan::make(&options, &home)?;

    let mut keeper = Keeper::new(show.clone());
    let mut network =
        Start { plan: &plan, model: &model, keeper: &mut keeper, http: &http, show: &show };
    let outcome = network.run(&options, &stop).await;
    match outcome {
        Ok(true) => {
            show.ready(&plan, &model, &keeper, (started.elapsed(), options.pseudo));
            stop.asked().await;
        }
        Ok(false) => {}
        Err(fault) => {
            keeper.end().await;
            return Err(fault);
        }
    }
    show.ending();
    keeper.end().await;
    Ok(())
}

/// One start of the network.
struct Start<'a> {
    plan: &'a Plan,
    model: &'a Model,
    keeper: &'a mut Keeper,
    http: &'a Http,
    show: &'a Show,
}

impl Start<'_> {
    /// Starts the nodes and waits for each; false when the end was asked for meanwhile.
    async fn run(&mut self, options: &UpOptions, stop: &Stop) -> Result<bool> {
        let chain = self.plan.chain_node();
        self.keeper.keep_last(chain.recipe.clone())?;
        if options.pseudo {
            self.plan.write_all(options.price, self.model, Ground::Pseudo)?;
            return self.nodes(Some(chain), stop).await;
        }
        if !self.ready(&chain, stop).await? {
            return Ok(false);
        }
        // Blocks come fast until everybody is there.
        let _hurry = found::Hurry::chain(self.plan, self.http);
        let began = Instant::now();
        let wanted = self.plan.wanted(options.price, self.model)?;
        let root = tokio::select! {
            () = stop.asked() => return Ok(false),
            root = found::found(self.plan, self.http, &wanted) => root?,
        };
        self.show.step("money", "test coins and a root contract", began.elapsed());
        self.plan.write_all(options.price, self.model, Ground::Chain(root))?;
        self.nodes(None, stop).await
    }

    /// Starts all nodes, then waits for them and for `besides`.
    async fn nodes(&mut self, besides: Option<plan::Node>, stop: &Stop) -> Result<bool> {
        // In this order they end, too: users first, the model last.
        let nodes = self.plan.nodes(self.model);
        for node in &nodes {
            self.keeper.keep(node.recipe.clone())?;
        }
        for node in nodes.iter().chain(&besides) {
            if !self.ready(node, stop).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn ready(&self, node: &plan::Node, stop: &Stop) -> Result<bool> {
        let began = Instant::now();
        tokio::select! {
            () = stop.asked() => return Ok(false),
            ready = wait_ready(node, self.keeper, self.http) => ready?,
        }
        self.show.step(&node.recipe.name, &node.what, began.elapsed());
        Ok(true)
    }
}

async fn wait_ready(node: &plan::Node, keeper: &Keeper, http: &Http) -> Result<()> {
    let deadline = Instant::now() + READY_TIMEOUT;
    loop {
        let answer = http.get(&node.ready_url, Duration::from_secs(2)).await;
        if matches!(answer, Ok((200, _))) {
            return Ok(());
        }
        if let Some(words) = keeper.gave_up(&node.recipe.name) {
            bail!(
                "{} does not start. Its log {} ends with:\n{words}",
                node.recipe.name,
                node.recipe.log.display()
            );
        }
        if Instant::now() >= deadline {
            bail!(
                "{} is not ready after {READY_TIMEOUT:?}: see {}",
                node.recipe.name,
                node.recipe.log.display()
            );
        }
        tokio::time::sleep(READY_EVERY).await;
    }
}

pub(crate) fn default_data_dir() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_DATA_HOME").filter(|dir| !dir.is_empty()) {
        Some(dir) => PathBuf::from(dir),
        None => {
            let home = std::env::var_os("HOME")
                .context("neither HOME nor XDG_DATA_HOME is set: say --data-dir DIR")?;
            PathBuf::from(home).join(".local/share")
        }
    };
    Ok(base.join("cocoon").join("up"))
}
