"""Clients that nobody wants, for a while, on loopback: rapid resets, garbage after the preface,
bodies that never end. Prints what they managed. Needs the package h2."""

import os
import socket
import sys
import threading
import time

import h2.connection

PATH = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
HEADERS = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", PATH),
    (":authority", "localhost"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
]
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
STALLED_CONNECTIONS, STALLED_STREAMS = 50, 20

address = ("127.0.0.1", int(sys.argv[1]))
end = time.time() + float(sys.argv[2])
count = {"resets": 0, "garbage connections": 0, "stalled bodies": 0}
kept = []


def greet():
    sock = socket.create_connection(address)
    connection = h2.connection.H2Connection()
    connection.initiate_connection()
    sock.sendall(connection.data_to_send())
    return sock, connection


def stall():
    """Announces 1 MiB, sends 3 KB of it and then nothing."""
    for _ in range(STALLED_CONNECTIONS):
        sock, connection = greet()
        for _ in range(STALLED_STREAMS):
            stream = connection.get_next_available_stream_id()
            connection.send_headers(stream, HEADERS)
            connection.send_data(stream, b"\0\0\x10\0\0" + b"x" * 3000)
            count["stalled bodies"] += 1
        sock.sendall(connection.data_to_send())
        kept.append(sock)


def reset():
    """Opens and resets streams as fast as it can, on new connections when it is thrown out."""
    while time.time() < end:
        try:
            sock, connection = greet()
            while time.time() < end:
                for _ in range(20):
                    stream = connection.get_next_available_stream_id()
                    connection.send_headers(stream, HEADERS)
                    connection.reset_stream(stream, 8)
                    count["resets"] += 1
                sock.sendall(connection.data_to_send())
        except OSError:
            time.sleep(0.01)


def garbage():
    while time.time() < end:
        try:
            with socket.create_connection(address) as sock:
                sock.sendall(PREFACE + os.urandom(4000))
                count["garbage connections"] += 1
        except OSError:
            time.sleep(0.01)


stall()
threads = [threading.Thread(target=f) for f in (reset, garbage)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(", ".join(f"{n} {what}" for what, n in count.items()))
