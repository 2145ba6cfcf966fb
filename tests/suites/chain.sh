#!/bin/sh
# TON's own clients against the local chain: the official JavaScript libraries over HTTP, also side by
# side with this program's wallets, and an independent light client that checks every proof.
set -eu
cd "$(dirname "$0")/../.."
# The whole workspace is named so that the build of `./check` is used again.
cargo build --release --locked --quiet --workspace --bin cocoon --example local_network
target="${CARGO_TARGET_DIR:-$PWD/target}"
program="$target/release/examples/local_network"
(
    cd edge/chain/tests/js
    npm ci --no-audit --no-fund --loglevel=error
    COCOON_LOCAL_NETWORK="$program" COCOON_PROGRAM="$target/release/cocoon" node --test
)
venv="$target/chain-venv"
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r edge/chain/tests/py/requirements.txt
"$venv/bin/python" edge/chain/tests/py/lite_client.py "$program"
echo "1 passed, 0 failed"
