//! `cocoon verify`

use anyhow::{Context as _, Result, anyhow};
use cocoon_attest::tdx::BootLog;
use cocoon_attest::{Collateral, Digest32, PeerEvidence, TdxCollateral};
use cocoon_host::clock;
use cocoon_proof::{BUNDLE_LIMIT, Bundle, MachineRole, Occasion, RootView, Shown, examine};

use super::options::VerifyOptions;
use super::trust::{Own, read_file, write_file};
use super::{block_on, fetch, show};
use crate::mistake;

/// Longest quote or collateral that is read, bytes.
const EVIDENCE_LEN_MAX: u64 = 4 << 20;

pub(crate) fn run(options: &VerifyOptions) -> Result<()> {
    let own = Own::read(&options.trust)?;
    let (what, mut bundle, asker, occasion) = if let Some(path) = &options.offline {
        let bytes = read_file(path, BUNDLE_LIMIT as u64)?;
        let bundle = Bundle::read(&bytes)
            .map_err(|fault| mistake(format_args!("{}: {fault}", path.display())))?;
        let nonce = options.nonce.as_deref().map(|text| digest("nonce", text)).transpose()?;
        let asker = own.later(nonce, bundle.made_ms);
        (format!("bundle {}", path.display()), bundle, asker, Occasion::Saved)
    } else if options.quote.is_some() {
        let bundle = of_quote(options)?;
        let asker = own.later(None, bundle.made_ms);
        ("a raw quote".to_owned(), bundle, asker, Occasion::Quote)
    } else {
        let gateway = own.gateway(options.gateway.as_ref());
        let nonce = Digest32::from(clock::random());
        let bundle = block_on(ask(&gateway, nonce, &options.output.key))?;
        let asker = own.now(nonce, clock::now_ms());
        (format!("the machines behind {gateway}"), bundle, asker, Occasion::Live)
    };
    let found = examine(&bundle, &asker);
    if let Some(path) = &options.save {
        if let Some(nonce) = asker.nonce {
            bundle.nonce = nonce;
        }
        bundle.policy = Some(own.trust().policy.clone());
        write_file(path, &bundle.write()?)?;
        if !options.output.json {
            show::say(&format!("saved {} (nonce {})", path.display(), bundle.nonce));
        }
    }
    if let Some(path) = &options.save_trust {
        write_file(path, &own.trust().write()?)?;
        if !options.output.json {
            show::say(&format!("saved {}", path.display()));
        }
    }
    let required = match options.require.as_slice() {
        [] => occasion.requirements(),
        list => list.to_vec(),
    };
    if options.events && !options.output.json {
        show::events(&found);
    }
    let verdict = show::verdict(&what, &found, &required, options.output.json);
    if options.quote.is_some() || options.trust.name_a_network() {
        return verdict;
    }
    verdict.map_err(|fault| {
        anyhow!(
            "{fault}. No network was named to judge by: --chain local is that of cocoon up, \
             --gateway-config FILE that of your own gateway, --trust FILE one that you saved"
        )
    })
}

async fn ask(gateway: &str, nonce: Digest32, key: &str) -> Result<Bundle> {
    let path = format!("/v1/attestation?nonce={nonce}");
    let answer = fetch(gateway, &path, key)
        .await?
        .with_context(|| format!("{gateway} shows no evidence: it is no gateway of ours"))?;
    Bundle::read(&answer).with_context(|| format!("the answer of {gateway}"))
}

/// A bundle of one machine, from a quote and its collateral.
fn of_quote(options: &VerifyOptions) -> Result<Bundle> {
    let (Some(quote), Some(collateral)) = (&options.quote, &options.collateral) else {
        return Err(mistake("--quote needs --collateral"));
    };
    let key = match &options.public_key {
        Some(text) => digest("public-key", text)?.0,
        None => [0; 32],
    };
    let boot_log = options.boot_log.as_ref().map(|path| {
        let area = read_file(path, EVIDENCE_LEN_MAX)?;
        let log = BootLog::trim(&area);
        let log = log.map_err(|bad| mistake(format_args!("{}: {bad}", path.display())))?;
        anyhow::Ok(log.to_vec())
    });
    let evidence = PeerEvidence {
        tdx_quote: Some(read_file(quote, EVIDENCE_LEN_MAX)?),
        boot_log: boot_log.transpose()?,
        user_claims: Some(key.to_vec()),
        ..PeerEvidence::new(key)
    };
    let text = read_file(collateral, EVIDENCE_LEN_MAX)?;
    let dcap = serde_json::from_slice(&text)
        .map_err(|fault| mistake(format_args!("{}: {fault}", collateral.display())))?;
    let made_ms = options.trust.at.map_or_else(clock::now_ms, |at| at.0);
    let tdx = Some(TdxCollateral { dcap, fetched_ms: made_ms });
    let mut bundle = Bundle::new(made_ms, Digest32::ZERO, RootView::default());
    let shown = Shown::Evidence(Box::new(evidence));
    let name = quote.display().to_string();
    bundle.add(MachineRole::Worker, &name, shown, Collateral { tdx, snp: None });
    Ok(bundle)
}

fn digest(option: &'static str, text: &str) -> Result<Digest32> {
    Digest32::read(option, text)
        .map_err(|_| mistake(format_args!("--{option} takes 64 hex digits, not {text:?}")))
}
