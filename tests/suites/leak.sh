#!/bin/sh
# Canaries in prompts, answers and keys at log level trace: found nowhere they do not belong.
set -eu
cd "$(dirname "$0")/../.."
exec python3 -B tests/clients/leak.py
