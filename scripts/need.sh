# What the build and the tests need from the system, and how it gets there.
#
#   need build          cmake, libclang, a C++ compiler (the embedded engine); pip (its model)
#   need check          build, and node, python3-venv, openssl, iproute2, libfaketime, cryptsetup-bin, a browser, and
#                   clang, lld and a standard library for WebAssembly (the tests)
#
# Says what it is about to install and why, asks before it uses root unless it is root or in CI,
# and does nothing when everything is there.

missing=""
reasons=""

lacks() { # package(s), what for
    missing="$missing $1"
    reasons="$reasons
  $1: $2"
}

has() { command -v "$1" >/dev/null 2>&1; }

has_libclang() {
    for file in /usr/lib/llvm-*/lib/libclang*.so* /usr/lib/*/libclang*.so* /usr/lib/libclang*.so*; do
        [ -e "$file" ] && return 0
    done
    [ -n "${LIBCLANG_PATH:-}" ]
}

has_veritysetup() {
    has veritysetup || [ -x /usr/sbin/veritysetup ] || [ -x /sbin/veritysetup ]
}

has_faketime() {
    for file in /usr/lib/*/faketime/libfaketimeMT.so.1; do
        [ -e "$file" ] && return 0
    done
    return 1
}

# The default compiler's own (rustup target add), or Debian's compiler with the sources of its own.
has_wasm_std() {
    [ -d "$(rustc --print target-libdir --target wasm32-unknown-unknown 2>/dev/null)" ] && return 0
    [ -d /usr/lib/rustlib/src/rust/library/std ] && /usr/bin/rustc --version >/dev/null 2>&1
}

has_browser() {
    has chromium || has chromium-browser || has google-chrome
}

find_missing() { # build | check
    has cargo || {
        echo "A Rust toolchain is needed first: see https://www.rust-lang.org/tools/install" >&2
        exit 2
    }
    has cmake || lacks cmake "builds the embedded engine"
    has c++ || lacks "g++" "builds the embedded engine"
    has make || lacks make "builds the embedded engine"
    has_libclang || lacks libclang-dev "reads the engine's headers"
    python3 -m pip --version >/dev/null 2>&1 || lacks python3-pip "fetches the engine's model"
    [ "$1" = check ] || return 0
    has node || lacks "nodejs npm" "compiles the contracts, runs the official Node client"
    has npm || has node || lacks npm "compiles the contracts"
    python3 -c 'import ensurepip' 2>/dev/null || lacks python3-venv "runs the official Python client"
    has ip || lacks iproute2 "links that can be cut, in the chaos test"
    has_faketime || lacks libfaketime "clocks that step, in the chaos test"
    has openssl || lacks openssl "an independent TLS peer for the tests"
    has clang || lacks clang "the verifier for browsers: C to WebAssembly"
    has llvm-ar || lacks llvm "the verifier for browsers"
    has wasm-ld || lacks lld "the verifier for browsers"
    has_wasm_std || lacks "rustc-web rust-web-src" "Rust's standard library for WebAssembly"
    has_browser || lacks chromium "the page that verifies"
    has_veritysetup || lacks cryptsetup-bin "an independent hash tree for the tests"
}

need() {
    find_missing "$1"
    [ -n "$missing" ] || return 0
    echo "These Debian packages are missing:$reasons" >&2
    if ! has apt-get; then
        echo "This system has no apt-get: install them with its own package manager." >&2
        exit 2
    fi
    root=""
    if [ "$(id -u)" != 0 ]; then
        has sudo || { echo "Install them as root, then run this again." >&2; exit 2; }
        root=sudo
        if [ -z "${CI:-}" ]; then
            printf 'Install them with sudo apt-get? [y/N] ' >&2
            read -r answer
            case "$answer" in y | Y | yes) ;; *) exit 2 ;; esac
        fi
    fi
    $root apt-get update -q >&2
    # shellcheck disable=SC2086  # a list of packages
    DEBIAN_FRONTEND=noninteractive $root apt-get install -q -y --no-install-recommends $missing >&2
}
