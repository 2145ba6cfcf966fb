//! Licences of all dependencies.

use anyhow::Result;
use serde::Deserialize;
use std::path::Path;

/// Accepted alone or as one side of an OR.
const ACCEPTED: [&str; 14] = [
    "MIT",
    "MIT-0",
    "NCSA",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
}

pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let metadata: Metadata = serde_json::from_slice(&super::house::metadata(root, &["--locked"])?)?;
    Ok(metadata
        .packages
        .iter()
        .filter(|package| !package.license.as_deref().is_some_and(accepted))
        .map(|package| {
            let licence = package.license.as_deref().unwrap_or("none stated");
            format!("{} {}: licence {licence} is not accepted", package.name, package.version)
        })
        .collect())
}

/// Every part of an AND must be accepted; of an OR, one.
fn accepted(expression: &str) -> bool {
    let plain = expression.replace(['(', ')'], " ").replace('/', " OR ");
    plain.split(" AND ").all(|all| all.split(" OR ").any(|one| ACCEPTED.contains(&one.trim())))
}

#[cfg(test)]
mod tests {
    use super::accepted;

    #[test]
    fn reads_licence_expressions() {
        assert!(accepted("MIT OR Apache-2.0"));
        assert!(accepted("ISC AND (Apache-2.0 OR ISC)"));
        assert!(accepted("MIT/Apache-2.0"));
        assert!(!accepted("AGPL-3.0-or-later"));
        assert!(!accepted("MIT AND MPL-2.0"));
    }
}
