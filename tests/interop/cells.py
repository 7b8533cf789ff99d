"""The matrix: what each SDK's exporters can do, tried cell by cell, and written as a table."""

import collections
import concurrent.futures
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
import tempfile

import stage
from stage import TOOLS, Failure, free_ports
from tap import Tap

HERE = pathlib.Path(__file__).parent
SIGNALS = ("traces", "logs", "metrics")
SECURITIES = ("plain", "TLS", "mTLS")
TRANSPORTS = ("grpc", "http/protobuf", "http/json")
COUNT = 200
CLIENT_SECONDS = 60
CLIENTS_AT_ONCE = 2

COMMANDS = {
    "python": [sys.executable, str(HERE / "clients/python/signals.py")],
    "js": ["node", str(TOOLS / "js/signals.mjs")],
    "java": ["java", "-Xmx256m", "-cp", f"{TOOLS}/java:{TOOLS}/java/jars/*", "Signals"],
    "go": [str(TOOLS / "bin/go-signals")],
    "rust": [str(TOOLS / "rust/debug/interop-signals")],
}
CODECS = {
    ("python", "grpc"): ("none", "gzip", "deflate"),
    ("python", "http/protobuf"): ("none", "gzip", "deflate"),
    ("js", "grpc"): ("none", "gzip"),
    ("js", "http/protobuf"): ("none", "gzip"),
    ("js", "http/json"): ("none", "gzip"),
    ("java", "grpc"): ("none", "gzip", "zstd"),
    ("java", "http/protobuf"): ("none", "gzip", "zstd"),
    ("go", "grpc"): ("none", "gzip"),
    ("go", "http/protobuf"): ("none", "gzip"),
    ("go", "http/json"): ("none", "gzip"),
    ("rust", "grpc"): ("none", "gzip", "zstd"),
    ("rust", "http/protobuf"): ("none", "gzip", "zstd"),
    ("rust", "http/json"): ("none", "gzip", "zstd"),
}
# why an SDK has no exporter for a transport or for a signal there, or no codec
NOT_OFFERED = {
    ("python", "http/json"): "the SDK's HTTP exporters write protobuf alone",
    ("java", "http/json"): "the HTTP exporters' builders offer protobuf alone",
    ("go", "http/json", "logs"): "`otlploghttp` writes protobuf alone",
    ("go", "http/json", "metrics"): "`otlpmetrichttp` writes protobuf alone",
    ("python", "zstd"): "gRPC's `Compression` and the HTTP exporters' end with gzip and deflate",
    ("js", "zstd"): "the exporters' `CompressionAlgorithm` is none or gzip",
    ("go", "zstd"): "the exporters' options name gzip alone",
}
NOTED = {
    ("java", "zstd"): "zstd is a service of the SDK's `Compressor` interface beside the client, "
    "made with zstd-jni; the SDK itself brings gzip alone",
}
# what the collector's receiver refuses too: each is sent to it as well, and must be
REFUSED = {("python", "grpc", "deflate"): 'UNIMPLEMENTED, error details: grpc: Decompressor is '
           'not installed for grpc-encoding "deflate"'}


def certificates(directory):
    """An authority, a server's certificate for localhost, and a client's."""
    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=interop",
            "-days", "2", "-addext", "keyUsage=critical,keyCertSign")
    for name, usage in (("server", "serverAuth"), ("client", "clientAuth")):
        openssl("req", "-x509", *key, "-keyout", f"{name}.key", "-out", f"{name}.crt",
                "-subj", f"/CN={name}", "-CA", "ca.crt", "-CAkey", "ca.key", "-days", "2",
                "-addext", "basicConstraints=critical,CA:FALSE",
                "-addext", f"extendedKeyUsage={usage}",
                "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")


def receivers(directory):
    """Three receivers of one process, and the port of each security and protocol."""
    served = {"cert_file": f"{directory}/server.crt", "key_file": f"{directory}/server.key"}
    both = served | {"client_ca_file": f"{directory}/ca.crt"}
    ports, made = {}, {}
    for security, tls in zip(SECURITIES, ({}, {"tls": served}, {"tls": both})):
        grpc, http = ports[security, "grpc"], ports[security, "http"] = free_ports(2)
        made[f"otlp/{security.lower()}"] = {"protocols": {
            "grpc": {"endpoint": f"127.0.0.1:{grpc}"} | tls,
            "http": {"endpoint": f"127.0.0.1:{http}"} | tls,
        }}
    return made, ports


class Cell(collections.namedtuple(
        "Cell", "sdk transport codec signal security who", defaults=("client",))):
    """One try. Its items are named after it."""

    @property
    def prefix(self):
        return ".".join(self)

    def files(self, directory):
        names = {"plain": (), "TLS": ("ca.crt",), "mTLS": ("ca.crt", "client.crt", "client.key")}
        return [f"{directory}/{name}" for name in names[self.security]]

    def send(self, ports, directory, files=None):
        """Why the client or the wire is not as it should be, or nothing."""
        port = ports[self.security, self.transport.partition("/")[0]]
        # also what makes Python's requests trust others than the authority it is given
        env = {k: v for k, v in os.environ.items()
               if not k.startswith("OTEL_") and not k.endswith("_CA_BUNDLE")}
        env["OTEL_EXPORTER_OTLP_TIMEOUT"] = "10" if self.sdk == "python" else "10000"
        files = self.files(directory) if files is None else files
        with Tap(port, self.prefix) as tap:
            arguments = [self.signal, self.transport, self.codec, f"localhost:{tap.port}",
                         self.prefix, str(COUNT), *files]
            done = subprocess.run(COMMANDS[self.sdk] + arguments, env=env, capture_output=True,
                                  text=True, timeout=CLIENT_SECONDS)
            readable = tap.readable()
        said = " ".join((done.stdout + done.stderr).split())[-400:]
        if done.returncode != 0:
            return f"the client ended with {done.returncode}: {said}"
        if self.security != "plain" and readable:
            return "sent in the clear"
        if self.security == "plain" and (readable > COUNT // 2) != (self.codec == "none"):
            return f"{readable} of {COUNT} names are readable on the wire"
        return f"the client said: {said}" if said else ""


def names(line):
    """The signal of a request that the collector wrote, and the names of its items."""
    request = json.loads(line)
    for resource in request.get("resourceSpans", ()):
        for scope in resource["scopeSpans"]:
            yield from (("traces", s["name"]) for s in scope["spans"])
    for resource in request.get("resourceLogs", ()):
        for scope in resource["scopeLogs"]:
            yield from (("logs", r["body"]["stringValue"]) for r in scope["logRecords"])
    for resource in request.get("resourceMetrics", ()):
        for scope in resource["scopeMetrics"]:
            for metric in scope["metrics"]:
                for point in metric.get("sum", {}).get("dataPoints", ()):
                    for attribute in point.get("attributes", ()):
                        if attribute["key"] == "id":
                            yield "metrics", attribute["value"]["stringValue"]


def judged(path):
    """prefix → item number → how often, of what came under the signal it was sent as."""
    seen = collections.defaultdict(collections.Counter)
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            for signal, name in names(line):
                prefix, _, n = name.partition("#")
                if prefix.split(".")[3] != signal:
                    raise Failure(f"{name} came as one of the {signal}")
                seen[prefix][int(n)] += 1
    return seen


def verdict(cell, wrong, seen):
    items = seen[cell.prefix]
    if refusal := REFUSED.get(cell[:3]):
        return "" if refusal in wrong and not items else f"should be refused: {wrong}"
    complaints = [wrong] if wrong else []
    if len(items) != COUNT:
        complaints.insert(0, f"{len(items)} of {COUNT} arrived")
    if more := sum(items.values()) - len(items):
        complaints.insert(0, f"{more} arrived again")
    return "; ".join(complaints)


def tried(cells):
    """cell → what is wrong with it, if anything; and the strangers that were let in."""
    with tempfile.TemporaryDirectory() as directory:
        certificates(directory)
        out = f"{directory}/out.json"
        config = stage.forwarder("-")
        config["exporters"] = {"file": {"path": out}}
        for pipeline in config["service"]["pipelines"].values():
            pipeline["exporters"] = ["file"]
        with stage.collector(directory, config) as store:
            store.started()
            config = stage.forwarder(f"127.0.0.1:{store.grpc}")
            config["receivers"], ports = receivers(directory)
            for pipeline in config["service"]["pipelines"].values():
                pipeline["receivers"] = list(config["receivers"])
            with stage.tracemill(directory, config) as router:
                for port in ports.values():
                    router.wait_for(port)
                wrong = sent(cells, ports, directory)
                wrong |= also_refused(cells, wrong, store.grpc, directory)
                let_in = strangers(ports, directory)
                router.stop()
            store.stop()
        seen = judged(out)
    return {cell: verdict(cell, wrong[cell], seen) for cell in cells}, [
        s.prefix for s in STRANGERS if s.prefix in seen or s in let_in]


def also_refused(cells, wrong, port, directory):
    """What the collector says to the plain cells that tracemill must refuse, if that differs."""
    direct = [c for c in cells if c[:3] in REFUSED and c.security == "plain"]
    said = {c: c.send({("plain", c.transport): port}, directory) for c in direct}
    return {c: f"not refused by the collector: {said[c]}; by tracemill: {wrong[c]}"
            for c in direct if REFUSED[c[:3]] not in said[c]}


STRANGERS = [Cell("python", "grpc", "none", "logs", "mTLS", "stranger"),
             Cell("python", "http/protobuf", "none", "traces", "mTLS", "stranger")]


def sent(cells, ports, directory):
    def send(cell):
        try:
            wrong = cell.send(ports, directory)
        except subprocess.TimeoutExpired:
            wrong = f"the client did not end in {CLIENT_SECONDS} s"
        print(cell.prefix, wrong or "sent", flush=True)
        return wrong

    with concurrent.futures.ThreadPoolExecutor(CLIENTS_AT_ONCE) as pool:
        wrong = dict(zip(cells, pool.map(send, cells)))
    return wrong


def strangers(ports, directory):
    """Those who have no certificate to show, and still have no error to report."""
    # the authority's file alone
    files = [f"{directory}/ca.crt"]
    return [s for s in STRANGERS if not s.send(ports, directory, files)]


def versions():
    """SDK → its name and version as installed."""
    js = json.loads((TOOLS / "js/package.json").read_text())["dependencies"]
    go = (HERE / "clients/go/go.mod").read_text()
    rust = (HERE / "clients/rust/Cargo.lock").read_text()
    jars = [j.name for j in (TOOLS / "java/jars").glob("opentelemetry-exporter-otlp-[0-9]*.jar")]
    return {
        "python": "Python " + importlib.metadata.version("opentelemetry-sdk"),
        "js": f"JavaScript {js['@opentelemetry/sdk-trace-base']} / "
              f"{js['@opentelemetry/exporter-trace-otlp-proto']}",
        "java": "Java " + re.search(r"([\d.]+\d)", jars[0])[1],
        "go": "Go " + re.search(r"go.opentelemetry.io/otel v([\d.]+)", go)[1],
        "rust": "Rust " + re.search(r'"opentelemetry-otlp"\nversion = "([\d.]+)"', rust)[1],
    }


def first_line(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return (done.stdout + done.stderr).splitlines()[0].strip()


class Table:
    """Lines of the table, and the notes under it."""

    def __init__(self, versions):
        self.versions, self.notes, self.lines = versions, [], []

    def note(self, text):
        if text not in self.notes:
            self.notes.append(text)
        return f"[^{self.notes.index(text) + 1}]"

    def row(self, *cells):
        self.lines.append("| " + " | ".join(cells) + " |")

    def cell(self, cell, results):
        of = self.versions[cell.sdk]
        for key in ((cell.sdk, cell.transport), cell[:2] + (cell.signal,), (cell.sdk, cell.codec)):
            if key in NOT_OFFERED and cell not in results:
                return "–" + self.note(f"{of}: {NOT_OFFERED[key]}.")
        if results[cell]:
            return "NO" + self.note(f"{cell.prefix}: {results[cell]}.")
        if cell[:3] in REFUSED:
            return "refused" + self.note(f"As the collector does: `{REFUSED[cell[:3]]}`.")
        key = (cell.sdk, cell.codec)
        return "yes" + (self.note(f"{of}: {NOTED[key]}.") if key in NOTED else "")


def table(results, of):
    made = Table(of)
    columns = [(g, s) for g in SIGNALS for s in SECURITIES]
    made.row("SDK", "transport", "compression", *(f"{g} {s}" for g, s in columns))
    made.row(*["---"] * (3 + len(columns)))
    for sdk in COMMANDS:
        for transport in TRANSPORTS:
            codecs = list(CODECS.get((sdk, transport), ("none", "gzip")))
            for codec in codecs + ["zstd"] * ("zstd" not in codecs):
                cells = (Cell(sdk, transport, codec, *column) for column in columns)
                made.row(of[sdk], transport, codec, *(made.cell(c, results) for c in cells))
    return made


def write(results, refused):
    made = table(results, versions())
    tried = " | ".join(made.lines)
    good, refusals, bad = (len(re.findall(word, tried))
                           for word in (r"\byes\b", r"\brefused\b", r"\bNO\b"))
    runtimes = ", ".join((
        f"Python {platform.python_version()}",
        "Node " + first_line("node", "--version").lstrip("v"),
        first_line("java", "-version"),
        first_line("go", "version").removeprefix("go version "),
        first_line("rustc", "--version"),
        first_line("openssl", "version"),
    ))
    text = f"""# SDK matrix

Made by `tests/interop/matrix` on {datetime.date.today()}; not edited by hand. {len(results)} cells were tried:
{good} yes, {refusals} refused as the collector refuses them, {bad} NO. "–" is not offered by the SDK.

Each cell is a process of its own: the SDK's exporter → tracemill → collector, which writes what
arrives. "yes": all {COUNT} items, each with a name of its own, are in that file once, as the signal
they were sent as; the exporter reported no error; and on the wire the names can be read if the cell
is plain and not compressed, and not otherwise (a codec leaves the few that its copies point at).
The three securities are three `otlp` receivers of one tracemill process. Spans and log records
leave in batches of 64, metric points in one request.
A client that shows no certificate to the mTLS receiver, over gRPC and over HTTP:
{"refused" if refused else "NOT REFUSED"}.

tracemill: {first_line(os.environ["TRACEMILL"], "--version")};
collector: {first_line(os.environ["COLLECTOR"], "--version")};
runtimes: {runtimes}

"""
    text += "\n".join(made.lines) + "\n\n"
    text += "".join(f"[^{n}]: {note}\n" for n, note in enumerate(made.notes, 1))
    (HERE / "matrix.md").write_text(text, encoding="utf-8")


def main(words):
    cells = [Cell(sdk, transport, codec, signal, security)
             for (sdk, transport), codecs in CODECS.items() for codec in codecs
             for signal in SIGNALS for security in SECURITIES
             if (sdk, transport, signal) not in NOT_OFFERED]
    cells = [c for c in cells if all(word in c.prefix for word in words)]
    results, arrived = tried(cells)
    for cell, wrong in results.items():
        if wrong:
            print(f"NO {cell.prefix}: {wrong}")
    if arrived:
        print(f"a client without a certificate got through: {arrived}")
    if not words:
        write(results, not arrived)
    return int(bool(arrived) or any(results.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
