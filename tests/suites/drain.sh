#!/bin/sh
# SIGTERM at every node under load: what runs is finished, nothing is lost, the exit code is 0.
set -eu
cd "$(dirname "$0")/../.."
exec python3 -B tests/clients/drain.py
