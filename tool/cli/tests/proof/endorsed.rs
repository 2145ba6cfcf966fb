//! An owner's signature for a machine, from the command that makes it to the one that judges it.

use cocoon_attest::{Digest32, NamedOwner};
use cocoon_host::evidence::simulated_policy;
use serde_json::Value;

use crate::site::{Machine, Pair, Site, address};
use crate::{line, verify};

/// Runs a command that must succeed, and gives its answer.
async fn cocoon(arguments: &[&str]) -> Value {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_cocoon"))
        .args(arguments)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// Signs for what `cocoon verify` says of this machine, as an owner does.
async fn sign(site: &Site, found: &Value, machine: &str) -> std::path::PathBuf {
    let reason = line(found, machine, "site")["reason"].as_str().unwrap().to_owned();
    let (platform, rest) = reason.split_once(" is in no registry").unwrap();
    let (_, rest) = rest.split_once("the id ").unwrap();
    let id = &rest[..64];
    let file = site.path(&format!("{machine}.endorsement"));
    let (key, root) = (site.path("owner.key"), address(9).to_string());
    let signed = cocoon(&[
        "endorsement",
        "sign",
        "--json",
        "--key",
        key.to_str().unwrap(),
        "--platform",
        platform,
        "--id",
        id,
        "--root",
        &root,
        "--out",
        file.to_str().unwrap(),
    ])
    .await;
    assert_eq!((&signed["platform"], &signed["id"]), (&platform.into(), &id.into()));
    let shown = cocoon(&["endorsement", "show", file.to_str().unwrap(), "--json"]).await;
    assert_eq!((&shown["is_signed"], &shown["owner"]), (&true.into(), &signed["owner"]));
    file
}

/// Judges by a policy that names this owner.
async fn by(site: &Site, pair: &Pair, key: Digest32, owner_id: Option<Digest32>) -> (i32, Value) {
    let mut policy = simulated_policy(&site.path("roots")).unwrap();
    policy.owners = vec![NamedOwner { key, site: "Example Owner".to_owned(), owner_id }];
    policy.required.retain(|claim| *claim != cocoon_attest::ClaimKind::Image);
    let path = site.path("policy.json");
    std::fs::write(&path, serde_json::to_vec(&policy).unwrap()).unwrap();
    verify(pair, &["--policy", path.to_str().unwrap(), "--require", "site"]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_signs_for_proxy_and_worker_and_verify_says_so() {
    let mut site = Site::checking(Machine { snp: true, ..Machine::default() }).await;
    let before = site.pair("unsigned", Machine::default()).await;
    before.ready().await;
    let (code, found) = verify(&before, &[]).await;
    assert_eq!(code, 0, "{found:#}");
    for machine in ["proxy 1", "worker 1"] {
        assert_eq!(line(&found, machine, "site")["verdict"], "not_claimed");
    }
    let owner = site.path("owner.key");
    let made = cocoon(&["endorsement", "key", owner.to_str().unwrap(), "--json"]).await;
    let key = Digest32::read("key", made["public_key"].as_str().unwrap()).unwrap();
    let of_proxy = sign(&site, &found, "proxy 1").await;
    let of_worker = sign(&site, &found, "worker 1").await;
    before.end().await;

    site.start_proxy(|config| config.endorsement_file = of_proxy).await;
    let pair = site
        .pair_with("signed", Machine::default(), |worker, _| worker.endorsement_file = of_worker)
        .await;
    pair.ready().await;
    let (code, found) = by(&site, &pair, key, None).await;
    assert_eq!(code, 0, "{found:#}");
    for machine in ["proxy 1", "worker 1"] {
        let line = line(&found, machine, "site");
        assert_eq!(
            (&line["verdict"], &line["source"]),
            (&"holds".into(), &"owner's endorsement".into())
        );
        assert!(line["reason"].as_str().unwrap().starts_with("Example Owner signed"), "{line}");
    }
    // Another owner's name ties nothing, and an owner that is named for another id is refused.
    let (code, found) = by(&site, &pair, Digest32::from([7; 32]), None).await;
    assert_eq!((code, &line(&found, "worker 1", "site")["verdict"]), (1, &"not_claimed".into()));
    let (code, found) = by(&site, &pair, key, Some(Digest32::from([7; 32]))).await;
    assert_eq!(code, 1);
    let reason = line(&found, "worker 1", "site")["reason"].as_str().unwrap();
    assert!(reason.contains("Example Owner is not named for the id"), "{reason}");
    pair.end().await;
}

#[tokio::test]
async fn a_file_that_is_no_endorsement_of_this_node_is_the_users_mistake() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let run = async |arguments: &[&str]| {
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_cocoon"))
            .args(arguments)
            .output()
            .await
            .unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    std::fs::write(path("none"), "hello").unwrap();
    let (code, said) = run(&["endorsement", "show", &path("none")]).await;
    assert_eq!(code, 2, "{said}");
    for platform in ["intel_ppid:00", "amd_chip:xy", "sgx:11", "11"] {
        let id = "11".repeat(32);
        let (key, out) = (path("key"), path("out"));
        let (code, said) = run(&[
            "endorsement",
            "sign",
            "--key",
            &key,
            "--platform",
            platform,
            "--id",
            &id,
            "--root",
            &id,
            "--out",
            &out,
        ])
        .await;
        assert_eq!(code, 2, "{said}");
        assert!(said.contains("names no platform"), "{said}");
    }
}
