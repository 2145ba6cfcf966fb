//! What money costs the processor: signed payments made and checked, accounts proven.
//!
//! One thread, nothing but the work itself: a proxy signs the totals of its clients and workers,
//! they check what they are given, and every node reads accounts through a lite server and checks
//! the proofs.

use std::fmt;
use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use cocoon_chain::{Chain as _, GlobalConfig, LiteServers, NodeConfig, ServeConfig, Serving};
use cocoon_contract::payment::{PaymentKey, PaymentKind, SignedPayment};
use cocoon_localchain::Genesis;
use cocoon_units::{Address, Nanoton, PublicKey, Tokens};
use ed25519_dalek::SigningKey;
use serde::Serialize;

/// Payments that are made before their checks are measured.
const PAYMENTS: u64 = 2_000;
/// Accounts on the chain that proofs are made of.
const ACCOUNTS: u64 = 1_000;
/// A moment after 2025 at which the chain begins, milliseconds since 1970.
const BEGIN_MS: u64 = 1_760_000_000_000;

/// What was measured, each on one core.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Report {
    /// Payments signed and encoded for the wire, per second.
    pub made_per_s: f64,
    /// Payments decoded from the wire and verified, per second.
    pub checked_per_s: f64,
    /// Accounts asked for and proven at a known block, per second; the server's own work counts.
    pub proven_per_s: f64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| on one core | target | measured |\n|---|---|---|")?;
        writeln!(f, "| signed payments made, per s | 50,000 | {:.0} |", self.made_per_s)?;
        writeln!(f, "| signed payments checked, per s | 25,000 | {:.0} |", self.checked_per_s)?;
        let each_ms = 1e3 / self.proven_per_s;
        writeln!(f, "| account read and proven | under 1 ms | {each_ms:.3} ms |")
    }
}

/// Measures each for about `patience`.
///
/// # Errors
/// When a payment is refused, or the local chain cannot be served.
pub fn run(patience: Duration) -> Result<Report> {
    let key = SigningKey::from_bytes(&[7; 32]);
    let contract = Address::new(0, [1; 32]);
    let excess = Address::new(0, [2; 32]);
    let sign = |number: u64| -> Result<Vec<u8>> {
        let tokens = Tokens(1_000_000 + number);
        let payment =
            SignedPayment::sign(PaymentKind::ClientCharge, number, tokens, contract, excess, &key)?;
        Ok(payment.to_boc()?)
    };
    let made_per_s = rate(patience, |number| {
        black_box(sign(number)?);
        Ok(())
    })?;
    let payments = (0..PAYMENTS).map(sign).collect::<Result<Vec<_>>>()?;
    let public = PaymentKey::from(PublicKey(key.verifying_key().to_bytes()));
    let checked_per_s = rate(patience, |number| {
        let index = usize::try_from(number % PAYMENTS)?;
        let payment = SignedPayment::from_boc(payments.get(index).context("a payment")?)?;
        let tokens = payment.verify(PaymentKind::ClientCharge, &contract, public)?;
        anyhow::ensure!(tokens.0 == 1_000_000 + number % PAYMENTS, "a payment of {}", tokens.0);
        Ok(())
    })?;
    let proven_per_s = proven(patience)?;
    Ok(Report { made_per_s, checked_per_s, proven_per_s })
}

/// How often `work` can be done in a second of this thread's running time.
fn rate(patience: Duration, mut work: impl FnMut(u64) -> Result<()>) -> Result<f64> {
    let (begun, mut done) = (Running::now(), 0);
    while begun.elapsed() < patience {
        for _ in 0..64 {
            work(done)?;
            done += 1;
        }
    }
    Ok(done as f64 / begun.elapsed().as_secs_f64())
}

fn proven(patience: Duration) -> Result<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let genesis = Genesis::new([1; 32], BEGIN_MS);
        let node = NodeConfig { genesis, directory: None, beat_ms: 0, repair: false };
        let any = "127.0.0.1:0".parse()?;
        let serving = Serving::start(&ServeConfig { node, http: any, lite: Some(any) }).await?;
        for number in 0..ACCOUNTS {
            serving.node.faucet(account(number), Nanoton::TON)??;
        }
        serving.node.advance(400)?;
        let chain = LiteServers::new(&GlobalConfig::parse(&serving.global_config())?);
        let (begun, mut done) = (Running::now(), 0);
        while begun.elapsed() < patience {
            let balance = chain.account(account(done % ACCOUNTS), None).await?.balance;
            anyhow::ensure!(balance == Nanoton::TON, "an account with {balance}");
            done += 1;
        }
        let elapsed = begun.elapsed();
        serving.stop().await?;
        Ok(done as f64 / elapsed.as_secs_f64())
    })
}

fn account(number: u64) -> Address {
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    Address::new(0, hash)
}

/// Time that this thread was running, so that other work on the machine does not count; the
/// clock's time where the kernel does not say.
struct Running {
    clock: Instant,
    ran: Option<Duration>,
}

impl Running {
    fn now() -> Self {
        Self { clock: Instant::now(), ran: thread_ran() }
    }

    fn elapsed(&self) -> Duration {
        match (self.ran, thread_ran()) {
            (Some(before), Some(now)) => now.saturating_sub(before),
            _ => self.clock.elapsed(),
        }
    }
}

fn thread_ran() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::run;
    use std::time::Duration;

    #[test]
    fn all_three_are_measured() {
        let report = run(Duration::from_millis(20)).unwrap();
        assert!(report.made_per_s > 0.0 && report.checked_per_s > 0.0 && report.proven_per_s > 0.0);
        assert!(report.to_string().contains("| signed payments made, per s | 50,000 |"));
    }
}
