"""Clients that nobody wants, one kind at a time, on loopback, as fast as they can.

abuse.py KIND GRPC_PORT HTTP_PORT     prints "ready", ends when its input does, and prints what
                                      it managed. Kinds: abuse.py --list
"""

import contextlib
import itertools
import gzip
import json
import resource
import select
import socket
import sys
import threading
import time
import zlib

PATH = b"/opentelemetry.proto.collector.trace.v1.TraceService/Export"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST, SETTINGS, PING, CONTINUATION = 0, 1, 3, 4, 6, 9
END_STREAM, END_HEADERS = 1, 4
COUNT = {}
ENDED = threading.Event()
# connections that are only held
HELD = 500
MIB = 1 << 20


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def literal(name, value, index=0):
    """A header as HPACK has it, not indexed (0) or put into the table (0x40)."""
    def text(s):
        if len(s) < 127:
            return bytes([len(s)]) + s
        rest, out = len(s) - 127, bytearray([127])
        while rest > 127:
            out.append(rest & 127 | 128)
            rest >>= 7
        return bytes([*out, rest]) + s

    return bytes([index]) + text(name) + text(value)


def head(*more, encoding=b""):
    fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", PATH),
              (b":authority", b"localhost"), (b"content-type", b"application/grpc"),
              (b"te", b"trailers")]
    if encoding:
        fields.append((b"grpc-encoding", encoding))
    return b"".join(literal(n, v) for n, v in (*fields, *more))


HEAD = head()
GREETING = PREFACE + frame(SETTINGS, 0, 0) + frame(SETTINGS, 1, 0)


def gzipped(size):
    """Zeros."""
    packer = zlib.compressobj(9, wbits=31)
    zeros = bytes(MIB)
    return b"".join(packer.compress(zeros) for _ in range(size // MIB)) + packer.flush()


# None that is not asked for: it takes a while. It says that it holds 1 MiB.
BOMB = gzipped(64 * MIB if "gzip" in sys.argv[1] else 0)[:-4] + MIB.to_bytes(4, "little")


def zstd(size):
    """Zeros: blocks of one repeated byte, 128 KiB each, in a window of 1 MiB."""
    block = ((1 << 17) << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
    last = (0 << 3 | 1).to_bytes(3, "little")
    return b"\x28\xb5\x2f\xfd\x00\x50" + block * (size >> 17) + last


def did(what, n=1):
    COUNT[what] = COUNT.get(what, 0) + n


def again(what, act):
    """Does it on one new connection after the other."""
    def loop(port):
        while not ENDED.is_set():
            try:
                with socket.create_connection(("127.0.0.1", port), 5) as sock:
                    did("connections")
                    act(sock)
            except OSError:
                did("thrown out")

    return loop


def swallow(sock):
    """Reads what is there; true if the peer has closed."""
    while select.select([sock], [], [], 0)[0]:
        if not sock.recv(1 << 16):
            return True
    return False


def flood(what, start, piece):
    """Pieces on a connection until it is closed: `piece(n)` gives bytes and how many it holds."""
    def act(sock):
        sock.sendall(start)
        for n in itertools.count():
            if ENDED.is_set() or swallow(sock):
                return
            data, count = piece(n)
            sock.sendall(data)
            did(what, count)

    return again(what, act)


def once(what, data):
    """One request per connection; waits for the end or an answer."""
    def act(sock):
        sock.sendall(data)
        did(what)
        sock.settimeout(2)
        with contextlib.suppress(TimeoutError):
            sock.recv(1 << 16)

    return again(what, act)


def held(what, start, drip, count=HELD):
    """Connections that are held open, and say another byte or so in turn, all in a second."""
    def loop(port):
        def made():
            sock = socket.create_connection(("127.0.0.1", port))
            sock.sendall(start)
            did(what)
            return sock

        socks = [made() for _ in range(count)]
        READY.release()
        while not ENDED.is_set():
            for at, sock in enumerate(socks):
                if ENDED.is_set():
                    return
                time.sleep(1 / count)
                if not drip:
                    continue
                try:
                    sock.sendall(drip)
                except OSError:
                    did("thrown out")
                    sock.close()
                    socks[at] = made()

    loop.waits = True
    return loop


def half_closed(start):
    def loop(port):
        socks = []
        while not ENDED.is_set():
            sock = socket.create_connection(("127.0.0.1", port))
            try:
                sock.sendall(start)
                sock.shutdown(socket.SHUT_WR)
            except OSError:
                did("thrown out")
                continue
            did("half-closed connections")
            socks.append(sock)
            if len(socks) > HELD:
                socks.pop(0).close()

    return loop


def streams(payload, each):
    """`each` streams, numbered on from the last piece's."""
    def piece(n):
        ids = range(2 * n * each + 1, 2 * (n + 1) * each + 1, 2)
        return b"".join(payload(i) for i in ids), each

    return piece


def message(body, compressed=0, size=None):
    return bytes([compressed]) + (len(body) if size is None else size).to_bytes(4, "big") + body


def call(body, encoding=b"", headers=None):
    """A call on one stream, in frames of 16 KiB."""
    block = head(encoding=encoding) if headers is None else headers
    pieces = [body[i:i + 16384] for i in range(0, len(body), 16384)]

    def on(stream):
        data = [frame(DATA, END_STREAM * (p is pieces[-1]), stream, p) for p in pieces]
        return frame(HEADERS, END_HEADERS, stream, block) + b"".join(data)

    return on


def http(*lines, path=b"/v1/traces"):
    return b"\r\n".join((b"POST " + path + b" HTTP/1.1", b"Host: localhost",
                         b"Content-Type: application/x-protobuf", *lines)) + b"\r\n"


def posted(body, *lines):
    return http(b"Content-Length: %d" % len(body), *lines) + b"\r\n" + body


def kinds():
    big = literal(b"x-big", b"x" * 4000, 0x40)
    stalled = b"".join(
        frame(HEADERS, END_HEADERS, s, HEAD) + frame(DATA, 0, s, message(b"x" * 3000, size=MIB))
        for s in range(1, 41, 2))
    grpc = {
        "idle connections": held("idle connections", GREETING, b"", 2000),
        "slow greetings": held("slow greetings", PREFACE[:10], b""),
        "slow headers": held("open header blocks", GREETING + frame(HEADERS, 0, 1, HEAD),
                             frame(CONTINUATION, 0, 1, literal(b"a", b"b"))),
        "slow bodies": held("connections of 20 bodies", GREETING + stalled,
                            frame(DATA, 0, 1, b"x"), 50),
        "rapid reset": flood("resets", GREETING, streams(
            lambda s: frame(HEADERS, END_HEADERS, s, HEAD) + frame(RST, 0, s, b"\0\0\0\x08"), 50)),
        "CONTINUATION flood": flood("frames", GREETING + frame(HEADERS, 0, 1, HEAD), lambda _: (
            frame(CONTINUATION, 0, 1, literal(b"a", b"b" * 1000) * 16), 1)),
        "empty CONTINUATION flood": flood("frames", GREETING + frame(HEADERS, 0, 1, HEAD),
                                          lambda _: (frame(CONTINUATION, 0, 1) * 100, 100)),
        "many headers": flood("requests of 500 headers", GREETING, streams(
            call(message(b""), headers=HEAD + literal(b"a", b"b") * 500), 10)),
        "HPACK bomb": flood("header lists of 16 MB", GREETING, streams(
            lambda s: frame(HEADERS, END_HEADERS | END_STREAM, s, HEAD + big + b"\xbe" * 4000), 1)),
        "oversized frames": flood("frames of 1 MiB", GREETING, lambda _: (
            frame(DATA, 0, 1, bytes(MIB)), 1)),
        "oversized messages": flood("messages of 100 MiB", GREETING, streams(
            call(message(bytes(16000), size=100 * MIB)), 4)),
        "gzip bombs": flood("bombs", GREETING, streams(
            call(message(BOMB, 1), b"gzip"), 1)),
        "zstd bombs": flood("bombs", GREETING, streams(
            call(message(zstd(64 * MIB), 1), b"zstd"), 1)),
        "PING flood": flood("pings", GREETING, lambda _: (frame(PING, 0, 0, bytes(8)) * 100, 100)),
        "SETTINGS flood": flood("settings", GREETING, lambda _: (frame(SETTINGS, 0, 0) * 100, 100)),
        "half-closed": half_closed(GREETING + frame(HEADERS, END_HEADERS, 1, HEAD)),
        "connection flood": once("greetings", PREFACE + b"garbage" * 10),
    }
    chunked = http(b"Transfer-Encoding: chunked") + b"\r\n"
    web = {
        "slow heads": held("open heads", http()[:-2], b"\r\na: b"),
        "slow bodies": held("open bodies", http(b"Content-Length: 1000000") + b"\r\n", b"x"),
        "many headers": once("heads of 1,000 headers", http(*[b"a: b"] * 1000) + b"\r\n"),
        "huge headers": once("heads of 1 MiB", http(b"a: " + b"b" * MIB) + b"\r\n"),
        "pipelining": flood("requests", b"", lambda _: (posted(b"") * 20, 20)),
        "tiny chunks": flood("chunks", chunked, lambda _: (b"1\r\nx\r\n" * 200, 200)),
        "oversized bodies": once("bodies of 10 GB", http(b"Content-Length: 10000000000")
                                 + b"\r\n" + bytes(MIB)),
        "gzip bombs": flood("bombs", b"", lambda _: (GZIP_BOMB, 1)),
        "zstd bombs": flood("bombs", b"", lambda _: (ZSTD_BOMB, 1)),
        "half-closed": half_closed(http(b"Content-Length: 10") + b"\r\nx"),
        "connection flood": once("garbage", b"\x16\x03\x01 garbage\r\n\r\n"),
    }
    return {f"gRPC {k}": (1, v) for k, v in grpc.items()} | {
        f"HTTP {k}": (2, v) for k, v in web.items()}


GZIP_BOMB = posted(BOMB, b"Content-Encoding: gzip")
ZSTD_BOMB = posted(zstd(64 * MIB), b"Content-Encoding: zstd")
READY = threading.Semaphore(0)
KINDS = kinds()

if sys.argv[1] == "--list":
    print("\n".join(KINDS))
    sys.exit()
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
which, kind = KINDS[sys.argv[1]]
thread = threading.Thread(target=kind, args=(int(sys.argv[1 + which]),), daemon=True)
thread.start()
if hasattr(kind, "waits"):
    READY.acquire()
print("ready", flush=True)
before, since = dict(COUNT), time.monotonic()
sys.stdin.read()
ENDED.set()
seconds = time.monotonic() - since
made = {k: n if hasattr(kind, "waits") else round((n - before.get(k, 0)) / seconds)
        for k, n in COUNT.items()}
unit = "" if hasattr(kind, "waits") else "/s"
print(json.dumps(", ".join(f"{n:,}{unit} {k}" for k, n in made.items())), flush=True)
