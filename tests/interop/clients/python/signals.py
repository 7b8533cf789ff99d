"""Sends one signal with the Python SDK.

signals.py SIGNAL TRANSPORT COMPRESSION ENDPOINT PREFIX COUNT [CA [CERT KEY]]
"""

import logging
import sys

import grpc
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogs
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetrics
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcTraces
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogs
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetrics
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpTraces
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import Counter, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

GRPC = {"traces": GrpcTraces, "logs": GrpcLogs, "metrics": GrpcMetrics}
HTTP = {"traces": HttpTraces, "logs": HttpLogs, "metrics": HttpMetrics}
GRPC_CODECS = {
    "none": grpc.Compression.NoCompression,
    "gzip": grpc.Compression.Gzip,
    "deflate": grpc.Compression.Deflate,
}


def read(path):
    with open(path, "rb") as file:
        return file.read()


def exporter(signal, transport, compression, endpoint, files):
    more = {}
    if signal == "metrics":
        more["preferred_temporality"] = {Counter: AggregationTemporality.DELTA}
    scheme = "https" if files else "http"
    if transport == "grpc":
        if files:
            ca, cert, key = [read(path) for path in files] + [None] * (3 - len(files))
            more["credentials"] = grpc.ssl_channel_credentials(ca, key, cert)
        return GRPC[signal](
            endpoint=f"{scheme}://{endpoint}",
            insecure=not files,
            compression=GRPC_CODECS[compression],
            **more,
        )
    ca, cert, key = files + [None] * (3 - len(files))
    return HTTP[signal](
        endpoint=f"{scheme}://{endpoint}/v1/{signal}",
        compression=Compression(compression),
        certificate_file=ca,
        client_certificate_file=cert,
        client_key_file=key,
        **more,
    )


def send(signal, export, names):
    limits = {"max_queue_size": len(names) + 64, "max_export_batch_size": 64}
    if signal == "traces":
        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(export, **limits))
        for name in names:
            provider.get_tracer("interop").start_span(name).end()
    elif signal == "logs":
        provider = LoggerProvider()
        provider.add_log_record_processor(BatchLogRecordProcessor(export, **limits))
        for name in names:
            record = LogRecord(body=name, severity_number=SeverityNumber.INFO)
            provider.get_logger("interop").emit(record)
    else:
        provider = MeterProvider([PeriodicExportingMetricReader(export)])
        counter = provider.get_meter("interop").create_counter("items")
        for name in names:
            counter.add(1, {"id": name})
    if signal != "metrics":
        provider.force_flush()
    provider.shutdown()


def main(signal, transport, compression, endpoint, prefix, count, *files):
    logging.basicConfig()
    export = exporter(signal, transport, compression, endpoint, list(files))
    send(signal, export, [f"{prefix}#{n}" for n in range(int(count))])


main(*sys.argv[1:])
