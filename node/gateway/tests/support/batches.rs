//! Files and batches, as a user handles them.

use std::path::Path;

use cocoon_gateway::GatewayConfig;
use cocoon_gateway::batches::BatchConfig;
use serde_json::{Value, json};

use super::{Answer, Running};

pub fn in_folder(folder: &Path) -> impl FnOnce(&mut GatewayConfig) {
    let batches =
        BatchConfig { parallel: 2, kept_max: 10, ..BatchConfig::in_folder(folder.to_path_buf()) };
    move |config| config.batches = Some(batches)
}

pub fn line(id: &str, model: &str, rest: &str) -> String {
    format!(
        "{{\"custom_id\":\"{id}\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\",\"body\":{}}}\n",
        super::chat_body(model, rest)
    )
}

pub fn form(content: &str) -> String {
    format!(
        "--X\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n\
         --X\r\nContent-Disposition: form-data; name=\"file\"; filename=\"in.jsonl\"\r\n\r\n{content}\r\n--X--\r\n"
    )
}

pub async fn upload(gateway: &Running, content: &str) -> Answer {
    let request = super::post("/v1/files", "", &form(content));
    gateway.send(&request.replace("application/json", "multipart/form-data; boundary=X")).await
}

pub async fn get(gateway: &Running, path: &str) -> Answer {
    gateway.send(&format!("GET {path} HTTP/1.1\r\nhost: t\r\n\r\n")).await
}

pub async fn begin(gateway: &Running, content: &str) -> Value {
    let file = upload(gateway, content).await.json();
    let batch = json!({"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h", "metadata": {"k": "v"}});
    gateway.post("/v1/batches", &batch.to_string()).await.json()
}

/// Asks until the batch has left the stage.
pub async fn after(gateway: &Running, id: &Value, stage: &str) -> Value {
    let path = format!("/v1/batches/{}", id.as_str().unwrap());
    let deadline = tokio::time::Instant::now() + super::SOON;
    loop {
        let batch = get(gateway, &path).await.json();
        if batch["status"] != stage {
            return batch;
        }
        assert!(tokio::time::Instant::now() < deadline, "{batch}");
    }
}

pub async fn content(gateway: &Running, id: &Value) -> Vec<Value> {
    let answer = get(gateway, &format!("/v1/files/{}/content", id.as_str().unwrap())).await;
    answer.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
