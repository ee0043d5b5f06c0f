#!/bin/sh
# Build the etcd that tests may kill, once, into ${FEDBROKER_CACHE:-~/.cache/fedbroker}/bin; prints its path.
# Needs Go 1.26 or newer and its module proxy.
set -eu
version=3.7.3
bin="${FEDBROKER_CACHE:-$HOME/.cache/fedbroker}/bin"
target="$bin/etcd-$version"
if [ ! -x "$target" ]; then
    mkdir -p "$bin"
    made="$target.$$"
    trap 'rm -f "$made"' EXIT
    (cd "$(dirname "$0")" && CGO_ENABLED=0 go build -mod=readonly -trimpath -ldflags="-s -w" -o "$made" go.etcd.io/etcd/server/v3)
    mv "$made" "$target"
fi
echo "$target"
