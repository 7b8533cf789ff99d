"""A relay that counts how often some text is readable in what a client sends."""

import contextlib
import socket
import threading


class Tap:
    """Listens on a port of its own and relays each connection to `port`."""

    def __init__(self, port, text):
        self.to, self.text, self.sent = port, text.encode(), []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(("127.0.0.1", self.to))
                sent = bytearray()
                self.sent.append(sent)
                for pair in ((client, server, sent), (server, client, None)):
                    threading.Thread(target=self.pump, args=pair, daemon=True).start()

    @staticmethod
    def pump(source, target, record):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if record is not None:
                    record += data
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR if end is source else socket.SHUT_WR)

    def readable(self, text=None):
        text = self.text if text is None else text.encode()
        return sum(sent.count(text) for sent in self.sent)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()
