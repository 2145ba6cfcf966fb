//! The logs of a machine as `cocoon verify` shows them: each event, where the quote agrees.

use std::process::{Command, Output};
use std::sync::Arc;

use cocoon_attest::snp::SnpProduct;
use cocoon_attest::vtpm::{VtpmQuote, VtpmRegister};
use cocoon_attest::{Collateral, Digest32, Digest48, Measurement, PeerEvidence, Policy};
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
        Self::booted(SimulatedPlatformForm { boot_log: true, lie, ..Default::default() })
    }

    fn booted(form: SimulatedPlatformForm) -> Self {
        let pki = Arc::new(DevPki::generate(NOW_S).unwrap());
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
        self.write_by(evidence, self.platform.policy());
    }

    fn write_by(&self, evidence: PeerEvidence, policy: Policy) {
        let root =
            RootView { worker_images: vec![self.platform.image_hash()], ..RootView::default() };
        let mut bundle = Bundle::new(NOW_S * 1000, Digest32::ZERO, root.clone());
        let shown = Shown::Evidence(Box::new(evidence));
        bundle.add(MachineRole::Worker, "w", shown, self.collateral());
        std::fs::write(self.path("bundle.json"), bundle.write().unwrap()).unwrap();
        let trust = Trust::new(policy, Some(root));
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

    /// Judges what a machine with a paravisor showed.
    fn judge_registers(&self) -> (i32, Value) {
        let bundle = self.path("bundle.json");
        let required = "worker.hardware,worker.image,worker.vtpm";
        let output = self.cocoon(&["--offline", &bundle, "--require", required, "--json"]);
        (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap())
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
            ("RTMR2", "root=/dev/dm-0 image=worker", true),
        ]
    );
    assert!(shown.len() > 5 && shown[5..].iter().all(|(register, ..)| *register == "RTMR3"));
    // The last step of each register is the quote's.
    let Some(Measurement::Td(td)) = saved.platform.measurement().ok() else {
        panic!("a TDX machine");
    };
    for (number, register) in td.rtmr.iter().enumerate() {
        let name = format!("RTMR{number}");
        let last = events.iter().rfind(|event| event["register"] == name.as_str()).unwrap();
        assert_eq!(last["register_after"], register.to_string(), "{name}");
    }
    let text = String::from_utf8(saved.offline(&["--events"]).stdout).unwrap();
    assert!(text.contains("worker 1 measured"), "{text}");
    assert!(text.contains("measured EV_IPL root=/dev/dm-0"), "{text}");
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

/// The claims `vtpm` and `image`, and how many registers are shown as measured and as told.
fn registers(found: &Value) -> (&str, &str, usize, usize) {
    let nothing = Vec::new();
    let shown = found["events"].as_array().unwrap_or(&nothing);
    let of_vtpm = |event: &&Value| event["register"].as_str().unwrap().starts_with("PCR");
    let count = |measured: bool| {
        shown.iter().filter(of_vtpm).filter(|event| event["is_measured"] == measured).count()
    };
    (verdict(found, "vtpm"), verdict(found, "image"), count(true), count(false))
}

#[test]
fn registers_of_a_vtpm_are_shown_and_count_by_the_word_of_a_listed_paravisor() {
    for snp in [None, Some(SnpProduct::Genoa)] {
        let form = SimulatedPlatformForm { snp, paravisor: true, ..Default::default() };
        let saved = Saved::booted(form);
        let evidence = saved.evidence();
        // Nobody listed the paravisor: its word is shown as that.
        let (code, found) = saved.judge_registers();
        assert_eq!((code, registers(&found)), (1, ("unknown", "not_claimed", 0, 24)));
        let launch = match saved.platform.measurement().unwrap() {
            Measurement::Snp(launch) => launch,
            Measurement::Td(td) => td.mr_td,
        };
        let mut policy = saved.platform.policy();
        policy.vtpm.paravisors = vec![Digest48::from([7; 48]), launch];
        saved.write_by(evidence.clone(), policy.clone());
        let (code, found) = saved.judge_registers();
        assert_eq!((code, registers(&found)), (1, ("holds", "not_claimed", 24, 0)));
        // With a list of registers they show the image.
        let values = saved.platform.vtpm().unwrap().registers();
        let register = |(number, value)| VtpmRegister { number, values: vec![value] };
        policy.vtpm.registers = vec![register(values[4]), register(values[11])];
        saved.write_by(evidence.clone(), policy.clone());
        let (code, found) = saved.judge_registers();
        assert_eq!((code, registers(&found)), (0, ("holds", "holds", 24, 0)), "{found:#}");
        let bundle = saved.path("bundle.json");
        let shown = saved.cocoon(&["--offline", &bundle, "--events"]).stdout;
        let line = format!("measured register {}", values[4].1);
        assert!(String::from_utf8(shown).unwrap().contains(&line));
        // Another image.
        let mut other = policy.clone();
        other.vtpm.registers[1].values = vec![Digest32::from([7; 32])];
        saved.write_by(evidence, other);
        let (code, found) = saved.judge_registers();
        assert_eq!((code, registers(&found)), (1, ("holds", "fails", 24, 0)));
        lies_about_registers(&saved, &policy);
    }
}

fn lies_about_registers(saved: &Saved, policy: &Policy) {
    let evidence = saved.evidence();
    let judged = |evidence: PeerEvidence| {
        saved.write_by(evidence, policy.clone());
        saved.judge_registers()
    };
    let mut quote = VtpmQuote::decode(evidence.vtpm.as_ref().unwrap()).unwrap();
    quote.registers[4].1 = Digest32::ZERO;
    let (code, found) = judged(PeerEvidence { vtpm: Some(quote.encode()), ..evidence.clone() });
    assert_eq!((code, registers(&found)), (1, ("fails", "fails", 0, 0)));
    assert!(found.to_string().contains("the vTPM signed registers with the digest"), "{found:#}");
    // Runtime data and registers of the guest's own making, below somebody else's report.
    let invented = Saved::booted(SimulatedPlatformForm { paravisor: true, ..Default::default() });
    let PeerEvidence { runtime_data, vtpm, .. } = invented.evidence();
    let (code, found) = judged(PeerEvidence { runtime_data, vtpm, ..evidence.clone() });
    let (vtpm, image, measured, told) = registers(&found);
    assert_eq!((code, vtpm, measured, told), (1, "unknown", 0, 0), "{found:#}");
    assert_eq!(image, "fails");
    let (code, found) = judged(PeerEvidence { runtime_data: None, ..evidence.clone() });
    assert_eq!((code, verdict(&found, "vtpm")), (1, "fails"));
    // Nothing handed on is nothing claimed.
    let (code, found) = judged(PeerEvidence { vtpm: None, ..evidence });
    assert_eq!((code, registers(&found)), (1, ("not_claimed", "not_claimed", 0, 0)));
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
    assert!(text.contains("root=/dev/dm-0 image=worker"), "{text}");
    std::fs::write(saved.path("CCEL"), "no log").unwrap();
    let output = saved.cocoon(&ask);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(2) && err.contains("the boot log cannot be read"),
        "{err}"
    );
}
