"""Requests that must be refused: the same one to the collector and to tracemill.

The answers must be the expected ones (otlp 2.2, 1.6) and equal to each other. The columns `sent`
and `arrived` show the collector's answer and ours.
"""

import gzip
import http.client

import grpc

import stage
from stage import Failure

TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
LIMIT = 4 << 20
PROTOBUF = {"Content-Type": "application/x-protobuf"}


def varint(n):
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes([*out, n])


def padded(size):
    """A valid request of about `size` bytes: an empty span list and a long schema_url."""
    url = b"\x1a" + varint(size) + b"x" * size
    return b"\x0a" + varint(len(url)) + url


def by_grpc(path, body, compression=None, wait=20):
    def ask(server):
        options = [("grpc.max_send_message_length", -1)]
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc}", options) as channel:
            try:
                channel.unary_unary(path)(body, timeout=wait, compression=compression)
            except grpc.RpcError as error:
                return error.code().name
        return "OK"

    return ask


def by_http(method, path, body, headers):
    def ask(server):
        connection = http.client.HTTPConnection("127.0.0.1", server.http, timeout=20)
        try:
            connection.request(method, path, body, headers)
            return connection.getresponse().status
        finally:
            connection.close()

    return ask


GRPC = (
    ("unknown method", by_grpc(TRACES.replace("Export", "Import"), b""), "UNIMPLEMENTED"),
    ("unknown service", by_grpc("/a.b.C/Export", b""), "UNIMPLEMENTED"),
    ("malformed path", by_grpc("/nothing", b""), "UNIMPLEMENTED"),
    ("oversized message", by_grpc(TRACES, padded(LIMIT)), "RESOURCE_EXHAUSTED"),
    ("oversized once inflated", by_grpc(TRACES, padded(LIMIT), grpc.Compression.Gzip),
     "RESOURCE_EXHAUSTED"),
    ("just within the limit", by_grpc(TRACES, padded(LIMIT - 100)), "OK"),
    ("unknown encoding", by_grpc(TRACES, padded(2000), grpc.Compression.Deflate),
     "UNIMPLEMENTED"),
    ("bad body", by_grpc(TRACES, b"\x0a\xff"), "INTERNAL"),
    ("bad span", by_grpc(TRACES, b"\x0a\x06\x12\x04\x12\x02\x0a\x07"), "INTERNAL"),
    ("empty request", by_grpc(TRACES, b""), "OK"),
)
HTTP = (
    ("bad body", by_http("POST", "/v1/traces", b"\x0a\xff", PROTOBUF), 400),
    ("bad gzip", by_http("POST", "/v1/traces", b"no gzip",
                         PROTOBUF | {"Content-Encoding": "gzip"}), 400),
    ("unknown encoding", by_http("POST", "/v1/traces", b"",
                                 PROTOBUF | {"Content-Encoding": "br"}), 400),
    ("other content type", by_http("POST", "/v1/traces", b"", {"Content-Type": "text/plain"}),
     415),
    ("not POST", by_http("GET", "/v1/traces", None, {}), 405),
    ("unknown path", by_http("POST", "/v1/nothing", b"", PROTOBUF), 404),
    ("gzip body", by_http("POST", "/v1/traces", gzip.compress(padded(2000)),
                          PROTOBUF | {"Content-Encoding": "gzip"}), 200),
)


def check(ask, want):
    def both(scratch):
        config = {
            "exporters": {"nop": {}},
            "service": {"pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["nop"]}}},
        }
        answers = []
        for start in (stage.collector, stage.tracemill):
            with start(scratch, dict(config)) as server:
                answers.append(ask(server.started()))
                server.stop()
        if answers != [want, want]:
            theirs, ours = answers
            raise Failure(f"{want} is expected, the collector says {theirs}, tracemill {ours}")
        return answers

    return both


def checks():
    """`(name, transport, check)`."""
    for name, ask, want in GRPC:
        yield name, "grpc", check(ask, want)
    for name, ask, want in HTTP:
        yield name, "http", check(ask, want)
