#!/bin/sh
# Certificates with evidence, image hashes, the router, models by their bytes, the key manager: the
# real binary beside tar, veritysetup and openssl.
set -eu
cd "$(dirname "$0")/../.."
. tests/clients/prepare.sh
run_suite proof.py
