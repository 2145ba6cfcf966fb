//! How alike texts are: `cargo run --example embeddings -- UP_DATA_DIR MODEL`
#![allow(clippy::print_stdout, reason = "an example talks")]

use cocoon_client::{Client, ClientConfig};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let up = arguments.next().ok_or("say the --data-dir of `cocoon up`")?;
    let model = arguments.next().ok_or("say the model")?;

    let client = Client::connect(&ClientConfig::of_local_network(up)?).await?;
    tokio::time::timeout(std::time::Duration::from_secs(60), client.ready()).await?;
    let texts = ["a cat sat on the mat", "the cat sat on a mat", "interest rates rose"];
    let vectors = client.embeddings(&model, &texts).await?;
    for (text, vector) in texts.iter().zip(&vectors).skip(1) {
        let product: f32 = vectors[0].iter().zip(vector).map(|(a, b)| a * b).sum();
        println!("{:?} and {text:?}: {product:.3}", texts[0]);
    }
    client.close().await;
    Ok(())
}
