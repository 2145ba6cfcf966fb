#!/bin/sh
# Programs without a gateway: the examples of the crate cocoon-client in the network of `cocoon up`.
set -eu
cd "$(dirname "$0")/../.."
# The whole workspace is named so that the build of `./check` is used again.
cargo build --release --locked --quiet --workspace --example chat --example stream \
    --example embeddings --example channel
. tests/clients/prepare.sh
run_suite programs.py
