#!/usr/bin/env bash
# What three good backends, their clients and the spans feel while the fourth backend fails, in each
# of its ways and with each kind of queue; and what a router takes when it is offered more than it
# can do. Judged where the spans arrive. Loopback only, ends by itself in a quarter of an hour.
#
#   perf/faults.sh [DIR [WORD...]]      writes DIR/{summary.txt,env.txt}; default
#                                       perf/results/<date>-faults. WORDs choose rows.
#
#   TRACEMILL, TRACEMILL_LOAD           use these binaries instead of building them
#
# Exit code 1 if an acknowledged span is missing, a trace is split, or a p99 is above its bound.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${CARGO_TARGET_DIR:-target}/release
export TRACEMILL=${TRACEMILL:-$bin/tracemill} TRACEMILL_LOAD=${TRACEMILL_LOAD:-$bin/tracemill-load}
[[ -x $TRACEMILL && -x $TRACEMILL_LOAD ]] || cargo build --release --workspace --bins
exec python3 -B perf/faults/measure.py "${1:-perf/results/$(date -u +%F)-faults}" "${@:2}"
