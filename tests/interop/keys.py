"""Where the collector's balancer sends what, for every routing key of every signal.

    python keys.py COLLECTOR OUT ITEMS [SEED]

records it, with `stage.py`'s TOOLS set: one line of JSON for each request, with the owner of each item in the order of their
numbers. Items are numbered in a field that no key looks at. The Rust test `routing_keys` reads
the file and must find the same owners.
"""

import base64
import collections
import functools
import json
import pathlib
import random
import struct
import sys
import tempfile
import threading
from concurrent import futures

import grpc

from wire import double, field, fields, fixed64, integer, messages

# The ring hashes these names, so they are the same in every recording.
BACKENDS = [f"127.77.0.{n}:19317" for n in range(1, 8)]
LOST, RANDOM = -1, -2
SERVICES = {"traces": "trace", "metrics": "metrics", "logs": "logs"}
PATHS = {
    signal: f"/opentelemetry.proto.collector.{service}.v1.{service.capitalize()}Service/Export"
    for signal, service in SERVICES.items()
}
# Fields of a metric, and of its points: attributes.
DATA = {5: 7, 7: 7, 9: 9, 10: 1, 11: 7}
ATTRIBUTES = ("region", "span.kind", "k", "span.name", "log.body", "service.name", "log.severity")
KEYS = {
    "traces": ["", "traceID", "service", "attributes"],
    "logs": ["", "traceID", "service", "resource", "attributes"],
    "metrics": ["", "service", "resource", "metric", "streamID", "attributes"],
}

TEXTS = [
    "", "a", "frontend", "checkout", "é…", 'say "hi"\\', "tab\there\n\r\b\f\0\x1f\x7f", "<a&b>",
    "\u2028\u2029", "=|", "\U0001f600",
]
NUMBERS = [
    0.0, -0.0, 1.0, 0.1, -2.5, 1e20, 1e21, -1e21, 1e-6, 1e-7, 1.5e-9, 1e-10, 5e-324, 1e300,
    123456789.0, 0.00001, 1 / 3, float("nan"), float("inf"), float("-inf"),
]


def value(r, depth=3):
    """The content of an AnyValue."""
    kind = r.randrange(12 if depth else 9)
    if kind < 3:
        return field(1, r.choice(TEXTS))
    if kind == 3:
        return integer(2, r.randrange(2))
    if kind == 4:
        return integer(3, r.choice([0, 1, -1, 42, 1 << 62, -(1 << 63), r.getrandbits(63)]))
    if kind < 7:
        random_bits = struct.unpack("<d", struct.pack("<Q", r.getrandbits(64)))[0]
        return double(4, r.choice([*NUMBERS, random_bits, r.random(), r.random() * 1e22]))
    if kind == 7:
        return field(7, r.randbytes(r.choice([0, 1, 2, 3, 16])))
    if kind == 8:
        return b"" if r.random() < 0.8 else integer(8, 3)
    if kind == 9:
        items = [field(1, value(r, depth - 1)) for _ in range(r.randrange(4))]
        return field(5, b"".join(items))
    return field(6, b"".join(field(1, entry(r, r.choice("abAB") + r.choice(["", "é"]), depth - 1))
                             for _ in range(r.randrange(4))))


def entry(r, key, depth=3):
    """The content of a KeyValue, sometimes with its fields turned round, or in pieces."""
    parts = [field(1, key), field(2, value(r, depth))]
    odd = r.random()
    if odd < 0.1:
        parts.reverse()
    elif odd < 0.15:
        parts.append(field(2, b""))
    elif odd < 0.2:
        parts.append(field(2, value(r, depth)))
    elif odd < 0.23:
        parts.pop()
    elif odd < 0.25:
        parts.insert(0, field(1, "other"))
    return b"".join(parts)


def attributes(r, number, names):
    """Repeated KeyValues with keys of `names`: in any order, some of them twice."""
    names = [name for name in names if r.random() < 0.45]
    r.shuffle(names)
    if names and r.random() < 0.1:
        names.append(r.choice(names))
    return b"".join(field(number, entry(r, name)) for name in names)


def owned(r, field_number, content):
    """A message in one field, in two, or in none."""
    odd = r.random()
    if odd < 0.08 and content == b"":
        return b""
    if odd < 0.15:
        return field(field_number, content) + field(field_number, attributes(r, 1, ["k", "late"]))
    return field(field_number, content)


def shuffled(r, parts):
    """Sometimes in the order of the collector, which is descending."""
    return b"".join(reversed(parts) if r.random() < 0.4 else parts)


def span(r, n, ids):
    parts = [
        field(1, r.choice(ids)) if r.random() < 0.95 else b"", field(2, n.to_bytes(8, "big")),
        field(5, r.choice(TEXTS)), integer(6, r.choice([0, 1, 2, 3, 4, 5, 9, -1])),
        attributes(r, 9, ["k", "region", "span.name", "span.kind", "z"]),
    ]
    if r.random() < 0.05:
        parts[2] += field(5, "twice")
    return shuffled(r, parts)


def record(r, n, ids):
    parts = [
        fixed64(1, 7), field(3, r.choice(TEXTS)) if r.random() < 0.7 else b"",
        field(5, value(r)) if r.random() < 0.8 else b"",
        attributes(r, 6, ["k", "region", "log.body", "log.severity", "z"]),
        field(9, r.choice(ids)) if r.random() < 0.8 else b"", fixed64(11, n),
    ]
    if r.random() < 0.05:
        parts[2] += field(5, value(r))
    return shuffled(r, parts)


def point(r, n, kind):
    parts = [fixed64(2, 1), fixed64(3, n), attributes(r, DATA[kind], ["k", "region", "z", "y"])]
    return shuffled(r, sorted(parts))


def data(r, numbers, kind):
    parts = [field(1, point(r, next(numbers), kind)) for _ in range(r.choice([0, 1, 1, 2, 3, 5]))]
    if kind in (7, 9, 10) and r.random() < 0.8:
        parts.append(integer(2, r.choice([0, 1, 2, 2, 5, 300])))
    if kind == 7 and r.random() < 0.5:
        parts.append(integer(3, 1))
    return field(kind, shuffled(r, parts))


def metric(r, numbers):
    parts = [
        field(1, r.choice([*TEXTS, "requests", "latency"])), field(2, "what it says"),
        field(3, r.choice(["", "1", "ms"])),
    ]
    if r.random() < 0.95:
        parts.append(data(r, numbers, r.choice(list(DATA))))
    if r.random() < 0.2:
        parts.append(attributes(r, 12, ["k", "y"]))
    return shuffled(r, parts)


def scope(r, signal, numbers, ids):
    inner = [field(1, r.choice(["", "otelhttp"])), field(2, r.choice(["", "1", "2"])),
             attributes(r, 3, ["region", "span.kind", "log.body", "s"])]
    parts = [field(1, shuffled(r, inner)) if r.random() < 0.9 else b""]
    if r.random() < 0.05:
        parts.append(field(1, field(1, "renamed") + attributes(r, 3, ["region"])))
    for _ in range(r.choice([0, 1, 2, 4, 9])):
        if signal == "metrics":
            item = metric(r, numbers)
        else:
            item = (span if signal == "traces" else record)(r, next(numbers), ids)
        parts.append(field(2, item))
    return field(2, b"".join(parts) + field(3, r.choice(["", "https://schema/1"])))


def resource(r, signal, numbers, ids):
    names = ["service.name", "host.name", "region", "span.name", "log.severity"]
    if r.random() < 0.3:
        names = ["host.name"]
    inner = attributes(r, 1, names)
    if r.random() < 0.4:
        inner += field(1, field(1, "service.name") + field(2, field(1, f"s{r.randrange(9)}")))
    scopes = [scope(r, signal, numbers, ids) for _ in range(r.choice([0, 1, 1, 2]))]
    parts = [owned(r, 1, inner), *scopes, field(3, r.choice(["", "https://schema/2"]))]
    return field(1, shuffled(r, parts))


def ids_of(r):
    return [bytes(16), b"", *(r.randbytes(16) for _ in range(6))]


class Numbers:
    """Numbers of items, each once in a recording."""

    def __init__(self):
        self.next = 1

    def __next__(self):
        self.next += 1
        return self.next - 1


def items(signal, request):
    """Number of each item, and whether it has a trace id that is not zero."""
    for r in messages(request, 1):
        for s in messages(r, 2):
            for item in messages(s, 2):
                if signal == "traces":
                    yield int.from_bytes(messages(item, 2)[-1], "big"), True
                elif signal == "logs":
                    yield struct.unpack("<Q", messages(item, 11)[-1])[0], any(
                        any(i) for i in messages(item, 9)[-1:])
                else:
                    found = [(n, d) for n, d in fields(item) if n in DATA][-1:]
                    for _, points in found:
                        for p in messages(points, 1):
                            yield struct.unpack("<Q", messages(p, 3)[-1])[0], True


class Backends:
    """All the backends; each item at the one it came to."""

    def __init__(self, addresses):
        self.at = collections.defaultdict(list)
        self.lock = threading.Lock()
        self.servers = []
        for number, address in enumerate(addresses):
            server = grpc.server(futures.ThreadPoolExecutor(2))
            server.add_generic_rpc_handlers(tuple(
                self.service(signal, number) for signal in PATHS))
            if not server.add_insecure_port(address):
                raise OSError(f"{address} is taken")
            server.start()
            self.servers.append(server)

    def service(self, signal, number):
        def export(request, _):
            with self.lock:
                for item, _ in items(signal, request):
                    self.at[item].append(number)
            return b""

        name = PATHS[signal].split("/")[1]
        method = grpc.unary_unary_rpc_method_handler(export)
        return grpc.method_handlers_generic_handler(name, {"Export": method})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for server in self.servers:
            server.stop(None).wait()


def combinations():
    for signal, keys in KEYS.items():
        for key in keys:
            yield signal, key


def configuration(addresses, ports):
    """A pipeline with a receiver and a balancer for every signal and key."""
    config = {"receivers": {}, "exporters": {}, "service": {
        "telemetry": {"metrics": {"level": "none"}, "logs": {"level": "fatal"}}, "pipelines": {}}}
    for (signal, key), port in zip(combinations(), ports):
        name = f"{signal}{key}"
        config["receivers"][f"otlp/{name}"] = {
            "protocols": {"grpc": {"endpoint": f"127.0.0.1:{port}"}}}
        exporter = {
            "protocol": {"otlp": {
                "tls": {"insecure": True}, "compression": "none",
                "sending_queue": {"enabled": False}}},
            "resolver": {"static": {"hostnames": addresses}},
            "routing_key": key,
        }
        if key == "attributes":
            exporter["routing_attributes"] = list(ATTRIBUTES)
        config["exporters"][f"load_balancing/{name}"] = exporter
        config["service"]["pipelines"][f"{signal}/{name}"] = {
            "receivers": [f"otlp/{name}"], "exporters": [f"load_balancing/{name}"]}
    return config


def requests(count, seed):
    """(signal, key, request) with about `count` items for each signal and key."""
    numbers = Numbers()
    for signal, key in combinations():
        r = random.Random(f"{seed} {signal} {key}")
        ids = ids_of(r)
        until = numbers.next + count
        while numbers.next < until:
            some = [resource(r, signal, numbers, ids) for _ in range(r.choice([1, 1, 2, 4]))]
            yield signal, key, b"".join(some)


def send_all(ports, count, seed, backends):
    """Sends them; yields what was sent, where it went and what was answered."""
    channels = {c: grpc.insecure_channel(f"127.0.0.1:{p}") for c, p in zip(combinations(), ports)}
    for signal, key, request in requests(count, seed):
        error = None
        try:
            channels[signal, key].unary_unary(PATHS[signal])(request, timeout=20)
        except grpc.RpcError as e:
            error = f"{e.code().name} {e.details()}"
        owners = []
        for item, has_id in items(signal, request):
            at = backends.at.get(item, [LOST])
            if len(at) != 1:
                raise ValueError(f"item {item} of {signal} by {key} came to {at}")
            is_random = signal == "logs" and key == "traceID" and not has_id
            owners.append(RANDOM if is_random and at != [LOST] else at[0])
        yield signal, key, request, owners, error
    for channel in channels.values():
        channel.close()


def placements(program, count, seed):
    """What `program` does with the requests: it is sent them one by one."""
    import stage

    ports = stage.free_ports(len(list(combinations())))
    with tempfile.TemporaryDirectory() as scratch, Backends(BACKENDS) as backends:
        path = pathlib.Path(scratch) / "config.yaml"
        path.write_text(json.dumps(configuration(BACKENDS, ports)))
        with stage.Process("router", [program, "--config", str(path)]) as process:
            for port in ports:
                process.wait_for(port)
            yield from send_all(ports, count, seed, backends)
            process.stop()


@functools.cache
def compared(programs, count):
    """By signal and key: the items, and those that one program places elsewhere."""
    results = {}
    both = [list(placements(program, count, "compare")) for program in programs]
    for (signal, key, request, want, error), ours in zip(*both, strict=True):
        if (signal, key, request) != ours[:3]:
            raise ValueError("the requests are not the same")
        moved = [n for (n, _), a, b in zip(items(signal, request), want, ours[3]) if a != b]
        if error != ours[4]:
            moved.append(f"{error} against {ours[4]}")
        total, all_moved = results.setdefault((signal, key), (0, []))
        results[signal, key] = (total + len(want), all_moved + moved)
    return results


def main(collector, out, count, seed="1"):
    with open(out, "w") as lines:
        head = {"endpoints": BACKENDS, "routing_attributes": ATTRIBUTES}
        print(json.dumps(head), file=lines)
        for sent in placements(collector, int(count), seed):
            signal, key, request, owners, error = sent
            line = {"signal": signal, "routing_key": key, "owners": owners,
                    "request": base64.b64encode(request).decode()}
            print(json.dumps(line | ({"error": error} if error else {})), file=lines)


if __name__ == "__main__":
    main(*sys.argv[1:])
