//! What people, or scripts, see of `cocoon up`.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use super::keeper::Keeper;
use super::model::Model;
use super::plan::Plan;

/// Prints steps as they happen: text, or one JSON object a line.
#[derive(Clone, Debug)]
pub(crate) struct Show {
    json: bool,
    colour: bool,
}

/// A bar for what takes longer than a second.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    pub(crate) fn at(&self, done: u64) {
        self.bar.set_position(done);
    }

    pub(crate) fn say(&self, what: &'static str) {
        self.bar.set_message(what);
        self.bar.enable_steady_tick(Duration::from_millis(100));
    }

    pub(crate) fn done(&self) {
        self.bar.finish_and_clear();
    }
}

impl Show {
    pub(crate) fn new(json: bool) -> Self {
        let colour =
            !json && std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { json, colour }
    }

    pub(crate) fn progress(&self, what: &str, total: u64) -> Progress {
        let bar = ProgressBar::new(total);
        if self.json || !std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        if let Ok(style) =
            ProgressStyle::with_template("  {prefix} {wide_bar} {bytes}/{total_bytes} {msg}")
        {
            bar.set_style(style);
        }
        bar.set_prefix(what.to_owned());
        Progress { bar }
    }

    pub(crate) fn step(&self, name: &str, what: &str, took: Duration) {
        if self.json {
            let ms = took.as_millis();
            return line(&json!({ "event": "started", "node": name, "ms": ms }));
        }
        let mark = self.paint("32", "✓");
        say(&format!("{mark} {name:<10} {what} ({} ms)", took.as_millis()));
    }

    pub(crate) fn ended(&self, name: &str, status: &str) {
        if self.json {
            return line(&json!({ "event": "ended", "node": name, "status": status }));
        }
        let mark = self.paint("33", "!");
        say(&format!("{mark} {name} ended ({status}), starting it again"));
    }

    pub(crate) fn restarted(&self, name: &str, id: Option<u32>) {
        if self.json {
            line(&json!({ "event": "restarted", "node": name, "pid": id }));
        }
    }

    pub(crate) fn gave_up(&self, name: &str, status: &str) {
        if self.json {
            return line(&json!({ "event": "gave_up", "node": name, "status": status }));
        }
        let mark = self.paint("31", "✗");
        say(&format!("{mark} {name} does not start ({status})"));
    }

    pub(crate) fn ending(&self) {
        if self.json {
            return line(&json!({ "event": "ending" }));
        }
        say("ending …");
    }

    pub(crate) fn ready(
        &self,
        plan: &Plan,
        model: &Model,
        keeper: &Keeper,
        (took, pseudo): (Duration, bool),
    ) {
        let endpoint = format!("http://127.0.0.1:{}/v1", plan.gateway_port);
        let ids: HashMap<String, u32> = keeper.ids();
        if self.json {
            return line(&json!({
                "event": "ready",
                "endpoint": endpoint,
                "model": model.name,
                "ms": took.as_millis(),
                "pids": ids,
                "data_dir": plan.data_dir,
                "proxy_status": plan.proxy_status(),
                "worker_status": plan.worker_status(),
                "chain": plan.chain(),
                "money": if pseudo { "pseudo" } else { "local test coins" },
                "evidence": "simulated",
            }));
        }
        let bold = |text: &str| self.paint("1", text);
        let stats = format!("http://127.0.0.1:{}/stats", plan.gateway_port);
        say(&format!(
            "\n{} after {:.1} s: model {}\n\n  endpoint  {}\n  console   {stats}\n  chain     \
             {}/api/v2\n  logs      {}\n",
            bold("The network runs"),
            took.as_secs_f64(),
            model.name,
            bold(&endpoint),
            plan.chain(),
            plan.data_dir.join("log").display(),
        ));
        say(&format!(
            "  curl {endpoint}/chat/completions -H 'content-type: application/json' \\\n    -d \
             '{{\"model\":\"{}\",\"messages\":[{{\"role\":\"user\",\"content\":\"Hello!\"}}]}}'\n",
            model.name
        ));
        say(&format!(
            "  from openai import OpenAI\n  client = OpenAI(base_url=\"{endpoint}\", \
             api_key=\"none\")\n  answer = client.chat.completions.create(model=\"{}\",\n      \
             messages=[{{\"role\": \"user\", \"content\": \"Hello!\"}}])\n  \
             print(answer.choices[0].message.content)\n",
            model.name
        ));
        say("  Or here, in another terminal: cocoon chat\n");
        say(match pseudo {
            true => {
                "  Tokens are counted, signed and booked by the rules of a network without a chain: \
                 the coins\n  are make-believe, and nothing is settled."
            }
            false => {
                "  Requests are paid with coins of the local chain's faucet. They are worth nothing, \
                 and moved by\n  the wallets, contracts and nodes that move real ones."
            }
        });
        say("  The machines show simulated evidence: every check runs, yet nothing here is \
             confidential.\n  Ctrl-C ends everything; a second start goes on where this one ended.");
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// A closed standard output is no reason to end the network.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn line(value: &Value) {
    say(&value.to_string());
}
