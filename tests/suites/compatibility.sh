#!/bin/sh
# Every client library against the network and against the model server behind it; the page
# docs/compatibility.md is what it finds.
#
#   compatibility.sh --write    writes the page
#   compatibility.sh --long     fuzzes the gateway for an hour
set -eu
cd "$(dirname "$0")/../.."
. tests/clients/prepare.sh
prepare_node
prepare_frameworks
prepare_go
run_suite compatibility/compatibility.py "$@"
