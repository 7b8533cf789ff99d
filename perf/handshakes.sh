#!/usr/bin/env bash
# What a well-behaved client of a TLS receiver feels while others shake hands with the same core,
# 1,000 times a second: full handshakes with EC and RSA keys, and resumed ones. Loopback only, ends
# by itself. On a machine that does other things too, run it as root: it then raises its priority.
#
#   perf/handshakes.sh [DIR]     writes DIR/{raw.txt,env.txt}; default
#                                perf/results/<date>-handshakes
#
#   RATE=1000 FLOODS=4           handshakes per second that are asked for, and by how many processes
#   ROUNDS=3 SECONDS_EACH=10     how often each case has its turn, and for how long
#   TRACEMILL                    use this binary instead of building it
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-perf/results/$(date -u +%F)-handshakes}
bin=${TRACEMILL:-${CARGO_TARGET_DIR:-target}/release/tracemill}
rate=${RATE:-1000} seconds=${SECONDS_EACH:-10} rounds=${ROUNDS:-3} floods=${FLOODS:-4}
[[ -x $bin ]] || cargo build --release --bin tracemill
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT
# Above whatever else the machine does; and the measured client, which shares a CPU with the floods,
# must not wait for them. Real-time priorities would starve the kernel's own threads on that CPU.
renice -n -10 -p $$ >/dev/null 2>&1 || true
first=()
if nice -n -9 true 2>/dev/null; then first=(nice -n -9); fi
for kind in ec rsa; do
    [[ $kind = ec ]] && key=(ec -pkeyopt ec_paramgen_curve:P-256) || key=(rsa:2048)
    openssl req -x509 -newkey "${key[@]}" -nodes -keyout "$work/$kind.key" -out "$work/$kind.crt" \
        -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost 2>/dev/null
    port=$([[ $kind = ec ]] && echo 24418 || echo 24419)
    cat >"$work/$kind.yaml" <<YAML
receivers:
  otlp:
    protocols:
      http:
        endpoint: 127.0.0.1:$port
        tls: {cert_file: $work/$kind.crt, key_file: $work/$kind.key}
exporters: {nop: }
service:
  telemetry: {metrics: {level: none}}
  pipelines: {traces: {receivers: [otlp], exporters: [nop]}}
tracemill: {cores: 1, cpus: [0]}
YAML
done
mkdir -p "$out"
{
    "$bin" --version
    uname -srm
    grep -m 1 'model name' /proc/cpuinfo
    echo "CPUs: $(nproc); load before: $(cut -d' ' -f1-3 /proc/loadavg)"
} >"$out/env.txt"
ticks() { awk '{print $14 + $15}' "/proc/$1/stat"; }
{
    echo "case handshakes/s cpu_share p50_ms p99_ms max_ms requests"
    for _ in $(seq "$rounds"); do
        for case in ec-none ec-full ec-resumed rsa-none rsa-full rsa-resumed; do
            kind=${case%-*} how=${case#*-}
            port=$([[ $kind = ec ]] && echo 24418 || echo 24419)
            taskset -c 0 "$bin" --config "$work/$kind.yaml" 2>"$work/log" &
            server=$!
            until grep -q "Everything is ready" "$work/log"; do sleep 0.1; done
            shaking=()
            if [[ $how != none ]]; then
                for n in $(seq "$floods"); do
                    taskset -c 1 python3 perf/handshakes/client.py flood "$port" $((seconds + 2)) \
                        $((rate / floods)) "$how" >"$work/flood.$n" &
                    shaking+=($!)
                done
            fi
            sleep 1
            before=$(ticks $server)
            heard=$(taskset -c 1 "${first[@]}" python3 perf/handshakes/client.py latency "$port" "$seconds")
            cpu=$(($(ticks $server) - before))
            done=0
            if [[ $how != none ]]; then
                wait "${shaking[@]}"
                done=$(cat "$work"/flood.* | paste -sd+ | bc)
            fi
            echo "$case $done $(awk "BEGIN {print $cpu / 100 / $seconds}") $heard"
            kill $server && wait $server || true
            rm -f "$work"/flood.*
        done
    done
} | tee "$out/raw.txt"
