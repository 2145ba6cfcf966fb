//! Prints how long verifications take, cold and warm, and what ten thousand kept verdicts
//! weigh. Run with `cargo run --release -p cocoon-evidence --example verification_time`.

#![allow(clippy::print_stdout, reason = "its output is a table for people")]

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use cocoon_attest::snp::SnpProduct;
use cocoon_attest::{Collateral, Outcome, PeerEvidence, Policy, Verdict, Verifier, verify};
use cocoon_evidence::sim::{DevPki, SimulatedPlatform, SimulatedPlatformForm};
use cocoon_evidence::{EvidenceProvider as _, QuoteSubject};

const NOW_S: u64 = 1_795_262_400;
const NOW_MS: u64 = NOW_S * 1000;
const KEY: [u8; 32] = [0x42; 32];
const COLD_ROUNDS: usize = 400;
const WARM_ROUNDS: usize = 40_000;
const PEERS: usize = 10_000;

struct Case {
    name: &'static str,
    evidence: PeerEvidence,
    collateral: Collateral,
    policy: Policy,
}

fn case(
    pki: &Arc<DevPki>,
    name: &'static str,
    form: SimulatedPlatformForm,
) -> Result<Case, Box<dyn Error>> {
    let platform = SimulatedPlatform::boot(Arc::clone(pki), form)?;
    let evidence = platform.quote(QuoteSubject::CertificateKey(&KEY))?;
    let evidence = PeerEvidence {
        gpu: platform.gpu(),
        event_log: platform.event_log(),
        ..evidence.to_peer_evidence(&KEY)
    };
    let collateral = platform.collateral(NOW_S)?;
    Ok(Case { name, evidence, collateral, policy: platform.policy() })
}

/// What one kind of work took, in microseconds.
struct Taken {
    /// Mean time on the processor, which other programs do not disturb.
    processor: f64,
    /// Median by the clock.
    median: f64,
}

fn time(rounds: usize, mut work: impl FnMut() -> Verdict) -> Result<Taken, Box<dyn Error>> {
    let mut taken = Vec::with_capacity(rounds);
    let before = on_processor()?;
    for _ in 0..rounds {
        let begun = Instant::now();
        let verdict = black_box(work());
        taken.push(begun.elapsed().as_secs_f64() * 1e6);
        if verdict.outcome() != Outcome::Accept {
            return Err(format!("{verdict:#?}").into());
        }
    }
    let processor = (on_processor()? - before) as f64 / 1e3 / rounds as f64;
    taken.sort_by(f64::total_cmp);
    let median = taken.get(rounds / 2).copied().unwrap_or_default();
    Ok(Taken { processor, median })
}

/// Returns how long this thread has run on a processor, in nanoseconds.
fn on_processor() -> Result<u64, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(text.split_whitespace().next().ok_or("no time on the processor")?.parse()?)
}

/// Returns the resident size of this process in bytes.
fn resident() -> Result<u64, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = text.split_whitespace().nth(1).ok_or("no resident size")?.parse()?;
    Ok(pages * 4096)
}

fn main() -> Result<(), Box<dyn Error>> {
    let begun = Instant::now();
    let pki = Arc::new(DevPki::generate(NOW_S)?);
    println!("development PKI drawn in {:.2} s", begun.elapsed().as_secs_f64());
    let form = SimulatedPlatformForm::default;
    let cases = [
        case(&pki, "TDX quote 4", form())?,
        case(&pki, "TDX quote 5", SimulatedPlatformForm { quote_version: 5, ..form() })?,
        case(
            &pki,
            "TDX + GPU",
            SimulatedPlatformForm { gpu_nonce: Some([9; 32]), measure_gpu: true, ..form() },
        )?,
        case(
            &pki,
            "SEV-SNP Genoa",
            SimulatedPlatformForm { snp: Some(SnpProduct::Genoa), ..form() },
        )?,
    ];
    println!("microseconds: time on the processor (mean), by the clock (median)");
    println!("{:<14} {:>10} {:>10} {:>10} {:>10}", "", "cold cpu", "cold", "warm cpu", "warm");
    for case in &cases {
        let cold =
            time(COLD_ROUNDS, || verify(&case.evidence, &case.collateral, &case.policy, NOW_MS))?;
        let mut verifier = Verifier::new(case.policy.clone(), PEERS, 3_600_000)?;
        verifier.judge(&case.evidence, &case.collateral, NOW_MS);
        let warm = time(WARM_ROUNDS, || verifier.judge(&case.evidence, &case.collateral, NOW_MS))?;
        println!(
            "{:<14} {:>10.0} {:>10.0} {:>10.1} {:>10.1}",
            case.name, cold.processor, cold.median, warm.processor, warm.median
        );
    }
    known_gpu(&pki)?;
    weigh(&cases[0])
}

/// Judges new quotes of one machine whose GPU is known, as every channel handshake does.
fn known_gpu(pki: &Arc<DevPki>) -> Result<(), Box<dyn Error>> {
    let form = SimulatedPlatformForm {
        gpu_nonce: Some([9; 32]),
        measure_gpu: true,
        ..SimulatedPlatformForm::default()
    };
    let platform = SimulatedPlatform::boot(Arc::clone(pki), form)?;
    let collateral = platform.collateral(NOW_S)?;
    let mut offers = Vec::new();
    for number in 0..COLD_ROUNDS {
        let mut key = KEY;
        key[..8].copy_from_slice(&(number as u64).to_be_bytes());
        let evidence = platform.quote(QuoteSubject::CertificateKey(&key))?;
        offers.push(PeerEvidence {
            gpu: platform.gpu(),
            event_log: platform.event_log(),
            ..evidence.to_peer_evidence(&key)
        });
    }
    let mut verifier = Verifier::new(platform.policy(), PEERS, 3_600_000)?;
    let mut offers = offers.iter();
    let first = offers.next().ok_or("no offers")?;
    verifier.judge(first, &collateral, NOW_MS);
    let taken = time(COLD_ROUNDS - 1, || match offers.next() {
        Some(offer) => verifier.judge(offer, &collateral, NOW_MS),
        None => verifier.judge(first, &collateral, NOW_MS),
    })?;
    println!("{:<14} {:>10.0} {:>10.0}", "TDX, known GPU", taken.processor, taken.median);
    Ok(())
}

/// Fills a cache with verdicts over ten thousand peers.
fn weigh(case: &Case) -> Result<(), Box<dyn Error>> {
    let verdict = verify(&case.evidence, &case.collateral, &case.policy, NOW_MS);
    let before = resident()?;
    let mut cache = cocoon_attest::VerdictCache::new(PEERS, 3_600_000);
    for number in 0..PEERS as u64 {
        let mut verdict = verdict.clone();
        verdict.evidence = cocoon_attest::Digest32::sha256(&[&number.to_be_bytes()]);
        cache.keep(verdict);
    }
    let grown = resident()?.saturating_sub(before);
    println!("{} verdicts kept: {:.1} MiB", cache.len(), grown as f64 / 1_048_576.0);
    Ok(())
}
