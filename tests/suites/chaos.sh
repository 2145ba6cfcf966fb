#!/bin/sh
# Real nodes under misfortunes drawn from a seed: three minutes of it here, as long as you like with
#
#   tests/suites/chaos.sh --minutes 60 --seed 7
#
# docs/chaos.md says what is done and what is checked.
set -eu
cd "$(dirname "$0")/../.."
exec python3 -B tests/clients/chaos.py --minutes 3 --seed 20261121 "$@"
