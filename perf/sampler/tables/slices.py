"""How long decisions keep a core from its other work: 20,000 traces due each second

Bar: no slice of decisions takes more than 1 ms of thread CPU."""

import medians
import tables
import trial

TIMER = "otelcol_processor_tail_sampling_sampling_decision_timer_latency"
LAG = "tracemill_sampler_decision_lag_seconds"
SLICE = "tracemill_sampler_slice_max_seconds"
TRACES = 20_000

SAID = """
How long decisions keep a core from its other work. {traces:,} traces of 2 spans begin each second
(open loop, {rate:,} spans/s in requests of 8 KiB) and are due in one tick each second later on;
`decision_wait` {wait} s, 10 % kept. {seconds:g} s are measured, {trials} rounds of two cells:
`deciding`, and as a control `waiting`, in which nothing falls due.

What is seen: the latency of requests, of which one comes every {apart:.2f} ms, so a slice is at most
that much longer than the longest latency; the time that the decisions
of a tick take together (the timer's histogram: mean from its sum, bounds from its buckets); how late
a tick begins (polled ten times a second). {slice}
"""
EXPOSED = f"The process itself says its longest slice (`{SLICE}`), the bar is on that."
HIDDEN = f"""What is not seen: the longest slice itself. The process does not expose it
(`{SLICE}` is not on its page), and request latency also has the generator's and the
kernel's waits in it: it can show that slices are short, and cannot show that one is long."""


def run(bench, options, results):
    trials, seconds = tables.pairs(options, 5), tables.seconds(options, 20.0)
    wait = 2 if options.rehearse else 5
    for pair in range(1, trials + 1):
        for cell in tables.in_turn(pair, ["deciding", "waiting"]):
            row = one(bench, cell, wait, seconds)
            results.row(pair=pair, cell=cell, side="tracemill", **row)
    exposed = bool(results.values("slice_max_ms", cell="deciding"))
    said = SAID.format(
        traces=TRACES,
        rate=2 * TRACES,
        wait=wait,
        seconds=seconds,
        trials=trials,
        # About 17 spans in a request.
        apart=17 / (2 * TRACES) * 1000,
        slice=EXPOSED if exposed else HIDDEN,
    )
    return said, summary(results, exposed)


def one(bench, cell, wait, seconds):
    arguments = ["--rate", f"{2 * TRACES}spans/s", "--request-bytes", "8KiB"]
    arguments += ["--spans-per-trace", "2", "--spread", "2", "--error-share", "8%"]
    warm_up = wait + 3
    lags, pages = [], []
    with bench:
        sink, address = bench.sink("--traces-max", "0")
        config = {"wait": wait if cell == "deciding" else 36_000, "num_traces": 2_000_000}
        subject = bench.sampler("tracemill", address, **config)

        def watch(at):
            if warm_up <= at < warm_up + seconds:
                page = subject.page()
                lags.append(page.most(LAG) or 0)
                pages[1:] = [page]
                pages[:1] = pages[:1] or [page]

        said = bench.load(
            subject, arguments, seconds=seconds, warm_up=warm_up, watch=watch, interval=0.1
        )
        last = subject.page()
        row = trial.columns(said) | trial.conservation(last, said)
        subject.process.kill()
        sink.kill()
    latency = said["measured"]["latency"]
    row |= {"p999_us": latency["p999_us"], "lag_max_ms": round(1e3 * max(lags, default=0), 3)}
    row |= ticks(pages[0], pages[-1]) if pages else {}
    longest = last.most(SLICE)
    return row | {"slice_max_ms": "" if longest is None else round(1e3 * longest, 4)}


def ticks(before, after):
    """Of the ticks between two pages: how many, mean and the bound of the longest, in ms."""

    def grown(name):
        return (after.total(TIMER + name) or 0) - (before.total(TIMER + name) or 0)

    count = grown("_count")
    old, new = before.buckets(TIMER), after.buckets(TIMER)
    bound = min((b for b in new if new[b] - old.get(b, 0) >= count), default=float("nan"))
    return {
        "ticks": int(count),
        "tick_mean_ms": round(grown("_sum") / max(count, 1), 3),
        "tick_bound_ms": bound,
    }


def summary(results, exposed):
    out = ""
    for cell in ("deciding", "waiting"):
        where = {"cell": cell, "side": "tracemill"}
        out += f"{cell}\n"
        for name, what in (("p50_us", "p50"), ("p999_us", "p99.9"), ("max_us", "longest")):
            out += medians.line(f"requests, {what}", results.values(name, **where), "µs", 1)
        if cell == "deciding":
            for name, what in (
                ("tick_mean_ms", "decisions of a tick, mean"),
                ("tick_bound_ms", "decisions of a tick, at most"),
                ("lag_max_ms", "a tick begins late by, at most"),
            ):
                out += medians.line(what, results.values(name, **where), "ms")
        out += medians.line("CPU", results.values("cpu_ns_per_span", **where), "ns/span")
        out += tables.accounts(results, cell=cell)
    if not exposed:
        return out + f"LONGEST SLICE not measured: {SLICE} is not on the metrics page\n"
    worst = max(results.values("slice_max_ms", cell="deciding"))
    said = "MET" if worst <= 1 else "MISSED"
    slices = results.values("slice_max_ms", cell="deciding")
    out += medians.line("LONGEST SLICE of a trial", slices, "ms", 3)
    return out + f"  LONGEST SLICE of all trials: {worst:.3f} ms, bar 1 ms: {said}\n"
