//! What every source file must keep.

use crate::house::Plan;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 6] = ["util", "utils", "common", "helper", "helpers", "misc"];

pub(crate) fn check(root: &Path, plan: &Plan) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for floor in &plan.floors {
        let mut files = Vec::new();
        collect(&root.join(floor), &mut files)?;
        files.sort();
        for path in files {
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            let shown = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            file(plan, floor, &path, &shown, &text, &mut faults);
        }
    }
    Ok(faults)
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            let name = path.file_name().unwrap_or_default();
            if name != "target" && name != "node_modules" {
                collect(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn file(plan: &Plan, floor: &str, path: &Path, shown: &str, text: &str, faults: &mut Vec<String>) {
    let lines = text.lines().count();
    if lines > plan.limits.file_lines {
        faults.push(format!("{shown}: {lines} lines, split it by noun"));
    }
    if !text.trim_start().starts_with("//!") {
        faults.push(format!("{shown}: has no module documentation"));
    }
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if EMPTY_NAMES.contains(&stem) {
        faults.push(format!("{shown}: the name says nothing, call it by its noun"));
    }
    let is_test = shown.contains("/tests/") || shown.contains("/benches/") || stem == "tests";
    for (number, line) in text.lines().enumerate() {
        let at = number + 1;
        if line.trim_start().starts_with("#[ignore") {
            faults.push(format!("{shown}:{at}: a test that never runs"));
        }
        let code = line.split("//").next().unwrap_or_default();
        if is_test || code.trim_start().starts_with("use") && code.contains("proptest") {
            continue;
        }
        // Unit tests stand at the end of a file.
        if line.trim() == "#[cfg(test)]" {
            break;
        }
        banned(plan, floor, code, &format!("{shown}:{at}"), faults);
    }
}

fn banned(plan: &Plan, floor: &str, code: &str, at: &str, faults: &mut Vec<String>) {
    for rule in plan.banned.iter().filter(|rule| rule.floors.iter().any(|name| name == floor)) {
        for word in rule.words.iter().filter(|word| code.contains(word.as_str())) {
            faults.push(format!("{at}: {word} has no place on this floor: {}", rule.why));
        }
    }
}
