#!/bin/sh
# The full life of money with the real programs on a local chain, against a spreadsheet.
set -eu
cd "$(dirname "$0")/../.."
# The whole workspace is named so that the build of `./check` is used again.
cargo build --release --locked --quiet --workspace --example money_life
target="${CARGO_TARGET_DIR:-$PWD/target}"
COCOON_BIN="${COCOON_BIN:-$target/release/cocoon}" "$target/release/examples/money_life"
