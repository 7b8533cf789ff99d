#!/usr/bin/env bash
# Builds the OpenTelemetry Collector of collector.yaml and prints the path of the binary.
#
#   collector.sh [DIR]      default: ${TMPDIR:-/tmp}/otelcol-peer
#
# Needs Go. Takes some minutes and 80 MB; returns at once if this recipe's binary is there.
set -euo pipefail

version=v0.161.0
recipe=$(cd "$(dirname "$0")" && pwd)/collector.yaml
dir=${1:-${TMPDIR:-/tmp}/otelcol-peer}
binary=$dir/otelcol-peer

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
    mv "$dir/src/otelcol-peer" "$binary"
    cp "$recipe" "$dir/recipe.yaml"
fi
echo "$binary"
