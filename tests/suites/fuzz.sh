#!/bin/sh
# Every decoder under the fuzzer, two minutes in all. `cargo xtask fuzz --help` for more.
set -eu
cd "$(dirname "$0")/../.."

# The whole workspace is named so that the build of `./check` is used again.
cargo build --release --locked --quiet --workspace --bin cocoon-fuzz
fuzz="${CARGO_TARGET_DIR:-$PWD/target}/release/cocoon-fuzz"
if "$fuzz" planted --runs 5000000 --seconds 30 >target/fuzz-planted.log 2>&1; then
    echo "the fuzzer did not find the planted fault:"
    cat target/fuzz-planted.log
    exit 1
fi
grep -q "the planted fault is found" target/fuzz-planted.log || {
    echo "the fuzzer does not run:"
    cat target/fuzz-planted.log
    exit 1
}
echo "the planted fault was found"
"$fuzz" --seconds 1 --runs 100000000
