//! The journal stays small while the node runs, and a restart knows what the proxy had told.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

use cocoon_client::{ClientConfig, Network};
use cocoon_host::{Books, Stop, keys};
use cocoon_link::{LinkHandle, SendFault};
use cocoon_wire::proxy::ClientRequestPayment;

use crate::{DEADLINE, Proxy, config};

/// Tells the client what was booked; waits while its connection does not keep up.
async fn pay(link: &LinkHandle, durable: i64, max: i64) {
    let paid = ClientRequestPayment { db_tokens: durable, max_tokens: max, ..Default::default() };
    while let Err(fault) = link.message_object(&paid) {
        assert!(matches!(fault, SendFault::Stuck { .. }), "{fault}");
        tokio::task::yield_now().await;
    }
}

fn segments(dir: &Path) -> BTreeSet<OsString> {
    let files = std::fs::read_dir(dir.join("data/journal")).unwrap();
    files.map(|file| file.unwrap().file_name()).collect()
}

/// Records that a start would read.
fn records(dir: &Path) -> usize {
    let key = keys::load_or_make(&dir.join("data/journal.key")).unwrap();
    Books::open(&dir.join("data/journal"), &key, false).unwrap().records().len()
}

/// Starts again as soon as the node before has let go of the journal.
async fn start_again(config: &ClientConfig, stop: &Stop) -> Network {
    loop {
        match Network::start(config, stop) {
            Ok(network) => return network,
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_journal_stays_small_and_a_restart_knows_the_books() {
    let test = async {
        let dir = tempfile::tempdir().unwrap();
        let mut proxy = Proxy::new().await;
        let config = config(dir.path(), proxy.address);
        proxy.name(&config.network_file);
        let stop = Stop::new();
        let network = Network::start(&config, &stop).unwrap();
        let first = segments(dir.path());
        let link = proxy.meet().await.expect("a client");
        let mut total = 0;
        while segments(dir.path()) == first {
            total += 1;
            pay(&link, total, total + 1).await;
            tokio::task::yield_now().await;
        }
        network.close().await;
        drop((network, link));

        let stop = Stop::new();
        let network = start_again(&config, &stop).await;
        let kept = records(dir.path());
        assert!(kept < 10, "{kept} records of one channel");
        // A proxy that forgot is left; one that knows its last word is not.
        assert!(proxy.meet().await.is_none());
        proxy.known = (total, total + 1);
        while proxy.meet().await.is_none() {}
        network.close().await;
    };
    tokio::time::timeout(DEADLINE, Box::pin(test)).await.expect("in time");
}
