"""Sends traces with the Python SDK: python.py TRANSPORT COMPRESSION ENDPOINT TRACES SPANS

Spans of one trace leave in different requests. Ends with an error if an export fails.
"""

import sys

import grpc
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as Grpc
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as Http
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult


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
    roots = [tracer.start_span(f"root {i}") for i in range(traces)]
    for n in range(1, spans):
        for root in roots:
            context = trace.set_span_in_context(root)
            span = tracer.start_span("child", context=context, attributes={"n": n, "zero": 0})
            span.add_event("event")
            span.end()
    for root in roots:
        root.end()
    provider.force_flush()
    provider.shutdown()
    if counting.exported != traces * spans:
        sys.exit(f"{counting.exported} of {traces * spans} spans were exported")


main(*sys.argv[1:])
