#!/bin/sh
# Ray from PyPI in an environment of its own below ${FEDBROKER_CACHE:-~/.cache/fedbroker}: 480 MB. Prints its folder.
set -eu
version=2.60.0
target="${FEDBROKER_CACHE:-$HOME/.cache/fedbroker}/ray"
if [ ! -e "$target/.is-$version" ]; then
    mkdir -p "${target%/*}"
    "${PYTHON:-python3}" -m venv "$target"
    "$target/bin/pip" install --quiet --disable-pip-version-check "ray[default]==$version"
    touch "$target/.is-$version"
fi
echo "$target"
