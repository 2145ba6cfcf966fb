#!/bin/sh
# The whole network in front of a mock model server: answers, refusals, deaths, books.
set -eu
cd "$(dirname "$0")/../.."
. tests/clients/prepare.sh
run_suite network.py
