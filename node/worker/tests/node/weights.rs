//! A worker announces only a model whose bytes it checked, and notices when they change.

use cocoon_model::Model;
use cocoon_worker::WorkerFault;

use crate::proxy::Proxy;
use crate::site::Site;
use crate::within;

/// A model of one file, and its full name.
fn model(site: &mut Site) -> std::path::PathBuf {
    let path = site.path("model.gguf");
    std::fs::write(&path, vec![7; 100_000]).unwrap();
    let root = Model::open(&path).unwrap().root(&mut |_, _| true).unwrap();
    site.config.model = format!("qwen@abc:{root}");
    site.config.model_path.clone_from(&path);
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_with_a_root_is_announced_over_its_own_bytes_only() {
    within(async {
        let mut site = Site::new().await;
        let path = model(&mut site);
        let node = site.start();
        let proxy = Proxy::ready(&site).await;
        assert_eq!(proxy.model, site.config.model);
        node.stop().await;

        std::fs::write(&path, b"other bytes").unwrap();
        let fault = site.start().ended().await.unwrap_err();
        assert!(matches!(fault, WorkerFault::Weights(_)), "{fault}");
        let text = fault.to_string();
        assert!(text.contains("is not announced") && text.contains("has the root"), "{text}");

        site.config.model_path = std::path::PathBuf::new();
        let fault = site.start().ended().await.unwrap_err();
        assert!(fault.to_string().starts_with("model_path"), "{fault}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_swapped_after_the_check_takes_the_worker_out_of_service() {
    within(async {
        let mut site = Site::new().await;
        let path = model(&mut site);
        let node = site.start();
        let mut proxy = Proxy::ready(&site).await;
        // The same bytes written again: out of service until they are hashed, then back.
        std::fs::write(&path, vec![7; 100_000]).unwrap();
        proxy.told_disabled(true).await;
        proxy.told_disabled(false).await;
        std::fs::write(&path, vec![8; 100_000]).unwrap();
        proxy.told_disabled(true).await;
        let fault = node.ended().await.unwrap_err();
        assert!(fault.to_string().contains("swapped after the check"), "{fault}");
    })
    .await;
}
