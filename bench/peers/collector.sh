#!/usr/bin/env bash
# Builds the OpenTelemetry Collector of a recipe and prints the path of the binary.
#
#   collector.sh [DIR [RECIPE]]     default: ${TMPDIR:-/tmp}/otelcol-peer, collector.yaml
#
# Needs Go. Takes some minutes and 80 MB; returns at once if this recipe's binary is there.
set -euo pipefail

version=v0.161.0
recipe=${2:-$(cd "$(dirname "$0")" && pwd)/collector.yaml}
dir=${1:-${TMPDIR:-/tmp}/otelcol-peer}
name=$(awk '$1 == "name:" { print $2; exit }' "$recipe")
binary=$dir/$name

if [[ ! -x $binary ]] || ! cmp -s "$recipe" "$dir/recipe.yaml"; then
    mkdir -p "$dir"
    # Modules come from the first proxy alone, so that a missing version is an error at once and
    # not an attempt to clone its repository.
    GOPROXY=$(go env GOPROXY)
    export GOPROXY=${GOPROXY%%[,|]*}
    GOBIN=$dir go install "go.opentelemetry.io/collector/cmd/builder@$version" >&2
    # The builder takes its output folder from the file only.
    awk -v out="$dir/src" '{ print } /^dist:/ { print "  output_path: " out }' \
        "$recipe" >"$dir/collector.yaml"
    "$dir/builder" --config "$dir/collector.yaml" >&2
    mv "$dir/src/$name" "$binary"
    cp "$recipe" "$dir/recipe.yaml"
fi
echo "$binary"
