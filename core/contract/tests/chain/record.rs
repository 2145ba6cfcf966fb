//! Writes down what a test put in and what came out, for the referee: `contracts/test` plays it
//! on the C++ machine and compares. Only with `CONTRACT_REFEREE=write`.

use cocoon_contract::boc;
use cocoon_contract::cell::{Cell, CellId};
use cocoon_contract::wallet::Layout;
use cocoon_units::{Address, Nanoton};
use serde_json::{Value, json};

use crate::world::{Exit, Tx};

/// One scenario; it is written when the test is done with it.
pub(crate) struct Record {
    name: Option<String>,
    steps: Vec<Value>,
}

fn is_on() -> bool {
    std::env::var_os("CONTRACT_REFEREE").is_some_and(|value| value == "write")
}

/// Layout of external messages in these tests. The referee's software reads a message and writes
/// it anew in its own layout, and fees depend on it, so both use that one.
pub(crate) const EXTERNAL_LAYOUT: Layout = Layout::Compact;

impl Record {
    /// Named after the running test.
    pub(crate) fn new() -> Self {
        let thread = std::thread::current();
        let name = thread.name().map(|name| name.replace("::", "-"));
        Self { name: name.filter(|_| is_on()), steps: Vec::new() }
    }

    /// Takes the record of another world over, under this name.
    pub(crate) fn rename(&mut self, name: &str) {
        if self.name.is_some() {
            self.name = Some(name.replace('/', "-"));
        }
    }

    /// Not worth writing.
    pub(crate) fn discard(&mut self) {
        self.name = None;
    }

    fn push(&mut self, step: impl FnOnce() -> Value) {
        if self.name.is_some() {
            self.steps.push(step());
        }
    }

    pub(crate) fn fund(&mut self, to: Address, value: Nanoton) {
        self.push(|| json!({ "fund": to.to_raw(), "value": value.0 }));
    }

    pub(crate) fn forget(&mut self, address: Address) {
        self.push(|| json!({ "forget": address.to_raw() }));
    }

    pub(crate) fn step(
        &mut self,
        now_s: u32,
        message: &Cell,
        outcome: &Result<&Vec<Tx>, i32>,
        accounts: &[(Address, Nanoton, Option<Cell>)],
    ) {
        self.push(|| {
            use base64::Engine as _;
            let bag = boc::encode(message);
            let message = base64::engine::general_purpose::STANDARD.encode(bag);
            let mut step = json!({ "now": now_s, "message": message });
            match outcome {
                Err(code) => step["refused"] = json!(code),
                Ok(txs) => step["transactions"] = txs.iter().map(transaction).collect(),
            }
            step["accounts"] = accounts
                .iter()
                .map(|(address, balance, data)| (address.to_raw(), json!([balance.0, hash(data)])))
                .collect();
            step
        });
    }
}

fn hash(cell: &Option<Cell>) -> Option<String> {
    cell.as_ref().map(|cell| CellId::of(cell).hash.to_string())
}

/// Receiver, exit, gas, fees, and for each message receiver and hash of the body.
fn transaction(tx: &Tx) -> Value {
    let exit = match tx.exit {
        Exit::Code(code) => json!(code),
        Exit::NoGas => json!("no-gas"),
        Exit::NoState => json!("no-state"),
    };
    let out: Vec<Value> =
        tx.out.iter().map(|sent| json!([sent.to.to_raw(), body(&sent.body)])).collect();
    // An account without code pays another storage fee on the other machine.
    let fees = matches!(tx.exit, Exit::Code(_)).then_some(tx.fees.0);
    json!([tx.to.to_raw(), exit, tx.gas, fees, out])
}

/// Hash of a body; the newer form of a bounced one names logical times of its chain.
fn body(body: &Cell) -> String {
    let mut slice = body.as_slice().expect("ordinary");
    match slice.load_u32() {
        Ok(0xffff_fffe) => "bounced".to_owned(),
        _ => CellId::of(body).hash.to_string(),
    }
}

impl Clone for Record {
    /// A copy is a place to come back to; it is not written unless it is renamed.
    fn clone(&self) -> Self {
        Self { name: self.name.as_ref().map(|_| String::new()), steps: self.steps.clone() }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let Some(name) = self.name.as_ref().filter(|name| !name.is_empty()) else { return };
        if self.steps.is_empty() || std::thread::panicking() {
            return;
        }
        let folder =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contracts/test/recorded");
        std::fs::create_dir_all(&folder).expect("folder");
        let lines: Vec<String> = self.steps.iter().map(Value::to_string).collect();
        std::fs::write(folder.join(format!("{name}.jsonl")), lines.join("\n") + "\n")
            .expect("write");
    }
}
