"""The same traces through the collector's balancer and through ours, to the same backends.

The backends are the collector as well, with a file each; every trace must end at the same one.
"""

import json
import pathlib
import random

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service

import stage
from stage import Failure

TRACES, SPANS, BACKENDS = 1500, 2, 3
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


def requests(router):
    """Each span of a trace in another request; the resource says which router took it."""
    ids = random.Random(3)
    traces = [ids.randbytes(16) for _ in range(TRACES)]
    for n in range(SPANS):
        for start in range(0, TRACES, 250):
            request = service.ExportTraceServiceRequest()
            resource = request.resource_spans.add()
            attribute = resource.resource.attributes.add(key="router")
            attribute.value.string_value = router
            scope = resource.scope_spans.add()
            for trace in traces[start : start + 250]:
                scope.spans.add(
                    trace_id=trace, span_id=(n + 1).to_bytes(8, "big"), name="span",
                    start_time_unix_nano=1, end_time_unix_nano=2,
                )
            yield request


def send(router, port):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        export = channel.unary_unary(EXPORT)
        for request in requests(router):
            export(request.SerializeToString(), timeout=20)


def homes(files):
    """router → trace id → the backends that it was seen at; and the spans per router."""
    seen, spans = {}, {}
    for backend, file in enumerate(files):
        for line in file.read_text().splitlines():
            for resource in json.loads(line)["resourceSpans"]:
                router = resource["resource"]["attributes"][0]["value"]["stringValue"]
                for scope in resource["scopeSpans"]:
                    for span in scope["spans"]:
                        at = seen.setdefault(router, {}).setdefault(span["traceId"], set())
                        at.add(backend)
                        spans[router] = spans.get(router, 0) + 1
    return seen, spans


def backends(scratch, ports, files):
    """One collector with a receiver, a pipeline and a file per backend."""
    names = [str(n) for n in range(BACKENDS)]
    config = {
        "receivers": {
            f"otlp/{n}": {"protocols": {"grpc": {"endpoint": f"127.0.0.1:{port}"}}}
            for n, port in zip(names, ports)
        },
        "exporters": {f"file/{n}": {"path": str(file)} for n, file in zip(names, files)},
        "service": {
            "pipelines": {
                f"traces/{n}": {"receivers": [f"otlp/{n}"], "exporters": [f"file/{n}"]}
                for n in names
            }
        },
    }
    return stage.collector(scratch, config, name="backends", metrics=True)


def compare(scratch):
    ports = stage.free_ports(BACKENDS)
    files = [pathlib.Path(scratch) / f"{n}.json" for n in range(BACKENDS)]
    addresses = [f"127.0.0.1:{port}" for port in ports]
    with backends(scratch, ports, files) as stores:
        stores.wait_for(ports[-1])
        for name, start in (("collector", stage.collector), ("tracemill", stage.tracemill)):
            with start(scratch, stage.balancer(addresses, "gzip")) as router:
                router.started()
                send(name, router.grpc)
                router.stop()
        accepted = stores.metric("otelcol_receiver_accepted_spans")
        stores.stop()
    seen, spans = homes(files)
    sent = TRACES * SPANS
    if spans != {"collector": sent, "tracemill": sent} or accepted != 2 * sent:
        raise Failure(f"sent {sent} to each router, {spans} arrived, {accepted} were accepted")
    split = [t for homes in seen.values() for t, at in homes.items() if len(at) != 1]
    if split:
        raise Failure(f"{len(split)} traces are split")
    moved = [t for t, at in seen["collector"].items() if seen["tracemill"].get(t) != at]
    if moved:
        raise Failure(f"{len(moved)} of {TRACES} traces went elsewhere, the first is {moved[0]}")
    return sent, spans["tracemill"]
