"""Faults and overload of a router, row by row: measure.py OUT [WORD...]

The sink sees the calls that it refuses, too. So `twice` counts repetitions of refused calls where a
backend answers with a code, and what was lost after a refusal is found by the router's own account:
what it gave up and did not tell its clients is missing.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

sys.path.append(str(pathlib.Path(__file__).parent.parent / "sampler"))

from metrics import read  # noqa: E402
from processes import Failed, Process, end_with_this_process, free_ports, wait_for_port  # noqa: E402

RATE, SECONDS, FAULT_AT, FAULT_FOR = "8000spans/s", 16, 3, 10
# A request that waits for the bad backend holds a stream: enough of them, or the client waits for
# itself and every backend's spans come late.
CLIENT = ("--spread", 2, "--streams", 1000)
# Milliseconds that the good backends' spans may take beside a bad one (99 of 100).
P99_MAX = 25.0
LIMIT_MIB, SPARE_MIB = 400, 64
MODES = {
    "default": {},
    "wait": {"sending_queue": {"wait_for_result": True}},
    "queue off": {"sending_queue": {"enabled": False}},
}
FAULTS = {
    "none": [],
    "gone": ["--refuse"],
    "hung": ["--hang"],
    "frozen": [],
    "slow": ["--delay", "500ms"],
    "unavailable": ["--status", "UNAVAILABLE"],
    "exhausted": ["--status", "RESOURCE_EXHAUSTED", "--retry-info", "500ms"],
    "invalid": ["--status", "INVALID_ARGUMENT"],
    "internal": ["--status", "INTERNAL"],
}
README = f"""# Faults and overload of a router

One router on one core, four backends in two sink processes, one client process with {CLIENT[3]} streams that
offers {RATE} in requests of 64 KiB for {SECONDS} s (open loop; latency counts from the time at which a request
was due). From second {FAULT_AT} to {FAULT_AT + FAULT_FOR} the first backend fails in the way that the row names. `exporter` is its queue: as by
default, with `wait_for_result`, or off.

- acknowledged: spans whose request was answered OK; missing: those of them that no backend has, or that the
  router gave up without telling its clients; split: traces on more than one backend
- twice: spans that a backend saw more than once, refused ones included
- rejected, refused: spans that the clients were told about, in part of a request or with all of it
- p99: of the good backends' spans from due to arrival, and of the clients' replies

Overload: what 32 connections with 4 streams each reach in a closed loop, then an open loop of twice and five
times that, with 100 streams each and a `memory_limiter` of {LIMIT_MIB} MiB.
"""
HEAD = f"{'fault':<14}{'exporter':<10}{'acknowledged':>13}{'missing':>9}{'split':>7}{'twice':>7}" \
       f"{'rejected':>10}{'refused':>9}{'p99 of the others':>19}{'of clients':>12}"


def cpus():
    """The router's, and everybody else's."""
    mine = sorted(os.sched_getaffinity(0))
    return [mine[0]], mine[1:] or mine


def sink(folder, name, count, *options):
    command = [os.environ["TRACEMILL_LOAD"], "sink", "--json", "--quiet"]
    command += ["--traces-file", folder / name, "--traces-max", 1 << 21, "--spans-max", 1 << 21]
    command += [*options, "--listen", *["127.0.0.1:0"] * count]
    process = Process(command, cpus()[1], read=True)
    return process, json.loads(process.line())["listening"]


def router(folder, backends, client, processors=None):
    """Started; its port and its page's."""
    grpc, page = free_ports(2)
    reader = {"pull": {"exporter": {"prometheus": {"host": "127.0.0.1", "port": page}}}}
    client = {"tls": {"insecure": True}, "compression": "none", **client}
    pipeline = {"receivers": ["otlp"], "exporters": ["load_balancing"]}
    config = {
        "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": f"127.0.0.1:{grpc}"}}}},
        "processors": processors or {},
        "exporters": {"load_balancing": {
            "protocol": {"otlp": client},
            "resolver": {"static": {"hostnames": backends}},
        }},
        "service": {
            "telemetry": {"metrics": {"readers": [reader]}},
            "pipelines": {"traces": pipeline | {"processors": list(processors or {})}},
        },
        "tracemill": {"cores": 1, "cpus": cpus()[0]},
    }
    path = folder / "router.yaml"
    path.write_text(json.dumps(config))
    process = Process([os.environ["TRACEMILL"], "--config", path], cpus()[0], log=folder / "log")
    wait_for_port(grpc, process)
    wait_for_port(page, process)
    return process, grpc, page


def load(folder, grpc, *options):
    command = [os.environ["TRACEMILL_LOAD"], "run", "--json", "--quiet", *options]
    command += ["--endpoint", f"127.0.0.1:{grpc}", "--traces-file", folder / "sent"]
    return Process(command, cpus()[1], out=folder / "load.json", log=folder / "load.log")


def conserved(page):
    """Whether every item is in one place; and how many are on their way."""
    now = read(page)
    part = {k: now.total(f"tracemill_exporter_{k}_items") or 0
            for k in ("offered", "sent", "failed", "in_flight")}
    return part["offered"] == part["sent"] + part["failed"] + part["in_flight"], part["in_flight"]


def settle(page, seconds=40):
    """Waits until nothing is on its way; the items that were given up."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and conserved(page)[1] > 0:
        time.sleep(0.2)
    return int(read(page).total("tracemill_exporter_failed_items") or 0)


def arrived(*files):
    """Spans by trace, and how many traces are in several files."""
    spans, split = {}, 0
    for file in files:
        for line in file.read_text().splitlines():
            trace, count = line.split()
            split += trace in spans
            spans[trace] = spans.get(trace, 0) + int(count)
    return spans, split


def faulty(fault, mode):
    """One row: its text, and what is wrong with it."""
    with tempfile.TemporaryDirectory(prefix="tracemill-faults-") as scratch:
        folder = pathlib.Path(scratch)
        when = ["--fault-at", f"{FAULT_AT}s", "--fault-for", f"{FAULT_FOR}s"]
        bad, [first] = sink(folder, "bad", 1, *(FAULTS[fault] and FAULTS[fault] + when))
        good, others = sink(folder, "good", 3)
        process, grpc, page = router(folder, [first, *others], MODES[mode])
        client = load(folder, grpc, "--rate", RATE, "--for", f"{SECONDS}s", *CLIENT)
        start, whole = time.monotonic(), True
        while not client.ended():
            time.sleep(0.25)
            since = time.monotonic() - start
            if fault == "frozen":
                frozen = FAULT_AT <= since < FAULT_AT + FAULT_FOR
                bad.child.send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)
            whole &= conserved(page)[0]
        given_up = settle(page)
        process.stop(signal.SIGTERM)
        ends = [json.loads(ended(s).splitlines()[-1]) for s in (bad, good)]
        spans, split = arrived(folder / "bad", folder / "good")
        sent = [line.split() for line in (folder / "sent").read_text().splitlines()]
        missing = sum(max(0, int(n) - spans.get(trace, 0)) for trace, n, _ in sent)
        said = json.loads((folder / "load.json").read_text())
    run, clients = said["whole_run"], said["measured"]["latency"]["p99_us"] / 1e3
    p99 = max(a["end_to_end"]["p99_us"] for a in ends[1]["addresses"]) / 1e3
    split += sum(end["split_traces"] for end in ends)
    twice = sum(end["duplicate_spans"] for end in ends)
    refused = run["sent"]["spans"] - run["ok"]["spans"]
    missing = max(missing, given_up - refused)
    text = f"{fault:<14}{mode:<10}{sum(int(n) for _, n, _ in sent):>13,}{missing:>9,}{split:>7}" \
           f"{twice:>7}{run['partial_success']['rejected_spans']:>10,}{refused:>9,}" \
           f"{p99:>16.1f} ms{clients:>9.1f} ms"
    wrong = [what for what, is_wrong in (
        ("acknowledged spans are missing", missing), ("traces are split", split),
        ("items are in no place or in two", not whole), ("the others are late", p99 > P99_MAX),
    ) if is_wrong]
    return text, wrong


def ended(process):
    process.child.send_signal(signal.SIGINT)
    return process.rest()


def overload():
    """Rows: goodput at twice and five times of what the same connections reach in a closed loop."""
    limiter = {"memory_limiter": {"check_interval": "1s", "limit_mib": LIMIT_MIB}}
    with tempfile.TemporaryDirectory(prefix="tracemill-faults-") as scratch:
        folder = pathlib.Path(scratch)
        good, others = sink(folder, "good", 4)
        process, grpc, _ = router(folder, others, {}, limiter)
        shape = ("--request-bytes", "64KiB", "--connections", 32)
        client = load(folder, grpc, *shape, "--streams", 4, "--for", "5s")
        while not client.ended():
            time.sleep(0.1)
        most = json.loads((folder / "load.json").read_text())["measured"]["spans_per_second"]
        for times in (2, 5):
            rate = f"{int(times * most)}spans/s"
            client = load(folder, grpc, *shape, "--streams", 100, "--rate", rate, "--for", "8s")
            resident = 0
            while not client.ended():
                time.sleep(0.1)
                resident = max(resident, process.rss())
            said = json.loads((folder / "load.json").read_text())
            share = said["measured"]["spans_per_second"] / most
            mib = resident / 2**20
            bound = LIMIT_MIB + SPARE_MIB
            busy = said["measured"]["own_cpu_share"]
            text = f"offered {times} × {most / 1e6:.2f} M spans/s over 32 connections: taken " \
                   f"{share:.0%} of that, resident {mib:.0f} MiB; the load tool was busy {busy:.0%}"
            yield text, [f"more than {bound} MiB resident"] if mib > bound else []
        process.stop(signal.SIGTERM)
        ended(good)


def rows(words):
    for mode in MODES:
        for fault in FAULTS:
            if all(word in f"{fault} {mode}" for word in words):
                yield faulty(fault, mode)
    if not words or "overload" in words:
        yield from overload()


def main(out, *words):
    end_with_this_process()
    out = pathlib.Path(out)
    out.mkdir(parents=True)
    model = subprocess.run(["uname", "-srm"], capture_output=True, text=True).stdout
    (out / "env.txt").write_text(f"{model}cpus: {os.cpu_count()}\nperf/faults.sh {' '.join(words)}\n")
    (out / "README.md").write_text(README)
    print(HEAD, flush=True)
    lines, failed = [HEAD], False
    for text, wrong in rows(words):
        failed |= bool(wrong)
        lines.append(text + "".join(f"  WRONG: {what}" for what in wrong))
        print(lines[-1], flush=True)
    (out / "summary.txt").write_text("\n".join(lines) + "\n")
    return int(failed)


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except Failed as why:
        sys.exit(f"perf/faults.sh: {why}")
