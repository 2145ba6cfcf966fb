//! Measures the local chain and the proof checks on one core: `chain_speed [seconds]`.
//!
//! Rates count the time this thread was running (`/proc/self/schedstat`), so that other work on
//! the machine does not lower them; without that file they count the clock's time.
//!
//! A simple transfer is an external message that makes a small contract send coins to another
//! account, and their arrival there: two transactions on the real virtual machine, with fees,
//! in sealed blocks with their Merkle updates, hashes and signatures.

#[path = "../../../core/localchain/tests/relay/mod.rs"]
#[allow(clippy::unwrap_used, reason = "a contract that cannot be built is a bug here")]
mod relay;

use std::error::Error;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use cocoon_chain::{Chain, GlobalConfig, LiteServers, NodeConfig, ServeConfig, Serving};
use cocoon_localchain::{Genesis, LocalChain};
use cocoon_units::{Address, Nanoton};
use relay::{PAY_FEES, address, order, transfer};

/// Contracts that send.
const SENDERS: u32 = 1_000;
/// Transfers per block: a block of 0.4 s at the rate aimed at.
const TRANSFERS_PER_BLOCK: u64 = 6_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let seconds = std::env::args().nth(1).map_or(Ok(5), |text| text.parse())?;
    let patience = Duration::from_secs(seconds);
    transfers(patience)?;
    idle_blocks(patience)?;
    proofs(patience).await
}

/// Time that this thread ran so far, or time since the first call.
fn running() -> Duration {
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    let begun = BEGUN.get_or_init(Instant::now);
    std::fs::read_to_string("/proc/self/schedstat")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .map_or_else(|| begun.elapsed(), Duration::from_nanos)
}

#[allow(clippy::print_stdout, reason = "what this program is for")]
fn print(name: &str, count: u64, elapsed: Duration) {
    let rate = count as f64 / elapsed.as_secs_f64();
    let each = elapsed.as_secs_f64() * 1e6 / count as f64;
    println!("{name:<44} {rate:>10.0} /s {each:>10.1} us each");
}

fn funded() -> Result<LocalChain, Box<dyn Error>> {
    let mut genesis = Genesis::new([1; 32], 1_760_000_000_000);
    genesis.limits.kept_blocks = 8;
    genesis.limits.kept_transactions = 100_000;
    let mut chain = LocalChain::new(&genesis)?;
    for number in 0..SENDERS {
        chain.mint(address(number), Nanoton(1_000_000 * Nanoton::TON.0))?;
    }
    chain.tick(genesis.now_ms + 400)?;
    for number in 0..SENDERS {
        chain.submit(&order(number, transfer(address(number), 1, false), PAY_FEES, 0, true))?;
    }
    chain.tick(genesis.now_ms + 800)?;
    Ok(chain)
}

fn transfers(patience: Duration) -> Result<(), Box<dyn Error>> {
    let mut chain = funded()?;
    let (mut made, mut sealing, mut checking) = (0_u64, Duration::ZERO, Duration::ZERO);
    while sealing + checking < patience {
        let orders: Vec<_> = (0..TRANSFERS_PER_BLOCK)
            .map(|number| {
                let salt = made + number + 1;
                let from = u32::try_from(salt % u64::from(SENDERS)).unwrap_or_default();
                let mut to = [0; 32];
                to[..8].copy_from_slice(
                    &(salt % 50_000).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes(),
                );
                order(from, transfer(Address::new(0, to), 1_000_000, false), PAY_FEES, salt, false)
            })
            .collect();
        let begun = running();
        for order in &orders {
            chain.submit(order)?;
        }
        checking += running() - begun;
        let begun = running();
        let now_ms = chain.last_ms() + 400;
        let done = chain.tick(now_ms)?.map_or(0, |sealed| sealed.transactions.len());
        sealing += running() - begun;
        assert_eq!(done as u64, 2 * TRANSFERS_PER_BLOCK, "every transfer is two transactions");
        made += TRANSFERS_PER_BLOCK;
    }
    print("messages checked on arrival", made, checking);
    print("transactions executed and sealed", 2 * made, sealing);
    print("simple transfers executed and sealed", made, sealing);
    print("simple transfers, arrival check included", made, sealing + checking);
    Ok(())
}

fn idle_blocks(patience: Duration) -> Result<(), Box<dyn Error>> {
    let mut chain = funded()?;
    let (mut made, begun) = (0, running());
    while (running() - begun) < patience / 5 {
        let now_ms = chain.last_ms() + 400;
        chain.tick(now_ms)?;
        made += 1;
    }
    print("empty blocks", made, running() - begun);
    Ok(())
}

/// An account read through a lite server: three questions over a socket and all proofs checked.
async fn proofs(patience: Duration) -> Result<(), Box<dyn Error>> {
    let genesis = Genesis::new([1; 32], 1_760_000_000_000);
    let node = NodeConfig { genesis, directory: None, beat_ms: 0, repair: false };
    let any = "127.0.0.1:0".parse()?;
    let serving = Serving::start(&ServeConfig { node, http: any, lite: Some(any) }).await?;
    for number in 0..SENDERS {
        serving.node.faucet(address(number), Nanoton::TON)??;
    }
    serving.node.advance(400)?;
    let chain = LiteServers::new(&GlobalConfig::parse(&serving.global_config())?);
    let (mut read, begun) = (0_u64, running());
    while (running() - begun) < patience / 2 {
        let number = u32::try_from(read % u64::from(SENDERS))?;
        assert_eq!(chain.account(address(number), None).await?.balance, Nanoton::TON);
        read += 1;
    }
    print("accounts read and proven over a lite server", read, running() - begun);
    let (mut followed, begun) = (0, running());
    while (running() - begun) < patience / 5 {
        serving.node.advance(400)?;
        chain.account(address(1), None).await?;
        followed += 1;
    }
    print("the same, each at a new block", followed, running() - begun);
    Ok(serving.stop().await?)
}
