"""A hop with and without compression on one side of it; see ../codecs.sh.

In: generator -> feeder -> HOP -> sink, with the codec between feeder and hop.
Out: generator -> HOP -> taker, with the codec between hop and taker.
Feeder and taker are tracemill too. The rate is the same in all cells, so that the hop wakes up as
often in each; CPU time is what the generator reads of the hop over the measured time.
"""

import argparse
import csv
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

HOP, REST = "0", "1"
RATE, SECONDS, WARM_UP = 200_000, 4, 1
GRPC = ["none", "gzip", "zstd", "snappy"]
HTTP = ["none", "gzip", "zstd", "zlib", "snappy", "x-snappy-framed", "lz4"]
PORTS = {"feeder": 24501, "hop": 24502, "taker": 24503}


def receiver(protocol, port):
    return f"""
receivers:
  otlp: {{protocols: {{{protocol}: {{endpoint: "127.0.0.1:{port}"}}}}}}"""


def exporter(protocol, endpoint, codec):
    if endpoint is None:
        return "\nexporters: {nop: }", "nop"
    url = f"http://{endpoint}" if protocol == "http" else endpoint
    return (
        f"""
exporters:
  otlp_{protocol}:
    endpoint: {url}
    compression: {codec}
    tls: {{insecure: true}}""",
        f"otlp_{protocol}",
    )


def config(take, give, endpoint, codec, port, cpu):
    text, name = exporter(give, endpoint, codec)
    return f"""{receiver(take, port)}{text}
service:
  telemetry: {{logs: {{level: warn}}, metrics: {{level: none}}}}
  pipelines: {{traces: {{receivers: [otlp], exporters: [{name}]}}}}
tracemill: {{cores: 1, cpus: [{cpu}]}}
"""


class Chain:
    """Processes that end with the block."""

    def __init__(self, folder):
        self.folder, self.running = folder, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.running):
            process.terminate()
        for process in self.running:
            process.wait()

    def tracemill(self, name, cpu, **what):
        path = self.folder / f"{name}.yaml"
        path.write_text(config(port=PORTS[name], cpu=cpu, **what))
        log = open(self.folder / f"{name}.log", "w+")
        command = ["taskset", "-c", cpu, os.environ["TRACEMILL"], "--config", path]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        self.running.append(process)
        until = time.monotonic() + 15
        while not listens(PORTS[name]):
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"{name} does not start:\n{pathlib.Path(log.name).read_text()}")
            time.sleep(0.02)
        return process.pid

    def sink(self):
        command = [os.environ["TRACEMILL_LOAD"], "sink", "--json", "--quiet", "--cpu", REST]
        command += ["--traces-max", "131072", "--listen", "127.0.0.1:0"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.running.append(process)
        return json.loads(process.stdout.readline())["listening"][0]


def listens(port):
    state = f"0100007F:{port:04X} 00000000:0000 0A"
    return state in pathlib.Path("/proc/net/tcp").read_text()


def trial(side, protocol, codec):
    """CPU ns of the hop per span that was answered OK."""
    with tempfile.TemporaryDirectory() as folder, Chain(pathlib.Path(folder)) as chain:
        hop = f"127.0.0.1:{PORTS['hop']}"
        if side == "in":
            sink = chain.sink()
            pid = chain.tracemill(
                "hop", HOP, take=protocol, give="grpc", endpoint=sink, codec="none"
            )
            chain.tracemill("feeder", REST, take="grpc", give=protocol, endpoint=hop, codec=codec)
            first = PORTS["feeder"]
        else:
            taker = f"127.0.0.1:{PORTS['taker']}"
            chain.tracemill("taker", REST, take=protocol, give=None, endpoint=None, codec=None)
            pid = chain.tracemill(
                "hop", HOP, take="grpc", give=protocol, endpoint=taker, codec=codec
            )
            first = PORTS["hop"]
        command = [os.environ["TRACEMILL_LOAD"], "run", "--json", "--quiet", "--cpu", REST]
        command += ["--endpoint", f"127.0.0.1:{first}", "--connections", "8"]
        command += ["--rate", f"{RATE}spans/s", "--for", f"{SECONDS}s", "--warm-up", f"{WARM_UP}s"]
        command += ["--watch", str(pid)]
        said = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    failed = said["whole_run"]["sent"]["requests"] - said["whole_run"]["ok"]["requests"]
    assert failed == 0, (side, protocol, codec, said)
    measured = said["measured"]
    return measured["watched"]["cpu_ns_per_span"], measured["spans_per_second"]


def libraries():
    command = [os.environ["TRACEMILL_LOAD"], "codecs", "--cpu", HOP]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def library_name(protocol, codec):
    return "x-snappy-framed" if (protocol, codec) == ("grpc", "snappy") else codec


def summary(rows, library):
    """Medians of differences that are taken inside a round."""
    cost = {(r["round"], r["side"], r["protocol"], r["codec"]): r["ns_per_span"] for r in rows}
    rounds = sorted({r["round"] for r in rows})
    lines = [
        "| | | hop without, ns/span | more with it | the library alone | ratio | bytes/span |",
        "|---|---|---|---|---|---|---|",
    ]
    for side in ("in", "out"):
        for protocol, codecs in (("grpc", GRPC), ("http", HTTP)):
            for codec in codecs[1:]:
                base = statistics.median(cost[n, side, protocol, "none"] for n in rounds)
                more = statistics.median(
                    cost[n, side, protocol, codec] - cost[n, side, protocol, "none"] for n in rounds
                )
                each = [library[n][library_name(protocol, codec)] for n in rounds]
                alone = statistics.median(e[f"{side}_ns_per_span"] for e in each)
                lines.append(
                    f"| {protocol} {side} | {codec} | {base:.0f} | {more:+.0f} | {alone:.0f} "
                    f"| {more / alone:.2f} | {each[0]['bytes_per_span']:.0f} |"
                )
    plain = library[rounds[0]]["none"]["bytes_per_span"]
    return "\n".join(lines) + f"\n\nWithout compression: {plain:.0f} bytes/span.\n"


README = """# Cost of compression per span

Made by `perf/codecs.sh`: {rounds} rounds over all cells, {rate} spans/s in requests of 64 KiB, {seconds} s measured in
each after {warm_up} s. The hop (one core, CPU 0) takes from a feeder or gives to a taker on CPU 1; a difference is
taken inside a round. The library alone is `tracemill-load codecs` on the same requests in the same rounds, its
contexts made once, at the level that the hop uses. `zlib` is also what `deflate` is. Load before: {load}
CPU: {cpu}
"""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True)
    load = pathlib.Path("/proc/loadavg").read_text().strip()
    models = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((m.split(":")[1].strip() for m in models if m.startswith("model name")), "unknown")
    rows, library = [], {}
    with open(options.out / "raw.csv", "w", newline="") as file:
        raw = csv.DictWriter(
            file, ["round", "side", "protocol", "codec", "ns_per_span", "spans_per_second"]
        )
        raw.writeheader()
        for n in range(options.rounds):
            library[n] = libraries()
            for side in ("in", "out"):
                for protocol, codecs in (("grpc", GRPC), ("http", HTTP)):
                    for codec in codecs:
                        ns, rate = trial(side, protocol, codec)
                        row = [n, side, protocol, codec, round(ns, 1), round(rate)]
                        rows.append(dict(zip(raw.fieldnames, row)))
                        raw.writerow(rows[-1])
                        file.flush()
                        print(*row, flush=True)
    (options.out / "library.json").write_text(json.dumps(library, indent=1) + "\n")
    (options.out / "summary.md").write_text(summary(rows, library))
    (options.out / "README.md").write_text(
        README.format(
            rounds=options.rounds, rate=f"{RATE:,}", seconds=SECONDS, warm_up=WARM_UP,
            load=load, cpu=cpu,
        )
    )
    print((options.out / "summary.md").read_text())


if __name__ == "__main__":
    main()
