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

# Runs a suite; when this shell ends early, the suite ends too and takes its processes along.
run_suite() { # file in tests/clients
    trap 'kill "$suite_pid" 2>/dev/null; wait "$suite_pid" 2>/dev/null' EXIT INT TERM HUP
    "$CHECK_PYTHON" -B "tests/clients/$1" &
    suite_pid=$!
    outcome=0
    wait "$suite_pid" || outcome=$?
    trap - EXIT INT TERM HUP
    return "$outcome"
}
