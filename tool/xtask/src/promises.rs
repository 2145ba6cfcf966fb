//! The promises of `SPECIFICATION.md`: each has a number of its own, and names a test that is there
//! or says that it has none.

use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::path::Path;

const PAGE: &str = "SPECIFICATION.md";
/// Where tests stand.
const FOLDERS: [&str; 8] =
    ["base/", "core/", "edge/", "node/", "tool/", "tests/", "contracts/", "bench/"];
/// What a test's path may leave out at its end.
const ENDINGS: [&str; 4] = ["", ".rs", ".py", ".sh"];

pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let page = root.join(PAGE);
    let text = std::fs::read_to_string(&page)
        .with_context(|| format!("cannot read {}", page.display()))?;
    let (mut faults, mut seen) = (Vec::new(), BTreeSet::new());
    for (number, line) in text.lines().enumerate() {
        let Some(promise) = promise(line) else { continue };
        let at = format!("{PAGE}:{}: {promise}", number + 1);
        if !seen.insert(promise) {
            faults.push(format!("{at} is the number of another promise, too"));
        }
        let tests: Vec<&str> = tests(line).collect();
        if tests.is_empty() && !line.contains("**unproven**") {
            faults.push(format!("{at} names no test, and is not marked unproven"));
        }
        let is_there =
            |test: &str| ENDINGS.iter().any(|end| root.join(format!("{test}{end}")).exists());
        let gone = tests.into_iter().filter(|test| !is_there(test));
        faults.extend(gone.map(|test| format!("{at}: {test} is not there")));
    }
    Ok(faults)
}

/// The number of a row: a letter and digits in its first cell.
fn promise(line: &str) -> Option<&str> {
    let cell = line.strip_prefix("| ")?.split(" |").next()?;
    let digits = cell.strip_prefix(|letter: char| letter.is_ascii_uppercase())?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some(cell)
}

/// The paths in code spans.
fn tests(line: &str) -> impl Iterator<Item = &str> {
    let spans = line.split('`').skip(1).step_by(2);
    spans
        .filter(|span| FOLDERS.iter().any(|folder| span.starts_with(folder)) && !span.contains(' '))
}

#[cfg(test)]
mod tests {
    use super::{promise, tests};

    #[test]
    fn rows_and_their_tests_are_read() {
        let row = "| M14 | A promise in `words`. | `core/a/tests`, `.../b`, `bench/run -c 1` |";
        assert_eq!(promise(row), Some("M14"));
        assert_eq!(tests(row).collect::<Vec<_>>(), ["core/a/tests"]);
        assert_eq!((promise("| M | x |"), promise("M14"), promise("| --- |")), (None, None, None));
    }
}
