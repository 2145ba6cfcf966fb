#!/bin/sh
# Each role from the configuration of the C++ node, as it is, behind a stand-in for its router.
set -eu
cd "$(dirname "$0")/../.."
. tests/clients/prepare.sh
run_suite reference_config.py
