#!/usr/bin/env bash
# `make test`: everything that this machine can run, and at the end in plain words what was left out and why.
#
# Order: cheap before dear. Each part brings what it needs; Debian packages are installed only as root, and said.
set -euo pipefail
cd "$(dirname "$0")/.."

left_out=()
unsteady=()
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

# Of Prometheus the tool alone: the whole package would start a server.
bring_promtool() {
    local folder
    folder=$(realpath -m "${SIGHTLINE_BUILD:-.build}/promtool")
    PATH=$folder/usr/bin:$PATH
    command -v promtool >/dev/null && return
    say "unpacking promtool from Debian's prometheus"
    mkdir -p "$folder"
    apt-get update -qq
    (cd "$folder" && apt-get download -qq -o APT::Sandbox::User=root prometheus)
    dpkg-deb --fsys-tarfile "$folder"/prometheus_*.deb | tar -x -C "$folder" ./usr/bin/promtool
}

run_pytest() { .venv/bin/python -m pytest -q "$@"; }

# Whole clusters, browsers and processes on a busy machine: a few tests that failed are run once more, by themselves. Those that
# pass then are named at the end, to be mended. More than a few are no chance.
few=3
run_stage() {
    local cache=$PWD/.pytest_cache/stage status=0 failed
    rm -rf "$cache"
    run_pytest -o cache_dir="$cache" "$@" || status=$?
    [ $status != 0 ] || return 0
    mapfile -t failed < <(.venv/bin/python -c 'import json, sys; print(*json.load(sys.stdin), sep="\n")' \
        <"$cache/v/cache/lastfailed")
    [ $status = 1 ] && [ ${#failed[@]} -le $few ] || exit $status
    say "once more: ${failed[*]}"
    run_pytest -o cache_dir="$cache" --last-failed --last-failed-no-failures none "$@"
    unsteady+=("${failed[@]}")
}

make setup web fanout
took "set-up"
make check PROFILE=full
took "make check"
run_stage -n 2 --dist worksteal -m "stacks or thorough"
took "protocol stacks against one another, fuzzing, long random stories"
if command -v cargo >/dev/null; then
    (cd agents/fanout && CARGO_TARGET_DIR="$target" cargo test -q --locked)
    (cd agents/fanout && cargo fmt --check)
    took "the native fan-out's own tests"
else
    left_out+=("the native fan-out and its tests: no Rust toolchain here")
fi

if ! is_debian_root; then
    left_out+=("tests on a real API server, on the local node, in Chromium and with promtool: they need root on Debian")
else
    install_packages "${test_packages[@]}"
    bring_promtool
    took "packages"
    run_pytest -m promtool
    took "alerts and dashboard with Prometheus"
    make cluster-build
    .venv/bin/python -m hack.cluster tools kwok >/dev/null
    took "Kubernetes and KWOK from source"
    run_stage -m apiserver
    took "tests on a real API server"
    run_stage -m "browser and not node"
    took "embedded mode in Chromium"
    run_stage -m node
    took "tests on the local node"
fi

tell() {
    echo "$1"
    printf -- '- %s\n' "${@:2}"
}

echo
say "all of it passed in $((SECONDS / 60)) min $((SECONDS % 60)) s"
[ ${#unsteady[@]} = 0 ] || tell "Failed at first, passed when run once more:" "${unsteady[@]}"
if [ ${#left_out[@]} = 0 ]; then
    echo "Nothing was left out."
else
    tell "Left out:" "${left_out[@]}"
fi
