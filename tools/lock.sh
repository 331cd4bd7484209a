#!/usr/bin/env bash
# Compile requirements/*.txt from pyproject.toml. Arguments go to `uv pip compile` (--upgrade takes newer versions).
# Whatever appears in two files has one version: dev.txt comes first and binds the others.
set -euo pipefail
cd "$(dirname "$0")/.."
uv="${VENV:-.venv}/bin/uv"

compile() {
    local name="$1"
    shift
    echo "requirements/$name.txt"
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
        --output-file "requirements/$name.txt" "$@" >/dev/null
}

compile dev pyproject.toml --all-extras --group dev "$@"
compile demo pyproject.toml --extra docker --extra demo --extra uvloop --group build --constraints requirements/dev.txt "$@"
compile run pyproject.toml --extra docker --extra kubernetes --constraints requirements/dev.txt "$@"
compile build --group build --constraints requirements/dev.txt "$@"
