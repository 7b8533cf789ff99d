"""More than fits: a memory_limiter of 200 MiB, twice the spans that it has room for

Bars: resident memory at most 264 MiB, half of the offer taken, every kept trace whole."""

import os
import time

import configs
import medians
import tables
import trial

LIMIT_MIB, MARGIN_MIB = 200, 64
LIMITER = {"check_interval": "1s", "limit_mib": LIMIT_MIB, "spike_limit_mib": 40}
SPANS_PER_REQUEST = 144

SAID = """
More than fits. `memory_limiter` {limit} MiB (spike 40), `decision_wait` {wait} s, `num_traces` large,
policies as in the table `saturation`; {rate:,} spans/s are offered in open loop for {seconds:g} s,
8 spans per trace in 4 requests of {per_request} spans, and what is refused is not sent again. Read:
the most resident memory (the kernel's VmHWM), the share of the offered spans that was answered OK
(offered is rate x time, whether a stream was free or not).

Whole: the generator writes down the traces all of whose requests were answered OK, the sink how
many spans of each trace came. Of those traces, one with an error must have come (`status_code` keeps
it), and any that came must have all of its spans. `missing` and `torn` are those that did not; what
the process itself has counted as lost, evicted and decided early stands beside them.{skipped}

{pairs} trials.
"""


def run(bench, options, results):
    pairs, seconds = tables.pairs(options, 5), tables.seconds(options, 30.0)
    if options.rehearse:
        seconds = max(seconds, 4.0)
    rate, wait = 200_000, 2 if options.rehearse else 10
    judged = bench.knows("run", "--traces-file") and bench.knows("sink", "--traces-file")
    for pair in range(1, pairs + 1):
        for side in tables.sides(options, pair):
            row = one(bench, side, rate, wait, seconds, judged)
            results.row(pair=pair, cell=f"{LIMIT_MIB} MiB", side=side, **row)
    skipped = "" if judged else " Not judged: this tracemill-load has no --traces-file."
    said = SAID.format(
        limit=LIMIT_MIB,
        wait=wait,
        rate=rate,
        seconds=seconds,
        per_request=SPANS_PER_REQUEST,
        skipped=skipped,
        pairs=pairs,
    )
    return said, summary(results)


def one(bench, side, rate, wait, seconds, judged):
    arguments = ["--rate", f"{rate}spans/s", "--spread", "4", "--error-share", configs.ERROR_SHARE]
    arguments += ["--spans-per-request", SPANS_PER_REQUEST, "--drain", "15s"]
    with bench:
        sent, came = (os.path.join(bench.folder, name) for name in ("sent", "came"))
        watching = ["--traces-max", "8388608"]
        if judged:
            arguments += ["--traces-file", sent]
            watching += ["--traces-file", came]
        sink, address = bench.sink(*watching)
        config = {"wait": wait, "num_traces": 10_000_000, "limiter": LIMITER}
        subject = bench.sampler(side, address, **config)
        said = bench.load(subject, arguments, seconds=seconds)
        # The collector has no gauge of what it buffers: it gets its wait and time to send.
        if side == "tracemill":
            subject.settle(wait + 20)
        else:
            time.sleep(wait + 5)
        page = subject.page()
        rss = subject.process.rss_max()
        subject.stop()
        sink.stop()
        sink.rest()
        whole = judge(sent, came) if judged else {}
    taken = said["whole_run"]["ok"]["spans"]
    return {
        "rss_max_mib": round(rss / 2**20, 1),
        "taken_share": round(taken / (rate * seconds), 4),
        **trial.columns(said),
        **trial.conservation(page, said),
        **whole,
    }


def judge(sent, came):
    """What the sink has seen of the traces that were taken whole."""
    arrived = {}
    with open(came, encoding="ascii") as file:
        for row in file:
            trace, spans = row.split()
            arrived[trace] = int(spans)
    counts = {"whole_traces": 0, "owed_traces": 0, "missing": 0, "torn": 0, "twice": 0}
    with open(sent, encoding="ascii") as file:
        for row in file:
            trace, spans, error = row.split()
            there = arrived.get(trace, 0)
            counts["owed_traces"] += error == "error"
            counts["whole_traces"] += there == int(spans)
            counts["missing"] += error == "error" and there == 0
            counts["torn"] += 0 < there < int(spans)
            counts["twice"] += there > int(spans)
    return counts


def summary(results):
    out = ""
    for side in ("tracemill", "collector"):
        where = {"side": side}
        if not results.values("taken_share", **where):
            continue
        out += f"{side}\n"
        taken = [100 * v for v in results.values("taken_share", **where)]
        memory = results.values("rss_max_mib", **where)
        out += medians.verdict("resident memory, most", memory, LIMIT_MIB + MARGIN_MIB, "MiB")
        out += medians.line("share of the offer taken (aim: 50)", taken, "%")
        out += medians.line("CPU", results.values("cpu_ns_per_span", **where), "ns/span taken")
        if results.values("owed_traces", **where):
            counts = (f"{name} {results.total(name, **where)}" for name in _JUDGED)
            out += f"  traces taken whole, all trials: {', '.join(counts)}\n"
        if side == "tracemill":
            out += tables.accounts(results)
    return out


_JUDGED = ("owed_traces", "whole_traces", "missing", "torn", "twice")
