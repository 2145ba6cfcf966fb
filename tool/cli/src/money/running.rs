//! Nodes that run on this machine: they say where they answer and whose wallet they hold, so that
//! nobody spends from one wallet at once with them.

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use cocoon_units::Address;
use http_body_util::{BodyExt as _, Full, Limited};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::access::data_home;
use super::arguments::{ChannelRole, NodeChoice};
use crate::http_get::Http;
use crate::mistake;

/// Longest wait for an answer: a node looks at the chain before it gives one.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// Longest wait for the page of a node that may be gone.
const PAGE_WITHIN: Duration = Duration::from_secs(5);
/// Most notes looked at, and the longest one, bytes.
const NOTES_MAX: usize = 64;
const NOTE_LEN_MAX: u64 = 4_096;
const ANSWER_LEN_MAX: usize = 1 << 20;

/// The note of a running node; taken away when it ends.
pub(crate) struct Announced(Option<PathBuf>);

impl Drop for Announced {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // One that stays names a port where nobody answers, which is found out.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Where the notes lie: they belong to the person who runs the nodes.
pub(crate) fn directory() -> Option<PathBuf> {
    data_home().map(|home| home.join("running"))
}

/// Notes that a node with this wallet answers here. A node that cannot be reached by a known port
/// is not noted, nor one whose user has no home.
pub(crate) fn announce(role: ChannelRole, http: Option<SocketAddr>, wallet: Address) -> Announced {
    let (Some(directory), Some(http)) = (directory(), http.filter(|http| http.port() != 0)) else {
        return Announced(None);
    };
    let ip = match http.ip() {
        ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        ip => ip,
    };
    let url = format!("http://{}", SocketAddr::new(ip, http.port()));
    let path = directory.join(format!("{}-{}.json", role.name(), http.port()));
    let note = json!({ "role": role.name(), "http": url, "wallet": wallet.to_raw() });
    let written = std::fs::create_dir_all(&directory)
        .and_then(|()| std::fs::write(&path, format!("{note}\n")));
    match written {
        Ok(()) => Announced(Some(path)),
        Err(fault) => {
            tracing::debug!(%fault, "other commands will not find this node by themselves");
            Announced(None)
        }
    }
}

/// A note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) http: String,
    wallet: Address,
}

/// Notes of nodes; some may be gone.
pub(crate) fn notes() -> Vec<Note> {
    let Some(Ok(entries)) = directory().map(std::fs::read_dir) else { return Vec::new() };
    entries.take(NOTES_MAX).filter_map(|entry| note(&entry.ok()?.path())).collect()
}

fn note(path: &Path) -> Option<Note> {
    if std::fs::metadata(path).ok()?.len() > NOTE_LEN_MAX {
        return None;
    }
    let value: Value = serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()?;
    let wallet = Address::parse(value["wallet"].as_str()?).ok()?;
    Some(Note { http: value["http"].as_str()?.to_owned(), wallet })
}

/// The running node that holds this wallet, if one does.
pub(crate) async fn holder(wallet: Address) -> Option<Note> {
    let http = Http::new();
    for note in notes().into_iter().filter(|note| note.wallet == wallet) {
        // A note of a node that was killed names a port where nobody, or somebody else, answers.
        let health = format!("{}/health", note.http);
        if matches!(http.get(&health, PAGE_WITHIN).await, Ok((200, _))) {
            return Some(note);
        }
    }
    None
}

/// The root contract that the nodes of this machine follow, as the first that answers names it.
pub(crate) async fn root() -> Result<String> {
    for note in notes() {
        let Ok(desk) = NodeDesk::open(&note.http, &NodeChoice::default()).await else { continue };
        let page = &desk.page;
        let told = page["localconf"]["root_address"].as_str();
        if let Some(root) = told.or(page["localconfig"]["root_address"].as_str()) {
            return Ok(root.to_owned());
        }
    }
    Err(mistake("no node that runs here names a root contract: say --root ADDRESS"))
}

/// A running node, to talk to.
pub(crate) struct NodeDesk {
    http: Http,
    pub(crate) url: String,
    access: Option<String>,
    pub(crate) role: ChannelRole,
    pub(crate) page: Value,
}

impl NodeDesk {
    /// Asks the node who it is.
    pub(crate) async fn open(url: &str, choice: &NodeChoice) -> Result<Self> {
        let url = url.trim_end_matches('/').to_owned();
        if !url.starts_with("http://") {
            return Err(mistake(format_args!(
                "{url}: only nodes that speak plain HTTP can be asked, http://127.0.0.1:10000"
            )));
        }
        let access = match &choice.access_hash_file {
            None => None,
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|fault| mistake(format_args!("{}: {fault}", path.display())))?;
                Some(text.trim().to_owned())
            }
        };
        let (http, role, page) = (Http::new(), ChannelRole::Client, Value::Null);
        let mut desk = Self { http, url, access, role, page };
        desk.look().await?;
        desk.role = match &desk.page {
            page if page["smartcontract"].is_object() => ChannelRole::Proxy,
            page if page["localconfig"].is_object() => ChannelRole::Worker,
            _ => ChannelRole::Client,
        };
        Ok(desk)
    }

    /// Reads the status page again.
    pub(crate) async fn look(&mut self) -> Result<()> {
        let text = self.ask("GET", "/jsonstats", PAGE_WITHIN).await?;
        let is_strange = || format!("{}/jsonstats is no page of a Cocoon node", self.url);
        self.page = serde_json::from_str(&text).with_context(is_strange)?;
        Ok(())
    }

    /// Whether it has this contract, or one at this proxy contract.
    pub(crate) fn has(&self, named: Address) -> bool {
        let is_it = |value: &Value| {
            value.as_str().and_then(|text| Address::parse(text).ok()) == Some(named)
        };
        let contracts = self.page["money"]["contracts"].as_array().into_iter().flatten();
        let mut own = contracts.flat_map(|one| [&one["sc_address"], &one["proxy_sc_address"]]);
        own.any(is_it) || is_it(&self.page["smartcontract"]["address"])
    }

    /// Has something done; the answer's text.
    pub(crate) async fn post(&self, path: &str) -> Result<String> {
        self.ask("POST", path, ANSWER_WITHIN).await
    }

    pub(crate) async fn get(&self, path: &str) -> Result<String> {
        self.ask("GET", path, ANSWER_WITHIN).await
    }

    async fn ask(&self, method: &str, path: &str, within: Duration) -> Result<String> {
        let joint = if path.contains('?') { '&' } else { '?' };
        let word = self.access.as_ref().map(|word| format!("{joint}access_hash={word}"));
        let uri = format!("{}{path}{}", self.url, word.unwrap_or_default());
        let (url, shown) = (&self.url, path.split('?').next().unwrap_or_default());
        let request = http::Request::builder()
            .method(method)
            .uri(uri)
            .body(Full::new(Bytes::new()))
            .map_err(|_| {
                mistake(format_args!("{url} is no address, or the access word no word"))
            })?;
        let asking = async {
            // The address may hold the access word: it stands in no message.
            let answer = self.http.send(request).await.map_err(|_| {
                mistake(format_args!("{url} does not answer: is the node running?"))
            })?;
            let status = answer.status().as_u16();
            let body = Limited::new(answer.into_body(), ANSWER_LEN_MAX).collect().await;
            let body = body.map_err(|_| anyhow::anyhow!("{url}{shown}: the answer broke off"))?;
            Ok::<_, anyhow::Error>((status, body.to_bytes()))
        };
        let (status, body) = tokio::time::timeout(within, asking)
            .await
            .with_context(|| format!("{url}{shown} did not answer within {within:?}"))??;
        let text = String::from_utf8_lossy(&body).trim().to_owned();
        let told: Value = serde_json::from_str(&text).unwrap_or_default();
        let reason = told["error"]["message"].as_str().unwrap_or(&text);
        match status {
            200 => Ok(text),
            401 | 403 => Err(mistake(format_args!(
                "{url} does not let us in: say --access-hash-file FILE with its access word. {reason}"
            ))),
            400..500 => Err(mistake(reason)),
            _ => bail!("{url}{shown}: {reason}"),
        }
    }
}
