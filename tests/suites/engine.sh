#!/bin/sh
# The whole network with the embedded model server, through the official Python and Node clients.
set -eu
cd "$(dirname "$0")/../.."
. tests/clients/prepare.sh
prepare_node
run_suite engine.py
