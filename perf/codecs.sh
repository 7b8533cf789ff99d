#!/usr/bin/env bash
# What each compression costs a hop per span, in and out, over gRPC and HTTP, beside the same hop
# without it and beside the compression library alone.
#
#   perf/codecs.sh [DIR]       writes DIR/{README.md,raw.csv,summary.md}; default
#                              perf/results/<date>-codecs
#
# Needs two CPUs to itself: 0 for the hop, 1 for everything else. About ten minutes; ROUNDS=1 for a
# look.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-perf/results/$(date -u +%F)-codecs}
bin=${CARGO_TARGET_DIR:-target}/release
export TRACEMILL=${TRACEMILL:-$bin/tracemill} TRACEMILL_LOAD=${TRACEMILL_LOAD:-$bin/tracemill-load}
[[ -x $TRACEMILL && -x $TRACEMILL_LOAD ]] || cargo build --release --workspace --bins
exec python3 perf/codecs/hop.py --rounds "${ROUNDS:-5}" --out "$out"
