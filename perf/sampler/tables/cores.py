"""CPU per span of two shards on two cores beside one

Bar: 1.25 times."""

import os

import configs
import medians
import tables
import trial

CELLS = {
    "64KiB": ["--request-bytes", "64KiB"],
    "8KiB": ["--request-bytes", "8KiB"],
    "64KiB, 200k spans/s": ["--request-bytes", "64KiB", "--rate", "200000spans/s"],
}

SAID = """
CPU per span of one sampler with two shards on two cores, divided by that of one shard on one core.
About half of the spans of a request belong to the other core's shard and go through the mesh. One
shard runs on CPU {cpu_subject}, two on CPUs {cpu_subject} and {cpu_second}. {shared}Closed loop over
{connections} connections x {streams} streams and, in one cell, open loop at the same rate for both;
policies and traces as in the table `saturation`, {warm_up:g} s of warm-up, {seconds:g} s measured,
{pairs} pairs per cell.
"""
SHARED = """The machine has {cpus} CPUs: generator and sink share the
second one with the second shard, which costs it time and caches that the single shard does not have
to share; the ratio is an upper bound. """


def run(bench, options, results):
    pairs, seconds = tables.pairs(options), tables.seconds(options)
    for pair in range(1, pairs + 1):
        for cell, arguments in CELLS.items():
            for side in tables.in_turn(pair, ["one", "two"]):
                row = one(bench, options, side, arguments, seconds)
                results.row(pair=pair, cell=cell, shards=side, side="tracemill", **row)
    shared = options.cpu_second == options.cpu_load
    values = vars(options) | {"pairs": pairs, "seconds": seconds}
    values["warm_up"] = tables.warm_up(options)
    values["shared"] = SHARED.format(cpus=os.cpu_count()) if shared else ""
    return SAID.format(**values), summary(results)


def one(bench, options, side, arguments, seconds):
    cpus = [options.cpu_subject] + ([options.cpu_second] if side == "two" else [])
    arguments = ["--spread", "4", "--error-share", configs.ERROR_SHARE, *arguments]
    with bench:
        sink, address = bench.sink("--traces-max", "0")
        subject = bench.sampler("tracemill", address, cpus=cpus, wait=1, num_traces=2_000_000)
        said = bench.load(subject, arguments, seconds=seconds, warm_up=tables.warm_up(options))
        subject.settle(10)
        row = trial.columns(said) | trial.conservation(subject.page(), said)
        subject.stop()
        sink.kill()
    return row


def summary(results):
    out = ""
    for cell in CELLS:
        out += f"{cell}\n"
        for side in ("one", "two"):
            where = {"cell": cell, "shards": side}
            rate = [v / 1e3 for v in results.values("spans_per_second", **where)]
            busy = [100 * v for v in results.values("cpu_share", **where)]
            cpu = results.values("cpu_ns_per_span", **where)
            out += medians.line(f"{side}: CPU", cpu, "ns/span")
            out += medians.line(f"{side}: throughput", rate, "k spans/s")
            out += medians.line(f"{side}: busy", busy, "% of a core")
        two, single = ({"cell": cell, "shards": side} for side in ("two", "one"))
        ratio = results.paired("cpu_ns_per_span", two, single)
        out += medians.verdict("RATIO of CPU per span", ratio, 1.25, "x one")
        out += tables.accounts(results, cell=cell)
    return out
