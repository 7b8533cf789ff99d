"""Starts and stops what stands on the stage: tracemill, the sink, the collector."""

import contextlib
import json
import os
import pathlib
import select
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request

TOOLS = pathlib.Path(os.environ["TOOLS"])
START_SECONDS = 20
STOP_SECONDS = 30


class Failure(Exception):
    """A row failed, and why."""


def free_ports(count):
    """Ports that nobody listens on, below the range that outgoing connections are given."""
    sockets = []
    port = free_ports.next
    while len(sockets) < count:
        port += 1
        s = socket.socket()
        try:
            s.bind(("127.0.0.1", port))
            sockets.append(s)
        except OSError:
            s.close()
    free_ports.next = port
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


free_ports.next = 20_000 + os.getpid() % 8_000


class Process:
    """A program with its log; `stop` sends SIGTERM and wants exit code 0."""

    def __init__(self, name, command, stdout=None):
        self.name = name
        self.log = tempfile.TemporaryFile(mode="w+", prefix=name)
        self.process = subprocess.Popen(
            command, stdout=stdout or self.log, stderr=self.log, text=True
        )

    def logged(self):
        self.log.seek(0)
        return "".join(self.log.readlines()[-15:])

    def wait_for(self, port):
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise Failure(f"{self.name} did not start:\n{self.logged()}")
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            time.sleep(0.05)
        raise Failure(f"{self.name} does not listen on {port}:\n{self.logged()}")

    def stop(self, codes=(0,)):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(STOP_SECONDS)
        if code not in codes:
            raise Failure(f"{self.name} ended with {code}:\n{self.logged()}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log.close()


class Sink(Process):
    """`tracemill-load sink` on four addresses."""

    def __init__(self, *options):
        listen = [f"127.0.0.1:{port}" for port in free_ports(4)]
        command = [os.environ["TRACEMILL_LOAD"], "sink", "--json", "--quiet"]
        command += ["--spans-max", str(1 << 20), *options, "--listen", *listen]
        super().__init__("sink", command, stdout=subprocess.PIPE)
        ready, _, _ = select.select([self.process.stdout], [], [], START_SECONDS)
        line = self.process.stdout.readline() if ready else ""
        if not line:
            raise Failure(f"the sink did not start:\n{self.logged()}")
        self.addresses = json.loads(line)["listening"]

    def summary(self):
        # 1 says that traces are split; whether they may be is the reader's to judge.
        self.stop(codes=(0, 1))
        return json.loads(self.process.stdout.read().splitlines()[-1])


class Configured(Process):
    """A program that runs a configuration with an otlp receiver."""

    def __init__(self, name, program, directory, config, metrics=False):
        self.grpc, self.http, self.metrics = free_ports(3)
        config["receivers"] = config.get("receivers") or {
            "otlp": {
                "protocols": {
                    "grpc": {"endpoint": f"127.0.0.1:{self.grpc}"},
                    "http": {"endpoint": f"127.0.0.1:{self.http}"},
                }
            }
        }
        reader = {"pull": {"exporter": {"prometheus": {"host": "127.0.0.1", "port": self.metrics}}}}
        config["service"]["telemetry"] = {
            "metrics": {"readers": [reader]} if metrics else {"level": "none"}
        }
        path = pathlib.Path(directory) / f"{name}.yaml"
        # JSON is YAML
        path.write_text(json.dumps(config, indent=2))
        super().__init__(name, [program, "--config", str(path)])

    def started(self):
        self.wait_for(self.grpc)
        return self

    def metric(self, name):
        """The sum over all series of a metric."""
        url = f"http://127.0.0.1:{self.metrics}/metrics"
        with urllib.request.urlopen(url, timeout=10) as reply:
            lines = reply.read().decode().splitlines()
        of_it = [line for line in lines if line.startswith((name + "{", name + " "))]
        return sum(float(line.rsplit(" ", 1)[1]) for line in of_it)


def tracemill(directory, config, name="tracemill", **options):
    return Configured(name, os.environ["TRACEMILL"], directory, config, **options)


def collector(directory, config, name="collector", **options):
    return Configured(name, os.environ["COLLECTOR"], directory, config, **options)


def balancer(addresses, compression="none"):
    """otlp → load_balancing over `addresses`."""
    client = {"tls": {"insecure": True}, "compression": compression}
    return {
        "exporters": {
            "load_balancing": {
                "protocol": {"otlp": client},
                "resolver": {"static": {"hostnames": addresses}},
            }
        },
        "service": {"pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["load_balancing"]}}},
    }


def forwarder(address, **client):
    """otlp → otlp_grpc to one `address`, all three signals."""
    exporter = {"endpoint": address, "tls": {"insecure": True}, **client}
    pipeline = {"receivers": ["otlp"], "exporters": ["otlp_grpc"]}
    return {
        "exporters": {"otlp_grpc": exporter},
        "service": {"pipelines": {s: dict(pipeline) for s in ("traces", "metrics", "logs")}},
    }
