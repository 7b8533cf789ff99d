"""Alone and beside, in turn: what a well-behaved client feels of each kind of abuse.

measure.py OUT ROUNDS SECONDS ROUTER_PID GRPC_PORT HTTP_PORT PRIORITY... -- [KIND-WORD...]
PRIORITY is the command that the well-behaved client runs under.
"""

import csv
import json
import os
import pathlib
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).parent
PROTOCOLS = ("grpc", "http")
# of a core, with the well-behaved client at work
IDLE = 0.25


class Child:
    """A program that says "ready", and ends when its input does."""

    def __init__(self, *command):
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "ready\n":
            raise SystemExit(f"{command} did not start")

    def end(self):
        return json.loads(self.process.communicate("\n", timeout=60)[0])


def busy(pid):
    """CPU seconds of a process so far."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


class Window:
    """A stretch of time in which nothing changes, and what the client felt in it."""

    def __init__(self, kind, state, pid, seconds):
        self.kind, self.state = kind, state
        before, self.start = busy(pid), time.monotonic()
        time.sleep(seconds)
        self.end = time.monotonic()
        self.cpu = (busy(pid) - before) / (self.end - self.start)
        self.resident = resident(pid)
        self.times, self.failed = {}, {}

    def choose(self, samples):
        for protocol in PROTOCOLS:
            chosen = [(s, ok) for p, at, s, ok in samples
                      if p == protocol and self.start <= at < self.end]
            self.times[protocol] = [s for s, _ in chosen]
            self.failed[protocol] = sum(not ok for _, ok in chosen)


def settle(pid, patience=20):
    """Waits until the core has done with what the last kind left in its sockets."""
    for _ in range(patience * 5):
        before = busy(pid)
        time.sleep(0.2)
        if busy(pid) - before < 0.2 * IDLE:
            return
    print("the core is still busy", file=sys.stderr, flush=True)


def quantile(times, q):
    times = sorted(times)
    return 1e3 * times[min(len(times) - 1, int(q * len(times)))] if times else float("nan")


def measured(kinds, rounds, seconds, pid, ports, priority):
    python = sys.executable
    windows, managed = [], {}
    client = Child(*priority, python, HERE / "client.py", *ports)
    for round_ in range(rounds):
        for kind in kinds:
            windows.append(Window(kind, "alone", pid, seconds))
            abuse = Child("nice", "-n", "19", python, HERE / "abuse.py", kind, *ports)
            time.sleep(0.2)
            windows.append(Window(kind, "beside", pid, seconds))
            managed[kind] = abuse.end()
            print(f"{round_ + 1}/{rounds} {kind}: {managed[kind]}", file=sys.stderr, flush=True)
            settle(pid)
    samples = client.end()
    for window in windows:
        window.choose(samples)
    return windows, managed


def summary(kinds, windows, managed, out):
    lines = [("kind", "what it managed", "gRPC p99 ms", "ratio", "HTTP p99 ms", "ratio",
              "core busy", "failed")]
    over = []
    for kind in kinds:
        cells, failed = [], 0
        for protocol in PROTOCOLS:
            p99 = {}
            for state in ("alone", "beside"):
                of_it = [w for w in windows if (w.kind, w.state) == (kind, state)]
                failed += sum(w.failed[protocol] for w in of_it)
                p99[state] = quantile([t for w in of_it for t in w.times[protocol]], 0.99)
            ratio = p99["beside"] / p99["alone"]
            if not ratio <= 2:
                over.append(f"{kind} ({protocol})")
            cells += [f"{p99['alone']:.2f} → {p99['beside']:.2f}", f"{ratio:.2f}"]
        cpu = [w.cpu for w in windows if (w.kind, w.state) == (kind, "beside")]
        lines.append((kind, managed[kind], *cells, f"{100 * sum(cpu) / len(cpu):.0f} %",
                      str(failed)))
    widths = [max(len(line[n]) for line in lines) for n in range(len(lines[0]))]
    text = "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip()
                     for line in lines)
    mib = [w.resident / 1024 for w in windows]
    text += f"\n\nresident: {mib[0]:.0f} MiB at first, {max(mib):.0f} at most, {mib[-1]:.0f} at last"
    text += f"\nbeyond twice: {', '.join(over) or 'none'}\n"
    (out / "summary.txt").write_text(text)
    print(text, end="")


def main(out, rounds, seconds, pid, grpc, http, *rest):
    out, priority, words = pathlib.Path(out), rest[:rest.index("--")], rest[rest.index("--") + 1:]
    listed = subprocess.run([sys.executable, HERE / "abuse.py", "--list"], capture_output=True,
                            text=True, check=True).stdout.splitlines()
    kinds = [k for k in listed if all(word in k for word in words)]
    windows, managed = measured(kinds, int(rounds), float(seconds), int(pid), (grpc, http),
                                priority)
    with open(out / "raw.csv", "w", newline="") as file:
        raw = csv.writer(file)
        raw.writerow(("kind", "state", "protocol", "requests", "failed", "p50_ms", "p99_ms",
                      "max_ms", "core_busy", "resident_kib"))
        for w in windows:
            for protocol, times in w.times.items():
                raw.writerow((w.kind, w.state, protocol, len(times), w.failed[protocol],
                              *(f"{quantile(times, q):.3f}" for q in (0.5, 0.99, 1)),
                              f"{w.cpu:.3f}", w.resident))
    summary(kinds, windows, managed, out)


main(*sys.argv[1:])
