#!/bin/sh
# A Spark's home, once, from PyPI's pyspark (its jars are in it) into ${FEDBROKER_CACHE:-~/.cache/fedbroker}; prints the folder.
# 456 MB are fetched and nothing is compiled. Needs Python 3.10 or newer, and Java 17 when it is run: YARN's build.sh sees to that.
set -eu
version=4.3.0
cache="${FEDBROKER_CACHE:-$HOME/.cache/fedbroker}/spark"
target="$cache/home-$version"
if [ ! -d "$target" ]; then
    mkdir -p "$cache"
    made="$target.$$"
    trap 'rm -rf "$made"' EXIT
    "${PYTHON:-python3}" -m venv "$made"
    "$made/bin/pip" install --quiet --disable-pip-version-check --no-cache-dir --no-deps "pyspark==$version" >&2
    mv "$made"/lib/python*/site-packages/pyspark "$target"
fi
echo "$target"
