"""Two clients of a TLS receiver, one that is measured and one that floods it with handshakes.

client.py latency PORT SECONDS             prints p50, p99 and max in ms of small requests, one after
                                           the other on one TLS connection, one due every 2 ms; and
                                           how many. A stall counts for all that it delays.
client.py flood PORT SECONDS RATE full|resumed
                                           prints handshakes per second that were done
"""

import ssl
import sys
import time

EVERY = 0.002
REQUEST = (
    b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-protobuf\r\n"
    b"Content-Length: 2\r\n\r\n\x0a\x00"
)


def context():
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.check_hostname, c.verify_mode = False, ssl.CERT_NONE
    return c


def latency(port, seconds):
    import socket

    s = context().wrap_socket(socket.create_connection(("127.0.0.1", port)))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    end, all_ = time.perf_counter() + seconds, []
    while (start := time.perf_counter()) < end:
        s.sendall(REQUEST)
        assert b"200 OK" in s.recv(4096)
        took = time.perf_counter() - start
        all_.append(took)
        # those that were due meanwhile and could not be sent
        while (took := took - EVERY) > 0:
            all_.append(took)
        time.sleep(EVERY)
    all_.sort()
    at = lambda q: 1e3 * all_[min(len(all_) - 1, int(q * len(all_)))]
    print(f"{at(0.5):.3f} {at(0.99):.3f} {1e3 * all_[-1]:.3f} {len(all_)}")


def flood(port, seconds, rate, kind):
    """A thread per handshake in flight would cost more than the handshake: blocking, in a row."""
    import socket

    c = context()
    session, start, done = None, time.perf_counter(), 0
    while (now := time.perf_counter()) - start < seconds:
        due = start + done / rate
        if due > now:
            time.sleep(due - now)
        s = c.wrap_socket(
            socket.create_connection(("127.0.0.1", port)),
            session=session if kind == "resumed" else None,
        )
        if kind == "resumed":
            # Tickets come after the handshake, beside an answer.
            if session is None:
                s.sendall(REQUEST)
                s.recv(4096)
                session = s.session
            else:
                assert s.session_reused
        done += 1
        s.close()
    print(f"{done / (time.perf_counter() - start):.0f}")


if __name__ == "__main__":
    what, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    if what == "latency":
        latency(port, seconds)
    else:
        flood(port, seconds, float(sys.argv[4]), sys.argv[5])
