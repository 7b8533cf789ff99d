"""A folder of results: raw.csv grows with every trial, the rest is written at the end. It has its
name only when it is complete, and an older one is never touched."""

import csv
import datetime
import os
import sys

from processes import Failed


class Results:
    def __init__(self, table, options):
        self.table = table
        day = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
        self.folder = options.out or os.path.join(options.root, f"{day}-sampler-{table}")
        if options.out and options.many:
            self.folder = os.path.join(options.out, f"{day}-sampler-{table}")
        if os.path.exists(self.folder):
            raise Failed(f"{self.folder} is there already; move it away, or see --out")
        self.partial = self.folder + ".partial"
        if os.path.exists(self.partial):
            raise Failed(f"{self.partial} is what an aborted run has left; remove it first")
        self.rows = []
        self.names = []
        self.environment = _environment()

    def row(self, **values):
        """One trial."""
        self.rows.append(values)
        if not os.path.isdir(self.partial):
            os.makedirs(self.partial)
        self.names += [name for name in values if name not in self.names]
        with open(os.path.join(self.partial, "raw.csv"), "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, self.names, lineterminator="\n", restval="")
            writer.writeheader()
            writer.writerows(self.rows)
        short = {k: v for k, v in values.items() if k in _SHOWN}
        print("  " + "  ".join(f"{k} {v}" for k, v in short.items()), file=sys.stderr, flush=True)

    def values(self, name, **where):
        """This column of the rows where these columns have these values."""
        return [row[name] for row in self._where(where) if row.get(name) not in (None, "")]

    def paired(self, name, over, under):
        """Ratios of a column between the rows of `over` and `under`, inside each pair."""
        below = {row["pair"]: row[name] for row in self._where(under) if row.get(name)}
        rows = self._where(over)
        return [r[name] / below[r["pair"]] for r in rows if r["pair"] in below and r.get(name)]

    def total(self, name, **where):
        return sum(self.values(name, **where))

    def _where(self, where):
        return [row for row in self.rows if all(row.get(k) == v for k, v in where.items())]

    def finish(self, readme, summary):
        os.makedirs(self.partial, exist_ok=True)
        texts = {"README.md": readme, "summary.txt": summary, "env.txt": self.environment}
        for name, text in texts.items():
            with open(os.path.join(self.partial, name), "w", encoding="utf-8") as file:
                file.write(text)
        os.rename(self.partial, self.folder)
        print(f"{self.table}, written to {self.folder}\n{summary}", flush=True)


_SHOWN = (
    "pair",
    "cell",
    "side",
    "spans_per_second",
    "cpu_ns_per_span",
    "bytes_per_span",
    "ratio",
    "cpu_share",
    "rss_max_mib",
    "taken_share",
)


def _environment():
    def read(path):
        try:
            with open(path, encoding="utf-8") as file:
                return file.read()
        except OSError:
            return "unknown\n"

    def first(text, key):
        return next((row for row in text.splitlines() if row.startswith(key)), f"{key} unknown")

    # Programs by name: where they lie is not part of the method.
    arguments = " ".join(a.rstrip("/").rsplit("/", 1)[-1] for a in sys.argv[1:])
    return (
        read("/proc/version")
        + first(read("/proc/cpuinfo"), "model name")
        + f"\ncpus: {os.cpu_count()}\n"
        + first(read("/proc/meminfo"), "MemTotal")
        + "\ntcp_rmem: "
        + read("/proc/sys/net/ipv4/tcp_rmem")
        + "tcp_wmem: "
        + read("/proc/sys/net/ipv4/tcp_wmem")
        + "load average before: "
        + read("/proc/loadavg")
        + f"perf/sampler.sh {arguments}\n"
    )
