//! `--help` teaches; what it says is looked at when it changes.

use crate::desk::{Said, snapshot};
use std::process::Command;

#[test]
fn help_is_as_reviewed() {
    for command in [
        &["wallet"][..],
        &["wallet", "new"],
        &["wallet", "import"],
        &["wallet", "send"],
        &["wallet", "receive"],
        &["chain"],
        &["chain", "explore"],
        &["channel"],
        &["channel", "open"],
        &["root"],
        &["root", "diff"],
        &["root", "propose"],
    ] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_cocoon"));
        // What stands in the environment would be shown as well.
        let said = Said::of(program.args(command).arg("--help").env_clear());
        assert_eq!(said.code, 0, "{}", said.err);
        snapshot(&format!("help-{}", command.join("-")), &said.out);
    }
}
