"""One trial: fresh processes, one run of the generator, what all of them say."""

import json
import os
import shutil
import signal
import tempfile
import time

import configs
import metrics
from processes import Failed, Process, busy_seconds, end_all, free_ports, wait_for_port

ACCEPTED = "tracemill_sampler_accepted_spans"
KEPT = "tracemill_sampler_kept_spans"
DROPPED = "tracemill_sampler_dropped_spans"
LOST = "tracemill_sampler_lost_spans"
BUFFERED = "tracemill_sampler_buffered_spans"
BYTES = "tracemill_sampler_buffer_bytes"
EARLY = "tracemill_sampler_decided_early_traces"
EVICTED = "otelcol_processor_tail_sampling_sampling_trace_dropped_too_early"


class Bench:
    """The programs, the CPUs, and a scratch folder for the time of one trial."""

    def __init__(self, options):
        self.options = options
        self.tool = _program(os.path.join(options.programs, "tracemill-load"))
        self.subjects = {"tracemill": _program(os.path.join(options.programs, "tracemill"))}
        for kind in ("guided", "collector"):
            if getattr(options, kind):
                self.subjects[kind] = _program(getattr(options, kind))
        self.folder = None
        self._helps = {}

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="tracemill-perf-")
        return self

    def __exit__(self, *_):
        # Nothing is left after a trial that worked.
        end_all()
        shutil.rmtree(self.folder, ignore_errors=True)

    def knows(self, command, option):
        """Whether the load tool has an option: an older one may be measured with."""
        if command not in self._helps:
            process = Process([self.tool, command, "--help"], [self.options.cpu_load], read=True)
            self._helps[command] = process.rest()
        return option in self._helps[command]

    def sink(self, *arguments):
        """A sink on a free port, and its address."""
        command = [self.tool, "sink", "--json", "--quiet", "--listen", "127.0.0.1:0", *arguments]
        return self._listening(command, self.options.cpu_load)

    def relay(self, to):
        command = [self.tool, "relay", "--json", "--listen", "127.0.0.1:0", "--to", to]
        process, address = self._listening(command, self.options.cpu_subject)
        return Subject("relay", process, address, None)

    def _listening(self, command, cpu):
        process = Process(command, [cpu], read=True)
        return process, json.loads(process.line())["listening"][0]

    def sampler(self, kind, sink, cpus=None, engine=None, **config):
        """`kind` with this configuration (see `configs.sampler`), ready for traffic."""
        cpus = cpus or [self.options.cpu_subject]
        ports = free_ports(2)
        files = {"sampler.yaml": configs.sampler(ports, sink, **config)}
        if kind != "collector":
            files["tracemill.yaml"] = {
                "tracemill": {"cores": len(cpus), "cpus": cpus, **(engine or {})}
            }
        command = [self.subjects[kind]]
        folder = tempfile.mkdtemp(dir=self.folder)
        for name, content in files.items():
            path = os.path.join(folder, name)
            with open(path, "w", encoding="utf-8") as file:
                json.dump(content, file, indent=1)
            command += ["--config", path]
        process = Process(command, cpus, log=os.path.join(folder, "subject.log"))
        wait_for_port(ports[0], process)
        wait_for_port(ports[1], process)
        return Subject(kind, process, f"127.0.0.1:{ports[0]}", ports[1])

    def load(self, subject, arguments, *, seconds, warm_up=0, watch=None, interval=0.25):
        """Runs the generator to its end and gives what it says. Meanwhile `watch` is called with
        the seconds since the start, every `interval`."""
        command = [self.tool, "run", "--json", "--quiet", "--endpoint", subject.endpoint]
        command += ["--watch", subject.process.pid, "--for", f"{seconds}s"]
        command += ["--warm-up", f"{warm_up}s", *arguments]
        if "--connections" not in arguments:
            command += ["--connections", self.options.connections]
        if "--rate" not in arguments and "--streams" not in arguments:
            command += ["--streams", self.options.streams]
        folder = tempfile.mkdtemp(dir=self.folder)
        log = os.path.join(folder, "load.log")
        out = os.path.join(folder, "load.json")
        cpu = self.options.cpu_subject
        start, busy, own = time.monotonic(), busy_seconds(cpu), subject.process.cpu_ns()
        process = Process(command, [self.options.cpu_load], log=log, out=out)
        while not process.ended():
            time.sleep(interval if watch else 0.1)
            if watch:
                watch(time.monotonic() - start)
            if subject.process.ended():
                raise Failed(f"{subject.kind} ended under load{subject.process.said()}")
        others = busy_seconds(cpu) - busy - (subject.process.cpu_ns() - own) / 1e9
        process.kill()
        try:
            with open(out, encoding="utf-8") as file:
                said = json.load(file)
        except ValueError:
            raise Failed(f"the generator does not say what it measured{process.said()}") from None
        said["others_share"] = max(others, 0) / (time.monotonic() - start)
        return said


def _program(path):
    if not os.access(path, os.X_OK) or os.path.isdir(path):
        raise Failed(f"{path} is missing, or is no program; build it, or see --help")
    return os.path.abspath(path)


class Subject:
    """What is measured."""

    def __init__(self, kind, process, endpoint, metrics_port):
        self.kind = kind
        self.process = process
        self.endpoint = endpoint
        self.metrics_port = metrics_port

    def page(self):
        return metrics.read(self.metrics_port) if self.metrics_port else metrics.Page("")

    def settle(self, patience):
        """Waits until it buffers nothing; true if it came to that."""
        until = time.monotonic() + patience
        while time.monotonic() < until:
            if not self.page().total(BUFFERED):
                return True
            time.sleep(0.2)
        return False

    def stop(self):
        self.process.stop(signal.SIGTERM)


def columns(said):
    """What every table writes down of one run of the generator."""
    measured, whole = said["measured"], said["whole_run"]
    watched = measured["watched"] or {}
    latency = measured["latency"] or {}
    return {
        "spans_per_second": round(measured["spans_per_second"]),
        "cpu_ns_per_span": round(watched.get("cpu_ns_per_span", float("nan")), 2),
        "cpu_share": round(watched.get("cpu_share", float("nan")), 4),
        "load_cpu_share": round(measured["own_cpu_share"], 4),
        "others_share": round(said["others_share"], 4),
        "p50_us": latency.get("p50_us"),
        "p99_us": latency.get("p99_us"),
        "max_us": latency.get("max_us"),
        "not_ok_requests": whole["sent"]["requests"] - whole["ok"]["requests"],
    }


def conservation(page, said):
    """What the metrics page of tracemill says of the whole run: shares of what was decided, and how
    many spans cannot be accounted for."""
    accepted = page.total(ACCEPTED)
    if accepted is None:
        return {}
    kept, dropped, lost, buffered = (page.total(n) or 0 for n in (KEPT, DROPPED, LOST, BUFFERED))
    return {
        "kept_share": round(kept / max(kept + dropped, 1), 4),
        "lost_spans": int(lost),
        "evicted_traces": int(page.total(EVICTED) or 0),
        "early_traces": int(page.total(EARLY) or 0),
        "unaccounted_spans": int(accepted - kept - dropped - lost - buffered),
        "unanswered_spans": int(accepted - said["whole_run"]["ok"]["spans"]),
    }
