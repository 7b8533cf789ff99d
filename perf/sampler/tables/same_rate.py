"""CPU per span beside the relay at the same rate: 50 and 75 % of the sampler's saturation

No bar. At saturation the relay moves several times as much as the sampler, in larger pieces."""

import medians
import tables
from tables import saturation

SHARES = (50, 75)

SAID = """
The traffic and the sampler of the table `saturation`, in open loop at {shares} % of what the sampler
reached in a closed loop in a trial of its own before the first pair, the relay at the same rate.
{warm_up:g} s of warm-up and {seconds:g} s measured, {pairs} pairs for each size and rate.
"""


def run(bench, options, results):
    pairs, seconds = tables.pairs(options), tables.seconds(options)
    warm_up = tables.warm_up(options)
    rates = {}
    for size in saturation.BARS:
        most = saturation.one(bench, "tracemill", size, seconds, warm_up)["spans_per_second"]
        for share in SHARES:
            rates[f"{size} {share} %"] = (size, most * share // 100)
    for pair in range(1, pairs + 1):
        for cell, (size, rate) in rates.items():
            for side in tables.in_turn(pair, ["relay", "tracemill"]):
                row = saturation.one(bench, side, size, seconds, warm_up, rate)
                results.row(pair=pair, cell=cell, side=side, **row)
    shares = " and ".join(map(str, SHARES))
    return SAID.format(shares=shares, warm_up=warm_up, seconds=seconds, pairs=pairs), summary(results, rates)


def summary(results, rates):
    out = ""
    for cell in rates:
        out += f"{cell}\n"
        for side in ("relay", "tracemill"):
            where = {"cell": cell, "side": side}
            rate = [v / 1e3 for v in results.values("spans_per_second", **where)]
            busy = [100 * v for v in results.values("cpu_share", **where)]
            out += medians.line(f"{side} CPU", results.values("cpu_ns_per_span", **where), "ns/span")
            out += medians.line(f"{side} throughput", rate, "k spans/s")
            out += medians.line(f"{side} busy", busy, "% of its core")
        sides = [{"cell": cell, "side": side} for side in ("tracemill", "relay")]
        ratio = results.paired("cpu_ns_per_span", *sides)
        out += medians.line("RATIO of CPU per span", ratio, "x the relay")
        out += tables.accounts(results, cell=cell)
    return out
