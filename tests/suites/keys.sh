#!/bin/sh
# A gateway for others: API keys, TLS, a reverse proxy in front, limits for each address.
set -eu
cd "$(dirname "$0")/../.."
. tests/clients/prepare.sh
run_suite keys.py
