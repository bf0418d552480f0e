#!/usr/bin/env bash
# `make test`: everything that this machine can run, and at the end in plain words what was left out and why.
#
# Order: cheap before dear. Each part brings what it needs; Debian packages are installed only as root, and said.
set -euo pipefail
cd "$(dirname "$0")/.."

left_out=()
target=$(realpath -m "${SIGHTLINE_BUILD:-.build}/fanout")
say() { printf '\033[1m==> %s\033[0m\n' "$*"; }
took() { say "$1: $((SECONDS - started)) s"; started=$SECONDS; }
started=$SECONDS

# What the tests themselves want from Debian: a browser, an RTSP camera and a TURN server that we did not write.
test_packages=(chromium python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good
    gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-libav gstreamer1.0-nice gir1.2-gst-plugins-bad-1.0
    coturn)

is_debian_root() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

install_packages() {
    local missing=()
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] && return
    say "installing Debian packages: ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
}

run_pytest() { .venv/bin/python -m pytest -q "$@"; }

make setup web fanout
took "set-up"
make check
took "make check"
run_pytest -n 2 --dist worksteal -m "stacks or thorough"
took "protocol stacks against one another, fuzzing, long random stories"
if command -v cargo >/dev/null; then
    (cd agents/fanout && CARGO_TARGET_DIR="$target" cargo test -q --locked)
    (cd agents/fanout && cargo fmt --check)
    took "the native fan-out's own tests"
else
    left_out+=("the native fan-out and its tests: no Rust toolchain here")
fi

if ! is_debian_root; then
    left_out+=("tests on a real API server, on the local node and in Chromium: they need root on a Debian machine")
else
    install_packages "${test_packages[@]}"
    took "packages"
    make cluster-build
    .venv/bin/python -m hack.cluster tools kwok >/dev/null
    took "Kubernetes and KWOK from source"
    run_pytest -m apiserver
    took "tests on a real API server"
    run_pytest -m "browser and not node"
    took "embedded mode in Chromium"
    run_pytest -m node
    took "tests on the local node"
fi

echo
say "all of it passed in $((SECONDS / 60)) min $((SECONDS % 60)) s"
if [ ${#left_out[@]} = 0 ]; then
    echo "Nothing was left out."
else
    echo "Left out:"
    printf -- '- %s\n' "${left_out[@]}"
fi
