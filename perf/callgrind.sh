#!/bin/sh
# Instructions per request of scan + split (4 endpoints, copying included), counted by callgrind:
# the same on every machine with the same build, so that a change of a few percent shows.
# Prints CSV; `perf/callgrind.sh > perf/results/<date>-callgrind/raw.csv` records a run.
# Needs valgrind. Library routines that pick instructions at run time (memcpy) are counted as
# valgrind's CPU has them.
set -eu
cd "$(dirname "$0")/.."
exe=$(cargo bench --bench bytes --no-run --message-format=json 2>/dev/null |
    sed -n 's/.*"name":"bytes".*"executable":"\([^"]*\)".*/\1/p')
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
echo "shape,requests,spans,instructions_per_request,instructions_per_span"
for shape in $("$exe" --once list); do
    valgrind --tool=callgrind --callgrind-out-file="$scratch/out" --collect-atstart=no \
        --toggle-collect='bytes::Core::scan_and_split' \
        "$exe" --once "$shape" >"$scratch/stdout" 2>"$scratch/stderr"
    instructions=$(sed -n 's/^summary: //p' "$scratch/out")
    sed -n 's/^passes=\([0-9]*\) requests=\([0-9]*\) spans=\([0-9]*\)$/\1 \2 \3/p' \
        "$scratch/stdout" | while read -r passes requests spans; do
        echo "$shape,$requests,$spans,$((instructions / passes / requests)),$((instructions / passes / spans))"
    done
done
