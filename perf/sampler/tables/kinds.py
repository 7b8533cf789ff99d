"""CPU per span that one policy of each kind adds, regex and OTTL among them

Reported, no bar."""

import configs
import medians
import tables
from tables.policies import one

SAID = """
What one policy of each kind adds to the CPU per span, in ns: the difference inside a round to
`nothing`, which is probabilistic 0 % and reads no span. No policy ever holds, so each is asked for
every span and nothing is sent on. Traffic as in the table `policies`: closed loop, requests of
64 KiB, 8 spans per trace in 4 requests, {seconds:g} s measured, {pairs} rounds. Differences of
a few ns are below what this can see.
"""


def run(bench, options, results):
    pairs, seconds = tables.pairs(options), tables.seconds(options, 5.0)
    kinds = list(configs.KINDS)
    if options.rehearse:
        kinds = ["nothing", "string_attribute regex", "ottl IsMatch"]
    for pair in range(1, pairs + 1):
        for kind in tables.in_turn(pair, kinds):
            row = one(bench, [{"name": "p", **configs.KINDS[kind]}], seconds)
            results.row(pair=pair, cell=kind, side="tracemill", **row)
    return SAID.format(pairs=pairs, seconds=seconds), summary(results, kinds)


def summary(results, kinds):
    def cost(kind):
        rows = [row for row in results.rows if row["cell"] == kind]
        return {row["pair"]: row["cpu_ns_per_span"] for row in rows}

    nothing = cost("nothing")
    out = medians.line("nothing: CPU", nothing.values(), "ns/span")
    for kind in kinds[1:]:
        added = [value - nothing[pair] for pair, value in cost(kind).items()]
        out += medians.line(f"{kind} ADDS", added, "ns/span", 1)
    return out + tables.accounts(results)
