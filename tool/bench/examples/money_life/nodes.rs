//! The programs: proxy, worker, gateway, and a model server that costs nothing.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use cocoon_bench::mock::{self, Mock};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::site::{Site, free_port};

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Nodes {
    children: Vec<(&'static str, Child)>,
    pub(crate) gateway: SocketAddr,
    pub(crate) worker: SocketAddr,
    logs: PathBuf,
    _mock: Mock,
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for (_, child) in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(crate) fn program() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("COCOON_BIN") {
        return Ok(named.into());
    }
    let beside = std::env::current_exe()?;
    let folder = beside.parent().and_then(|folder| folder.parent()).context("a folder")?;
    Ok(folder.join("cocoon"))
}

impl Nodes {
    pub(crate) async fn start(site: &Site) -> Result<Self> {
        let mock = Mock::start(mock::Options::default())?;
        let (gateway, worker, proxy) = (free_port()?, free_port()?, free_port()?);
        let mut nodes =
            Self { children: Vec::new(), gateway, worker, logs: site.dir.clone(), _mock: mock };
        let chain = format!("kind = \"local\"\nurl = \"{}\"\npoll_ms = 50\n", site.chain().url);
        let common = |name: &str| {
            format!(
                "owner = \"{}\"\nroot = \"{}\"\nis_test = true\ndata_dir = \"{}\"\n",
                Site::owner_of(name),
                site.root,
                site.dir.join(name).display()
            )
        };
        nodes.run(
            "proxy",
            &format!(
                "{}check_worker_images = false\nlisten_workers = \"{}\"\nlisten_clients = \"{}\"\n\
                 http = \"{proxy}\"\nwork_bits = 4\ncommit_every_ms = 500\n\
                 charge_at = 1000000000\npayout_at = 2000000000\nwithdraw_at = 0\n[chain]\n{chain}",
                common("proxy"),
                site.ports[0],
                site.ports[1],
            ),
        )?;
        wait_for("the proxy", proxy, "/health").await?;
        nodes.run(
            "worker",
            &format!(
                "{}check_proxy_images = false\nroot_notice_s = 0\nmodel = \"mock@local:unverified\"\n\
                 forward_to = \"http://{}\"\nhttp = \"{worker}\"\n[chain]\n{chain}\
                 [money]\npayout_last = 1000000\n",
                common("worker"),
                nodes._mock.address(),
            ),
        )?;
        let network = common("gateway");
        nodes.run(
            "gateway",
            &format!(
                "[http]\nlisten = \"{gateway}\"\n[network]\n{network}check_proxy_images = false\nroot_notice_s = 0\n\
                 [network.chain]\n{chain}[network.money]\nlost_after_s = 600\n",
            ),
        )?;
        Ok(nodes)
    }

    fn run(&mut self, name: &'static str, config: &str) -> Result<()> {
        let file = self.logs.join(format!("{name}.toml"));
        std::fs::write(&file, config)?;
        let log = File::create(self.logs.join(format!("{name}.log")))?;
        let program = program()?;
        let child = Command::new(&program)
            .args([name, "--config"])
            .arg(&file)
            // Where they say that they run, and whose wallet they hold.
            .env("XDG_DATA_HOME", self.logs.join("home"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        self.children.push((name, child));
        Ok(())
    }

    /// Waits until the gateway would answer a request.
    pub(crate) async fn ready(&mut self) -> Result<()> {
        wait_for("the gateway", self.gateway, "/ready").await.map_err(|fault| self.with_logs(fault))
    }

    fn with_logs(&self, fault: anyhow::Error) -> anyhow::Error {
        let mut text = format!("{fault}\n");
        for name in ["proxy", "worker", "gateway"] {
            let log = std::fs::read_to_string(self.logs.join(format!("{name}.log")));
            let log = log.unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(25).collect();
            text.push_str(&format!("--- {name}\n"));
            for line in tail.iter().rev() {
                text.push_str(line);
                text.push('\n');
            }
        }
        anyhow::anyhow!(text)
    }

    /// Asks the worker to collect what it earned.
    pub(crate) async fn collect(&self) -> Result<()> {
        let (status, text) = http(self.worker, "POST", "/request/payout").await?;
        anyhow::ensure!(status == 200, "{text}");
        Ok(())
    }

    /// `kill -9`, as if the machine had vanished.
    pub(crate) fn kill(&mut self, who: &str) -> Result<()> {
        let at = self.children.iter().position(|(name, _)| *name == who).context("a node")?;
        let (_, mut child) = self.children.remove(at);
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Ends all programs.
    pub(crate) fn end(&mut self) -> Result<()> {
        for (_, child) in &mut self.children {
            child.kill()?;
            child.wait()?;
        }
        self.children.clear();
        Ok(())
    }
}

/// A node's status page.
pub(crate) async fn page(node: SocketAddr) -> Result<Value> {
    let (status, text) = http(node, "GET", "/jsonstats").await?;
    anyhow::ensure!(status == 200, "{node} answers {status}");
    Ok(serde_json::from_str(&text)?)
}

async fn wait_for(who: &str, node: SocketAddr, path: &str) -> Result<()> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if http(node, "GET", path).await.is_ok_and(|(status, _)| status == 200) {
            return Ok(());
        }
        if tokio::time::Instant::now() > deadline {
            bail!("{who} is not ready after {} s", PATIENCE.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn http(node: SocketAddr, method: &str, path: &str) -> Result<(u16, String)> {
    let mut stream = tokio::net::TcpStream::connect(node).await?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {node}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").context("an HTTP answer")?;
    let status = head.split(' ').nth(1).context("a status")?.parse()?;
    Ok((status, body.to_owned()))
}
