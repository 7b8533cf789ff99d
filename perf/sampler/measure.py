"""Measures the sampler; see perf/sampler.sh. One module in `tables` for each table: it runs the
trials, says what they mean, and how it was done."""

import argparse
import os
import sys

import processes
from results import Results
from tables import cores, kinds, memory, overload, policies, same_rate, saturation, slices, traces
from trial import Bench

TABLES = {
    "saturation": saturation,
    "same-rate": same_rate,
    "memory": memory,
    "traces": traces,
    "policies": policies,
    "kinds": kinds,
    "slices": slices,
    "cores": cores,
    "overload": overload,
}
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

METHOD = """

How: `perf/sampler.sh` with the arguments in `env.txt`, fresh processes for each trial, everything on
loopback without TLS. The subject runs on CPU {cpu_subject} unless the table says otherwise;
generator, sink and the measuring program run on CPU {cpu_load}. CPU time is the sum over
`/proc/PID/task/*/schedstat`, all threads, read by the generator at both ends of the measured time,
divided by the spans that were answered OK between them. Ratios are taken inside a pair, which
has the subjects one directly after the other, the first one changing from pair to pair; medians come
with order statistics that enclose them with at least 95 % confidence (with fewer than six values:
the range). `summary.txt` is the table, `raw.csv` has every trial: `others_share` is what else ran on
the subject's CPU, `unaccounted_spans` is accepted - kept - dropped - lost - buffered on
the metrics page, `unanswered_spans` is what was accepted there and not answered OK.
"""
REHEARSAL = "\n**A rehearsal: small and short. These numbers mean nothing.**\n"


def arguments():
    parser = argparse.ArgumentParser(
        prog="perf/sampler.sh",
        description="Measures the sampler and writes perf/results/DATE-sampler-TABLE.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="tables:\n"
        + "".join(f"  {n:<12}{m.__doc__.splitlines()[0]}\n" for n, m in TABLES.items()),
    )
    add = parser.add_argument
    add("table", nargs="?", default="saturation", choices=[*TABLES, "all"], metavar="TABLE")
    add("--pairs", type=_positive, help="pairs (or trials) per cell; default 15, where a trial is"
        " long: 5")
    add("--for", dest="seconds", type=_seconds, help="measured time of a trial; default: 10s or as"
        " the table needs")
    add("--programs", required=True, metavar="DIR", help="where tracemill and tracemill-load are;"
        " without it they are built")
    add("--collector", metavar="FILE", help="the real collector, measured beside it")
    add("--guided", metavar="FILE", help="in the table saturation: a build of tracemill by"
        " perf/guided.sh, measured beside it")
    add("--collector-pairs", type=_positive, default=3, metavar="N", help="its trials; default 3")
    add("--cpu-subject", type=int, default=0, metavar="CPU", help="default 0")
    add("--cpu-load", type=int, default=1, metavar="CPU", help="default 1")
    add("--cpu-second", type=int, metavar="CPU", help="of the second shard, in the table cores;"
        " default: that of --cpu-load, which it then shares")
    add("--connections", type=_positive, default=8, metavar="N", help="default 8")
    add("--streams", type=_positive, default=4, metavar="N", help="per connection, default 4")
    add("--spans-max", type=_positive, default=16_000_000, metavar="N", help="most spans buffered"
        " in the table memory; default 16 million")
    add("--out", metavar="DIR", help="folder for the results, which must not exist; with `all` one"
        " that gets a folder for each table. Default: perf/results/DATE-sampler-TABLE")
    add("--rehearse", action="store_true", help="small, short, one pair: shows that it runs")
    options = parser.parse_args()
    options.many = options.table == "all"
    options.root = os.path.join(ROOT, "perf", "results")
    if options.rehearse:
        options.pairs = options.pairs or 1
        options.collector_pairs = 1
        if not options.out:
            parser.error("--rehearse needs --out: what it measures is not for perf/results")
    if options.cpu_second is None:
        options.cpu_second = options.cpu_load
    cpus = os.sched_getaffinity(0)
    for cpu in (options.cpu_subject, options.cpu_load, options.cpu_second):
        if cpu not in cpus:
            parser.error(f"CPU {cpu} is not among those of this process: {sorted(cpus)}")
    return options


def _positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return value


def _seconds(text):
    value = float(text[:-1] if text.endswith("s") else text)
    if value <= 0:
        raise argparse.ArgumentTypeError("more than no time")
    return value


def main():
    options = arguments()
    processes.end_with_this_process()
    # Away from the subject's CPU.
    os.sched_setaffinity(0, {options.cpu_load})
    names = list(TABLES) if options.many else [options.table]
    failed = []
    try:
        bench = Bench(options)
        results = {name: Results(name, options) for name in names}
    except processes.Failed as error:
        sys.exit(f"perf/sampler.sh: {error}")
    for name in names:
        print(f"{name}:", file=sys.stderr)
        try:
            said, summary = TABLES[name].run(bench, options, results[name])
        except processes.Failed as error:
            print(f"perf/sampler.sh: {name}: {error}", file=sys.stderr)
            failed.append(name)
            continue
        method = METHOD.format(**vars(options))
        note = REHEARSAL if options.rehearse else ""
        readme = f"# sampler: {name}\n{note}\n{said.strip()}{method}"
        results[name].finish(readme, summary)
    if failed:
        sys.exit(f"perf/sampler.sh: failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
