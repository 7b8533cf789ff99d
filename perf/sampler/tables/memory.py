"""Memory per buffered span beside the bytes of the spans

Bars: 1.25 times the wire bytes at 8 spans per trace; 1.5 times with a root wait and a few traces
without a root. One span per trace is reported."""

import time

import configs
import medians
import processes
import tables
import trial

SPANS_PER_REQUEST = 144
BAR, BAR_ROOTS = 1.25, 1.5
FOREVER = 36_000

SAID = """
Memory per buffered span: resident bytes with N spans buffered and none decided (`decision_wait` of
hours; the generator has ended and closed its connections), less those of the same process
before its first request, divided by N. It is compared with the mean length of the span messages
themselves, without resource, scope and framing of the request. 8 spans per trace in 4 requests of
{per_request} spans, unless the cell says 1 span per trace. `buffer_bytes_per_span` is what
the process itself accounts for on its metrics page.{skipped}

Cell `roots`: `decision_wait_after_root_received` {root} s of `decision_wait` {wait} s, open loop at
{rate:,} spans/s, 1 % of the traces without a root, `num_traces` {num_traces:,}: decided traces stay
in the map until newer ones push them out, as in the collector, and their records count here.
Once the first traces without a root are decided, resident bytes and buffered spans are read together
twice a second for {seconds:g} s; the trial's value is the median. Memory that the kept spans need on
their way out counts, too.

{pairs} trials per cell. The collector, where it was measured, has the first cell only; its spans are
counted by the generator.
"""


def run(bench, options, results):
    trials = tables.pairs(options, 5)
    cells = {f"8 spans, {n}M": (n * 1_000_000, 8) for n in (1, 4, 16)}
    cells["1 span, 1M"] = (1_000_000, 1)
    if options.rehearse:
        cells = {"8 spans, 0.1M": (100_000, 8), "1 span, 0.1M": (100_000, 1)}
    skipped = ""
    for name, (spans, _) in list(cells.items()):
        needed, there = spans * 460 * 1.6, processes.memory_available()
        if spans > options.spans_max or needed > there * 0.9:
            skipped += f" Not measured: {name} (needs up to {needed / 2**30:.0f} GiB)."
            del cells[name]
    roots = Roots(options)
    for pair in range(1, trials + 1):
        for at, (cell, (spans, per_trace)) in enumerate(cells.items()):
            for side in tables.sides(options, pair) if at == 0 else ["tracemill"]:
                row = fill(bench, side, spans, per_trace)
                results.row(pair=pair, cell=cell, side=side, **row)
        if bench.knows("run", "--rootless-share"):
            results.row(pair=pair, cell="roots", side="tracemill", **roots.one(bench))
    if not bench.knows("run", "--rootless-share"):
        skipped += " Not measured: roots (this tracemill-load has no --rootless-share)."
        skipped += " The span messages' bytes are those of whole requests, which are a little more."
    said = SAID.format(
        per_request=SPANS_PER_REQUEST, skipped=skipped, pairs=trials, **vars(roots)
    )
    return said, summary(results, [*cells, "roots"])


def wire_bytes(said):
    """Mean bytes of a span message. An older load tool only knows those of whole requests."""
    measured = said["measured"]
    return said.get("span_bytes_mean", measured["message_bytes"] / max(measured["spans"], 1))


def fill(bench, side, spans, per_trace):
    requests = -(-spans // SPANS_PER_REQUEST)
    arguments = ["--spans-per-request", SPANS_PER_REQUEST, "--requests", requests]
    arguments += ["--spans-per-trace", per_trace, "--spread", min(per_trace, 4), "--timeout", "0s"]
    # Its own budget is not what is measured.
    budget = int(processes.memory_available() * 0.9) >> 20
    engine = {"memory_limit_mib": budget, "memory_spike_limit_mib": 1}
    config = {"wait": FOREVER, "num_traces": 2 * spans // per_trace}
    with bench:
        sink, address = bench.sink("--traces-max", "0")
        subject = bench.sampler(side, address, engine=engine, **config)
        time.sleep(2)
        idle = subject.process.rss()
        said = bench.load(subject, arguments, seconds=900)
        time.sleep(2)
        full = subject.process.rss()
        page = subject.page()
        buffered = page.total(trial.BUFFERED) or said["whole_run"]["ok"]["spans"]
        own = page.total(trial.BYTES)
        # What it holds is of no use to anybody.
        subject.process.kill()
        sink.kill()
    wire = wire_bytes(said)
    return {
        "spans": int(buffered),
        "idle_mib": round(idle / 2**20, 2),
        "full_mib": round(full / 2**20, 2),
        "bytes_per_span": round((full - idle) / buffered, 1),
        "wire_bytes_per_span": round(wire, 2),
        "buffer_bytes_per_span": round(own / buffered, 1) if own else "",
        "ratio": round((full - idle) / buffered / wire, 4),
        "own_ratio": round(own / buffered / wire, 4) if own else "",
        "not_ok_requests": said["whole_run"]["sent"]["requests"]
        - said["whole_run"]["ok"]["requests"],
        "unaccounted_spans": int(said["whole_run"]["ok"]["spans"] - buffered),
    }


class Roots:
    """Most traces wait for a short time, a few for a long one, side by side in the same memory."""

    def __init__(self, options):
        small = options.rehearse
        self.root, self.wait = (1, 5) if small else (5, 60)
        self.rate = 20_000 if small else 200_000
        self.seconds = tables.seconds(options, 20.0)
        self.num_traces = self.rate // 8 * (self.wait + 5)

    def one(self, bench):
        arguments = ["--spans-per-request", SPANS_PER_REQUEST, "--rate", f"{self.rate}spans/s"]
        arguments += ["--spread", "4", "--rootless-share", "1%"]
        arguments += ["--error-share", configs.ERROR_SHARE]
        after = {"decision_wait_after_root_received": f"{self.root}s"}
        warm_up = self.wait + 4
        seen = []
        with bench:
            sink, address = bench.sink("--traces-max", "0")
            config = {"wait": self.wait, "num_traces": self.num_traces, **after}
            subject = bench.sampler("tracemill", address, **config)
            time.sleep(2)
            idle = subject.process.rss()

            def watch(at):
                if warm_up <= at < warm_up + self.seconds:
                    rss, page = subject.process.rss(), subject.page()
                    seen.append((rss, page.total(trial.BUFFERED), page.total(trial.BYTES)))

            said = bench.load(
                subject, arguments, seconds=self.seconds, warm_up=warm_up, watch=watch, interval=0.5
            )
            page = subject.page()
            subject.process.kill()
            sink.kill()
        wire = wire_bytes(said)
        seen = [s for s in seen if s[1]]
        if not seen:
            raise processes.Failed("roots: the metrics page could not be read")
        middle = sorted(seen, key=lambda s: (s[0] - idle) / s[1])[len(seen) // 2]
        rss, buffered, own = middle
        return {
            "spans": int(buffered),
            "idle_mib": round(idle / 2**20, 2),
            "full_mib": round(rss / 2**20, 2),
            "bytes_per_span": round((rss - idle) / buffered, 1),
            "wire_bytes_per_span": round(wire, 2),
            "buffer_bytes_per_span": round(own / buffered, 1),
            "ratio": round((rss - idle) / buffered / wire, 4),
            "own_ratio": round(own / buffered / wire, 4),
            **trial.columns(said),
            **trial.conservation(page, said),
        }


def summary(results, cells):
    out = ""
    for cell in cells:
        for side in ("tracemill", "collector"):
            where = {"cell": cell, "side": side}
            if not results.values("ratio", **where):
                continue
            out += f"{cell}, {side}\n"
            lines = (
                ("bytes_per_span", "resident above idle"),
                ("buffer_bytes_per_span", "its own account"),
                ("wire_bytes_per_span", "span message"),
            )
            for name, what in lines:
                out += medians.line(what, results.values(name, **where), "bytes/span", 1)
            ratio = results.values("ratio", **where)
            if cell.startswith("1 span") or side == "collector":
                out += medians.line("RATIO to the span messages", ratio, "x")
            else:
                bar = BAR_ROOTS if cell == "roots" else BAR
                out += medians.verdict("RATIO to the span messages", ratio, bar)
            out += medians.line("its own account, ratio", results.values("own_ratio", **where), "x")
        out += tables.accounts(results, cell=cell) if cell == "roots" else ""
    return out
