#!/bin/sh
# The contracts: rebuilt code equals the committed one, and the C++ machine of the chain agrees with
# ours on the recorded suite.
set -eu
cd "$(dirname "$0")/../.."
(cd contracts && npm ci --no-audit --no-fund --loglevel=error && npm run --silent check)
# The whole workspace is named so that the build of `./check` is used again.
CONTRACT_REFEREE=write cargo test --release --locked --quiet --workspace --test chain
(cd contracts && node --test test/)
