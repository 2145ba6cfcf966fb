#!/bin/sh
# Ten times as many users as there is room for. `--table` measures instead of testing.
set -eu
cd "$(dirname "$0")/../.."
exec python3 -B tests/clients/overload.py "$@"
