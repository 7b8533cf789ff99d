"""Collector → tracemill → collector, cell by cell, written as a table.

One process of each: every cell has a receiver and an exporter of its own in the first collector and
in tracemill. Between the processes stand taps, so that the codec and TLS are seen on the wire.
"""

import collections
import contextlib
import datetime
import json
import os
import pathlib
import re
import sys
import tempfile

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces

import stage
from cells import SECURITIES, SIGNALS, certificates, first_line, judged, receivers
from credentials import Credentials
from stage import free_ports
from tap import Tap

HERE = pathlib.Path(__file__).parent
COUNT, REQUESTS = 200, 4
GRPC_CODECS = ("none", "gzip", "snappy", "zstd")
HTTP_CODECS = GRPC_CODECS[:3] + ("x-snappy-framed", "zstd", "zlib", "deflate", "lz4")
ROADS = ("router", "passed on", "sampler")
TRANSPORTS = ("grpc", "http/protobuf", "http/json")
# how a compressed message of gRPC begins
MAGIC = {"none": b"", "gzip": b"\x1f\x8b\x08", "zstd": b"\x28\xb5\x2f\xfd",
         "snappy": b"\xff\x06\x00\x00sNaPpY"}
PATHS = {signal: f"/opentelemetry.proto.collector.{name}.v1.{name.title()}Service/Export"
         for signal, name in zip(SIGNALS, ("trace", "logs", "metrics"))}


class Way(collections.namedtuple("Way", "road transport codec security")):
    """A row of the table in one security: what three signals share."""

    @property
    def name(self):
        return re.sub(r"\W", "-", "-".join(self))

    def prefix(self, signal):
        """The shape of `cells.Cell.prefix`; item names have it."""
        return ".".join((self.road, self.transport, self.codec, signal, self.security))

    @property
    def signals(self):
        return SIGNALS[:1] if self.road == "sampler" else SIGNALS

    @property
    def onward(self):
        """Transport and codec from tracemill on: `load_balancing` speaks gRPC alone."""
        if self.road != "router" or self.transport == "grpc":
            return self.transport, self.codec
        return "grpc", self.codec if self.codec in GRPC_CODECS else "gzip"


def ways():
    for road in ROADS:
        for transport in TRANSPORTS:
            for codec in GRPC_CODECS if transport == "grpc" else HTTP_CODECS:
                for security in SECURITIES:
                    yield Way(road, transport, codec, security)


def client_tls(security, directory):
    tls = {} if security == "roots" else {"ca_file": f"{directory}/ca.crt"}
    if security == "mTLS":
        tls |= {"cert_file": f"{directory}/client.crt", "key_file": f"{directory}/client.key"}
    return {"tls": {"insecure": True} if security == "plain" else tls}


def exporter(name, transport, codec, security, port, directory):
    """A named exporter's configuration, the same for the collector and for tracemill."""
    made = {"compression": codec, "retry_on_failure": {"enabled": False}}
    made |= client_tls(security, directory)
    if transport == "grpc":
        return {f"otlp_grpc/{name}": made | {"endpoint": f"localhost:{port}"}}
    scheme = "http" if security == "plain" else "https"
    made |= {"endpoint": f"{scheme}://localhost:{port}",
             "encoding": "json" if transport == "http/json" else "proto"}
    return {f"otlp_http/{name}": made}


def balancer(way, codec, ports, directory):
    protocol = {"compression": codec} | client_tls(way.security, directory)
    hostnames = [f"localhost:{port}" for port in ports]
    return {f"load_balancing/{way.name}": {
        "protocol": {"otlp": protocol}, "resolver": {"static": {"hostnames": hostnames}}}}


class Configuration:
    """A collector's or tracemill's, made way by way."""

    def __init__(self):
        self.config = {"receivers": {}, "processors": {}, "exporters": {}, "extensions": {},
                       "service": {"pipelines": {}}}

    def add(self, name, signals, receivers, exporters, processors=()):
        self.config["receivers"] |= receivers
        self.config["exporters"] |= exporters
        for signal in signals:
            self.config["service"]["pipelines"][f"{signal}/{name}"] = {
                "receivers": list(receivers), "processors": list(processors),
                "exporters": list(exporters)}

    def extend(self, extensions):
        self.config["extensions"] |= extensions
        self.config["service"]["extensions"] = list(self.config["extensions"])


def listening(name, transport, port, **settings):
    protocol = transport.partition("/")[0]
    return {f"otlp/{name}": {"protocols": {
        protocol: {"endpoint": f"127.0.0.1:{port}"} | settings}}}


def served(security, directory):
    if security == "plain":
        return {}
    tls = {"cert_file": f"{directory}/server.crt", "key_file": f"{directory}/server.key"}
    if security == "mTLS":
        tls["client_ca_file"] = f"{directory}/ca.crt"
    return {"tls": tls}


class Stage:
    """The three processes' configurations, and the taps between them."""

    def __init__(self, directory, all_ways, taps):
        self.directory, self.taps = directory, {}
        self.first, self.middle, self.last = (Configuration() for _ in range(3))
        made, self.ends = receivers(directory)
        self.last.add("all", SIGNALS, made, {"file": {"path": f"{directory}/out.json"}})
        # every way has its own receiver in the first collector
        self.sent_to = dict(zip(all_ways, free_ports(len(all_ways))))
        for way, port in zip(all_ways, free_ports(len(all_ways))):
            self.way(way, port, taps)

    def way(self, way, port, taps):
        transport, codec = way.onward
        end = self.ends[way.security, transport.partition("/")[0]]
        hops = [taps.enter_context(Tap(port, "")) for port in (port, end, end)]
        self.taps[way] = hops
        self.first.add(
            way.name, way.signals, listening(way.name, "grpc", self.sent_to[way]),
            {k: v | {"sending_queue": {"enabled": False}} for k, v in exporter(
                way.name, way.transport, way.codec, way.security, hops[0].port,
                self.directory).items()})
        if way.road == "router":
            out = balancer(way, codec, [hop.port for hop in hops[1:]], self.directory)
        else:
            out = exporter(way.name, transport, codec, way.security, hops[1].port, self.directory)
        if way.road == "sampler":
            self.middle.config["processors"]["tail_sampling"] = {
                "decision_wait": "1s", "policies": [{"name": "all", "type": "always_sample"}]}
        settings = served(way.security, self.directory)
        self.middle.add(
            way.name, way.signals, listening(way.name, way.transport, port, **settings), out,
            ["tail_sampling"] if way.road == "sampler" else [])

    def on_the_wire(self, way, signal):
        """What the bytes show that should not be, or nothing."""
        hops = self.taps[way]
        for (transport, codec), hops, which in (
                ((way.transport, way.codec), hops[:1], "to tracemill"),
                (way.onward, hops[1:], "from tracemill")):
            readable = sum(hop.readable(way.prefix(signal)) for hop in hops)
            if way.security != "plain" and readable:
                return f"in the clear {which}"
            if way.security != "plain":
                continue
            if (readable > COUNT // 2) != (codec == "none"):
                return f"{readable} of {COUNT} names are readable {which}"
            mark = MAGIC[codec] if transport == "grpc" else b"" if codec == "none" else (
                b"\r\ncontent-encoding: " + codec.encode() + b"\r\n")
            if not any(mark in part for hop in hops for sent in hop.sent
                       for part in (sent, sent.lower())):
                return f"not {codec} {which}"
        return ""


def request(signal, prefix, first):
    """COUNT / REQUESTS items, named prefix#N, of a service of their own."""
    names = [f"{prefix}#{n}" for n in range(first, first + COUNT // REQUESTS)]
    ids = [bytes(8) + (hash(name) % (1 << 64)).to_bytes(8, "big") for name in names]
    if signal == "traces":
        made = traces.ExportTraceServiceRequest()
        resource = made.resource_spans.add()
        scope = resource.scope_spans.add()
        for name, trace_id in zip(names, ids):
            scope.spans.add(name=name, trace_id=trace_id, span_id=trace_id[8:],
                            start_time_unix_nano=1, end_time_unix_nano=2)
    elif signal == "logs":
        made = logs.ExportLogsServiceRequest()
        resource = made.resource_logs.add()
        scope = resource.scope_logs.add()
        for name, trace_id in zip(names, ids):
            scope.log_records.add(trace_id=trace_id).body.string_value = name
    else:
        made = metrics.ExportMetricsServiceRequest()
        resource = made.resource_metrics.add()
        metric = resource.scope_metrics.add().metrics.add(name="m")
        metric.sum.aggregation_temporality = 2
        for name in names:
            point = metric.sum.data_points.add(as_int=1, time_unix_nano=2)
            point.attributes.add(key="id").value.string_value = name
    service = resource.resource.attributes.add(key="service.name")
    service.value.string_value = f"service {first}"
    return made.SerializeToString()


def send(port, signal, prefix):
    """What the first collector says against it, or nothing."""
    said = []
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        export = channel.unary_unary(PATHS[signal])
        for first in range(0, COUNT, COUNT // REQUESTS):
            try:
                export(request(signal, prefix, first), timeout=20)
            except grpc.RpcError as error:
                said.append(f"{error.code().name} {error.details()}")
    return said[0] if said else ""


def tried(words):
    """(way, signal) → what is wrong, if anything; and the same of credentials."""
    chosen = [w for w in ways() if all(word in w.prefix("") for word in words)]
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as taps:
        certificates(directory)
        on = Stage(directory, chosen, taps)
        credentials = Credentials(on, words)
        with stage.collector(directory, on.last.config, name="last") as last:
            last.wait_for(on.ends["mTLS", "http"])
            with stage.tracemill(directory, on.middle.config) as middle, \
                 stage.collector(directory, on.first.config, name="first") as first:
                for port in (*on.sent_to.values(), *credentials.sent_to.values()):
                    first.wait_for(port)
                said = {(way, signal): send(on.sent_to[way], signal, way.prefix(signal))
                        for way in chosen for signal in way.signals}
                credentials.send(send)
                first.stop()
                middle.stop()
                credentials.heard(middle)
            last.stop()
        seen = judged(f"{directory}/out.json")
        results = {}
        for (way, signal), wrong in said.items():
            complaints = [wrong, arrived(seen[way.prefix(signal)]), on.on_the_wire(way, signal)]
            results[way, signal] = "; ".join(filter(None, complaints))
        return results, list(credentials.judged(seen, arrived))


def arrived(items):
    if len(items) != COUNT:
        return f"{len(items)} of {COUNT} arrived"
    more = sum(items.values()) - COUNT
    return f"{more} arrived again" if more else ""


def row(*cells):
    return "| " + " | ".join(cells) + " |\n"


def table(results):
    """The rows and the notes under them."""
    columns = [(g, s) for g in SIGNALS for s in SECURITIES]
    text = row("tracemill", "transport", "compression", *(f"{g} {s}" for g, s in columns))
    text += row(*["---"] * (3 + len(columns)))
    notes = []
    for way in ways():
        if way.security != "plain":
            continue
        transport, codec = way.onward
        transports = [way.transport, *[f"→ {transport}"] * (transport != way.transport)]
        codecs = [way.codec, *[f"→ {codec}"] * (codec != way.codec)]
        cells = []
        for signal, security in columns:
            key = way._replace(security=security), signal
            if key not in results:
                cells.append("–")
                continue
            if results[key]:
                notes.append(f"{way.road} {way.transport} {way.codec} {signal} {security}: "
                             f"{results[key]}")
            cells.append(f"NO[^{len(notes)}]" if results[key] else "yes")
        text += row(way.road, " ".join(transports), " ".join(codecs), *cells)
    return text + "\n" + "".join(f"[^{n}]: {note}\n" for n, note in enumerate(notes, 1))


def write(results, credentials):
    bad = sum(map(bool, results.values()))
    text = f"""# Between collectors

Made by `tests/interop/collectors` on {datetime.date.today()}; not edited by hand. collector →
tracemill → collector: {len(results)} cells were tried, {len(results) - bad} yes, {bad} NO; and
{len(credentials)} ways to show credentials.

The first collector exports with a transport, codec and security, and tracemill takes it and exports
with the same to a second collector, which writes what arrives. Where `load_balancing` stands
between and the first hop is HTTP, the second is gRPC, with gzip if gRPC has no such codec. "yes":
all {COUNT} items, each with a name of its own, are in that file once, as the signal they were
sent as; nobody reported an error; and the bytes on both wires show the codec, and nothing readable
where there is TLS. The three processes each have all of these receivers and exporters at once.

- router: `load_balancing` over two backends, all three signals
- passed on: receiver → exporter, all three signals
- sampler: `tail_sampling` that keeps all; "–": it is for traces alone

gRPC has none, gzip, snappy and zstd, in both programs; `otlp_http` has all of these codecs.

tracemill: {first_line(os.environ["TRACEMILL"], "--version")};
collector: {first_line(os.environ["COLLECTOR"], "--version")};
runtimes: Python {sys.version.split()[0]}, grpcio {grpc.__version__},
{first_line("openssl", "version")}

{table(results)}
## Credentials

What is right must arrive complete; what is wrong must not arrive at all, and somebody must say why:
the first collector, or where tracemill is the one that shows, tracemill's log.

"""
    text += row("who shows", "who checks", "transport", "security", "right", "wrong", "said")
    text += row(*["---"] * 7)
    for result in credentials:
        text += row(*result)
    text += """
`headers_setter` of the collector is not in it: the module proxy that made this table does not have
its module. In its place the first collector's exporter has `headers`.
"""
    (HERE / "collectors.md").write_text(text, encoding="utf-8")


def main(words):
    results, credentials = tried(words)
    for (way, signal), wrong in results.items():
        if wrong:
            print(f"NO {way.prefix(signal)}: {wrong}")
    for result in credentials:
        print(" | ".join(result))
    bad = sum(map(bool, results.values())) + sum("NO" in r[4] + r[5] for r in credentials)
    print(f"{len(results)} cells, {len(credentials)} credentials, {bad} NO")
    if not words:
        write(results, credentials)
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
