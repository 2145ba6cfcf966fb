//! Floors and imports: what `house.toml` allows against what the manifests say.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// `house.toml`.
#[derive(Deserialize)]
pub(crate) struct Plan {
    pub(crate) floors: Vec<String>,
    pub(crate) sideways: BTreeMap<String, Vec<String>>,
    pub(crate) banned: Vec<Banned>,
    pub(crate) limits: Limits,
}

/// Words that some floors may not use.
#[derive(Deserialize)]
pub(crate) struct Banned {
    pub(crate) floors: Vec<String>,
    pub(crate) words: Vec<String>,
    pub(crate) why: String,
}

/// Sizes.
#[derive(Deserialize)]
pub(crate) struct Limits {
    pub(crate) file_lines: usize,
}

/// A crate of this workspace.
pub(crate) struct Member {
    name: String,
    floor: String,
    imports: Vec<String>,
}

impl Plan {
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let path = root.join("house.toml");
        let text = std::fs::read_to_string(&path).context("house.toml")?;
        toml::from_str(&text).context("house.toml")
    }
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
    path: Option<String>,
}

pub(crate) fn metadata(root: &Path, arguments: &[&str]) -> Result<Vec<u8>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--quiet"])
        .args(arguments)
        .current_dir(root)
        .output()
        .context("cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(output.stdout)
}

/// The workspace's crates with the workspace crates they import (tests may import anything
/// below the top floor's reach, so only normal and build dependencies count).
pub(crate) fn crates(root: &Path) -> Result<Vec<Member>> {
    let metadata: Metadata = serde_json::from_slice(&metadata(root, &["--no-deps"])?)?;
    metadata
        .packages
        .into_iter()
        .map(|package| {
            let floor = Path::new(&package.manifest_path)
                .strip_prefix(root)
                .ok()
                .and_then(|path| path.iter().next())
                .and_then(|floor| floor.to_str())
                .with_context(|| format!("{} lies on no floor", package.name))?
                .to_owned();
            let imports = package
                .dependencies
                .into_iter()
                .filter(|import| import.path.is_some() && import.kind.as_deref() != Some("dev"))
                .map(|import| import.name)
                .collect();
            Ok(Member { name: package.name, floor, imports })
        })
        .collect()
}

pub(crate) fn imports(plan: &Plan, crates: &[Member]) -> Vec<String> {
    let height = |floor: &str| plan.floors.iter().position(|name| name == floor);
    let floor_of = |name: &str| crates.iter().find(|member| member.name == name);
    let mut faults = Vec::new();
    for member in crates {
        if height(&member.floor).is_none() {
            faults.push(format!("{}: {} is no floor of house.toml", member.name, member.floor));
        }
        for import in &member.imports {
            let Some(target) = floor_of(import) else { continue };
            let allowed = if target.floor == member.floor {
                plan.sideways.get(&member.name).is_some_and(|names| names.contains(import))
            } else {
                height(&target.floor) < height(&member.floor)
            };
            if !allowed {
                faults.push(format!(
                    "{} ({}) may not import {import} ({})",
                    member.name, member.floor, target.floor
                ));
            }
        }
    }
    faults
}
