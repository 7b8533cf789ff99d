"""tracemill with one balancer and a sink at fixed addresses, and what its metrics say."""

import json
import os
import subprocess
import sys
import tempfile
import time

import stage
from stage import Failure, Process, Sink

SECONDS_MAX = 30


def say(text):
    print(text, flush=True)


def until(what, holds):
    """Waits until `holds()`; fails after SECONDS_MAX."""
    end = time.monotonic() + SECONDS_MAX
    while time.monotonic() < end:
        if holds():
            say(f"ok    {what}")
            return
        time.sleep(0.1)
    raise Failure(f"not within {SECONDS_MAX} s: {what}")


class Backends(Sink):
    """The sink on given addresses."""

    def __init__(self, addresses):
        command = [os.environ["TRACEMILL_LOAD"], "sink", "--json", "--quiet"]
        command += ["--spans-max", str(1 << 22), "--listen", *addresses]
        Process.__init__(self, "sink", command, stdout=subprocess.PIPE)
        self.addresses = json.loads(self.process.stdout.readline())["listening"]


class Router(stage.Configured):
    """tracemill with `resolver`."""

    def __init__(self, directory, resolver, kind=None):
        config = stage.balancer([])
        config["exporters"]["load_balancing"]["resolver"] = resolver
        self.kind = kind or next(iter(resolver))
        super().__init__("tracemill", os.environ["TRACEMILL"], directory, config, metrics=True)

    def backends(self):
        return int(self.metric("otelcol_loadbalancer_num_backends"))

    def resolutions(self, success):
        labels = f'{{resolver="{self.kind}",success="{success}"}}'
        return int(self.metric("otelcol_loadbalancer_num_resolutions" + labels))

    def share(self, endpoint):
        labels = f'{{endpoint="{endpoint}",exporter="load_balancing"}}'
        return self.metric("tracemill_ring_share" + labels)

    def has_logged(self, text):
        self.log.seek(0)
        return text in self.log.read()


class Load:
    """`tracemill-load run` in the background."""

    def __init__(self, endpoint, seconds):
        command = [os.environ["TRACEMILL_LOAD"], "run", "--endpoint", endpoint, "--json", "--quiet"]
        command += ["--connections", "4", "--rate", "4000", "--for", f"{seconds}s"]
        command += ["--request-bytes", "8KiB"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def summary(self):
        out, _ = self.process.communicate(timeout=120)
        return json.loads(out.splitlines()[-1])


def delivered(sent, received):
    """What was acknowledged arrived, and nothing twice."""
    ok = sent["whole_run"]["ok"]["spans"]
    if ok == 0 or ok != sent["whole_run"]["sent"]["spans"]:
        raise Failure(f"not all was acknowledged: {sent['whole_run']}")
    if received["spans"] != ok or received["duplicate_spans"]:
        raise Failure(f"{ok} acknowledged, received: {received}")
    say(f"ok    {ok} spans acknowledged, each received once")


def main(scenario):
    with tempfile.TemporaryDirectory() as directory:
        try:
            scenario(directory)
        except Failure as e:
            sys.exit(f"FAILED {e}")
