//! Demands of a request on the machines, through real sockets.

use serde_json::Value;

use crate::CHAT;
use crate::site::{ANSWER, Machine, Site};

/// Everything that honest machines without a GPU show: this site's proxy looks at nobody's fresh
/// evidence, so it shows none either.
const ALL: &str = "hardware, tcb, image, debug_off, key_binding, worker.freshness, weights, \
                   network, receipt_key";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demand_is_kept_or_nothing_is_sent() {
    let site = Site::start().await;
    let pair = site.pair("kept", Machine::default()).await;
    pair.ready().await;
    for headers in [
        format!("x-cocoon-verdicts: {ALL}\r\n"),
        "x-cocoon-tee: tdx, simulated\r\n".to_owned(),
        "x-cocoon-verdicts: worker.weights\r\nx-cocoon-receipt: on\r\n".to_owned(),
    ] {
        let (head, answer) = pair.chat(CHAT, &headers).await;
        assert!(head.starts_with("http/1.1 200"), "{headers}: {head} {answer}");
        assert_eq!(answer, ANSWER);
        assert!(head.contains("x-cocoon-receipt: rcpt_"), "{head}");
    }
    assert_eq!(pair.posts(), 3);
    for (headers, param) in [
        ("x-cocoon-verdicts: gpu\r\n", "verdicts"),
        ("x-cocoon-verdicts: proxy.site\r\n", "verdicts"),
        ("x-cocoon-verdicts: freshness\r\n", "verdicts"),
        ("x-cocoon-verdicts: beauty\r\n", "verdicts"),
        ("x-cocoon-tee: tdx\r\n", "tee"),
        ("x-cocoon-tee: sgx\r\n", "tee"),
    ] {
        let (head, answer) = pair.chat(CHAT, headers).await;
        assert!(head.starts_with("http/1.1 400"), "{headers}: {head} {answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["error"]["code"], "demand_not_met", "{answer}");
        assert_eq!(answer["error"]["param"], param, "{answer}");
    }
    // The same in the body.
    let with = |wishes: &str| CHAT.replacen('{', &format!(r#"{{"cocoon":{wishes},"#), 1);
    let (head, _) = pair.chat(&with(r#"{"verdicts":["image","worker.weights"]}"#), "").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let (head, _) = pair.chat(&with(r#"{"verdicts":["gpu"]}"#), "").await;
    assert!(head.starts_with("http/1.1 400"), "{head}");
    assert_eq!(pair.posts(), 4);
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_goes_only_to_the_worker_that_meets_its_demands() {
    let site = Site::start().await;
    let plain = site.pair("plain", Machine::default()).await;
    plain.ready().await;
    let gpu = site.pair("gpu", Machine { gpu: true, ..Machine::default() }).await;
    gpu.ready().await;
    // Ready is who knows of a model, and the first worker offers that too.
    let (code, found) = crate::verify_until(&gpu, "worker 2").await;
    assert_eq!(code, 0, "both workers are there: {found:#}");
    let both = found["claims"].as_array().unwrap().iter();
    assert_eq!(
        both.filter(|line| line["claim"] == "gpu" && line["subject"] != "proxy 1").count(),
        2
    );
    // Through either gateway, the worker without a GPU sees none of these.
    for pair in [&plain, &gpu, &plain, &gpu] {
        let (head, answer) = pair.chat(CHAT, "x-cocoon-verdicts: gpu\r\n").await;
        assert!(head.starts_with("http/1.1 200"), "{head} {answer}");
    }
    assert_eq!((plain.posts(), gpu.posts()), (0, 4));
    // When the only one that does has left, the other one gets nothing.
    gpu.end().await;
    let (head, answer) = plain.chat(CHAT, "x-cocoon-verdicts: gpu\r\n").await;
    assert!(!head.starts_with("http/1.1 200"), "{head} {answer}");
    assert_eq!(plain.posts(), 0);
    plain.end().await;
}
