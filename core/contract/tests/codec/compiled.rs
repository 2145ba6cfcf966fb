//! The embedded code is what the sources in `contracts/src` compile to, as far as can be told
//! without the compiler; `npm run check` in `contracts` compiles and compares.

use cocoon_contract::Fault;
use cocoon_contract::cell::{Cell, CellId};
use cocoon_contract::code;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

fn contracts() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contracts")
}

fn hashes() -> Value {
    let text = std::fs::read_to_string(contracts().join("compiled/hashes.json")).expect("hashes");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn embedded_codes_have_the_listed_hashes() {
    let hashes = hashes();
    type Load = fn() -> Result<Cell, Fault>;
    let codes: [(&str, Load); 6] = [
        ("root", code::root),
        ("proxy", code::proxy),
        ("client", code::client),
        ("worker", code::worker),
        ("wallet", code::wallet),
        ("timelock", code::timelock),
    ];
    for (name, load) in codes {
        let found = CellId::of(&load().expect("embedded")).hash.to_string();
        assert_eq!(hashes[name]["hash"], found, "{name}: run npm run build in contracts");
    }
}

#[test]
fn sources_have_not_changed_since_they_were_compiled() {
    let mut files: Vec<_> = std::fs::read_dir(contracts().join("src"))
        .expect("sources")
        .map(|entry| entry.expect("file").path())
        .collect();
    files.sort();
    let mut sha = Sha256::new();
    for path in files {
        sha.update(path.file_name().expect("name").to_str().expect("text"));
        sha.update([0]);
        sha.update(std::fs::read(&path).expect("source"));
        sha.update([0]);
    }
    let found = hex::encode(sha.finalize());
    assert_eq!(hashes()["sources"], found, "run npm run build in contracts");
}
