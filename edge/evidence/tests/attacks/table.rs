//! docs/attacks.md names tests; every one of them must exist.

use std::collections::BTreeSet;
use std::path::Path;

/// Collects the names of functions in the Rust files below `directory`.
fn functions(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let names = text.split("fn ").skip(1).filter_map(|rest| rest.split('(').next());
            found.extend(names.map(str::to_owned));
        }
    }
}

#[test]
fn every_test_named_in_the_table_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut known = BTreeSet::new();
    for directory in ["core", "edge", "node", "tool"] {
        functions(&root.join(directory), &mut known);
    }
    let table = std::fs::read_to_string(root.join("docs/attacks.md")).unwrap();
    let named: Vec<&str> = table
        .lines()
        .filter(|line| line.starts_with("| "))
        .filter_map(|line| line.trim_end_matches(['|', ' ']).rsplit('|').next())
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .filter(|name| name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric()))
        .collect();
    assert!(named.len() > 60, "{}", named.len());
    for name in named {
        assert!(known.contains(name), "docs/attacks.md names `{name}`, which is no test");
    }
}
