"""Sends traces with the Python SDK: python.py TRANSPORT COMPRESSION ENDPOINT TRACES SPANS

Spans of one trace leave in different requests. Ends with an error if an export fails.
Prints the traces' ids. The last digit of a trace's number makes it what it is: with 0 its first
child is an error, with 1 its first child is wanted, and with 2 it takes 2000 ms from the start of
the root to the end of the last child; all others take 1999 ms.
"""

import sys
import time

import grpc
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as Grpc
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as Http
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import StatusCode

MS = 1_000_000


class Counting(SpanExporter):
    """Counts what the exporter says."""

    def __init__(self, exporter):
        self.exporter, self.exported = exporter, 0

    def export(self, spans):
        result = self.exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            self.exported += len(spans)
        return result

    def shutdown(self):
        self.exporter.shutdown()


def main(transport, compression, endpoint, traces, spans):
    traces, spans = int(traces), int(spans)
    if transport == "grpc":
        kind = grpc.Compression.Gzip if compression == "gzip" else grpc.Compression.NoCompression
        exporter = Grpc(endpoint=endpoint, insecure=True, compression=kind)
    else:
        kind = Compression.Gzip if compression == "gzip" else Compression.NoCompression
        exporter = Http(endpoint=f"http://{endpoint}/v1/traces", compression=kind)
    counting = Counting(exporter)
    provider = TracerProvider(resource=Resource.create({"service.name": "interop-python"}))
    provider.add_span_processor(
        BatchSpanProcessor(
            counting, max_export_batch_size=64, max_queue_size=traces * spans + 64
        )
    )
    tracer = provider.get_tracer("interop")
    begin = time.time_ns()
    roots = [tracer.start_span(f"root {i}", start_time=begin) for i in range(traces)]
    for n in range(1, spans):
        start = begin + (1998 * MS if n == spans - 1 else 0)
        for i, root in enumerate(roots):
            context = trace.set_span_in_context(root)
            attributes = {"n": n, "zero": 0, "wanted": "yes" if (i % 10, n) == (1, 1) else "no"}
            span = tracer.start_span("child", context, attributes=attributes, start_time=start)
            span.set_status(StatusCode.ERROR if (i % 10, n) == (0, 1) else StatusCode.OK)
            span.add_event("event")
            span.end(start + (2 if i % 10 == 2 else 1) * MS)
    for root in roots:
        root.end(begin + MS)
        print(trace.format_trace_id(root.get_span_context().trace_id))
    provider.force_flush()
    provider.shutdown()
    if counting.exported != traces * spans:
        sys.exit(f"{counting.exported} of {traces * spans} spans were exported")


main(*sys.argv[1:])
