#!/usr/bin/env bash
# Builds the native fan-out and installs it into .venv. Without a Rust toolchain it says so and leaves things as they
# are: the agent then uses the pure-Python one.
set -euo pipefail
cd "$(dirname "$0")/.."
python=.venv/bin/python
needed=1.85

older() { [ "$1" != "$2" ] && [ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }
without() { echo "==> native fan-out: $1; the pure-Python one serves instead"; exit 0; }

[ -x "$python" ] || { echo "==> native fan-out: no $python (make setup)" >&2; exit 1; }
command -v cargo >/dev/null || without "no cargo here"
command -v cc >/dev/null || without "no C compiler here"
found=$(rustc --version | cut -d ' ' -f 2)
if older "$found" "$needed"; then without "rustc $found is older than $needed"; fi

# What was compiled is kept between builds, outside the sources.
target=$(realpath -m "${SIGHTLINE_BUILD:-.build}/fanout")
echo "==> native fan-out: building (the first time takes a minute or two)"
CARGO_TARGET_DIR="$target" PYO3_PYTHON="$(realpath -s "$python")" AWS_LC_SYS_USE_SYSTEM=0 \
    uv pip install -q --python "$python" --no-deps --reinstall-package sightline-fanout ./agents/fanout
"$python" - <<'END'
from sightline_fanout import FanOut, __version__

print(f"==> native fan-out: {__version__} installed")
END
touch .venv/.fanout  # for make: where there was no toolchain, the next run looks again
