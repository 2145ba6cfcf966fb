//! `cocoon verify` and `cocoon receipt` against real nodes over sockets.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod attested;
mod demands;
mod endorsed;
mod keyed;
mod logs;
mod lying;
mod site;

use cocoon_attest::Policy;
use cocoon_evidence::sim::Misbehave;
use cocoon_host::evidence::EvidenceConfig;
use cocoon_host::hardware::{HardwareConfig, Tee};
use serde_json::Value;
use site::{ANSWER, DEADLINE, MODEL, Machine, Pair, Site};

/// The claim of the worker that a lie breaks, how, and words of the sentence that says so.
/// `None` for what the machine's own node notices: a GPU's old nonce at boot, a quote that fits
/// into no certificate, evidence of two makers.
fn expected(lie: Misbehave) -> Option<(&'static str, &'static str, &'static str)> {
    use Misbehave as M;
    Some(match lie {
        M::OtherReportData => ("key_binding", "fails", "do not match the statement of this report"),
        M::DebugTd => ("debug_off", "fails", "debug"),
        M::ProfiledTd => ("debug_off", "fails", "profil"),
        M::MigratableTd => ("hardware", "fails", "migrat"),
        M::WrongRtmr(3) => ("image", "fails", "the event log replays to"),
        M::WrongMrTd | M::WrongRtmr(_) | M::WrongConfig => ("image", "fails", "image hash"),
        M::WrongSeamSigner => ("hardware", "fails", "MRSIGNER mismatch"),
        M::TcbOutOfDate => ("tcb", "fails", "OutOfDate"),
        M::TcbAdvisory => ("tcb", "fails", "SWHardeningNeeded"),
        M::TcbRevoked => ("tcb", "fails", "Revoked"),
        M::PckRevoked => ("hardware", "fails", "revoked"),
        M::ForgedTcbInfo => ("hardware", "unknown", "TCB info is not trustworthy"),
        M::ForgedQeIdentity => ("hardware", "unknown", "QE identity is not trustworthy"),
        M::ForgedCrl => ("hardware", "unknown", "revocation list is not trustworthy"),
        M::ExpiredTcbInfo => ("hardware", "unknown", "TCB info was to be renewed"),
        M::ExpiredCrl => ("hardware", "unknown", "revocation list was to be renewed"),
        M::WrongRoot => ("hardware", "fails", "root"),
        M::SgxQuote => ("hardware", "fails", "not of a TDX guest"),
        M::TruncatedQuote | M::GarbageQuote | M::FlippedBit => ("hardware", "fails", "quote"),
        M::SnpDebug => ("debug_off", "fails", "debug"),
        M::SnpLowPrivilege => ("hardware", "fails", "VMPL"),
        M::SnpMigration => ("hardware", "fails", "migration"),
        M::SnpInflatedTcb => ("tcb", "fails", "in the report but"),
        M::SnpOldTcb => ("tcb", "fails", "the policy asks for"),
        M::SnpOtherChip => ("hardware", "fails", "chip"),
        M::SnpWrongMeasurement => ("image", "fails", "image hash"),
        M::SnpRevokedAuthority => ("hardware", "unknown", "it revokes the SEV key"),
        M::GpuAbsent => ("gpu", "not_claimed", "nothing was offered"),
        M::GpuDeveloperMode => ("gpu", "fails", "developer mode"),
        M::GpuConfidentialOff => ("gpu", "fails", "confidential"),
        M::GpuOfAnother => ("gpu", "fails", "another GPU"),
        M::GpuOldNonce | M::OversizedQuote | M::BothPlatforms => return None,
        M::GpuForeignSignature => ("gpu", "fails", "signature"),
        M::GpuUnknownFirmware => ("gpu", "fails", "not the maker's for this driver"),
        M::EventLogAltered => ("image", "fails", "event log"),
        M::BootLogAltered => ("image", "fails", "the boot log replays to"),
        M::DebugImage => ("debug_off", "fails", "debug"),
    })
}

/// A request.
const CHAT: &str = r#"{"model":"mock","messages":[{"role":"user","content":"2+2?"}]}"#;

fn is_gpu(lie: Misbehave) -> bool {
    format!("{lie:?}").starts_with("Gpu")
}

/// Where the evidence of these tests is kept, for the suite that has it judged in browsers
/// (`tests/suites/web.sh`).
fn kept(name: &str) -> Option<String> {
    let dir = std::env::var("COCOON_KEEP_EVIDENCE").ok()?;
    Some(format!("{dir}/{name}"))
}

/// Runs `cocoon verify --json` and gives its exit code and answer.
async fn verify(pair: &Pair, more: &[&str]) -> (i32, Value) {
    let name = pair.config.file_stem().unwrap().to_str().unwrap();
    let files = kept(name).map(|base| [format!("{base}.bundle"), format!("{base}.trust")]);
    let mut arguments = vec!["verify", pair.url.as_str(), "--json"];
    if let Some([bundle, trust]) = &files
        && !more.contains(&"--save")
    {
        arguments.extend(["--save", bundle, "--save-trust", trust]);
    }
    arguments.extend_from_slice(more);
    let output = pair.cocoon(&arguments).await;
    let said = String::from_utf8_lossy(&output.stderr);
    let answer = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}"));
    (output.status.code().unwrap(), answer)
}

/// Verifies until this one is listed: the proxy lets in one worker after the other.
async fn verify_until(pair: &Pair, subject: &str) -> (i32, Value) {
    let listed = async {
        loop {
            let (code, found) = verify(pair, &[]).await;
            let lines = found["claims"].as_array().unwrap();
            if lines.iter().any(|line| line["subject"] == subject) {
                return (code, found);
            }
        }
    };
    tokio::time::timeout(DEADLINE, Box::pin(listed)).await.expect("listed in time")
}

fn line<'a>(found: &'a Value, subject: &str, claim: &str) -> &'a Value {
    found["claims"]
        .as_array()
        .unwrap()
        .iter()
        .find(|line| line["subject"] == subject && line["claim"] == claim)
        .unwrap_or_else(|| panic!("{subject} {claim} in {found:#}"))
}

const GPU_TOO: &str = "registry,proxies,workers,hardware,tcb,image,debug_off,key_binding,\
                       worker.freshness,worker.weights,worker.network,worker.receipt_key,worker.gpu";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn honest_machines_of_every_kind_verify() {
    let site = Site::start().await;
    for (name, machine, more) in [
        ("tdx", Machine::default(), &[][..]),
        ("snp", Machine { snp: true, ..Machine::default() }, &[]),
        ("gpu", Machine { gpu: true, ..Machine::default() }, &["--require", GPU_TOO]),
    ] {
        let pair = site.pair(name, machine).await;
        pair.ready().await;
        let (code, found) = verify(&pair, more).await;
        assert_eq!(code, 0, "{name}: {found:#}");
        assert_eq!(found["ok"], true);
        assert_eq!(line(&found, "worker 1", "freshness")["verdict"], "holds");
        assert_eq!(line(&found, "worker 1", "site")["verdict"], "not_claimed");
        // What is not claimed does not pass where it is required.
        let (code, _) = verify(&pair, &["--require", "worker.site"]).await;
        assert_eq!(code, 1, "{name}");
        pair.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_lie_of_the_platform_is_named() {
    let site = Site::start().await;
    let mut wrong = Vec::new();
    for lie in Misbehave::ALL {
        let Some((claim, verdict, words)) = expected(lie) else { continue };
        let machine = Machine { lie: Some(lie), snp: lie.is_snp(), gpu: is_gpu(lie) };
        let name = format!("{lie:?}").replace(['(', ')'], "");
        let pair = site.pair(&name, machine).await;
        pair.ready().await;
        let more: &[&str] = if is_gpu(lie) { &["--require", GPU_TOO] } else { &[] };
        let (code, found) = verify(&pair, more).await;
        // A request that demands this claim is not sent, one that does not is served.
        let demand = format!("x-cocoon-verdicts: worker.{claim}\r\n");
        let (head, refusal) = pair.chat(CHAT, &demand).await;
        if !head.starts_with("http/1.1 400") || pair.posts() != 0 {
            wrong.push(format!("{lie:?}: {} posts, {head} {refusal}", pair.posts()));
        }
        // Where nobody can tell whether the machine is a TEE, its own word for its model is none.
        if verdict == "unknown" {
            let (head, refusal) = pair.chat(CHAT, "x-cocoon-verdicts: worker.weights\r\n").await;
            if !head.starts_with("http/1.1 400") || pair.posts() != 0 {
                wrong.push(format!("{lie:?}, weights: {} posts, {head} {refusal}", pair.posts()));
            }
            for said in ["weights", "network"] {
                let line = line(&found, "worker 1", said);
                if line["verdict"] != "unknown" {
                    wrong.push(format!("{lie:?}: {line}"));
                }
            }
        }
        let (head, answer) = pair.chat(CHAT, "").await;
        assert!(head.starts_with("http/1.1 200"), "{head} {answer}");
        pair.end().await;
        let line = line(&found, "worker 1", claim);
        let reason = line["reason"].as_str().unwrap();
        let named = found["objections"]
            .as_array()
            .unwrap()
            .iter()
            .any(|objection| objection.as_str().unwrap().contains(reason));
        if code != 1 || line["verdict"] != verdict || !reason.contains(words) || !named {
            wrong.push(format!("{lie:?}: code {code}, wanted {words:?}, got {line}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_is_saved_and_verified_later() {
    let site = Site::start().await;
    let pair = site.pair("bundle", Machine::default()).await;
    pair.ready().await;
    let path = site.path("bundle.json");
    let path = path.to_str().unwrap();
    let (code, _) = verify(&pair, &["--save", path]).await;
    assert_eq!(code, 0);
    let offline = async |more: &[&str]| {
        let mut arguments = vec!["verify", "--offline", path, "--json"];
        arguments.extend_from_slice(more);
        let output = pair.cocoon(&arguments).await;
        let found: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code().unwrap(), found)
    };
    let (code, found) = offline(&[]).await;
    assert_eq!(code, 0, "{found:#}");
    // Neither its date nor the freshness of its reports is known to a later reader.
    assert_eq!(line(&found, "registry", "date")["verdict"], "unknown");
    assert_eq!(line(&found, "worker 1", "freshness")["verdict"], "unknown");
    let bundle: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let nonce = bundle["nonce"].as_str().unwrap();
    let (_, found) = offline(&["--nonce", nonce]).await;
    assert_eq!(line(&found, "worker 1", "freshness")["verdict"], "holds");
    let (code, found) = offline(&["--nonce", &"00".repeat(32)]).await;
    assert_eq!(code, 1);
    assert_eq!(line(&found, "worker 1", "key_binding")["verdict"], "fails");
    // A year later the collateral cannot be used any more, which is not the machines' fault.
    let (code, found) = offline(&["--at", "2099-01-01T00:00:00Z"]).await;
    assert_eq!((code, &line(&found, "worker 1", "hardware")["verdict"]), (1, &"unknown".into()));
    // Nobody else's roots are trusted.
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_cocoon"))
        .args(["verify", "--offline", path, "--json"])
        .output()
        .unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(line(&found, "worker 1", "hardware")["verdict"], "fails", "{found:#}");
    assert_eq!(line(&found, "registry", "registry")["verdict"], "unknown");
    assert!(String::from_utf8_lossy(&output.stderr).contains("--chain local"), "what to name");
    // A gateway on hardware has rules of its own, and so has whoever asks by its file.
    let (rules, config, trust) =
        (site.path("rules.toml"), site.path("hardware.toml"), site.path("trust.json"));
    let named = Policy { name: "rules of its own".to_owned(), ..Policy::tee() };
    std::fs::write(&rules, toml::to_string(&named).unwrap()).unwrap();
    let mut node: toml::Table = std::fs::read_to_string(&pair.config).unwrap().parse().unwrap();
    let hardware =
        HardwareConfig { tee: Tee::None, policy_file: rules.clone(), ..HardwareConfig::default() };
    let evidence = toml::Value::try_from(EvidenceConfig::Hardware(Box::new(hardware))).unwrap();
    node["network"].as_table_mut().unwrap().insert("evidence".to_owned(), evidence);
    std::fs::write(&config, toml::to_string(&node).unwrap()).unwrap();
    let judge = || {
        std::process::Command::new(env!("CARGO_BIN_EXE_cocoon"))
            .args(["verify", "--json", "--offline", path, "--gateway-config"])
            .args([config.as_path(), "--save-trust".as_ref(), trust.as_path()])
            .output()
            .unwrap()
    };
    assert_eq!(judge().status.code(), Some(1));
    let saved: Value = serde_json::from_slice(&std::fs::read(&trust).unwrap()).unwrap();
    assert_eq!(saved["policy"]["name"], "rules of its own");
    std::fs::write(&rules, "grace_days").unwrap();
    assert_eq!(judge().status.code(), Some(2));
    // A file that is none is the user's mistake.
    std::fs::write(path, "{}").unwrap();
    assert_eq!(offline(&[]).await.0, 2);
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_has_a_receipt_that_verifies_against_it_alone() {
    let site = Site::start().await;
    let pair = site.pair("receipt", Machine::default()).await;
    pair.ready().await;
    let body = r#"{"model":"mock","messages":[{"role":"user","content":"2+2?"}]}"#;
    let (head, answer) = pair.chat(body, "x-cocoon-receipt: on\r\n").await;
    assert!(head.starts_with("http/1.1 200"), "{head} {answer}");
    assert_eq!(answer, ANSWER);
    let id = head.lines().find_map(|line| line.strip_prefix("x-cocoon-receipt: ")).unwrap();
    let (request, reply) = (site.path("request.json"), site.path("answer.json"));
    std::fs::write(&request, body).unwrap();
    std::fs::write(&reply, &answer).unwrap();
    let (request, reply) = (request.to_str().unwrap(), reply.to_str().unwrap());
    let verify = async |arguments: &[&str]| {
        let mut all = vec!["receipt", "verify", "--json", "--gateway", pair.url.as_str()];
        all.extend_from_slice(arguments);
        let output = pair.cocoon(&all).await;
        let found: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code().unwrap(), found)
    };
    let (code, found) = verify(&[id, "--request", request, "--answer", reply]).await;
    assert_eq!(code, 0, "{found:#}");
    // Another answer is not the one that was signed.
    let (code, found) = verify(&[id, "--answer", request]).await;
    assert_eq!((code, &line(&found, "receipt", "answer")["verdict"]), (1, &"fails".into()));
    // The file alone is enough, and one flipped bit of it too much.
    let path = site.path("receipt.json");
    let path = path.to_str().unwrap();
    let shown = std::process::Command::new(env!("CARGO_BIN_EXE_cocoon"))
        .args(["receipt", "show", id, "--save", path, "--json", "--gateway", &pair.url])
        .output()
        .unwrap();
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    if let Some(base) = kept("receipt") {
        std::fs::copy(path, format!("{base}.receipt")).unwrap();
        std::fs::write(format!("{base}.answer"), &answer).unwrap();
    }
    let mut file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(file["says"]["model_name"], MODEL);
    assert_eq!(file["says"]["money"]["usage"]["prompt"], 5);
    let (code, found) = verify(&[path, "--request", request]).await;
    assert_eq!((code, &line(&found, "receipt", "date")["verdict"]), (0, &"unknown".into()));
    // In 2099 nobody can say whether the evidence was good.
    let (code, found) = verify(&[path, "--at", "2099-01-01T00:00:00Z"]).await;
    assert_eq!((code, &line(&found, "receipt", "evidence")["verdict"]), (1, &"unknown".into()));
    let text = file["receipt"].as_str().unwrap().to_owned();
    let (first, rest) = text.split_at(200);
    let (flipped, rest) = rest.split_at(1);
    let flipped = if flipped == "A" { "B" } else { "A" };
    file["receipt"] = format!("{first}{flipped}{rest}").into();
    std::fs::write(path, file.to_string()).unwrap();
    let output = pair.cocoon(&["receipt", "verify", path]).await;
    assert_eq!(output.status.code(), Some(2));
    // A stream tells the id in its last event.
    let body = r#"{"model":"mock","messages":[{"role":"user","content":"2+2?"}]}"#;
    let (_, answer) = pair.chat(body, "x-cocoon-report: on\r\n").await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert!(answer["cocoon"]["receipt_id"].as_str().unwrap().starts_with("rcpt_"));
    pair.end().await;
}
