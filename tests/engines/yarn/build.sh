#!/bin/sh
# The jars of a Hadoop YARN and HDFS, once, from Maven's registry into ${FEDBROKER_CACHE:-~/.cache/fedbroker}; prints their folder.
# Needs Java 17 and Maven: installed here as Debian packages where we are root.
set -eu
version=3.4.2
cache="${FEDBROKER_CACHE:-$HOME/.cache/fedbroker}/yarn"
target="$cache/lib-$version"
missing=""
command -v java > /dev/null || missing="openjdk-17-jre-headless"
[ -d "$target" ] || command -v mvn > /dev/null || missing="$missing maven"
if [ -n "$missing" ]; then
    if [ "$(id -u)" != 0 ]; then
        echo "yarn: not built, for want of $missing, which only root can install" >&2
        exit 0
    fi
    apt-get update -q
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
fi
if [ ! -d "$target" ]; then
    mkdir -p "$cache"
    made="$target.$$"
    trap 'rm -rf "$made"' EXIT
    mvn -B -q -f "$(dirname "$0")/pom.xml" dependency:copy-dependencies -DoutputDirectory="$made" -DincludeScope=runtime \
        -Dhadoop.version="$version" >&2
    mv "$made" "$target"
fi
echo "$target"
