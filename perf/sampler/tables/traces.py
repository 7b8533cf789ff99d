"""CPU per span over traces in flight, 10 thousand to 2 million

Bar: flat within 25 %."""

import configs
import medians
import processes
import tables
import trial

SAID = """
CPU per span while more and more traces are in flight. Open loop, requests of 64 KiB, 8 spans per
trace in 4 requests; `decision_wait` says how many traces are in flight. Warm-up is that wait and
4 s, then {seconds:g} s are measured, in which traces are received, decided (after their memory was
left alone for the whole wait) and sent. `num_traces` is a third above what is in flight. {trials}
rounds. Two curves, each at its own rate because the shortest wait is 1 s: {rates}. At these
rates the core sleeps part of the time, so CPU per span is above that of saturation, the more the
lower the rate: cells of one curve can be compared, cells of both cannot. `in flight` is the spans
that were buffered, divided by 8; it is above rate x wait, since a trace waits for the next tick.{skipped}
"""

# Seconds of `decision_wait`, by spans per second.
CURVES = {80_000: [1, 3, 10], 200_000: [1, 4, 20, 80]}


def run(bench, options, results):
    trials, seconds = tables.pairs(options, 5), tables.seconds(options)
    curves = {20_000: [1, 2]} if options.rehearse else CURVES
    skipped, cells = "", {}
    for rate, waits in curves.items():
        for wait in waits:
            traces = rate // 8 * wait
            if traces * 8 * 460 * 1.4 > processes.memory_available() * 0.8:
                skipped += f" Not measured, for want of memory: {traces:,} traces."
            else:
                cells[f"{rate // 1000}k spans/s, {traces:,} traces"] = (rate, wait)
    for pair in range(1, trials + 1):
        for cell in tables.in_turn(pair, cells):
            rate, wait = cells[cell]
            row = one(bench, rate, wait, seconds)
            results.row(pair=pair, cell=cell, side="tracemill", wait=wait, **row)
    rates = " and ".join(f"{rate:,} spans/s" for rate in curves)
    said = SAID.format(rates=rates, seconds=seconds, trials=trials, skipped=skipped)
    return said, "".join(
        summary(results, [c for c in cells if cells[c][0] == rate]) for rate in curves
    )


def one(bench, rate, wait, seconds):
    arguments = ["--rate", f"{rate}spans/s", "--spread", "4", "--error-share", configs.ERROR_SHARE]
    num_traces = rate // 8 * (wait + 2) * 4 // 3
    with bench:
        sink, address = bench.sink("--traces-max", "0")
        subject = bench.sampler("tracemill", address, wait=wait, num_traces=num_traces)
        buffered = []

        def watch(at):
            if wait + 4 <= at < wait + 4 + seconds:
                buffered.append(subject.page().total(trial.BUFFERED) or 0)

        said = bench.load(
            subject, arguments, seconds=seconds, warm_up=wait + 4, watch=watch, interval=0.3
        )
        rss = subject.process.rss()
        row = trial.columns(said) | trial.conservation(subject.page(), said)
        # Waiting for the rest to be decided would take as long again.
        subject.process.kill()
        sink.kill()
    middle = medians.median(buffered)
    return row | {
        "in_flight": round(middle.value / 8) if middle else "",
        "rss_mib": round(rss / 2**20, 2),
    }


def summary(results, cells):
    out = ""
    costs = {}
    first = {"cell": cells[0], "side": "tracemill"}
    for cell in cells:
        where = {"cell": cell, "side": "tracemill"}
        out += f"{cell}\n"
        cpu = results.values("cpu_ns_per_span", **where)
        costs[cell] = medians.median(cpu).value
        out += medians.line("CPU", cpu, "ns/span")
        ratio = results.paired("cpu_ns_per_span", where, first)
        out += medians.line("beside the first cell", ratio, "x")
        out += medians.line("in flight", results.values("in_flight", **where), "traces", 0)
        out += medians.line("memory", results.values("rss_mib", **where), "MiB")
        out += tables.accounts(results, cell=cell)
    return out + flat(costs)


def flat(costs, bar=1.25):
    """Whether the dearest cell costs at most a quarter more than the cheapest one."""
    low, high = min(costs, key=costs.get), max(costs, key=costs.get)
    spread = costs[high] / costs[low]
    said = "MET" if spread <= bar else "MISSED"
    return (
        f"FLATNESS: dearest ({high}) over cheapest ({low}), of medians: {spread:.2f} x,"
        f" bar {bar:g}: {said}\n"
    )
