#!/bin/sh
# The verifier for browsers: built again and compared with the committed page; the same evidence, good
# and of every lie, through the command, the module in Node and the page in a browser.
set -eu
cd "$(dirname "$0")/../.."
. tests/clients/prepare.sh
(cd tool/verifier-web && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error \
    && npm run --silent check)
COCOON_KEEP_EVIDENCE=$(mktemp -d)
export COCOON_KEEP_EVIDENCE
# The whole workspace is named so that the build of `./check` is used again. The rotation of keys, two
# minutes, leaves no evidence.
cargo test --release --locked --quiet --workspace --test proof -- --skip keyed::
outcome=0
run_suite web.py "$COCOON_KEEP_EVIDENCE" || outcome=$?
rm -rf "$COCOON_KEEP_EVIDENCE"
exit "$outcome"
