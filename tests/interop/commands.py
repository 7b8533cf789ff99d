"""What command line clients hear from the receivers, beside what the collector's say to them."""

import base64
import collections
import contextlib
import datetime
import gzip
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree
import zlib

from google.protobuf import descriptor_pb2
from google.rpc import status_pb2
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces

import stage
from cells import certificates, first_line, receivers
from stage import TOOLS

HERE = pathlib.Path(__file__).parent
BIN = TOOLS / "bin"
SECONDS = 60
CALLS = 2000
EXPORT = "opentelemetry.proto.collector.{0}.v1.{1}Service/Export"
TRACES = EXPORT.format("trace", "Trace")
SPAN = {"name": "a", "traceId": "0102030405060708090a0b0c0d0e0f10", "spanId": "0102030405060708",
        "startTimeUnixNano": "1", "endTimeUnixNano": "2"}
# the same for clients that take bytes in base64
BYTES = SPAN | {"traceId": "AQIDBAUGBwgJCgsMDQ4PEA==", "spanId": "AQIDBAUGBwg="}
ORIGIN = "https://app.example"

Check = collections.namedtuple("Check", "client what command want why", defaults=("",))


def request(span, **resource):
    return {"resourceSpans": [{**resource, "scopeSpans": [{"spans": [span]}]}]}


def many(trace_id):
    """Spans of many traces, for backends that are not all there."""
    spans = [SPAN | {"traceId": trace_id(n)} for n in range(1, 101)]
    return {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}


def protoset():
    """The descriptors that grpcurl and ghz need, since neither receiver has reflection."""
    files = descriptor_pb2.FileDescriptorSet()
    seen = set()

    def add(descriptor):
        if descriptor.name not in seen:
            seen.add(descriptor.name)
            for dependency in descriptor.dependencies:
                add(dependency)
            files.file.append(descriptor_pb2.FileDescriptorProto.FromString(
                descriptor.serialized_pb))

    def named(messages):
        # ghz takes JSON's names from here alone
        for message in messages:
            for field in message.field:
                first, *rest = field.name.split("_")
                field.json_name = first + "".join(word.title() for word in rest)
            named(message.nested_type)

    for service in (traces, logs, metrics):
        add(service.DESCRIPTOR)
    for file in files.file:
        named(file.message_type)
    # a service that no receiver has
    other = files.file.add(name="other.proto", package="other", syntax="proto3",
                           dependency=[traces.DESCRIPTOR.name])
    kind = ".opentelemetry.proto.collector.trace.v1.ExportTraceService"
    other.service.add(name="Other").method.add(
        name="Export", input_type=kind + "Request", output_type=kind + "Response")
    return files.SerializeToString()


def bodies(directory):
    """Writes the files that are sent."""
    made = traces.ExportTraceServiceRequest()
    span = made.resource_spans.add().scope_spans.add().spans.add(name="a")
    span.trace_id, span.span_id = bytes(range(1, 17)), bytes(range(1, 9))
    protobuf = made.SerializeToString()
    text = json.dumps(request(SPAN)).encode()
    wide = traces.ExportTraceServiceRequest()
    wide.resource_spans.add().schema_url = "x" * (21 << 20)
    wide = wide.SerializeToString()
    for name, content in {
        "otlp.protoset": protoset(), "pb": protobuf, "json": text,
        "logs.json": b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{}]}]}]}',
        "metrics.json": b'{"resourceMetrics":[]}', "empty": b"",
        "pb.gz": gzip.compress(protobuf), "json.gz": gzip.compress(text),
        "json.deflate": zlib.compress(text), "bad.pb": b"\x0a\xff",
        "bad.json": b'{"resourceSpans": [', "wrong.json": b'{"resourceSpans": 7}',
        "id.json": json.dumps(request(SPAN | {"traceId": "01"})).encode(),
        "wide.pb": wide, "bomb.gz": gzip.compress(wide),
        "many.json": json.dumps(many(lambda n: f"{n:032x}")).encode(),
        "grpc": b"\0" + len(protobuf).to_bytes(4, "big") + protobuf,
    }.items():
        (directory / name).write_bytes(content)


class Server:
    """A program under test, with the receivers of the three securities and one that wants a password."""

    def __init__(self, start, directory):
        made, self.ports = receivers(directory)
        self.ports["basic", "grpc"], self.ports["basic", "http"] = stage.free_ports(2)
        auth = {"auth": {"authenticator": "basicauth"}}
        made["otlp/basic"] = {"protocols": {
            protocol: {"endpoint": f"127.0.0.1:{self.ports['basic', protocol]}"} | auth
            for protocol in ("grpc", "http")}}
        made["otlp/plain"]["protocols"]["http"]["cors"] = {"allowed_origins": [ORIGIN]}
        pipeline = {"receivers": list(made), "exporters": ["nop"]}
        self.config = {
            "receivers": made, "exporters": {"nop": {}},
            "extensions": {"basicauth": {"htpasswd": {"inline": "a:secret"}}},
            "service": {"extensions": ["basicauth"], "pipelines": {
                s: dict(pipeline) for s in ("traces", "metrics", "logs")}},
        }
        self.directory, self.start = directory, start
        self.ports["partial", "grpc"], self.ports["partial", "http"] = stage.free_ports(2)
        if start is stage.tracemill:
            self.half_dead()

    def half_dead(self):
        """A balancer over the receiver of the first pipeline and one that is not there."""
        self.config["receivers"]["otlp/partial"] = {"protocols": {
            protocol: {"endpoint": f"127.0.0.1:{self.ports['partial', protocol]}"}
            for protocol in ("grpc", "http")}}
        backends = [f"127.0.0.1:{self.ports['plain', 'grpc']}", "127.0.0.1:9"]
        self.config["exporters"]["load_balancing"] = {
            "protocol": {"otlp": {"tls": {"insecure": True}, "sending_queue": {"queue_size": 1}}},
            "resolver": {"static": {"hostnames": backends}}}
        self.config["service"]["pipelines"]["traces/partial"] = {
            "receivers": ["otlp/partial"], "exporters": ["load_balancing"]}
        self.config["tracemill"] = {"drain_timeout": "1s"}

    @contextlib.contextmanager
    def running(self):
        with self.start(self.directory, self.config) as process:
            for (security, _), port in self.ports.items():
                if security != "partial" or self.start is stage.tracemill:
                    process.wait_for(port)
            yield self
            process.stop()

    def to(self, security, protocol):
        return f"localhost:{self.ports[security, protocol]}"


def curl(what, want, path="/v1/traces", file="pb", kind="application/x-protobuf",
         security="plain", secure=None, extra=(), port="http", why=""):
    """POSTs a file."""
    def command(server):
        secured = security in ("TLS", "mTLS") if secure is None else secure
        made = ["curl", "-sS", "--max-time", "20", "-w", "\n%{http_code} %{http_version} "
                "%{content_type}", "--cacert", f"{server.directory}/ca.crt"]
        if file:
            made += ["--data-binary", f"@{server.directory}/{file}"]
        if kind is not None:
            made += ["-H", f"Content-Type: {kind}"]
        url = f"http{'s' * secured}://{server.to(security, port)}{path}"
        return [*made, *(e.format(d=server.directory) for e in extra), url]

    return Check("curl", what, command, want, why)


def grpcurl(what, want, data=None, method=TRACES, security="plain", extra=("-plaintext",), why=""):
    def command(server):
        made = [BIN / "grpcurl", "-max-time", "20", "-protoset",
                f"{server.directory}/otlp.protoset",
                "-d", json.dumps(request(BYTES) if data is None else data)]
        return [*made, *(e.format(d=server.directory) for e in extra),
                server.to(security, "grpc"), method]

    return Check("grpcurl", what, command, want, why)


def ghz(what, want, security="plain", extra=("--insecure",), why=""):
    def command(server):
        made = [BIN / "ghz", "--protoset", f"{server.directory}/otlp.protoset", "--call", TRACES,
                "-n", str(CALLS), "-c", "20", "--connections", "4", "-O", "json",
                "-d", json.dumps(request(BYTES))]
        return [*made, *(e.format(d=server.directory) for e in extra), server.to(security, "grpc")]

    return Check("ghz", what, command, want, why)


def h2load(what, want, file="pb", kind="application/x-protobuf", security="plain", port="http",
           path="/v1/traces", extra=(), why=""):
    def command(server):
        scheme = "http" if security == "plain" else "https"
        return ["h2load", "-n", str(CALLS), "-c", "4", "-m", "10", "-d",
                f"{server.directory}/{file}", "-H", f"content-type: {kind}", *extra,
                f"{scheme}://{server.to(security, port)}{path}"]

    return Check("h2load", what, command, want, why)


# h2spec: why tracemill's gRPC port does not pass, where it does not
ARGUED = {
    "half-closed (remote) stream": "the answer to what is not gRPC has no DATA: trailers alone",
    "exceeds the SETTINGS_MAX_FRAME_SIZE": "20 KB, and the receiver has announced 64 KiB",
    "concurrent stream limit": "those before were answered at once: they are over",
    "second HEADERS frame without the END_STREAM": "refused for its content type before that",
    "which does not equal the": "refused for its content type before the DATA came",
}
ALONE = "not asked"
JSON = "application/json"
GZIP = ("-H", "Content-Encoding: gzip")
H1, H2 = ("--http1.1",), ("--http2",)
CLIENT = ("--cert", "{d}/client.crt", "--key", "{d}/client.key")
CORS = ("-X", "OPTIONS", "-H", f"Origin: {ORIGIN}", "-H", "Access-Control-Request-Method: POST",
        "-D", "-", "-o", "/dev/null")


def curls():
    """What is right."""
    for security in ("plain", "TLS", "mTLS"):
        client = CLIENT if security == "mTLS" else ()
        for version in (H1, H2) if security != "plain" else (H1,):
            protocol = "2" if version is H2 else "1.1"
            ok = rf"^200 {protocol} "
            name = f"{'HTTP/' + protocol}, {security}"
            extra = (*version, *client)
            yield curl(f"protobuf, {name}", ok + "application/x-protobuf", security=security,
                       extra=extra)
            yield curl(f"JSON, {name}", ok + r'application/json \{"partialSuccess":\{\}\}',
                       file="json", kind=JSON, security=security, extra=extra)
            yield curl(f"protobuf gzip, {name}", ok, file="pb.gz", security=security,
                       extra=(*extra, *GZIP))
            yield curl(f"JSON gzip, {name}", ok, file="json.gz", kind=JSON, security=security,
                       extra=(*extra, *GZIP))
    yield curl("JSON deflate", "^200 1.1", file="json.deflate", kind=JSON,
               extra=("-H", "Content-Encoding: deflate"))
    yield curl("JSON logs", "^200 1.1", path="/v1/logs", file="logs.json", kind=JSON)
    yield curl("JSON metrics", "^200 1.1", path="/v1/metrics", file="metrics.json", kind=JSON)
    yield curl("JSON with charset", "^200 1.1", file="json", kind=JSON + "; charset=utf-8")
    yield curl("empty body", "^200 1.1", file="empty")
    yield curl("chunked", "^200 1.1", extra=("-H", "Transfer-Encoding: chunked"))
    yield curl("Expect: 100-continue", "^200 1.1", extra=("-H", "Expect: 100-continue"))
    yield curl("HTTP/1.0", r"^200 1(\.1)? ", extra=("--http1.0",))
    yield curl("h2c with prior knowledge", "", extra=("--http2-prior-knowledge",))
    yield curl("h2c by Upgrade", "^200 1.1", extra=H2)
    yield curl("password", "^200 1.1", security="basic", extra=("-u", "a:secret"))
    yield curl("CORS preflight", f"(?i)access-control-allow-origin: {ORIGIN}", file=None,
               kind=None, extra=CORS)


def partials():
    """Before the last one the queue of the backend that is not there is full."""
    first, again = (f"100 traces, one of two backends dead, {time}" for time in ("first", "again"))
    yield curl(first, "^200 1.1 application/json", file="many.json", kind=JSON,
               security="partial", why=ALONE)
    rejected = '"errorMessage":"sending queue is full: .*","rejectedSpans":"\\d+"'
    yield curl(again, rejected, file="many.json", kind=JSON, security="partial", why=ALONE)
    spans = many(lambda n: base64.b64encode(n.to_bytes(16, "big")).decode())
    for span in spans["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        span["spanId"] = BYTES["spanId"]
    yield grpcurl(again, r'^0 .*"rejectedSpans": "\d+", "errorMessage": "sending queue is full',
                  data=spans, security="partial", why=ALONE)


def curl_refusals():
    yield curl("unknown path", "^404", path="/v1/trace")
    yield curl("root path", "^404", path="/")
    yield curl("GET", "^405", file=None, kind=None)
    yield curl("text/plain", "^415", kind="text/plain")
    yield curl("no content type", "^415", extra=("-H", "Content-Type:"), kind=None)
    yield curl("Content-Encoding: br", "^400 .*br", extra=("-H", "Content-Encoding: br"))
    yield curl("protobuf called gzip", "^400 .*(gzip|encoding)", extra=GZIP)
    yield curl("bad protobuf", "^400 ", file="bad.pb")
    yield curl("JSON called protobuf", "^400 ", file="json")
    yield curl("protobuf called JSON", "^400 ", kind=JSON)
    yield curl("JSON cut off", "^400 ", file="bad.json", kind=JSON)
    yield curl("JSON of another type", "^400 .*resourceSpans|^400", file="wrong.json", kind=JSON)
    yield curl("trace id of 1 byte", "^400 .*(?i:trace.?id|length)", file="id.json", kind=JSON)
    yield curl("21 MiB", "^4(00|13) .*(?i:large|limit|big)", file="wide.pb")
    yield curl("21 MiB from 20 KB of gzip", "^4(00|13) .*(?i:large|limit|big)", file="bomb.gz",
               extra=GZIP)
    yield curl("no password", "^401 ", security="basic")
    yield curl("wrong password", "^401 ", security="basic", extra=("-u", "a:guess"))
    yield curl("no certificate to mTLS", "curl: .*certificate required", security="mTLS")
    yield curl("http:// to a TLS port", "^400 1 .*HTTPS server", security="TLS", secure=False)
    yield curl("https:// to a plaintext port", "curl: .*", security="plain", secure=True)
    yield curl("HTTP/1.1 to the gRPC port", "^4|curl: ", port="grpc")
    yield curl("HTTP/2 without gRPC to the gRPC port", "^415 ", port="grpc", file="empty",
               extra=("--http2-prior-knowledge",))


def grpcurls():
    secure = ("-cacert", "{d}/ca.crt")
    client = ("-cert", "{d}/client.crt", "-key", "{d}/client.key")
    password = ("-plaintext", "-H", "authorization: Basic YTpzZWNyZXQ=")
    yield grpcurl("traces", r"^0 \{.*\}$")
    yield grpcurl("logs", r"^0 \{.*\}$", data={"resourceLogs": []}, method=EXPORT.format(
        "logs", "Logs"))
    yield grpcurl("metrics", r"^0 \{.*\}$", data={"resourceMetrics": []}, method=EXPORT.format(
        "metrics", "Metrics"))
    yield grpcurl("TLS", r"^0 \{.*\}$", security="TLS", extra=secure)
    yield grpcurl("mTLS", r"^0 \{.*\}$", security="mTLS", extra=secure + client)
    yield grpcurl("password", r"^0 \{.*\}$", security="basic", extra=password)
    yield grpcurl("no password", "Unauthenticated", security="basic")
    yield grpcurl("no certificate to mTLS", "certificate", security="mTLS", extra=secure)
    yield grpcurl("plaintext to TLS", "^1 ", security="TLS")
    yield grpcurl("TLS to plaintext", "^1 .*TLS", extra=secure)
    yield grpcurl("unknown service", "Unimplemented.*unknown service other.Other",
                  method="other.Other/Export")
    yield grpcurl("trace id of 1 byte", "Internal|InvalidArgument",
                  data=request(BYTES | {"traceId": "AQ=="}))
    yield grpcurl("span id of 1 byte", "Internal|InvalidArgument",
                  data=request(BYTES | {"spanId": "AQ=="}))


def loads():
    every = rf"^0 {CALLS} OK$"
    yield ghz(f"{CALLS} calls, plaintext", every)
    yield ghz(f"{CALLS} calls, gzip", every, extra=("--insecure", "-e"))
    yield ghz(f"{CALLS} calls, TLS", every, security="TLS", extra=("--cacert", "{d}/ca.crt"))
    yield ghz(f"{CALLS} calls, mTLS", every, security="mTLS", extra=(
        "--cacert", "{d}/ca.crt", "--cert", "{d}/client.crt", "--key", "{d}/client.key"))
    done = rf"^0 {CALLS} 2xx, 0 4xx, 0 5xx, 0 failed"
    yield h2load(f"{CALLS} × protobuf, HTTP/1.1, plaintext", done, extra=("--h1",))
    yield h2load(f"{CALLS} × JSON, HTTP/1.1, TLS", done, file="json", kind=JSON, security="TLS",
                 extra=("--h1",))
    yield h2load(f"{CALLS} × protobuf, HTTP/2, TLS", done, security="TLS")
    yield h2load(f"{CALLS} × JSON, HTTP/2, TLS", done, file="json", kind=JSON, security="TLS")
    for security in ("plain", "TLS"):
        yield h2load(f"{CALLS} × gRPC, {security}", done, file="grpc", kind="application/grpc",
                     security=security, port="grpc", path=f"/{TRACES}",
                     extra=("-H", "te: trailers"))


def one_line(text):
    text = re.sub(r"(localhost|127\.0\.0\.1|\[::1\]):\d+", r"\1:PORT", text)
    text = re.sub(r"[\x00-\x08\x0e-\x1f\x7f]", lambda m: f"\\x{ord(m[0]):02x}", text)
    return " ".join(text.split())


def heard(check, server):
    """What the client makes of the answer, in one line."""
    done = subprocess.run(check.command(server), capture_output=True, timeout=SECONDS)
    out, err = done.stdout, done.stderr.decode(errors="replace")
    if check.client == "curl":
        body, _, status = out.rpartition(b"\n")
        status = status.decode()
        if b"HTTP/" in body[:5]:
            # headers of a preflight
            lines = sorted(body.decode().lower().splitlines())
            return one_line(status + " ".join(h for h in lines if h.startswith("access-")))
        if "application/x-protobuf" in status and not status.startswith("200"):
            body = str(status_pb2.Status.FromString(body)).encode()
        if status.startswith("000"):
            status = ""
        return one_line(f"{status} {body.decode(errors='replace')} {err}")
    if check.client == "grpcurl":
        return one_line(f"{done.returncode} {out.decode()} {err}")
    if check.client == "ghz":
        spread = json.loads(out)["statusCodeDistribution"] if out else {}
        codes = ", ".join(f"{n} {code}" for code, n in spread.items())
        return one_line(f"{done.returncode} {codes} {err}")
    status = re.search(r"status codes: (.*) 2xx, .* 3xx, (.*) 4xx, (.*) 5xx", out.decode())
    failed = re.search(r"(\d+) failed", out.decode())
    return one_line(f"{done.returncode} " + "{} 2xx, {} 4xx, {} 5xx, ".format(*status.groups())
                    + failed[0] + f" {err}")


def specified(server, directory):
    """h2spec: port → the failures, and how many there were in all."""
    results = {}
    for title, security, protocol, options in (
            ("gRPC, plaintext", "plain", "grpc", ("-P", f"/{TRACES}")),
            ("HTTP, TLS", "TLS", "http", ("-t", "-k", "-P", "/v1/traces"))):
        report = pathlib.Path(directory) / "h2spec.xml"
        port = server.ports[security, protocol]
        done = subprocess.run([BIN / "h2spec", "-S", "-p", str(port), "-o", "2", "-j", report,
                               *options], capture_output=True, text=True, timeout=600)
        failures, total = [], 0
        said = done.stdout.splitlines()[-1]
        for case in xml.etree.ElementTree.parse(report).iter("testcase"):
            total += 1
            if (failure := case.find("error")) is not None:
                failures.append((case.get("package"), case.get("classname"),
                                 one_line(failure.text or "")))
        if f"{total} tests" not in said or f"{len(failures)} failed" not in said:
            raise stage.Failure(f"h2spec: {said}, {len(failures)} in the report")
        results[title] = total, failures
    return results


def shown(text):
    text = text.replace("|", "\\|").replace("`", "'")
    return f"`{text[:300]}`" if text else "nothing"


def table(rows):
    text = "| client | what | tracemill | as it should | collector |\n|---|---|---|---|---|\n"
    for check, ours, theirs, good in rows:
        theirs = theirs if theirs == ALONE else "the same" if ours == theirs else shown(theirs)
        text += f"| {check.client} | {check.what} | {shown(ours)} | {good} | {theirs} |\n"
    return text


def conformance(ours, theirs):
    """The tables of h2spec, and how many failures nobody has argued."""
    text, bad = "", 0
    for title, (total, failures) in ours.items():
        both = {case[:2]: case[2] for case in failures}
        them = {case[:2]: case[2] for case in theirs[title][1]}
        text += (f"\n{title}: of {total} cases {len(both)} failed; of the collector's {len(them)}.\n"
                 "\n| case | | tracemill | collector |\n|---|---|---|---|\n")
        for case in sorted({*both, *them}):
            cell = "passed"
            if case in both:
                why = [why for what, why in ARGUED.items() if what in case[1]]
                bad += not why
                cell = why[0] if why else "NO: " + shown(both[case])
            other = "failed" if case in them else "passed"
            text += f"| {case[0]} | {case[1]} | {cell} | {other} |\n"
    return text, bad


def versions():
    return ", ".join((
        first_line("curl", "--version").split(" (")[0],
        first_line(BIN / "grpcurl", "--version"),
        "ghz 0.93.0",
        first_line("h2load", "--version").replace(" nghttp2/", " "),
        "h2spec 2.2.1",
    ))


def main(words):
    checks = [c for make in (curls, partials, curl_refusals, grpcurls, loads) for c in make()
              if all(word in f"{c.client} {c.what}" for word in words)]
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        certificates(directory)
        bodies(directory)
        answers = []
        for start in (stage.tracemill, stage.collector):
            with Server(start, directory).running() as server:
                answers.append([c.why if c.why and start is stage.collector else heard(c, server)
                                for c in checks])
                if not words or "h2spec" in words:
                    answers[-1].append(specified(server, directory))
    rows = [(c, ours, theirs, "yes" if re.search(c.want, ours) else "NO")
            for c, ours, theirs in zip(checks, *answers)]
    for check, ours, theirs, good in rows:
        print(f"{good} {check.client}: {check.what}: {ours}")
        if ours != theirs:
            print(f"    collector: {theirs}")
    bad = sum(row[3] == "NO" for row in rows)
    print(f"{len(rows)} checks, {bad} NO")
    spec = ""
    if len(answers[0]) > len(checks):
        spec, unargued = conformance(answers[0][-1], answers[1][-1])
        bad += unargued
    print(spec)
    if not words:
        write(rows, bad, spec)
    return int(bool(bad))


def write(rows, bad, spec):
    same = sum(ours == theirs for _, ours, theirs, _ in rows)
    (HERE / "commands.md").write_text(f"""# Command line clients

Made by `tests/interop/commands` on {datetime.date.today()}; not edited by hand. {len(rows)} checks:
{len(rows) - bad} as it should be, {bad} NO. In {same} the client shows the same, to the byte, for
the collector; the others are named differences of words, or show what the collector does.

Each row is one command against a receiver of tracemill and the same of the collector, and what it
shows: curl the status, HTTP version, content type and body (protobuf as text), grpcurl and ghz
their exit code and what they say. grpcurl and ghz are given the protocol by file: neither program
has reflection.

tracemill: {first_line(os.environ["TRACEMILL"], "--version")};
collector: {first_line(os.environ["COLLECTOR"], "--version")};
clients: {versions()}

{table(rows)}
## h2spec

All cases, the strict ones too, against both ports. Where tracemill fails, the cell says why that is
as it should be. Some of them depend on what comes first, and pass or not from run to run.
{spec}""", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
