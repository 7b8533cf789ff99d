"""The tables. Each module has `run(bench, options, results)`, which gives the text that says what
was done, and the summary. The first line of its doc is what `--help` says."""

import medians

# Interrupts and the kernel's threads take a few per cent.
OTHERS_MAX = 0.1


def pairs(options, default=15):
    return options.pairs or default


def seconds(options, default=10.0):
    return options.seconds or (2.0 if options.rehearse else default)


def warm_up(options):
    """Long enough to take all memory that the load needs, and to fill the table of traces: the
    page faults of the first seconds are no cost of a span."""
    return 2.0 if options.rehearse else 10.0


def in_turn(pair, sides):
    """The sides of a pair, another one first each time."""
    sides = list(sides)
    at = pair % len(sides)
    return sides[at:] + sides[:at]


def sides(options, pair):
    """tracemill, and the collector in the first pairs if there is one."""
    both = ["tracemill"]
    if options.collector and pair <= options.collector_pairs:
        both.append("collector")
    return in_turn(pair, both)


def accounts(results, side="tracemill", **where):
    """Whether every span of every trial of a build of tracemill is accounted for, and whether it had
    its CPU to itself."""
    said = []
    names = {
        "not_ok_requests": "requests not answered OK",
        "lost_spans": "spans lost",
        "evicted_traces": "traces evicted",
        "early_traces": "decided early",
        "unaccounted_spans": "spans unaccounted",
    }
    for name, what in names.items():
        said.append(f"{what} {results.total(name, side=side, **where):.0f}")
    out = f"  {side}, all trials: {', '.join(said)}\n"
    others = medians.median(results.values("others_share", side=side, **where))
    if others and others.value > OTHERS_MAX:
        out += f"  NOT ALONE: others had {100 * others.value:.0f} % of its CPU; do not trust this\n"
    return out
