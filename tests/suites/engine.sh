#!/bin/sh
# The whole network with the embedded model server, through the official Python and Node clients.
set -eu
cd "$(dirname "$0")/../.."
. tests/clients/prepare.sh

# The official Node client, exactly as locked.
mkdir -p target/check-node
lock=tests/clients/node/package-lock.json
if ! cmp -s "$lock" target/check-node/installed.json; then
    cp tests/clients/node/package.json "$lock" target/check-node/
    (cd target/check-node && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
    cp "$lock" target/check-node/installed.json
fi
cp tests/clients/node/tour.mjs target/check-node/

run_suite engine.py
