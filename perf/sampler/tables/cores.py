"""CPU per span of two shards on two cores beside one, and beside two samplers

Bar: 1.25 times one."""

import concurrent.futures
import os

import configs
import medians
import tables
import trial

CELLS = {
    "64KiB": ("64KiB", None),
    "8KiB": ("8KiB", None),
    "64KiB, 200k spans/s": ("64KiB", 200_000),
}
SIDES = ["one", "two", "apart"]

SAID = """
CPU per span of one sampler with two shards on two cores, divided by that of one shard on one core.
About half of the spans of a request belong to the other core's shard and go through the mesh. One
shard runs on CPU {cpu_subject}, two on CPUs {cpu_subject} and {cpu_second}. {shared}`apart` is two
samplers of one shard, each on one of these CPUs and with half of the connections, which have nothing
to do with each other: what two cost more than that is the mesh, and what they cost more than one
the machine. Closed loop over {connections} connections x {streams} streams, and in one cell open
loop at the same rate for all; policies and traces as in the table `saturation`, {warm_up:g} s of
warm-up, {seconds:g} s measured, {pairs} pairs per cell.
"""
SHARED = """The machine has {cpus} CPUs: generator and sink share the
second one with the second shard, which costs it time and caches that the single shard does not have
to share; the ratio is an upper bound. """


def run(bench, options, results):
    pairs, seconds = tables.pairs(options), tables.seconds(options)
    for pair in range(1, pairs + 1):
        for cell in CELLS:
            for side in tables.in_turn(pair, SIDES):
                row = one(bench, options, side, cell, seconds)
                results.row(pair=pair, cell=cell, shards=side, side="tracemill", **row)
    shared = options.cpu_second == options.cpu_load
    values = vars(options) | {"pairs": pairs, "seconds": seconds}
    values["warm_up"] = tables.warm_up(options)
    values["shared"] = SHARED.format(cpus=os.cpu_count()) if shared else ""
    return SAID.format(**values), summary(results)


def one(bench, options, side, cell, seconds):
    one_cpu, both = [options.cpu_subject], [options.cpu_subject, options.cpu_second]
    cpus = {"one": [one_cpu], "two": [both], "apart": [[cpu] for cpu in both]}[side]
    size, rate = CELLS[cell]
    arguments = ["--spread", "4", "--error-share", configs.ERROR_SHARE, "--request-bytes", size]
    arguments += ["--connections", max(options.connections // len(cpus), 1)]
    if rate:
        arguments += ["--rate", f"{rate // len(cpus)}spans/s"]
    with bench:
        sink, address = bench.sink("--traces-max", "0")
        config = {"wait": 1, "num_traces": 2_000_000 // len(cpus)}
        subjects = [bench.sampler("tracemill", address, cpus=its, **config) for its in cpus]
        during = {"seconds": seconds, "warm_up": tables.warm_up(options)}
        with concurrent.futures.ThreadPoolExecutor(len(subjects)) as loads:
            loaded = [loads.submit(bench.load, its, arguments, **during) for its in subjects]
            said = [load.result() for load in loaded]
        for subject in subjects:
            subject.settle(10)
        rows = [
            trial.columns(its) | trial.conservation(subject.page(), its)
            for its, subject in zip(said, subjects)
        ]
        for subject in subjects:
            subject.stop()
        sink.kill()
    return rows[0] if len(rows) == 1 else together(rows)


def together(rows):
    """One row for samplers that ran beside each other."""
    spans = sum(row["spans_per_second"] for row in rows)
    cpu = sum(row["cpu_ns_per_span"] * row["spans_per_second"] for row in rows)
    worst = ("p50_us", "p99_us", "max_us", "others_share")
    row = {name: sum(row[name] for row in rows) for name in rows[0] if name not in worst}
    row |= {name: max(row[name] for row in rows) for name in worst}
    row["kept_share"] = round(row["kept_share"] / len(rows), 4)
    return row | {"cpu_ns_per_span": round(cpu / max(spans, 1), 2)}


def summary(results):
    out = ""
    for cell in CELLS:
        out += f"{cell}\n"
        for side in SIDES:
            where = {"cell": cell, "shards": side}
            rate = [v / 1e3 for v in results.values("spans_per_second", **where)]
            busy = [100 * v for v in results.values("cpu_share", **where)]
            cpu = results.values("cpu_ns_per_span", **where)
            out += medians.line(f"{side}: CPU", cpu, "ns/span")
            out += medians.line(f"{side}: throughput", rate, "k spans/s")
            out += medians.line(f"{side}: busy", busy, "% of a core")
        single, two, apart = ({"cell": cell, "shards": side} for side in SIDES)
        ratio = results.paired("cpu_ns_per_span", two, single)
        out += medians.verdict("RATIO of CPU per span", ratio, 1.25, "x one")
        ratio = results.paired("cpu_ns_per_span", two, apart)
        out += medians.line("two, of two apart", ratio, "x")
        ratio = results.paired("cpu_ns_per_span", apart, single)
        out += medians.line("two apart, of one", ratio, "x")
        out += tables.accounts(results, cell=cell)
    return out
