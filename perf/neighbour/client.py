"""A well-behaved client of both receivers: on two connections a small request every 4 ms each, one
after the other. Prints "ready"; at the end of its input a JSON list of [protocol, start, seconds, success].

Requests that were not sent because one took long are in the list with what they would have felt:
a stall counts for all that it delays.
"""

import json
import select
import socket
import sys
import time

EVERY = 0.002
STEP = 2 * EVERY
# for an answer; then the request has failed, and the next one goes over a new connection
TIMEOUT = 5
HEAD = b"".join(
    bytes([0, len(n)]) + n + bytes([len(v)]) + v
    for n, v in ((b":method", b"POST"), (b":scheme", b"http"),
                 (b":path", b"/opentelemetry.proto.collector.trace.v1.TraceService/Export"),
                 (b":authority", b"localhost"), (b"content-type", b"application/grpc"),
                 (b"te", b"trailers")))


def field(number, body):
    return bytes([number << 3 | 2, len(body) & 127 | 128, len(body) >> 7]) + body


def request():
    """Twenty spans of as many traces."""
    rest = field(5, b"a name") + field(9, field(1, b"key") + field(2, b""))
    spans = (field(2, field(1, b"%16d" % n) + field(2, b"%8d" % n) + rest) for n in range(1, 21))
    return field(1, field(2, b"".join(spans)))


BODY = request()


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


class Connection:
    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), TIMEOUT)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.unread = b""

    def take(self, n):
        while len(self.unread) < n:
            more = self.sock.recv(1 << 16)
            if not more:
                raise OSError("the connection was closed")
            self.unread += more
        taken, self.unread = self.unread[:n], self.unread[n:]
        return taken


class Grpc(Connection):
    def __init__(self, port):
        super().__init__(port)
        self.stream = 1
        # a window that a minute of answers does not fill
        window = frame(8, 0, 0, (1 << 30).to_bytes(4, "big"))
        self.sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0) + window)

    def call(self):
        message = b"\0" + len(BODY).to_bytes(4, "big") + BODY
        self.sock.sendall(frame(1, 4, self.stream, HEAD) + frame(0, 1, self.stream, message))
        replied = False
        while True:
            head = self.take(9)
            payload = self.take(int.from_bytes(head[:3], "big"))
            kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
            if kind == 4 and not flags & 1:
                self.sock.sendall(frame(4, 1, 0))
            elif kind == 6 and not flags & 1:
                self.sock.sendall(frame(6, 1, 0, payload))
            elif stream == self.stream:
                # only a success has a message
                replied |= kind == 0
                if flags & 1 or kind == 3:
                    break
        self.stream += 2
        return replied


class Http(Connection):
    REQUEST = (b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\n"
               b"Content-Type: application/x-protobuf\r\nContent-Length: %d\r\n\r\n"
               % len(BODY)) + BODY

    def call(self):
        self.sock.sendall(self.REQUEST)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.take(1)
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n")
                      if line.startswith(b"content-length:"))
        self.take(length)
        return head.startswith(b"HTTP/1.1 200")


def main(grpc, http):
    makers = {"grpc": lambda: Grpc(grpc), "http": lambda: Http(http)}
    clients = {protocol: make() for protocol, make in makers.items()}
    for client in clients.values():
        assert client.call()
    print("ready", flush=True)
    made = []
    due = {protocol: time.monotonic() + n * EVERY for n, protocol in enumerate(clients)}
    while not select.select([sys.stdin], [], [], 0)[0]:
        protocol = min(due, key=due.get)
        time.sleep(max(0, due[protocol] - time.monotonic()))
        start = time.monotonic()
        try:
            ok = clients[protocol].call()
        except OSError as e:
            print(f"{protocol}: {e!r}", file=sys.stderr, flush=True)
            ok, clients[protocol] = False, makers[protocol]()
        end = time.monotonic()
        made.append((protocol, start, end - start, ok))
        while (start := start + STEP) < end:
            made.append((protocol, start, end - start, ok))
        due[protocol] = max(due[protocol] + STEP, end)
    json.dump(made, sys.stdout)


main(int(sys.argv[1]), int(sys.argv[2]))
