//! Memory that a burst of connections took goes back to the system.

use std::time::Duration;

/// How often. Rare enough to cost nothing, soon enough that a burst is forgotten in a minute.
const EVERY: Duration = Duration::from_secs(10);

/// Gives free memory back every ten seconds, as long as the runtime runs.
pub fn give_back_for_ever() {
    tokio::spawn(async {
        loop {
            tokio::time::sleep(EVERY).await;
            let gave = tokio::task::spawn_blocking(cocoon_memory::give_back);
            if gave.await.is_err() {
                return;
            }
        }
    });
}
