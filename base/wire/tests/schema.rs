//! Every message against the table of constructors: ids, order and kinds of fields.
//!
//! Objects are made from the table alone, so a message whose fields are in another order or
//! of another kind cannot read them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};

use cocoon_wire::{TlFault, catalogue, tl};
use proptest::prelude::*;
use serde_json::Value;

/// One row of the table.
struct Row {
    name: String,
    id: u32,
    kind: String,
    explicit_id: bool,
    result: String,
    fields: Vec<(String, String)>,
}

impl Row {
    /// Bits of the `flags` word that guard a field.
    fn flag_bits(&self) -> u32 {
        let guards = self.fields.iter().filter_map(|(_, kind)| kind.strip_prefix("flags."));
        guards.fold(0, |bits, kind| {
            bits | 1 << kind.split('?').next().unwrap().parse::<u32>().unwrap()
        })
    }
}

fn rows(line: &str) -> Vec<Row> {
    let vectors: Value =
        serde_json::from_str(include_str!("../../../testdata/wire-vectors.json")).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let row = |row: &Value| Row {
        name: text(&row["name"]),
        id: u32::from_str_radix(&text(&row["id"]), 16).unwrap(),
        kind: text(&row["kind"]),
        explicit_id: row["explicit_id"].as_bool().unwrap(),
        result: text(&row["result"]),
        fields: row["fields"]
            .as_array()
            .unwrap()
            .iter()
            .map(|field| (text(&field[0]), text(&field[1])))
            .collect(),
    };
    vectors["constructors"][line].as_array().unwrap().iter().map(row).collect()
}

/// Bytes of a random object of a row.
struct Maker<'r> {
    rows: &'r [Row],
    /// Bits that the random `flags` words may have besides those with a meaning.
    spare_flags: u32,
    /// State of a xorshift generator, not zero.
    state: u64,
}

impl Maker<'_> {
    fn random(&mut self) -> u32 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 32) as u32
    }

    fn below(&mut self, limit: u32) -> u32 {
        self.random() % limit
    }

    fn bytes(&mut self, count: usize, out: &mut Vec<u8>) {
        out.extend((0..count).map(|_| self.random() as u8));
    }

    fn boxed(&mut self, row: &Row, out: &mut Vec<u8>) {
        out.extend_from_slice(&row.id.to_le_bytes());
        self.bare(row, out);
    }

    fn bare(&mut self, row: &Row, out: &mut Vec<u8>) {
        let mut flags = 0;
        for (_, kind) in &row.fields {
            let Some(guarded) = kind.strip_prefix("flags.") else {
                if kind == "#" {
                    flags = self.random() & (self.spare_flags | row.flag_bits()) & 0x7fff_ffff;
                    out.extend_from_slice(&flags.to_le_bytes());
                } else {
                    self.value(kind, out);
                }
                continue;
            };
            let (bit, kind) = guarded.split_once('?').unwrap();
            if flags & (1 << bit.parse::<u32>().unwrap()) != 0 {
                self.value(kind, out);
            }
        }
    }

    fn value(&mut self, kind: &str, out: &mut Vec<u8>) {
        if let Some(element) = kind.strip_prefix("vector ") {
            let count = self.below(4);
            out.extend_from_slice(&count.to_le_bytes());
            (0..count).for_each(|_| self.value(element, out));
            return;
        }
        match kind {
            "int" => self.bytes(4, out),
            "long" => self.bytes(8, out),
            "double" => out.extend_from_slice(&f64::from(self.random()).to_le_bytes()),
            "int256" => self.bytes(32, out),
            "Bool" => {
                let flag = [0x9972_75b5u32, 0xbc79_9737][self.below(2) as usize];
                out.extend_from_slice(&flag.to_le_bytes());
            }
            "string" | "bytes" => {
                let length = [0, 1, 3, 4, 253, 254, 300][self.below(7) as usize];
                let mut content = Vec::new();
                self.bytes(length, &mut content);
                tl::write_bytes(out, &content);
            }
            _ => self.object(kind, out),
        }
    }

    fn object(&mut self, kind: &str, out: &mut Vec<u8>) {
        let rows = self.rows;
        let last = kind.rsplit('.').next().unwrap();
        if last.starts_with(char::is_lowercase) {
            let row = rows.iter().find(|row| row.name == kind).unwrap();
            return self.bare(row, out);
        }
        let choices: Vec<_> =
            rows.iter().filter(|row| row.result == kind && row.kind == "type").collect();
        let row = choices[self.below(choices.len().try_into().unwrap()) as usize];
        self.boxed(row, out);
    }
}

#[test]
fn every_constructor_of_both_lines_is_known() {
    let known: BTreeMap<_, _> = catalogue::ALL.iter().map(|entry| (entry.id, entry.name)).collect();
    assert_eq!(known.len(), catalogue::ALL.len(), "two constructors share an id");
    let mut distinct = BTreeSet::new();
    for row in rows("base").into_iter().chain(rows("live")) {
        assert_eq!(known.get(&row.id), Some(&row.name.as_str()), "{}", row.name);
        distinct.insert(row.id);
    }
    assert!(distinct.len() > 100, "the table is cut");
    let own = known.iter().filter(|(id, _)| !distinct.contains(id)).map(|(_, name)| *name);
    let own: BTreeSet<_> = own.collect();
    // Ours, and the two messages that never travel between nodes.
    let expected: BTreeSet<_> = OWN
        .iter()
        .map(|text| text.split(' ').next().unwrap())
        .chain(["getPersistentKey", "persistentKey"])
        .collect();
    assert_eq!(own, expected);
}

/// Our own constructors, as `docs/protocol.md` declares them.
const OWN: [&str; 14] = [
    "cocoon.leaving = cocoon.Leaving",
    "cocoon.attest data:bytes = cocoon.Attest",
    "cocoon.cancelQuery request_id:int256 = cocoon.CancelQuery",
    "cocoon.onlyWorkers request_id:int256 workers:vector long = cocoon.OnlyWorkers",
    "cocoon.receipt request_id:int256 worker:long receipt:bytes = cocoon.Receipt",
    "cocoon.worker worker:long model:string = cocoon.Worker",
    "cocoon.workers workers:vector cocoon.worker = cocoon.Workers",
    "cocoon.report report:bytes = cocoon.Report",
    "cocoon.listWorkers = cocoon.Workers",
    "cocoon.getReport worker:long nonce:int256 = cocoon.Report",
    "cocoon.getEndorsedReport worker:long nonce:int256 = cocoon.Report",
    "cocoon.getFullReport worker:long nonce:int256 reads:int = cocoon.Report",
    "cocoon.introduce flags:int role:int = cocoon.Introduced",
    "cocoon.introduced flags:int = cocoon.Introduced",
];

#[test]
fn ids_follow_the_checksum_rule() {
    let mut checked = 0;
    for row in rows("base").into_iter().chain(rows("live")).filter(|row| !row.explicit_id) {
        let fields = row.fields.iter().map(|(name, kind)| format!(" {name}:{kind}"));
        let text = format!("{}{} = {}", row.name, fields.collect::<String>(), row.result);
        assert_eq!(crc32fast::hash(text.as_bytes()), row.id, "{text}");
        checked += 1;
    }
    assert!(checked > 180);
    for own in OWN {
        let name = own.split(' ').next().unwrap();
        let entry = catalogue::ALL.iter().find(|entry| entry.name == name).unwrap();
        assert_eq!(crc32fast::hash(own.as_bytes()), entry.id, "{own}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn objects_of_the_table_are_read_and_written_again(seed in 1u64..) {
        // The present line gives a meaning to bits that the older one ignored.
        for (line, spare_flags) in [("base", 0x7fff_0000), ("live", u32::MAX)] {
            let rows = rows(line);
            let mut maker = Maker { rows: &rows, spare_flags, state: seed };
            for row in &rows {
                let entry = catalogue::ALL.iter().find(|entry| entry.id == row.id).unwrap();
                let mut bytes = Vec::new();
                maker.boxed(row, &mut bytes);
                prop_assert_eq!((entry.reencode)(&bytes), Ok(bytes.clone()), "{}", row.name);
                names_in_order(row, &(entry.describe)(&bytes).unwrap())?;
                strictness(entry, &bytes)?;
            }
        }
    }
}

/// The fields have the names of the table, in its order. Guarded fields may be in a group of
/// another name and are left out.
fn names_in_order(row: &Row, shown: &str) -> Result<(), TestCaseError> {
    let mut rest = shown;
    for (name, kind) in row.fields.iter().filter(|(_, kind)| !kind.starts_with("flags.")) {
        let name = if kind == "#" { "extensions" } else { name };
        let place = rest.find(&format!(" {name}: "));
        prop_assert!(place.is_some(), "{name} is missing or misplaced in {shown}");
        rest = &rest[place.unwrap() + name.len()..];
    }
    Ok(())
}

/// Cut and prolonged objects are refused.
fn strictness(entry: &catalogue::Entry, bytes: &[u8]) -> Result<(), TestCaseError> {
    for length in 0..bytes.len() {
        prop_assert!((entry.reencode)(&bytes[..length]).is_err(), "{} cut to {length}", entry.name);
    }
    let mut longer = bytes.to_vec();
    longer.push(0);
    let refused = (entry.reencode)(&longer);
    prop_assert_eq!(refused, Err(TlFault::TrailingBytes { offset: bytes.len(), left: 1 }));
    Ok(())
}
