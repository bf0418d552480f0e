#!/usr/bin/env bash
# Exports the resolution of uv.lock (kept out of git: it names the registry) as requirements with hashes (which do not).
set -euo pipefail
cd "$(dirname "$0")/.."
export_for() { uv export -q --frozen --no-header --no-annotate --no-emit-workspace --no-emit-project "$@"; }
for component in operator api agent; do
    export_for --no-dev --package "sightline-$component" -o "requirements/$component.txt" >/dev/null
done
export_for --all-packages --group dev -o requirements/dev.txt >/dev/null
