#!/bin/sh
# Ray from PyPI, with what fedbroker itself depends on, in an environment of its own below ${FEDBROKER_CACHE:-~/.cache/fedbroker}:
# 570 MB. Prints its folder.
set -eu
version=2.60.0
root="$(cd "$(dirname "$0")/../../.." && pwd)"
target="${FEDBROKER_CACHE:-$HOME/.cache/fedbroker}/ray"
if [ ! -e "$target/.is-$version-with-plans" ]; then
    mkdir -p "${target%/*}"
    "${PYTHON:-python3}" -m venv "$target"
    "$target/bin/pip" install --quiet --disable-pip-version-check "ray[default]==$version"
    "$target/bin/python" - "$root/pyproject.toml" > "$target/dependencies.txt" <<'END'
import sys, tomllib
with open(sys.argv[1], "rb") as file:
    print(*tomllib.load(file)["project"]["dependencies"], sep="\n")
END
    "$target/bin/pip" install --quiet --disable-pip-version-check --constraint "$root/requirements.lock" \
        --requirement "$target/dependencies.txt"
    touch "$target/.is-$version-with-plans"
fi
echo "$target"
