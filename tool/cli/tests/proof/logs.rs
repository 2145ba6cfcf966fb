//! The logs of a machine as `cocoon verify` shows them: each event, where the quote agrees.

use std::process::{Command, Output};
use std::sync::Arc;

use cocoon_attest::{Collateral, Digest32, PeerEvidence};
use cocoon_evidence::sim::{DevPki, Misbehave, SimulatedPlatform, SimulatedPlatformForm};
use cocoon_evidence::{EvidenceProvider as _, QuoteSubject};
use cocoon_proof::{Bundle, MachineRole, RootView, Shown, Trust};
use serde_json::Value;
use tempfile::TempDir;

const NOW_S: u64 = 1_795_262_400;
const KEY: [u8; 32] = [0x42; 32];
const REQUIRED: &str = "worker.hardware,worker.boot_log,worker.event_log";

/// A bundle of one worker, and the trust of somebody who knows its image.
struct Saved {
    dir: TempDir,
    platform: SimulatedPlatform,
}

impl Saved {
    fn of(lie: Option<Misbehave>) -> Self {
        let pki = Arc::new(DevPki::generate(NOW_S).unwrap());
        let form = SimulatedPlatformForm { boot_log: true, lie, ..Default::default() };
        let saved = Self {
            dir: tempfile::tempdir().unwrap(),
            platform: SimulatedPlatform::boot(pki, form).unwrap(),
        };
        saved.write(saved.evidence());
        saved
    }

    fn evidence(&self) -> PeerEvidence {
        let quoted = self.platform.quote(QuoteSubject::CertificateKey(&KEY)).unwrap();
        PeerEvidence {
            event_log: self.platform.event_log(),
            boot_log: self.platform.boot_log(),
            ..quoted.to_peer_evidence(&KEY)
        }
    }

    fn collateral(&self) -> Collateral {
        self.platform.collateral(NOW_S).unwrap()
    }

    fn write(&self, evidence: PeerEvidence) {
        let root =
            RootView { worker_images: vec![self.platform.image_hash()], ..RootView::default() };
        let mut bundle = Bundle::new(NOW_S * 1000, Digest32::ZERO, root.clone());
        let shown = Shown::Evidence(Box::new(evidence));
        bundle.add(MachineRole::Worker, "w", shown, self.collateral());
        std::fs::write(self.path("bundle.json"), bundle.write().unwrap()).unwrap();
        let trust = Trust::new(self.platform.policy(), Some(root));
        std::fs::write(self.path("trust.json"), trust.write().unwrap()).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn cocoon(&self, more: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_cocoon"))
            .args(["verify", "--trust", &self.path("trust.json")])
            .args(more)
            .output()
            .unwrap()
    }

    fn offline(&self, more: &[&str]) -> Output {
        let bundle = self.path("bundle.json");
        let all = [&["--offline", &bundle, "--require", REQUIRED][..], more].concat();
        self.cocoon(&all)
    }

    fn judge(&self) -> (i32, Value) {
        let output = self.offline(&["--json"]);
        (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap())
    }
}

fn verdict<'a>(found: &'a Value, claim: &str) -> &'a str {
    let claims = found["claims"].as_array().unwrap();
    let line = claims.iter().find(|line| line["subject"] == "worker 1" && line["claim"] == claim);
    line.unwrap()["verdict"].as_str().unwrap()
}

#[test]
fn every_event_is_shown_with_what_is_measured_of_it() {
    let saved = Saved::of(None);
    let (code, found) = saved.judge();
    assert_eq!(code, 0, "{found:#}");
    assert_eq!((verdict(&found, "boot_log"), verdict(&found, "event_log")), ("holds", "holds"));
    let events = found["events"].as_array().unwrap();
    let shown: Vec<(&str, &str, bool)> = events
        .iter()
        .map(|event| {
            let text = |member: &str| event[member].as_str().unwrap();
            assert_eq!((event["subject"].as_str(), text("digest").len()), (Some("worker 1"), 96));
            (text("register"), text("text"), event["is_measured"].as_bool().unwrap())
        })
        .collect();
    assert_eq!(
        shown[..5],
        [
            ("RTMR0", "SecureBoot (1 bytes)", true),
            ("RTMR0", "separator", true),
            // A file's digest: what the log says beside it is only told.
            ("RTMR1", "32 bytes", false),
            ("RTMR1", "separator", true),
            ("RTMR2", "kernel_cmdline: root=/dev/dm-0 image=worker", true),
        ]
    );
    assert!(shown.len() > 5 && shown[5..].iter().all(|(register, ..)| *register == "RTMR3"));
    // The last step of each register is the quote's.
    let Some(cocoon_attest::Measurement::Td(td)) = saved.platform.measurement().ok() else {
        panic!("a TDX machine");
    };
    for (number, register) in td.rtmr.iter().enumerate() {
        let name = format!("RTMR{number}");
        let last = events.iter().rfind(|event| event["register"] == name.as_str()).unwrap();
        assert_eq!(last["register_after"], register.to_string(), "{name}");
    }
    let text = String::from_utf8(saved.offline(&["--events"]).stdout).unwrap();
    assert!(text.contains("worker 1 measured"), "{text}");
    assert!(text.contains("measured EV_IPL kernel_cmdline: root=/dev/dm-0"), "{text}");
    assert!(text.contains("told     EV_EFI_BOOT_SERVICES_APPLICATION 32 bytes"), "{text}");
    assert!(!String::from_utf8(saved.offline(&[]).stdout).unwrap().contains("EV_IPL"));
}

#[test]
fn no_event_is_shown_where_the_quote_does_not_agree() {
    let saved = Saved::of(Some(Misbehave::BootLogAltered));
    let (code, found) = saved.judge();
    assert_eq!(
        (code, verdict(&found, "boot_log"), verdict(&found, "image")),
        (1, "fails", "fails")
    );
    let told = found["events"].as_array().unwrap();
    assert!(told.iter().all(|event| event["register"] == "RTMR3"), "{told:#?}");
    // A quote that is not genuine vouches for no log.
    let saved = Saved::of(Some(Misbehave::FlippedBit));
    let (code, found) = saved.judge();
    assert_eq!((code, verdict(&found, "boot_log")), (1, "unknown"));
    assert_eq!(found["events"], Value::Null);
    // Nothing handed on is nothing claimed.
    let saved = Saved::of(None);
    saved.write(PeerEvidence { boot_log: None, event_log: None, ..saved.evidence() });
    let (code, found) = saved.judge();
    let both = (verdict(&found, "boot_log"), verdict(&found, "event_log"));
    assert_eq!((code, both), (1, ("not_claimed", "not_claimed")));
}

#[test]
fn a_quote_and_the_kernels_file_are_enough() {
    let saved = Saved::of(None);
    let evidence = saved.evidence();
    std::fs::write(saved.path("quote"), evidence.tdx_quote.unwrap()).unwrap();
    let dcap = saved.collateral().tdx.unwrap().dcap;
    std::fs::write(saved.path("collateral"), serde_json::to_vec(&dcap).unwrap()).unwrap();
    // As the kernel shows it: an area, padded.
    let mut area = evidence.boot_log.unwrap();
    area.resize(1 << 16, 0xff);
    std::fs::write(saved.path("CCEL"), &area).unwrap();
    let (quote, collateral, log) =
        (saved.path("quote"), saved.path("collateral"), saved.path("CCEL"));
    let date = "2026-11-21T12:00:00Z";
    let ask = [
        "--quote",
        &quote,
        "--collateral",
        &collateral,
        "--at",
        date,
        "--boot-log",
        &log,
        "--public-key",
        &hex::encode(KEY),
        "--require",
        "worker.hardware,worker.boot_log",
        "--events",
    ];
    let output = saved.cocoon(&ask);
    let (text, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{text}{err}");
    assert!(text.contains("kernel_cmdline: root=/dev/dm-0 image=worker"), "{text}");
    std::fs::write(saved.path("CCEL"), "no log").unwrap();
    let output = saved.cocoon(&ask);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(2) && err.contains("the boot log cannot be read"),
        "{err}"
    );
}
