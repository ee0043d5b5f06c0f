#!/bin/sh
# A Spark's home, once, from PyPI's pyspark (its jars are in it) into ${FEDBROKER_CACHE:-~/.cache/fedbroker}; prints the folder.
# Needs Python 3.10 with pip, which builds it from source: nothing is compiled, 450 MB are fetched.
set -eu
version=4.3.0
cache="${FEDBROKER_CACHE:-$HOME/.cache/fedbroker}/spark"
target="$cache/home-$version"
if [ ! -d "$target" ]; then
    mkdir -p "$cache"
    made="$target.$$"
    trap 'rm -rf "$made"' EXIT
    python3 -m pip install -q --no-deps --no-compile --no-cache-dir --target "$made" "pyspark==$version" >&2
    mv "$made/pyspark" "$target"
fi
echo "$target"
