//! Questions are answered as the command answers them; what cannot be read is one sentence.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use cocoon_attest::{Collateral, Digest32, PeerEvidence, Policy};
use cocoon_proof::{Bundle, Compared, MachineRole, Occasion, RootView, Shown, Trust, examine};
use cocoon_verifier_web::question;
use proptest::prelude::*;
use serde_json::{Value, json};

const MADE_MS: u64 = 1_795_262_400_000;

fn bundle() -> Bundle {
    let mut bundle = Bundle::new(MADE_MS, Digest32::from([2; 32]), RootView::default());
    let evidence = Shown::Evidence(Box::new(PeerEvidence::new([3; 32])));
    bundle.add(MachineRole::Proxy, "a proxy", evidence, Collateral::default());
    let reason = "it understands none".to_owned();
    bundle.add(MachineRole::Worker, "m", Shown::Nothing { reason }, Collateral::default());
    bundle
}

fn asked(question: &Value) -> Result<String, String> {
    question::bundle(&bundle().write().unwrap(), question.to_string().as_bytes())
}

#[test]
fn an_answer_is_the_commands() {
    let trust = Trust::new(Policy::tee(), Some(RootView::default()));
    let asker = trust.later(None, MADE_MS, None);
    let found = examine(&bundle(), &asker);
    let wanted = found.answer("bundle x", &Occasion::Saved.requirements());
    let text = String::from_utf8(trust.write().unwrap()).unwrap();
    let answer = asked(&json!({ "subject": "bundle x", "trust": text })).unwrap();
    assert_eq!(answer, serde_json::to_string(&wanted).unwrap());
    let nonce = Digest32::from([7; 32]);
    let found = examine(&bundle(), &trust.now(nonce, 5, None));
    let wanted = found.answer("", &Occasion::Live.requirements());
    let question = json!({ "trust": text, "nonce": nonce.to_string(), "now_ms": 5 });
    assert_eq!(asked(&question).unwrap(), serde_json::to_string(&wanted).unwrap());
    let answer: Value =
        serde_json::from_str(&asked(&json!({ "require": ["date"], "at_ms": 9 })).unwrap()).unwrap();
    assert_eq!((answer["ok"].as_bool(), answer["judged_at_ms"].as_u64()), (Some(false), Some(9)));
}

#[test]
fn mistakes_are_sentences() {
    for (question, words) in [
        (json!({ "nonce": "12" }), "64 hex digits"),
        (json!({ "now_ms": 5 }), "needs the nonce"),
        (json!({ "trust": "{}" }), "trust file"),
        (json!({ "require": ["beauty"] }), "no claim \"beauty\""),
        (json!({ "unknown": 1 }), "the question cannot be read"),
    ] {
        let said = asked(&question).unwrap_err();
        assert!(said.contains(words), "{question}: {said}");
    }
    let said = question::bundle(b"{}", b"{}").unwrap_err();
    assert!(said.starts_with("the bundle cannot be read"), "{said}");
    let said = question::receipt(b"[]", b"{}", Compared::default()).unwrap_err();
    assert!(said.contains("cannot be read"), "{said}");
}

proptest! {
    #[test]
    fn any_bytes_are_answered(file: Vec<u8>, asked: Vec<u8>) {
        let _ = question::bundle(&file, &asked);
        let _ = question::bundle(&file, b"{}");
        let _ = question::receipt(&file, &asked, Compared::default());
    }
}
