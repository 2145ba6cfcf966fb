//! `cocoon doctor` on real files and sockets: a healthy place to run a node, and each thing that can
//! be wrong with one, as programs read it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

/// A machine whose settings can be broken one by one.
struct Place {
    dir: TempDir,
    /// Plays the model server. Connections wait in its queue; the doctor sends nothing.
    model_server: TcpListener,
}

/// What the doctor said, and its exit code.
struct Said {
    code: i32,
    answer: Value,
    err: String,
}

impl Said {
    fn check(&self, name: &str) -> (&str, &str) {
        let checks = self.answer["checks"].as_array().expect("checks");
        let is_it = |check: &&Value| check["name"] == name;
        let check = checks.iter().find(is_it).unwrap_or_else(|| panic!("{name}: {checks:#?}"));
        (check["state"].as_str().expect("text"), check["found"].as_str().expect("text"))
    }

    fn is_there(&self, name: &str) -> bool {
        self.answer["checks"].as_array().expect("checks").iter().any(|check| check["name"] == name)
    }

    #[track_caller]
    fn good(&self, name: &str, says: &str) {
        let (state, found) = self.check(name);
        assert!(state == "good" && found.contains(says), "{name} is {state}: {found}");
    }

    /// This failed with these words, the command with it, and there is advice.
    #[track_caller]
    fn failed(&self, name: &str, says: &str) {
        let (state, found) = self.check(name);
        assert!(state == "failed" && found.contains(says), "{name} is {state}: {found}");
        assert_eq!((self.code, &self.answer["ok"]), (1, &json!(false)));
        assert!(self.err.contains("failed"), "{}", self.err);
        let silent = |check: &Value| check["state"] == "failed" && check["advice"] == "";
        assert!(!self.answer["checks"].as_array().expect("checks").iter().any(silent));
    }
}

/// A port of this machine where nobody listens.
fn closed() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address")
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let model_server = TcpListener::bind("127.0.0.1:0").expect("a port");
        let place = Self { dir, model_server };
        let network = json!({
            "@type": "rootConfig.pseudo",
            "registered_proxies": [{
                "@type": "rootConfig.registeredProxy", "seqno": 1, "address": "127.0.0.1:1 127.0.0.1:2",
            }],
            "last_proxy_seqno": 1,
            "version": 3,
            "params_version": 1,
            "root_owner_address": format!("0:{}", "09".repeat(32)),
        });
        place.write("network.json", &network.to_string());
        place.write("model.gguf", "weights");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("a file");
    }

    /// A worker's settings in which nothing is wrong, with some members written otherwise.
    fn settings(&self, other: &[(&str, &str)]) -> String {
        let quoted = |path: &Path| format!("{:?}", path.display().to_string());
        let server = self.model_server.local_addr().expect("an address");
        let mut members = vec![
            ("owner", format!("\"0:{}\"", "04".repeat(32))),
            ("model", "\"mock\"".to_owned()),
            ("model_path", quoted(&self.path("model.gguf"))),
            ("forward_to", format!("\"http://{server}\"")),
            ("network_file", quoted(&self.path("network.json"))),
            ("root", format!("\"0:{}\"", "09".repeat(32))),
            ("is_test", "true".to_owned()),
            ("data_dir", quoted(&self.path("data"))),
            ("http", format!("\"{}\"", closed())),
        ];
        for (name, value) in other {
            members.retain(|(known, _)| known != name);
            // Tables of TOML come last.
            members.push((name, (*value).to_owned()));
        }
        let lines = members.iter().map(|(name, value)| format!("{name} = {value}\n"));
        lines.collect()
    }

    fn doctor(&self, other: &[(&str, &str)]) -> Said {
        self.write("worker.toml", &self.settings(other));
        let file = self.path("worker.toml");
        doctor(&["worker", "--config", &file.display().to_string()])
    }
}

fn doctor(arguments: &[&str]) -> Said {
    let output = Command::new(env!("CARGO_BIN_EXE_cocoon"))
        .args(["doctor", "--json"])
        .args(arguments)
        .output()
        .expect("the program runs");
    let err = String::from_utf8(output.stderr).expect("text");
    let answer = serde_json::from_slice(&output.stdout).unwrap_or_default();
    Said { code: output.status.code().unwrap_or(-1), answer, err }
}

#[test]
fn a_place_in_order_passes_and_nothing_is_made_there() {
    let place = Place::new();
    let said = place.doctor(&[]);
    assert_eq!((said.code, &said.answer["ok"]), (0, &json!(true)), "{:#}", said.answer);
    assert_eq!(said.answer["role"], "worker");
    said.good("settings", "worker.toml");
    said.good("port http", "is free");
    said.good("model server", "answers");
    said.good("model", "can be read");
    said.good("disk", "MiB free");
    said.good("registry", "version 3, 1 proxies");
    assert_eq!(said.check("tee").0, "warning", "a node without evidence protects nothing");
    assert!(!place.path("data").exists(), "the doctor made the data directory");
}

#[test]
fn a_port_in_use_is_named_and_free_again_afterwards() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let http = format!("\"{address}\"");
    place.doctor(&[("http", &http)]).failed("port http", &format!("{address}: Address already"));
    drop(taken);
    place.doctor(&[("http", &http)]).good("port http", "is free");
    TcpListener::bind(address).expect("the doctor let the port go");
    // An address of no interface here.
    place.doctor(&[("http", "\"192.0.2.1:1\"")]).failed("port http", "192.0.2.1:1");
}

#[test]
fn a_server_that_does_not_listen_is_named() {
    let place = Place::new();
    let nobody = closed();
    let forward_to = format!("\"http://{nobody}/v1\"");
    let said = place.doctor(&[("forward_to", &forward_to)]);
    said.failed("model server", "refused");
    assert!(said.check("model server").1.contains(&nobody.to_string()));
    // The rest is still looked at.
    said.good("model", "can be read");
    place.doctor(&[("forward_to", "\"http://no.such.host.invalid\"")]).failed("model server", "");
}

#[test]
fn files_that_are_not_there_or_no_files_of_their_kind_are_named() {
    let place = Place::new();
    let nowhere = format!("{:?}", place.path("nowhere").display().to_string());
    place.doctor(&[("model_path", &nowhere)]).failed("model", "No such file");
    place.doctor(&[("network_file", &nowhere)]).failed("registry", "No such file");
    let weights = format!("{:?}", place.path("model.gguf").display().to_string());
    place.doctor(&[("network_file", &weights)]).failed("registry", "model.gguf");
    let below_a_file = format!("{:?}", place.path("model.gguf/data").display().to_string());
    place.doctor(&[("data_dir", &below_a_file)]).failed("disk", "model.gguf is no directory");
    place.write("network.json", r#"{"@type":"rootConfig.pseudo","version":-1}"#);
    place.doctor(&[]).failed("registry", "version is -1");
}

#[test]
fn a_registry_without_proxies_and_an_image_that_is_not_listed_fail() {
    let place = Place::new();
    let owner = format!("0:{}", "09".repeat(32));
    let empty = json!({"@type": "rootConfig.pseudo", "version": 5, "root_owner_address": owner});
    place.write("network.json", &empty.to_string());
    place.doctor(&[]).failed("registry", "version 5 lists no proxy");
    // The file of development roots is never made by asking.
    let roots = place.path("roots");
    let evidence = format!(
        "{{ simulated = {{ roots = {:?}, image = \"i\", machine = 1 }} }}",
        roots.display()
    );
    let said = place.doctor(&[("evidence", &evidence)]);
    said.failed("tee", "is not there");
    assert!(!roots.exists() && !said.is_there("image"));
    place.write("roots", "no roots");
    place.doctor(&[("evidence", &evidence)]).failed("tee", "roots");
    std::fs::remove_file(&roots).expect("removed");
    cocoon_host::evidence::simulated_image_hash(&roots, "i").expect("roots are made");
    let said = place.doctor(&[("evidence", &evidence)]);
    assert_eq!(said.check("tee").0, "warning");
    said.failed("image", "does not list");
}

/// Answers every request with this status; gives its address. Ends with the process.
fn web(status: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let head =
                format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all(head.as_bytes());
        }
    });
    address
}

#[test]
fn hardware_that_is_missing_and_services_that_fail_are_named() {
    let place = Place::new();
    let hardware = |tee: &str, intel: SocketAddr, amd: SocketAddr| {
        format!(
            "{{ hardware = {{ tee = \"{tee}\", intel_url = \"http://{intel}\", \
             amd_url = \"http://{amd}\" }} }}"
        )
    };
    // A cache that does not have the item is there all the same.
    let said =
        place.doctor(&[("evidence", &hardware("none", web("200 OK"), web("404 Not Found")))]);
    said.good("tee", "verifies others");
    let checks = said.answer["checks"].as_array().expect("checks");
    let of_services = checks.iter().filter(|check| check["name"] == "collateral");
    assert!(
        of_services.clone().count() == 2 && of_services.clone().all(|one| one["state"] == "good")
    );
    let broken = web("503 Service Unavailable");
    place.doctor(&[("evidence", &hardware("none", broken, broken))]).failed("collateral", "503");
    let nobody = closed();
    let said = place.doctor(&[("evidence", &hardware("none", nobody, nobody))]);
    said.failed("collateral", "refused");
    // Whoever runs these tests inside a TDX guest with the old device has one.
    if !Path::new("/dev/tdx_guest").exists() {
        let fine = web("200 OK");
        let said = place.doctor(&[("evidence", &hardware("tdx-device", fine, fine))]);
        said.failed("tee", "/dev/tdx_guest");
    }
}

#[test]
fn a_chain_that_does_not_answer_is_named() {
    let place = Place::new();
    let nobody = closed();
    let chain = format!("{{ kind = \"local\", url = \"http://{nobody}\" }}");
    let said = place.doctor(&[("network_file", "\"\""), ("chain", &chain)]);
    said.failed("chain", "refused");
    assert!(!said.is_there("registry") && !said.is_there("balance"), "nothing was read there");
}

#[test]
fn settings_that_contradict_themselves_fail_and_senseless_ones_are_a_mistake() {
    let place = Place::new();
    place.doctor(&[("max_active_requests", "0")]).failed("settings", "max_active_requests");
    place.doctor(&[("owner", "\"nobody\"")]).failed("settings", "owner");
    for (name, value) in [("no_such_member", "1"), ("http", "\"nowhere\""), ("is_test", "7")] {
        let said = place.doctor(&[(name, value)]);
        assert_eq!((said.code, said.answer), (2, Value::Null), "{}", said.err);
        assert!(said.err.lines().count() == 1 && said.err.contains(name), "{}", said.err);
    }
    place.write("worker.toml", "owner = ");
    let file = place.path("worker.toml");
    let file = file.display().to_string();
    assert_eq!(doctor(&["worker", "--config", &file]).code, 2);
    assert_eq!(doctor(&["worker", "--config", "/nowhere/worker.toml"]).code, 2);
}

#[test]
fn a_machine_without_a_role_is_looked_at_alone() {
    let said = doctor(&[]);
    assert_eq!(said.answer["role"], "");
    assert!(!said.is_there("settings") && !said.is_there("registry") && !said.is_there("disk"));
    let (state, found) = said.check("tee");
    let is_device = Path::new("/dev/tdx_guest").exists()
        || Path::new("/dev/sev-guest").exists()
        || Path::new("/sys/kernel/config/tsm/report").exists();
    assert_eq!((state == "good", found.starts_with("none")), (is_device, !is_device), "{found}");
    // What this process may open, as the kernel tells it.
    let limits = std::fs::read_to_string("/proc/self/limits").expect("the kernel's file");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line");
    let soft = line.split_whitespace().nth(3).expect("a number");
    let told = said.check("open files").1;
    assert!(soft == "unlimited" || told.contains(soft), "{told}, not {soft}");
    let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
    let is_off = swaps.lines().count() <= 1;
    assert_eq!(said.check("swap").0 == "good", is_off);
}
