#!/usr/bin/env bash
# What a well-behaved client feels while others misbehave in the same process: its latency alone,
# and beside 2,000 idle connections, 1,000 stalled bodies, rapid resets and garbage. h2 limits what
# it can; this shows that what it does not limit is harmless. Loopback only, ends by itself.
#
#   perf/neighbour.sh [DIR]     writes DIR/summary.txt; default perf/results/<date>-neighbour
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-perf/results/$(date -u +%F)-neighbour}
bin=${CARGO_TARGET_DIR:-target}/release
[[ -x $bin/tracemill && -x $bin/tracemill-load ]] || cargo build --release --workspace --bins
venv=${CARGO_TARGET_DIR:-target}/neighbour-venv
[[ -x $venv/bin/python ]] || { python3 -m venv "$venv" && "$venv/bin/pip" -q install h2; }
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT
ulimit -n "$(ulimit -H -n)"
cat >"$work/router.yaml" <<'YAML'
receivers: {otlp: {protocols: {grpc: {endpoint: 127.0.0.1:24317}}}}
exporters:
  load_balancing:
    protocol: {otlp: {compression: none, tls: {insecure: true}}}
    resolver: {static: {hostnames: ["127.0.0.1:24001", "127.0.0.1:24002"]}}
service:
  telemetry: {metrics: {level: none}}
  pipelines: {traces: {receivers: [otlp], exporters: [load_balancing]}}
tracemill: {cores: 1, cpus: [0]}
YAML
"$bin/tracemill-load" sink --cpu 1 --quiet --listen 127.0.0.1:24001 127.0.0.1:24002 >/dev/null &
"$bin/tracemill" --config "$work/router.yaml" 2>"$work/log" &
router=$!
sleep 1
load() {
    "$bin/tracemill-load" run --cpu 1 --endpoint 127.0.0.1:24317 --connections 8 \
        --rate 40000spans/s --warm-up 1s "$@" 2>/dev/null
}
mkdir -p "$out"
{
    echo "40,000 spans/s on 8 connections, router on CPU 0, everything else on CPU 1"
    for round in 1 2 3; do
        echo "-- alone ($round)"
        load --for 4s | sed -n 1,2p
        "$bin/tracemill-load" run --cpu 1 --endpoint 127.0.0.1:24317 --connections 2000 --idle \
            --for 8s >/dev/null 2>&1 &
        taskset -c 1 nice -n 10 "$venv/bin/python" perf/neighbour/abuse.py 24317 7 >"$work/abuse" &
        abuse=$!
        sleep 1.5
        echo "-- beside ($round)"
        load --for 4s | sed -n 1,2p
        wait "$abuse"
        cat "$work/abuse"
        grep VmRSS "/proc/$router/status"
        sleep 2
    done
} | tee "$out/summary.txt"
