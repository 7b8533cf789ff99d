#!/usr/bin/env bash
# Builds tracemill and the load tool, and measures the router beside a relay of bytes.
#
#   perf/router.sh                          the table that the bar is set on: saturation
#   perf/router.sh all                      every table, one after the other
#   perf/router.sh TABLE [--pairs N ...]    one table; see `tracemill-load compare --help`
#
# Needs two CPUs to itself: 0 for the router, 1 for generator and sinks. Results are added to
# perf/results/ as DATE-TABLE/{README.md,raw.csv,summary.txt,env.txt}.
set -euo pipefail

cd "$(dirname "$0")/.."
cargo build --release --workspace --bins
compare=("${CARGO_TARGET_DIR:-target}/release/tracemill-load" compare)

if [[ ${1:-} == all ]]; then
    shift
    for table in saturation low-rate one-span endpoints connections latency same-rate idle; do
        "${compare[@]}" "$table" "$@"
    done
else
    exec "${compare[@]}" "$@"
fi
