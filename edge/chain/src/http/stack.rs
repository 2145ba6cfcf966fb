//! The stack of get-methods in toncenter's JSON, both ways.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cocoon_localchain::StackEntry;
use num_bigint::{BigInt, Sign};
use serde_json::{Value, json};
use tycho_types::boc::Boc;
use tycho_types::cell::Cell;

use super::forms;

/// Most arguments of a get-method.
const ARGUMENTS_MAX: usize = 255;
/// Deepest nesting of tuples read.
const DEPTH_MAX: u8 = 16;

/// Writes a result: `["num", "0x2a"]`, `["cell", {"bytes": ..}]` and so on.
pub(crate) fn to_json(entry: &StackEntry) -> Value {
    match entry {
        StackEntry::Int(value) => json!(["num", number(value)]),
        StackEntry::Cell(cell) => json!(["cell", bytes(cell)]),
        StackEntry::Slice(cell) => json!(["slice", bytes(cell)]),
        StackEntry::Builder(cell) => json!(["builder", bytes(cell)]),
        StackEntry::Tuple(items) => {
            let elements: Vec<_> = items.iter().map(nested).collect();
            json!(["tuple", {"@type": "tvm.tuple", "elements": elements}])
        }
        StackEntry::Null => json!(["list", {"@type": "tvm.list", "elements": []}]),
        StackEntry::NotANumber | StackEntry::Unsupported => json!(["unknown", {}]),
    }
}

fn nested(entry: &StackEntry) -> Value {
    match entry {
        StackEntry::Int(value) => json!({
            "@type": "tvm.stackEntryNumber",
            "number": {"@type": "tvm.numberDecimal", "number": value.to_string()},
        }),
        StackEntry::Cell(cell) | StackEntry::Builder(cell) => json!({
            "@type": "tvm.stackEntryCell",
            "cell": {"@type": "tvm.cell", "bytes": forms::cell(cell)},
        }),
        StackEntry::Slice(cell) => json!({
            "@type": "tvm.stackEntrySlice",
            "slice": {"@type": "tvm.slice", "bytes": forms::cell(cell)},
        }),
        StackEntry::Tuple(items) => json!({
            "@type": "tvm.stackEntryTuple",
            "tuple": {
                "@type": "tvm.tuple",
                "elements": items.iter().map(nested).collect::<Vec<_>>(),
            },
        }),
        StackEntry::Null => json!({
            "@type": "tvm.stackEntryList",
            "list": {"@type": "tvm.list", "elements": []},
        }),
        StackEntry::NotANumber | StackEntry::Unsupported => {
            json!({"@type": "tvm.stackEntryUnsupported"})
        }
    }
}

fn number(value: &BigInt) -> String {
    let sign = if value.sign() == Sign::Minus { "-" } else { "" };
    format!("{sign}0x{}", value.magnitude().to_str_radix(16))
}

fn bytes(cell: &Cell) -> Value {
    json!({"bytes": forms::cell(cell)})
}

/// Reads arguments or a result; `None` when an entry has no known form.
pub(crate) fn from_json(entries: Option<&Value>) -> Option<Vec<StackEntry>> {
    match entries {
        None => Some(Vec::new()),
        Some(Value::Array(entries)) if entries.len() <= ARGUMENTS_MAX => {
            entries.iter().map(entry).collect()
        }
        Some(_) => None,
    }
}

fn entry(entry: &Value) -> Option<StackEntry> {
    let kind = entry.get(0)?.as_str()?;
    let value = entry.get(1);
    Some(match kind {
        "num" | "int" => StackEntry::Int(read_number(value?)?),
        "cell" | "tvm.Cell" => StackEntry::Cell(read_cell(value?)?),
        "slice" | "tvm.Slice" => StackEntry::Slice(read_cell(value?)?),
        "builder" | "tvm.Builder" => StackEntry::Builder(read_cell(value?)?),
        "null" => StackEntry::Null,
        "tuple" | "list" => read_elements(value?, DEPTH_MAX)?,
        _ => return None,
    })
}

fn read_elements(value: &Value, depth: u8) -> Option<StackEntry> {
    let elements = value.get("elements")?.as_array().filter(|it| it.len() <= ARGUMENTS_MAX)?;
    let is_list = value.get("@type").and_then(Value::as_str) == Some("tvm.list");
    if is_list && elements.is_empty() {
        return Some(StackEntry::Null);
    }
    let items: Option<Vec<_>> =
        elements.iter().map(|element| read_nested(element, depth.checked_sub(1)?)).collect();
    items.map(StackEntry::Tuple)
}

fn read_nested(value: &Value, depth: u8) -> Option<StackEntry> {
    Some(match value.get("@type")?.as_str()? {
        "tvm.stackEntryNumber" => {
            StackEntry::Int(read_number(value.get("number")?.get("number")?)?)
        }
        "tvm.stackEntryCell" => StackEntry::Cell(read_cell(value.get("cell")?)?),
        "tvm.stackEntrySlice" => StackEntry::Slice(read_cell(value.get("slice")?)?),
        "tvm.stackEntryTuple" => read_elements(value.get("tuple")?, depth)?,
        "tvm.stackEntryList" => read_elements(value.get("list")?, depth)?,
        _ => return None,
    })
}

fn read_number(value: &Value) -> Option<BigInt> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    // 257 bits have at most 78 decimal digits; longer text is no number of the machine.
    if text.len() > 80 {
        return None;
    }
    let (negative, digits) =
        text.strip_prefix('-').map_or((false, text.as_str()), |digits| (true, digits));
    let magnitude = match digits.strip_prefix("0x") {
        Some(digits) => BigInt::parse_bytes(digits.as_bytes(), 16),
        None => BigInt::parse_bytes(digits.as_bytes(), 10),
    }?;
    Some(if negative { -magnitude } else { magnitude })
}

fn read_cell(value: &Value) -> Option<Cell> {
    let text = value.as_str().or_else(|| value.get("bytes")?.as_str())?;
    Boc::decode(STANDARD.decode(text).ok()?).ok()
}
