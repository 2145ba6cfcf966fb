//! Nodes that check each other, on machines of AMD's.

use crate::site::{DEADLINE, Machine, Site};
use crate::{CHAT, line, verify};
use cocoon_evidence::sim::Misbehave;

const SNP: Machine = Machine { lie: None, snp: true, gpu: false };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxy_and_worker_on_sev_snp_show_fresh_evidence_and_verify() {
    let site = Site::checking(SNP).await;
    let pair = site.pair("both-snp", SNP).await;
    pair.ready().await;
    let (code, found) = verify(&pair, &[]).await;
    assert_eq!(code, 0, "{found:#}");
    for (machine, source) in [("proxy 1", "channel statement"), ("worker 1", "the worker's report")]
    {
        let claims =
            ["hardware", "tcb", "image", "debug_off", "key_binding", "freshness", "network"];
        for claim in claims {
            assert_eq!(line(&found, machine, claim)["verdict"], "holds", "{machine} {claim}");
        }
        assert_eq!(line(&found, machine, "hardware")["source"], "SEV-SNP report");
        assert_eq!(line(&found, machine, "freshness")["source"], source);
    }
    let (code, _) = verify(&pair, &["--require", "proxy.freshness,worker.freshness"]).await;
    assert_eq!(code, 0);
    // When a saved channel was opened is the gateway's word.
    let path = site.path("saved.json");
    let path = path.to_str().unwrap();
    verify(&pair, &["--save", path]).await;
    let output = pair.cocoon(&["verify", "--json", "--offline", path]).await;
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{found:#}");
    assert_eq!(line(&found, "proxy 1", "freshness")["verdict"], "unknown");
    let demands = "x-cocoon-verdicts: hardware, image, debug_off, freshness, weights\r\n";
    let (head, answer) = pair.chat(CHAT, demands).await;
    assert!(head.starts_with("http/1.1 200"), "{head} {answer}");
    assert!(head.contains("x-cocoon-receipt: rcpt_"), "{head}");
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_whose_guest_policy_allows_debugging_gets_no_gateway() {
    let lie = Some(Misbehave::SnpDebug);
    let site = Site::checking(Machine { lie, ..SNP }).await;
    let pair = site.pair("debug-proxy", SNP).await;
    let refused = async {
        loop {
            // The gateway may not have met the proxy yet.
            let (code, found) = verify(&pair, &[]).await;
            assert_eq!(code, 1, "{found:#}");
            let machines = found["claims"].as_array().unwrap().iter();
            let mut of_proxy = machines.filter(|line| line["subject"] == "proxy 1");
            let says = |line: &serde_json::Value| {
                line["reason"].as_str().unwrap().contains("the guest policy allows debugging")
            };
            if of_proxy.any(says) {
                return;
            }
        }
    };
    tokio::time::timeout(DEADLINE, refused).await.expect("in time");
    let (head, _) = pair.chat(CHAT, "").await;
    assert!(!head.starts_with("http/1.1 200"), "{head}");
    assert_eq!((pair.models().await, pair.posts()), (0, 0));
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_guest_policy_allows_debugging_gets_no_proxy() {
    let mut site = Site::checking(SNP).await;
    let pages = crate::site::free();
    site.start_proxy(|config| config.http = Some(pages)).await;
    let pair = site.pair("debug-worker", Machine { lie: Some(Misbehave::SnpDebug), ..SNP }).await;
    let refused = async {
        loop {
            let page = crate::site::page(pages, "/metrics").await.unwrap_or_default();
            let count = |line: &str| -> Option<u64> {
                line.strip_prefix("cocoon_proxy_evidence_refused_total ")?.parse().ok()
            };
            if page.lines().find_map(count).unwrap_or(0) > 0 {
                return;
            }
        }
    };
    tokio::time::timeout(DEADLINE, refused).await.expect("in time");
    let (head, _) = pair.chat(CHAT, "").await;
    assert!(!head.starts_with("http/1.1 200"), "{head}");
    assert_eq!((pair.models().await, pair.posts()), (0, 0));
    pair.end().await;
}
