//! `cocoon root`: the registry readable, its changes seen before they are made.

mod act;
mod change;
mod version;

use anyhow::Result;
use cocoon_contract::code::Codes;
use cocoon_contract::params::Params;
use cocoon_contract::root::RootState;

use super::arguments::RootCommand;
use super::decode::code_name;
use super::run;
use super::say::{Field, Fields};

pub(crate) fn run_command(command: RootCommand) -> Result<()> {
    match command {
        RootCommand::Show(options) => run(version::show(&options)),
        RootCommand::Diff(options) => run(version::diff(&options)),
        RootCommand::Propose(options) => run(act::propose(&options)),
        RootCommand::Apply(options) => run(act::apply(&options)),
        RootCommand::Cancel(options) => run(act::cancel(&options)),
        RootCommand::New(options) => run(act::new(&options)),
    }
}

/// The registry as fields.
pub(crate) fn registry(root: &RootState) -> Fields {
    let text = |hashes: &std::collections::BTreeSet<_>| {
        hashes.iter().map(ToString::to_string).collect::<Vec<String>>()
    };
    let proxies = root.registered_proxies.iter().map(|(seqno, entry)| {
        let fields = Fields::new().add("number", *seqno);
        match entry.endpoint() {
            Ok(endpoint) => fields
                .add("for workers", endpoint.workers.to_string())
                .add("for clients", endpoint.clients.to_string()),
            Err(_) => fields.add("unreadable", entry.text.escape_ascii().to_string()),
        }
    });
    Fields::new()
        .add("version", root.version)
        .add("owner", root.owner)
        .add("prices", prices(&root.network.params))
        .add("codes", codes(&root.network.codes))
        .add("proxies", proxies.collect::<Vec<_>>())
        .add("proxy images", text(&root.proxy_hashes))
        .add("worker images", text(&root.worker_hashes))
        .add("models", text(&root.model_hashes))
}

/// Parameters as fields.
pub(crate) fn prices(params: &Params) -> Fields {
    let times = |multiplier: cocoon_units::Multiplier| {
        let (whole, part) = (multiplier.0 / 10_000, multiplier.0 % 10_000);
        let text = format!("{whole}.{part:04}");
        format!("x{}", text.trim_end_matches('0').trim_end_matches('.'))
    };
    Fields::new()
        .add("parameters version", params.params_version)
        .add("network id", params.unique_id)
        .add("test network", params.is_test)
        .add("price of a token", Field::Price(params.price_per_token))
        .add("of it to the worker", Field::Price(params.worker_fee_per_token))
        .add("prompt token", times(params.prompt_multiplier))
        .add("cached prompt token", times(params.cached_multiplier))
        .add("completion token", times(params.completion_multiplier))
        .add("reasoning token", times(params.reasoning_multiplier))
        .add("proxy delay s", params.proxy_delay_s)
        .add("client delay s", params.client_delay_s)
        .add("least proxy stake", params.min_proxy_stake)
        .add("least client stake", params.min_client_stake)
}

fn codes(codes: &Codes) -> Fields {
    let text = |code: &Option<cocoon_contract::code::Code>| {
        code.as_ref().map(|code| {
            let hash = code.id().hash;
            match code_name(hash) {
                Some(name) => format!("{hash}  {name}"),
                None => format!("{hash}  unknown to this program"),
            }
        })
    };
    Fields::new()
        .add("proxy", text(&codes.proxy))
        .add("worker", text(&codes.worker))
        .add("client", text(&codes.client))
}
