#!/usr/bin/env bash
# Builds tracemill and the load tool, and measures the sampler: its CPU beside a relay of bytes, its
# memory beside the bytes of the spans, and how both change with traces, policies and cores.
#
#   perf/sampler.sh                             the table that the bar is set on: saturation
#   perf/sampler.sh all [--pairs N ...]         every table, one after the other
#   perf/sampler.sh TABLE [--pairs N ...]       one table; `perf/sampler.sh --help` names them
#   perf/sampler.sh TABLE --programs DIR        with the programs in DIR; nothing is built
#   perf/sampler.sh TABLE --collector FILE      the real collector as a third subject
#   perf/sampler.sh saturation --guided FILE    a build of perf/guided.sh beside the plain one
#   perf/sampler.sh TABLE --rehearse            small and short: shows that it runs, measures nothing
#
# Needs two CPUs to itself: 0 for the sampler, 1 for generator, sink and this. Results are added to
# perf/results/ as DATE-sampler-TABLE/{README.md,raw.csv,summary.txt,env.txt}. Needs Python 3.9.
set -euo pipefail

cd "$(dirname "$0")/.."
command -v python3 >/dev/null || { echo "perf/sampler.sh: python3 is missing" >&2; exit 1; }
programs=${CARGO_TARGET_DIR:-target}/release
if [[ " $* " != *" --programs"* && " $* " != *" --help "* && " $* " != *" -h "* ]]; then
    cargo build --release --workspace --bins
    set -- "$@" --programs "$programs"
fi
exec python3 -B perf/sampler/measure.py "$@"
