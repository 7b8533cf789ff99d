"""CPU per span beside the relay: closed loop, requests of 64 KiB and 8 KiB

Bars: 2.5 times the relay at 64 KiB, 2.6 times at 8 KiB."""

import configs
import medians
import tables
import trial

BARS = {"64KiB": 2.5, "8KiB": 2.6}
NUM_TRACES = 2_000_000

SAID = """
Ingest, decide and export at saturation on one data core. Closed loop over {connections} connections
x {streams} streams, spans of about 450 bytes, 8 per trace in 4 requests, three policies (status_code
ERROR, latency 500 ms, probabilistic 2 %) that keep about 10 %, `decision_wait` 1 s, `num_traces`
{num_traces:,} so that nothing undecided is evicted, {warm_up:g} s of warm-up (until memory and
the table of traces have grown) and {seconds:g} s measured. The floor is `tracemill-load relay`,
which copies all bytes to the same sink; the sampler sends on only what it keeps. {pairs} pairs per
size. The collector, where it was measured, has the same YAML, one CPU and GOMAXPROCS by affinity.
{guided_said}
"""
GUIDED = "`guided` is the same tracemill as `perf/guided.sh` builds it."


def run(bench, options, results):
    pairs, seconds = tables.pairs(options), tables.seconds(options)
    warm_up = tables.warm_up(options)
    builds = ["tracemill", "guided"] if options.guided else ["tracemill"]
    for pair in range(1, pairs + 1):
        for cell in BARS:
            subjects = tables.in_turn(pair, ["relay", *builds])
            if options.collector and pair <= options.collector_pairs:
                subjects.append("collector")
            for side in subjects:
                row = one(bench, side, cell, seconds, warm_up)
                results.row(pair=pair, cell=cell, side=side, **row)
    said = SAID.format(
        **vars(options) | {"pairs": pairs, "seconds": seconds},
        num_traces=NUM_TRACES,
        warm_up=warm_up,
        guided_said=GUIDED if options.guided else "",
    )
    return said, summary(results)


def one(bench, side, cell, seconds, warm_up, rate=None):
    arguments = ["--spread", "4", "--request-bytes", cell, "--error-share", configs.ERROR_SHARE]
    if rate:
        arguments += ["--rate", f"{rate}spans/s"]
    with bench:
        sink, address = bench.sink("--traces-max", "0")
        if side == "relay":
            subject = bench.relay(address)
        else:
            subject = bench.sampler(side, address, wait=1, num_traces=NUM_TRACES)
        said = bench.load(subject, arguments, seconds=seconds, warm_up=warm_up)
        rss = subject.process.rss()
        subject.settle(10)
        row = trial.columns(said) | {"rss_mib": round(rss / 2**20, 2)}
        row |= trial.conservation(subject.page(), said)
        subject.stop()
        sink.kill()
    return row


def summary(results):
    out = ""
    for cell, bar in BARS.items():
        out += f"{cell}\n"
        for side in ("relay", "tracemill", "guided", "collector"):
            where = {"cell": cell, "side": side}
            if not results.values("cpu_ns_per_span", **where):
                continue
            rate = [v / 1e3 for v in results.values("spans_per_second", **where)]
            busy = [100 * v for v in results.values("cpu_share", **where)]
            per_core = [1e6 / v for v in results.values("cpu_ns_per_span", **where)]
            cpu = results.values("cpu_ns_per_span", **where)
            out += medians.line(f"{side} CPU", cpu, "ns/span")
            out += medians.line(f"{side} throughput", rate, "k spans/s")
            out += medians.line(f"{side} per core, all busy", per_core, "k spans/s")
            out += medians.line(f"{side} busy", busy, "% of its core")
            out += medians.line(f"{side} memory", results.values("rss_mib", **where), "MiB")
        kept = [100 * v for v in results.values("kept_share", cell=cell, side="tracemill")]
        out += medians.line("tracemill kept", kept, "% of the spans")
        floor = {"cell": cell, "side": "relay"}
        plain = {"cell": cell, "side": "tracemill"}
        ratio = results.paired("cpu_ns_per_span", plain, floor)
        out += medians.verdict("RATIO of CPU per span", ratio, bar, "x the relay")
        guided = {"cell": cell, "side": "guided"}
        if results.values("cpu_ns_per_span", **guided):
            ratio = results.paired("cpu_ns_per_span", guided, floor)
            out += medians.verdict("guided, RATIO", ratio, bar, "x the relay")
            ratio = results.paired("cpu_ns_per_span", guided, plain)
            out += medians.line("guided, of the plain build", ratio, "x")
        peer = {"cell": cell, "side": "collector"}
        if results.values("cpu_ns_per_span", **peer):
            ratio = results.paired("cpu_ns_per_span", peer, floor)
            out += medians.line("collector, RATIO", ratio, "x the relay")
        out += tables.accounts(results, cell=cell)
        if results.values("cpu_ns_per_span", **guided):
            out += tables.accounts(results, "guided", cell=cell)
    return out
