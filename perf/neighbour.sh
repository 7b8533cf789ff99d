#!/usr/bin/env bash
# What a well-behaved client of a router feels while others misbehave in the same process and on
# the same core: the p99 of its small requests over gRPC and over HTTP/1.1, alone and beside each
# kind of abuse in turn. Loopback only, ends by itself in six minutes. Needs root, for priorities:
# the well-behaved client and the backends share a CPU with the abuse and must not wait for it.
#
#   perf/neighbour.sh [DIR [WORD...]]   writes DIR/{summary.txt,raw.csv,env.txt}; default
#                                       perf/results/<date>-neighbour. WORDs choose kinds.
#
#   ROUNDS=3 SECONDS_EACH=1.2           how often each kind has its turn, and for how long
#   TRACEMILL, TRACEMILL_LOAD           use these binaries instead of building them
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-perf/results/$(date -u +%F)-neighbour}
rounds=${ROUNDS:-3} seconds=${SECONDS_EACH:-1.2}
bin=${CARGO_TARGET_DIR:-target}/release
tracemill=${TRACEMILL:-$bin/tracemill} load=${TRACEMILL_LOAD:-$bin/tracemill-load}
[[ -x $tracemill && -x $load ]] || cargo build --release --workspace --bins
nice -n -1 true 2>/dev/null || { echo "perf/neighbour.sh: needs the right to set priorities" >&2; exit 1; }
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT
ulimit -n "$(ulimit -H -n)"
cat >"$work/router.yaml" <<'YAML'
receivers:
  otlp:
    protocols: {grpc: {endpoint: "127.0.0.1:24317"}, http: {endpoint: "127.0.0.1:24318"}}
exporters:
  load_balancing:
    protocol: {otlp: {compression: none, tls: {insecure: true}}}
    resolver: {static: {hostnames: ["127.0.0.1:24001", "127.0.0.1:24002"]}}
service:
  telemetry: {metrics: {level: none}}
  pipelines: {traces: {receivers: [otlp], exporters: [load_balancing]}}
tracemill: {cores: 1, cpus: [0]}
YAML
mkdir -p "$out"
{
    "$tracemill" --version
    uname -srm
    grep -m 1 'model name' /proc/cpuinfo
    echo "CPUs: $(nproc); load before: $(cut -d' ' -f1-3 /proc/loadavg)"
    echo "router on CPU 0, everything else on CPU 1; $rounds rounds of $seconds s alone, then beside"
} >"$out/env.txt"
# real-time priorities would starve the kernel's own threads, which carry loopback
nice -n -19 "$load" sink --cpu 1 --quiet --listen 127.0.0.1:24001 127.0.0.1:24002 >/dev/null &
nice -n -19 "$tracemill" --config "$work/router.yaml" 2>"$work/log" &
router=$!
until grep -q "Everything is ready" "$work/log"; do sleep 0.1; done
taskset -cp 1 $$ >/dev/null
python3 perf/neighbour/measure.py "$out" "$rounds" "$seconds" "$router" 24317 24318 \
    nice -n -19 -- "${@:2}"
kill -0 "$router"
