"""CPU per span over 1 to 50 policies that read the same three attributes

Bar: flat within 25 %."""

import configs
import medians
import tables
import trial
from tables.traces import flat

COUNTS = [1, 3, 10, 25, 50]

SAID = """
CPU per span with 1 to 50 policies that read the same three attributes: a number that each span has,
two texts that some have. No policy ever holds, so each one must be asked for every span, and
nothing is sent on. One policy is an `and` of all three; from three on they are numeric_attribute
and string_attribute in turn, each with another value. Closed loop, requests of 64 KiB,
{connections} connections x {streams} streams, 8 spans per trace in 4 requests, `decision_wait` 1 s,
3 s of warm-up and {seconds:g} s measured, {pairs} rounds.
"""


def run(bench, options, results):
    pairs, seconds = tables.pairs(options), tables.seconds(options)
    counts = [1, 50] if options.rehearse else COUNTS
    for pair in range(1, pairs + 1):
        for count in tables.in_turn(pair, counts):
            row = one(bench, configs.never(count), seconds)
            results.row(pair=pair, cell=str(count), side="tracemill", **row)
    said = SAID.format(**vars(options) | {"pairs": pairs, "seconds": seconds})
    return said, summary(results, [str(c) for c in counts])


def one(bench, policies, seconds):
    with bench:
        sink, address = bench.sink("--traces-max", "0")
        config = {"wait": 1, "num_traces": 2_000_000, "policies": policies}
        subject = bench.sampler("tracemill", address, **config)
        said = bench.load(subject, ["--spread", "4"], seconds=seconds, warm_up=3)
        subject.settle(10)
        row = trial.columns(said) | trial.conservation(subject.page(), said)
        subject.stop()
        sink.kill()
    return row


def summary(results, cells):
    out = ""
    costs = {}
    first = {"cell": cells[0], "side": "tracemill"}
    for cell in cells:
        where = {"cell": cell, "side": "tracemill"}
        cpu = results.values("cpu_ns_per_span", **where)
        costs[cell] = medians.median(cpu).value
        out += f"{cell} policies\n"
        out += medians.line("CPU", cpu, "ns/span")
        ratio = results.paired("cpu_ns_per_span", where, first)
        out += medians.line("beside the first cell", ratio, "x")
        out += tables.accounts(results, cell=cell)
    return out + flat(costs)
